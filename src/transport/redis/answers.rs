//! How the answers of the server are read.

use std::collections::HashMap;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, RedisResult, Value};

use super::entry_id::EntryId;
use super::place::{Consumer, Extent, Group};
use crate::event::{Decoder, Event, Id};

/// An entry as the server gives it.
#[derive(Debug)]
pub(super) struct Raw {
    pub id: EntryId,
    /// What stands under `data`; none where there is no such field, or no entry any more.
    pub data: Option<Vec<u8>>,
    /// Where its sender has an earlier copy stand behind, which may be there.
    pub again: Option<EntryId>,
    /// Where it is a dead letter that is handled again: for whom, and of which letter.
    pub replay: Option<Box<Replay>>,
}

/// A dead letter that is handled again.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The one group that it is for; none where only one could read it anyway.
    pub to: Option<String>,
    /// The letter: a group that has handled its event knows it by that.
    pub letter: Option<Id>,
}

impl Raw {
    /// The event, or why it is none.
    pub fn event(&self, decoder: &mut Decoder, most: usize) -> Result<Event, String> {
        let data = self.data.as_deref().ok_or("it has no field `data`")?;
        if data.len() > most {
            return Err(format!("`data` has {} bytes, and {most} are the limit", data.len()));
        }
        let text = std::str::from_utf8(data).map_err(|_| "`data` is not UTF-8".to_owned())?;
        decoder.decode(text).map_err(|error| error.to_string())
    }

    /// Whether it is an event of this id.
    pub fn has_id(&self, id: &Id) -> bool {
        self.event_id().is_some_and(|own| own == *id)
    }

    /// Whether it is for whoever reads for `group`, or, without one, for everybody.
    pub fn is_for(&self, group: Option<&str>) -> bool {
        let to = self.replay.as_ref().and_then(|replay| replay.to.as_deref());
        to.is_none() || to == group
    }

    /// What it is known by if it comes twice, if it has an id.
    pub fn event_id(&self) -> Option<Id> {
        if let Some(letter) = self.replay.as_ref().and_then(|replay| replay.letter.as_ref()) {
            return Some(letter.clone());
        }
        #[derive(serde::Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            event_id: std::borrow::Cow<'a, str>,
        }
        let named: Named<'_> = serde_json::from_slice(self.data.as_deref()?).ok()?;
        Some(Id::parse(&named.event_id))
    }
}

/// What `XREADGROUP` or `XREAD` says of one stream.
pub(super) fn read(answer: Value) -> RedisResult<Vec<Raw>> {
    match answer.extract_error()? {
        Value::Nil => Ok(Vec::new()),
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(stream)) => entries(stream.into_iter().nth(1).unwrap_or_default()),
            _ => Ok(Vec::new()),
        },
        Value::Map(streams) => match streams.into_iter().next() {
            Some((_, found)) => entries(found),
            None => Ok(Vec::new()),
        },
        _ => Err(unexpected("XREADGROUP")),
    }
}

/// A list of entries; one that is gone has left no trace.
pub(super) fn entries(found: Value) -> RedisResult<Vec<Raw>> {
    let Value::Array(found) = found else { return Ok(Vec::new()) };
    let entry = |entry: Value| {
        let Value::Array(entry) = entry else { return Err(unexpected("a stream")) };
        let mut entry = entry.into_iter();
        let id = id(entry.next().as_ref()).ok_or_else(|| unexpected("a stream"))?;
        let mut raw = Raw { id, data: None, again: None, replay: None };
        if let Some(Value::Array(fields)) = entry.next() {
            fill(&mut raw, fields);
        }
        Ok(raw)
    };
    let there = found.into_iter().filter(|found| !matches!(found, Value::Nil));
    there.map(entry).collect()
}

/// The fields of an entry, by their names.
pub(super) type Fields = HashMap<Vec<u8>, Vec<u8>>;

/// A list of entries with all their fields.
pub(super) fn named_entries(found: Value) -> RedisResult<Vec<(EntryId, Fields)>> {
    let Value::Array(found) = found else { return Ok(Vec::new()) };
    let entry = |entry: Value| {
        let Value::Array(entry) = entry else { return None };
        let mut entry = entry.into_iter();
        let id = id(entry.next().as_ref())?;
        let bytes = |value| match value {
            Value::BulkString(value) => value,
            _ => Vec::new(),
        };
        let fields = pairs(entry.next()?).into_iter().map(|(name, value)| (name, bytes(value)));
        Some((id, fields.collect()))
    };
    Ok(found.into_iter().filter_map(entry).collect())
}

/// Takes what is ours from names and values in turn.
fn fill(raw: &mut Raw, fields: Vec<Value>) {
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else { continue };
        match &*name {
            b"data" => raw.data = Some(value),
            b"again" => raw.again = EntryId::parse(&value),
            b"to" => {
                let to = String::from_utf8_lossy(&value).into_owned();
                raw.replay.get_or_insert_default().to = Some(to);
            }
            b"letter" => {
                let letter = format!("letter:{}", String::from_utf8_lossy(&value));
                raw.replay.get_or_insert_default().letter = Some(Id::parse(&letter));
            }
            _ => {}
        }
    }
}

/// What was taken over from others.
pub(super) struct Claimed {
    /// Where to go on; the first id that there may be if nothing is left.
    pub next: EntryId,
    pub found: Vec<EntryId>,
    /// How many of those that were to be taken over do not exist any more.
    pub gone: usize,
}

/// What `XAUTOCLAIM ... JUSTID` says.
pub(super) fn claimed(answer: Value) -> RedisResult<Claimed> {
    let unexpected = || unexpected("XAUTOCLAIM");
    let Value::Array(parts) = answer.extract_error()? else { return Err(unexpected()) };
    let mut parts = parts.into_iter();
    let next = id(parts.next().as_ref()).ok_or_else(unexpected)?;
    let mut listed = || match parts.next() {
        Some(Value::Array(ids)) => ids,
        _ => Vec::new(),
    };
    let found = listed().iter().filter_map(|entry| id(Some(entry))).collect();
    Ok(Claimed { next, found, gone: listed().len() })
}

/// What `XPENDING` says of single entries: their ids, and how often each was given out.
pub(super) fn pending(answer: Value) -> RedisResult<Vec<(EntryId, u64)>> {
    let Value::Array(rows) = answer.extract_error()? else { return Err(unexpected("XPENDING")) };
    let row = |row: Value| {
        let Value::Array(row) = row else { return None };
        let mut row = row.into_iter();
        let id = id(row.next().as_ref())?;
        match row.nth(2)? {
            Value::Int(times) => Some((id, u64::try_from(times).ok()?)),
            _ => None,
        }
    };
    Ok(rows.into_iter().filter_map(row).collect())
}

/// What `ZRANGE ... WITHSCORES` says: texts, and whole numbers.
pub(super) fn scored(answer: Value) -> RedisResult<Vec<(String, i64)>> {
    let rows = answer.extract_error()?;
    // In the newer form of answers, each pair is a list of its own.
    let flat = match rows {
        Value::Array(rows) if rows.iter().all(|row| matches!(row, Value::Array(_))) => {
            let pair = |row| if let Value::Array(pair) = row { pair } else { Vec::new() };
            Value::Array(rows.into_iter().flat_map(pair).collect())
        }
        other => other,
    };
    let pair = |(name, score)| Some((String::from_utf8(name).ok()?, number(&score)?));
    Ok(pairs(flat).into_iter().filter_map(pair).collect())
}

fn number(score: &Value) -> Option<i64> {
    match score {
        Value::BulkString(text) => {
            String::from_utf8_lossy(text).parse().ok().map(|ms: f64| ms as i64)
        }
        Value::Double(ms) => Some(*ms as i64),
        Value::Int(ms) => Some(*ms),
        _ => None,
    }
}

/// What `ZMSCORE` says: whole numbers, or none.
pub(super) fn times(answer: Value) -> RedisResult<Vec<Option<i64>>> {
    let Value::Array(found) = answer.extract_error()? else { return Err(unexpected("ZMSCORE")) };
    Ok(found.iter().map(number).collect())
}

/// A list of texts.
pub(super) fn texts(answer: Value) -> RedisResult<Vec<String>> {
    let (Value::Array(found) | Value::Set(found)) = answer.extract_error()? else {
        return Err(unexpected("a list"));
    };
    let text = |value: Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    };
    Ok(found.into_iter().filter_map(text).collect())
}

/// What `SCAN` says: where to go on, and keys.
pub(super) fn scanned(answer: Value) -> RedisResult<(String, Vec<String>)> {
    let Value::Array(parts) = answer.extract_error()? else { return Err(unexpected("SCAN")) };
    let mut parts = parts.into_iter();
    let cursor = texts(Value::Array(parts.next().into_iter().collect()))?.pop();
    let keys = texts(parts.next().unwrap_or_default())?;
    cursor.map(|cursor| (cursor, keys)).ok_or_else(|| unexpected("SCAN"))
}

/// What `XINFO GROUPS` says.
pub(super) fn groups(answer: Value) -> RedisResult<Vec<Group>> {
    let Value::Array(rows) = answer.extract_error()? else { return Err(unexpected("XINFO")) };
    let row = |row: Value| {
        let mut group = Group::default();
        for (name, value) in pairs(row) {
            match (&*name, value) {
                (b"name", Value::BulkString(text)) => {
                    group.name = String::from_utf8_lossy(&text).into_owned();
                }
                (b"pending", Value::Int(count)) => group.pending = count.max(0).unsigned_abs(),
                (b"last-delivered-id", value) => {
                    group.last_delivered = id(Some(&value)).unwrap_or_default();
                }
                (b"lag", Value::Int(count)) => group.lag = u64::try_from(count).ok(),
                (b"entries-read", Value::Int(count)) => {
                    group.entries_read = u64::try_from(count).ok()
                }
                _ => {}
            }
        }
        group
    };
    Ok(rows.into_iter().map(row).collect())
}

/// How far a stream reaches: how many entries it ever had, how many it has, the last and the first.
pub(super) fn extent(answer: Value) -> RedisResult<Extent> {
    let Value::Array(parts) = answer.extract_error()? else { return Err(unexpected("EVAL")) };
    let [Value::Int(added), Value::Int(length), last, first] = &parts[..] else {
        return Err(unexpected("EVAL"));
    };
    Ok(Extent {
        added: u64::try_from(*added).ok(),
        length: length.max(&0).unsigned_abs(),
        last: id(Some(last)).unwrap_or_default(),
        first: id(Some(first)),
    })
}

/// What `XINFO CONSUMERS` says.
pub(super) fn consumers(answer: Value) -> RedisResult<Vec<Consumer>> {
    let Value::Array(rows) = answer.extract_error()? else { return Err(unexpected("XINFO")) };
    let row = |row: Value| {
        let mut consumer = Consumer { name: String::new(), pending: 0, idle: Duration::ZERO };
        for (name, value) in pairs(row) {
            match (&*name, value) {
                (b"name", Value::BulkString(name)) => {
                    consumer.name = String::from_utf8_lossy(&name).into_owned();
                }
                (b"pending", Value::Int(count)) => consumer.pending = count.max(0).unsigned_abs(),
                (b"idle", Value::Int(ms)) => {
                    consumer.idle = Duration::from_millis(ms.max(0).unsigned_abs());
                }
                _ => {}
            }
        }
        consumer
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Names and values, in whichever of both forms the server gives them.
pub(super) fn pairs(row: Value) -> Vec<(Vec<u8>, Value)> {
    let named = |name: Value, value| match name {
        Value::BulkString(name) => Some((name, value)),
        Value::SimpleString(name) => Some((name.into_bytes(), value)),
        _ => None,
    };
    match row {
        Value::Map(map) => map.into_iter().filter_map(|(name, value)| named(name, value)).collect(),
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            std::iter::from_fn(|| Some((flat.next()?, flat.next()?)))
                .filter_map(|(name, value)| named(name, value))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The id of an entry.
pub(super) fn id(value: Option<&Value>) -> Option<EntryId> {
    match value? {
        Value::BulkString(bytes) => EntryId::parse(bytes),
        Value::SimpleString(text) => EntryId::parse(text.as_bytes()),
        _ => None,
    }
}

pub(super) fn unexpected(command: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answer to", command.to_owned()).into()
}
