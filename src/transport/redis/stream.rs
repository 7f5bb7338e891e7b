//! The commands a reader uses, and how their answers are read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, cmd};

use super::Start;
use crate::event::Event;

/// What is read, and in whose name.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub stream: Arc<str>,
    pub group: Arc<str>,
    pub consumer: Arc<str>,
    pub start: Start,
}

/// An entry as the server gives it.
#[derive(Debug)]
pub(super) struct Raw {
    pub id: Arc<str>,
    /// What stands under `data`; none where there is no such field, or no entry any more.
    pub data: Option<Vec<u8>>,
}

impl Raw {
    /// The event, or why it is none.
    pub fn event(&self) -> Result<Event, String> {
        let data = self.data.as_deref().ok_or("it has no field `data`")?;
        let text = std::str::from_utf8(data).map_err(|_| "`data` is not UTF-8".to_owned())?;
        Event::from_json(text).map_err(|error| error.to_string())
    }
}

impl Place {
    /// Makes the group, and the stream, where they are not there.
    pub async fn create(&self, to: &mut MultiplexedConnection, start: Start) -> RedisResult<()> {
        let from = match start {
            Start::Now => "$",
            Start::First => "0",
        };
        let mut command = cmd("XGROUP");
        command.arg("CREATE").arg(&*self.stream).arg(&*self.group).arg(from).arg("MKSTREAM");
        to.send_packed_command(&command).await?.extract_error().map(drop)
    }

    fn reading(&self, count: usize) -> Cmd {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&*self.group).arg(&*self.consumer).arg("COUNT").arg(count);
        command
    }

    /// What nobody has been given yet; waits for it for at most `block`.
    pub async fn fresh(
        &self,
        to: &mut MultiplexedConnection,
        count: usize,
        block: Duration,
    ) -> RedisResult<Vec<Raw>> {
        let mut command = self.reading(count);
        command.arg("BLOCK").arg(block.as_millis() as u64);
        command.arg("STREAMS").arg(&*self.stream).arg(">");
        read(to.send_packed_command(&command).await?)
    }

    /// What this consumer was given and has not acknowledged, behind `after`.
    pub async fn own(
        &self,
        to: &mut MultiplexedConnection,
        after: &str,
        count: usize,
    ) -> RedisResult<Vec<Raw>> {
        let mut command = self.reading(count);
        command.arg("STREAMS").arg(&*self.stream).arg(after);
        read(to.send_packed_command(&command).await?)
    }

    /// Takes over what others were given at least `idle` ago and have not acknowledged: from
    /// `cursor` on, and the cursor of the rest. Beside them the ids of entries that are gone.
    pub async fn claim(
        &self,
        to: &mut MultiplexedConnection,
        idle: Duration,
        cursor: &str,
        count: usize,
    ) -> RedisResult<(String, Vec<Raw>, usize)> {
        let mut command = cmd("XAUTOCLAIM");
        command.arg(&*self.stream).arg(&*self.group).arg(&*self.consumer);
        command.arg(idle.as_millis() as u64).arg(cursor).arg("COUNT").arg(count);
        let answer = to.send_packed_command(&command).await?.extract_error()?;
        let Value::Array(parts) = answer else { return Err(unexpected("XAUTOCLAIM")) };
        let mut parts = parts.into_iter();
        let cursor = text(parts.next()).ok_or_else(|| unexpected("XAUTOCLAIM"))?;
        let found = entries(parts.next().unwrap_or_default())?;
        let gone = match parts.next() {
            Some(Value::Array(gone)) => gone.len(),
            _ => 0,
        };
        Ok((cursor.to_string(), found, gone))
    }

    /// How often each of this consumer's entries from `first` to `last` was given out.
    pub async fn deliveries(
        &self,
        to: &mut MultiplexedConnection,
        (first, last): (&str, &str),
        count: usize,
    ) -> RedisResult<HashMap<Arc<str>, u64>> {
        let mut command = cmd("XPENDING");
        command.arg(&*self.stream).arg(&*self.group);
        command.arg(first).arg(last).arg(count).arg(&*self.consumer);
        let answer = to.send_packed_command(&command).await?.extract_error()?;
        let Value::Array(rows) = answer else { return Err(unexpected("XPENDING")) };
        let row = |row: Value| {
            let Value::Array(row) = row else { return None };
            let mut row = row.into_iter();
            let id = text(row.next())?;
            match row.nth(2)? {
                Value::Int(times) => Some((id, u64::try_from(times).ok()?)),
                _ => None,
            }
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// Tells the server that somebody is at work on these.
    pub async fn keep(&self, to: &mut MultiplexedConnection, ids: &[Arc<str>]) -> RedisResult<()> {
        let mut command = cmd("XCLAIM");
        command.arg(&*self.stream).arg(&*self.group).arg(&*self.consumer).arg(0);
        ids.iter().for_each(|id| {
            command.arg(&**id);
        });
        command.arg("JUSTID");
        to.send_packed_command(&command).await?.extract_error().map(drop)
    }

    /// The server may forget these.
    pub async fn acknowledge(
        &self,
        to: &mut MultiplexedConnection,
        ids: &[Arc<str>],
    ) -> RedisResult<()> {
        let mut command = cmd("XACK");
        command.arg(&*self.stream).arg(&*self.group);
        ids.iter().for_each(|id| {
            command.arg(&**id);
        });
        to.send_packed_command(&command).await?.extract_error().map(drop)
    }

    /// Puts what is no event where somebody can look at it.
    pub async fn set_aside(
        &self,
        to: &mut MultiplexedConnection,
        entry: &Raw,
        reason: &str,
    ) -> RedisResult<()> {
        const MOST: usize = 10_000;
        let mut command = cmd("XADD");
        command.arg(super::keys::quarantine(&self.stream)).arg("MAXLEN").arg("~").arg(MOST);
        command.arg("*").arg("id").arg(&*entry.id).arg("group").arg(&*self.group);
        command.arg("reason").arg(reason).arg("data").arg(entry.data.as_deref().unwrap_or(b""));
        to.send_packed_command(&command).await?.extract_error().map(drop)
    }
}

/// What `XREADGROUP` says of one stream.
fn read(answer: Value) -> RedisResult<Vec<Raw>> {
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

fn entries(found: Value) -> RedisResult<Vec<Raw>> {
    let Value::Array(found) = found else { return Ok(Vec::new()) };
    let entry = |entry: Value| {
        let Value::Array(entry) = entry else { return None };
        let mut entry = entry.into_iter();
        let id = text(entry.next())?;
        let data = match entry.next() {
            Some(Value::Array(fields)) => data(fields),
            _ => None,
        };
        Some(Raw { id, data })
    };
    found.into_iter().map(|found| entry(found).ok_or_else(|| unexpected("a stream"))).collect()
}

/// The value of the field `data` among names and values in turn.
fn data(fields: Vec<Value>) -> Option<Vec<u8>> {
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if let (Value::BulkString(name), Value::BulkString(value)) = (name, value)
            && name == b"data"
        {
            return Some(value);
        }
    }
    None
}

fn text(value: Option<Value>) -> Option<Arc<str>> {
    match value? {
        Value::BulkString(bytes) => Some(String::from_utf8(bytes).ok()?.into()),
        Value::SimpleString(text) => Some(text.into()),
        _ => None,
    }
}

fn unexpected(command: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answer to", command.to_owned()).into()
}
