//! The commands of a reader, and of those beside it.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Pipeline, RedisResult, Value, cmd};

use super::answers::{self, Claimed, Raw};
use super::entry_id::EntryId;
use super::fault::Fault;
use super::holding::Done;
use super::keys::{self, Kind, Stream};
use crate::event::Id;
use crate::transport::Start;

/// What is read, and in whose name.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub stream: Stream,
    pub group: Arc<str>,
    /// The handler of a command.
    pub owner: Option<Arc<str>>,
    pub consumer: Arc<str>,
    pub start: Start,
}

/// Claims, of the entries that are named, those that this consumer has: whoever stood still for a
/// while must not take from others what they took over meanwhile.
const CLAIM_OURS: &str = "
local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0}
for i = 4, #ARGV do
    local has = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
    if has.err then return has end
    if #has > 0 then table.insert(claim, ARGV[i]) end
end
if #claim == 5 then return {} end
for option in string.gmatch(ARGV[3], '%S+') do table.insert(claim, option) end
return redis.pcall(unpack(claim))
";

/// Takes a consumer out that has nothing: what it has would be nobody's. It may have been given
/// something since that was looked at; where its silence counts, it has to be as long as that yet.
const LEAVE: &str = "
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return consumers end
for _, consumer in ipairs(consumers) do
    local facts = {}
    for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
    if facts.name == ARGV[2] and facts.pending == 0 and facts.idle >= tonumber(ARGV[3]) then
        return redis.pcall('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    end
end
return 0
";

/// What is needed of `XINFO STREAM`, which else brings the first and the last entry with all that
/// is in them.
const EXTENT: &str = "
local said = redis.pcall('XINFO', 'STREAM', KEYS[1])
if said.err then return said end
local facts = {}
for i = 1, #said, 2 do facts[said[i]] = said[i + 1] end
local first = facts['first-entry']
return {facts['entries-added'] or -1, facts['length'], facts['last-generated-id'],
    first and first[1] or ''}
";

/// Sets right how many entries a group was given, if it was given the last one.
const COUNT_ANEW: &str = "
local function facts_of(flat)
    local facts = {}
    for i = 1, #flat, 2 do facts[flat[i]] = flat[i + 1] end
    return facts
end
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
if stream.err then return stream end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return groups end
stream = facts_of(stream)
for _, group in ipairs(groups) do
    local facts = facts_of(group)
    local last = facts['last-delivered-id']
    if facts.name == ARGV[1] and last == stream['last-generated-id'] then
        return redis.pcall('XGROUP', 'SETID', KEYS[1], ARGV[1], last, 'ENTRIESREAD',
            stream['entries-added'])
    end
end
return 0
";

/// How many entries that are no events are kept.
const QUARANTINED: usize = 10_000;

impl Place {
    /// Whether the server may be asked what was handled. A request is answered in time, or not at
    /// all.
    pub fn is_remembered(&self) -> bool {
        self.stream.kind != Kind::Requests
    }

    /// Whether it is to be told: of commands, which leave no trace in their stream; else where
    /// others ask.
    pub fn remembers(&self, company: bool) -> bool {
        self.stream.kind == Kind::Commands || (self.is_remembered() && company)
    }

    /// Makes the group, and the stream, where they are not there.
    pub async fn create(&self, to: &mut MultiplexedConnection, start: Start) -> RedisResult<()> {
        let from = match start {
            Start::Now => "$",
            Start::First => "0",
            Start::At(ms) => &before(ms).to_string(),
        };
        let mut command = cmd("XGROUP");
        command.arg("CREATE").arg(&*self.stream.key).arg(&*self.group).arg(from).arg("MKSTREAM");
        done(to, &command).await
    }

    /// Has the server know that this consumer is there.
    pub async fn enter(&self, to: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut command = cmd("XGROUP");
        command.arg("CREATECONSUMER").arg(&*self.stream.key).arg(&*self.group);
        done(to, command.arg(&*self.consumer)).await
    }

    /// What nobody has been given yet; waits for it for at most `block`.
    pub async fn fresh(
        &self,
        to: &mut MultiplexedConnection,
        count: usize,
        block: Option<Duration>,
    ) -> RedisResult<Vec<Raw>> {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&*self.group).arg(&*self.consumer).arg("COUNT").arg(count);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis() as u64);
        }
        command.arg("STREAMS").arg(&*self.stream.key).arg(">");
        answers::read(to.send_packed_command(&command).await?)
    }

    /// Has the server know that this consumer is still there, without reading anything. Before 7.2 it
    /// does not count a read that brought nothing: that of what we have behind the end brings
    /// nothing, and counts. The last id of all would not do: to the server it is what `>` is, and
    /// brings something new.
    pub async fn stay(&self, to: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(&*self.group).arg(&*self.consumer).arg("COUNT").arg(1);
        command.arg("STREAMS").arg(&*self.stream.key).arg(EntryId { ms: u64::MAX - 1, seq: 0 });
        to.send_packed_command(&command).await?.extract_error().map(drop)
    }

    /// What this consumer was given and has not acknowledged, behind `after`, and how often each
    /// was given out.
    pub async fn given(
        &self,
        to: &mut MultiplexedConnection,
        after: EntryId,
        count: usize,
    ) -> RedisResult<Vec<(EntryId, u64)>> {
        let mut command = cmd("XPENDING");
        command.arg(&*self.stream.key).arg(&*self.group);
        command.arg(format!("({after}")).arg("+").arg(count).arg(&*self.consumer);
        answers::pending(to.send_packed_command(&command).await?)
    }

    /// Has those of these that are ours yet given to this consumer once more.
    pub async fn again(
        &self,
        to: &mut MultiplexedConnection,
        ids: impl Iterator<Item = EntryId>,
    ) -> RedisResult<Vec<Raw>> {
        let command = self.claiming("", ids);
        answers::entries(to.send_packed_command(&command).await?.extract_error()?)
    }

    /// Whether the stream has an entry.
    pub async fn is_there(&self, to: &mut MultiplexedConnection, id: EntryId) -> RedisResult<bool> {
        let mut command = cmd("XRANGE");
        command.arg(&*self.stream.key).arg(id).arg(id);
        let answer = to.send_packed_command(&command).await?.extract_error()?;
        Ok(!answers::entries(answer)?.is_empty())
    }

    /// Tells the server that somebody is at work on these.
    pub async fn keep(&self, to: &mut MultiplexedConnection, ids: &[EntryId]) -> RedisResult<()> {
        let command = self.claiming("JUSTID", ids.iter().copied());
        done(to, &command).await
    }

    /// Nobody is at work on these any more: as if that had been so for `idle`, and they had been
    /// given out so many `times`.
    pub async fn hand_back(
        &self,
        to: &mut MultiplexedConnection,
        ids: &[EntryId],
        (idle, times): (Duration, u64),
    ) -> RedisResult<()> {
        let how = format!("IDLE {} RETRYCOUNT {times} JUSTID", idle.as_millis());
        let command = self.claiming(&how, ids.iter().copied());
        done(to, &command).await
    }

    /// Claims what is ours already, with the options `how`.
    fn claiming(&self, how: &str, ids: impl Iterator<Item = EntryId>) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(CLAIM_OURS).arg(1).arg(&*self.stream.key);
        command.arg(&*self.group).arg(&*self.consumer).arg(how);
        ids.for_each(|id| {
            command.arg(id);
        });
        command
    }

    /// Takes over what others were given at least `idle` ago and have not acknowledged: from
    /// `cursor` on.
    pub async fn claim(
        &self,
        to: &mut MultiplexedConnection,
        idle: Duration,
        cursor: EntryId,
        count: usize,
    ) -> RedisResult<Claimed> {
        let mut command = cmd("XAUTOCLAIM");
        command.arg(&*self.stream.key).arg(&*self.group).arg(&*self.consumer);
        command.arg(idle.as_millis() as u64).arg(cursor).arg("COUNT").arg(count);
        command.arg("JUSTID");
        answers::claimed(to.send_packed_command(&command).await?)
    }

    /// The server may forget these, and remembers from `now` on, if given, that they were handled.
    /// In this order: what was handled and is given out again after a crash is known. A server
    /// that has no memory for that is told at least that they are handled.
    pub async fn acknowledge(
        &self,
        to: &mut MultiplexedConnection,
        entries: &[Done],
        now: Option<i64>,
    ) -> RedisResult<()> {
        let mut commands = Pipeline::with_capacity(3);
        let remembers = now.is_some() && entries.iter().any(|done| done.id.is_some());
        if let Some(now) = now.filter(|_| remembers) {
            commands.cmd("ZADD").arg(keys::seen(&self.stream.key, &self.group));
            let mut text = [0; Id::TEXT_LEN];
            for id in entries.iter().filter_map(|done| done.id.as_ref()) {
                commands.arg(now).arg(id.text(&mut text));
            }
        }
        self.listing(&mut commands, "XACK", Some(&self.group), entries);
        if matches!(self.stream.kind, Kind::Commands | Kind::Requests) {
            self.listing(&mut commands, "XDEL", None, entries);
        }
        let count = commands.len();
        let mut answers = to.send_packed_commands(&commands, 0, count).await?.into_iter();
        if remembers
            && let Some(Err(cause)) = answers.next().map(Value::extract_error)
            && Fault::of(&cause) != Fault::Busy
        {
            return Err(cause);
        }
        answers.try_for_each(|answer| answer.extract_error().map(drop))
    }

    fn listing(&self, to: &mut Pipeline, name: &str, group: Option<&str>, entries: &[Done]) {
        to.cmd(name).arg(&*self.stream.key).arg(group);
        for done in entries {
            to.arg(done.entry);
        }
    }

    /// Puts what is no event where somebody can look at it.
    pub async fn set_aside(
        &self,
        to: &mut MultiplexedConnection,
        entry: &Raw,
        reason: &str,
    ) -> RedisResult<()> {
        const SHOWN: usize = 64 * 1024;
        let data = entry.data.as_deref().unwrap_or(b"");
        let mut command = cmd("XADD");
        command.arg(keys::quarantine(&self.stream.key)).arg("MAXLEN").arg("~").arg(QUARANTINED);
        command.arg("*").arg("id").arg(entry.id).arg("group").arg(&*self.group);
        command.arg("reason").arg(reason).arg("data").arg(&data[..data.len().min(SHOWN)]);
        done(to, &command).await
    }

    /// When each of `ids` was handled, in Unix milliseconds, as far as that is known; in the same
    /// order.
    pub async fn handled(
        &self,
        to: &mut MultiplexedConnection,
        ids: impl Iterator<Item = &Id>,
    ) -> RedisResult<Vec<Option<i64>>> {
        let mut command = cmd("ZMSCORE");
        command.arg(keys::seen(&self.stream.key, &self.group));
        let mut text = [0; Id::TEXT_LEN];
        ids.for_each(|id| {
            command.arg(id.text(&mut text));
        });
        answers::times(to.send_packed_command(&command).await?)
    }

    /// The last entry that the group was given.
    pub async fn last_delivered(&self, to: &mut MultiplexedConnection) -> RedisResult<EntryId> {
        Ok(self.standing(to).await?.map(|group| group.last_delivered).unwrap_or_default())
    }

    /// How far the group is.
    pub async fn standing(&self, to: &mut MultiplexedConnection) -> RedisResult<Option<Group>> {
        let mut command = cmd("XINFO");
        command.arg("GROUPS").arg(&*self.stream.key);
        let groups = answers::groups(to.send_packed_command(&command).await?)?;
        Ok(groups.into_iter().find(|group| *group.name == *self.group))
    }

    /// The group was given everything: has the server count what comes from here.
    pub async fn count_anew(&self, to: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut command = cmd("EVAL");
        command.arg(COUNT_ANEW).arg(1).arg(&*self.stream.key);
        done(to, command.arg(&*self.group)).await
    }

    /// Whether it is for us to tell that something is missing, now that so many entries are gone.
    pub async fn tells_of(&self, to: &mut MultiplexedConnection, gone: u64) -> RedisResult<bool> {
        const REMEMBERED_MS: u64 = 3_600_000;
        let mut command = cmd("SET");
        command.arg(keys::gap(&self.stream.key, &self.group, gone)).arg(&*self.consumer);
        command.arg("NX").arg("PX").arg(REMEMBERED_MS);
        let answer = to.send_packed_command(&command).await?.extract_error()?;
        Ok(answer != Value::Nil)
    }

    /// How far the stream reaches.
    pub async fn extent(&self, to: &mut MultiplexedConnection) -> RedisResult<Extent> {
        let mut command = cmd("EVAL");
        command.arg(EXTENT).arg(1).arg(&*self.stream.key);
        answers::extent(to.send_packed_command(&command).await?)
    }

    /// The ids behind `from`, up to and with `to`: the last `count`, the oldest first.
    pub async fn given_out(
        &self,
        to: &mut MultiplexedConnection,
        (from, last): (EntryId, EntryId),
        count: usize,
    ) -> RedisResult<Vec<(EntryId, Id)>> {
        const PAGE: usize = 200;
        let (mut ids, mut last) = (Vec::new(), format!("{last}"));
        while ids.len() < count {
            let page = PAGE.min(count - ids.len());
            let mut command = cmd("XREVRANGE");
            command.arg(&*self.stream.key).arg(&last).arg(format!("({from}"));
            command.arg("COUNT").arg(page);
            let answer = to.send_packed_command(&command).await?.extract_error()?;
            let found = answers::entries(answer)?;
            let Some(oldest) = found.last().filter(|_| found.len() == page) else {
                ids.extend(found.iter().filter_map(|raw| Some((raw.id, raw.event_id()?))));
                break;
            };
            last = format!("({}", oldest.id);
            ids.extend(found.iter().filter_map(|raw| Some((raw.id, raw.event_id()?))));
        }
        ids.reverse();
        Ok(ids)
    }

    /// The ids that were handled since `since`, and when, in Unix milliseconds: the last `count`.
    pub async fn remembered(
        &self,
        to: &mut MultiplexedConnection,
        since: i64,
        count: usize,
    ) -> RedisResult<Vec<(Id, i64)>> {
        const PAGE: usize = 10_000;
        let key = keys::seen(&self.stream.key, &self.group);
        let mut ids = Vec::new();
        while ids.len() < count {
            let page = PAGE.min(count - ids.len());
            let mut command = cmd("ZRANGE");
            command.arg(&key).arg("+inf").arg(since).arg("BYSCORE").arg("REV");
            command.arg("LIMIT").arg(ids.len()).arg(page).arg("WITHSCORES");
            let found = answers::scored(to.send_packed_command(&command).await?)?;
            let full = found.len() == page;
            ids.extend(found.iter().map(|(text, ms)| (Id::parse(text), *ms)));
            if !full {
                break;
            }
        }
        ids.reverse(); // the oldest first
        Ok(ids)
    }

    /// Forgets what was handled before `before`, in Unix milliseconds, and all but the last
    /// `count`.
    pub async fn forget(
        &self,
        to: &mut MultiplexedConnection,
        before: i64,
        count: usize,
    ) -> RedisResult<()> {
        let key = keys::seen(&self.stream.key, &self.group);
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(format!("({before}"));
        commands.cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-1 - count as i64);
        let answers = to.send_packed_commands(&commands, 0, 2).await?;
        answers.into_iter().try_for_each(|answer| answer.extract_error().map(drop))
    }

    /// Whether an entry with the id stands behind `after` and before `entry`.
    pub async fn stands_before(
        &self,
        to: &mut MultiplexedConnection,
        id: &Id,
        (after, entry): (EntryId, EntryId),
    ) -> RedisResult<bool> {
        const PAGE: usize = 500;
        let mut after = after;
        loop {
            let mut command = cmd("XRANGE");
            command.arg(&*self.stream.key).arg(format!("({after}")).arg(format!("({entry}"));
            command.arg("COUNT").arg(PAGE);
            let answer = to.send_packed_command(&command).await?.extract_error()?;
            let page = answers::entries(answer)?;
            if page.iter().any(|raw| raw.has_id(id)) {
                return Ok(true);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.id,
                _ => return Ok(false),
            }
        }
    }

    /// How many others read for the group: those of the last `within`.
    pub async fn others(
        &self,
        to: &mut MultiplexedConnection,
        within: Duration,
    ) -> RedisResult<Vec<Consumer>> {
        let mut command = cmd("XINFO");
        command.arg("CONSUMERS").arg(&*self.stream.key).arg(&*self.group);
        let mut all = answers::consumers(to.send_packed_command(&command).await?)?;
        all.retain(|other| *other.name != *self.consumer && other.idle < within);
        Ok(all)
    }

    /// How many entries other consumers have.
    pub async fn held_by_others(&self, to: &mut MultiplexedConnection) -> RedisResult<u64> {
        let mut command = cmd("XINFO");
        command.arg("CONSUMERS").arg(&*self.stream.key).arg(&*self.group);
        let all = answers::consumers(to.send_packed_command(&command).await?)?;
        let others = all.iter().filter(|other| *other.name != *self.consumer);
        Ok(others.map(|other| other.pending).sum())
    }

    /// Takes consumers out that are gone and hold nothing.
    pub async fn bury_consumers(
        &self,
        to: &mut MultiplexedConnection,
        idle: Duration,
    ) -> RedisResult<()> {
        let mut command = cmd("XINFO");
        command.arg("CONSUMERS").arg(&*self.stream.key).arg(&*self.group);
        let all = answers::consumers(to.send_packed_command(&command).await?)?;
        for gone in all.iter().filter(|c| c.pending == 0 && c.idle >= idle) {
            if *gone.name != *self.consumer {
                self.leave(to, &gone.name, idle).await?;
            }
        }
        Ok(())
    }

    /// Takes a consumer out that has nothing, and has been silent for `idle`.
    pub async fn leave(
        &self,
        to: &mut MultiplexedConnection,
        consumer: &str,
        idle: Duration,
    ) -> RedisResult<()> {
        let mut command = cmd("EVAL");
        command.arg(LEAVE).arg(1).arg(&*self.stream.key).arg(&*self.group).arg(consumer);
        done(to, command.arg(idle.as_millis() as u64)).await
    }
}

/// What the server calls this connection; 0 where it may not be asked.
pub(super) async fn client_id(to: &mut MultiplexedConnection) -> RedisResult<i64> {
    let answer = to.send_packed_command(cmd("CLIENT").arg("ID")).await?;
    Ok(if let Value::Int(id) = answer { id } else { 0 })
}

/// Takes out a key.
pub(super) async fn take_out(to: &mut MultiplexedConnection, key: &str) -> RedisResult<()> {
    done(to, cmd("UNLINK").arg(key)).await
}

/// Ends the read that another connection waits for.
pub(super) async fn unblock(to: &mut MultiplexedConnection, id: i64) -> RedisResult<()> {
    done(to, cmd("CLIENT").arg("UNBLOCK").arg(id)).await
}

/// Who reads for a group.
#[derive(Debug)]
pub(super) struct Consumer {
    pub name: String,
    pub pending: u64,
    /// Since it last asked for something.
    pub idle: Duration,
}

/// A group of a stream.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub name: String,
    pub pending: u64,
    /// The last entry that one of its readers was given.
    pub last_delivered: EntryId,
    /// How many entries it was given, or passed over; none where the server does not know.
    pub entries_read: Option<u64>,
    /// How many it was not given yet; none where the server does not know.
    pub lag: Option<u64>,
}

/// How far a stream reaches.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// How many entries it ever had; none before Redis 7.
    pub added: Option<u64>,
    pub length: u64,
    /// The first one that is there yet.
    pub first: Option<EntryId>,
    /// The last one that it ever had.
    pub last: EntryId,
}

/// Behind which entry a group begins whose first one is from `ms` on.
pub(super) fn before(ms: i64) -> EntryId {
    match u64::try_from(ms) {
        Ok(ms) if ms > 0 => EntryId { ms: ms - 1, seq: u64::MAX },
        _ => EntryId::default(),
    }
}

/// Takes out every key that matches `pattern`.
pub(super) async fn wipe(to: &mut MultiplexedConnection, pattern: &str) -> RedisResult<()> {
    let mut cursor = "0".to_owned();
    loop {
        let mut command = cmd("SCAN");
        command.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1_000);
        let (next, keys) = answers::scanned(to.send_packed_command(&command).await?)?;
        if !keys.is_empty() {
            // One by one: in a cluster, they are in many slots.
            let mut commands = Pipeline::with_capacity(keys.len());
            for key in &keys {
                commands.cmd("UNLINK").arg(key);
            }
            let answers = to.send_packed_commands(&commands, 0, keys.len()).await?;
            answers.into_iter().try_for_each(|answer| answer.extract_error().map(drop))?;
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}

/// Sends a command of which only the failure is of interest.
pub(super) async fn done(to: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<()> {
    to.send_packed_command(command).await?.extract_error().map(drop)
}

/// The id of the last entry of a stream; none where there is none.
pub(super) async fn last(to: &mut MultiplexedConnection, stream: &str) -> RedisResult<EntryId> {
    let mut command = cmd("XREVRANGE");
    command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let answer = to.send_packed_command(&command).await?.extract_error()?;
    Ok(answers::entries(answer)?.first().map(|raw| raw.id).unwrap_or_default())
}

/// What came behind `after`; waits for it for at most `block`.
pub(super) async fn behind(
    to: &mut MultiplexedConnection,
    stream: &str,
    after: EntryId,
    (count, block): (usize, Duration),
) -> RedisResult<Vec<Raw>> {
    let mut command = cmd("XREAD");
    command.arg("COUNT").arg(count).arg("BLOCK").arg(block.as_millis() as u64);
    command.arg("STREAMS").arg(stream).arg(after);
    answers::read(to.send_packed_command(&command).await?)
}

/// The server's time, as the id that an entry written now would have.
pub(super) async fn time(to: &mut MultiplexedConnection) -> RedisResult<EntryId> {
    let answer = to.send_packed_command(&cmd("TIME")).await?.extract_error()?;
    let Value::Array(parts) = answer else { return Err(answers::unexpected("TIME")) };
    let number = |part: Option<&Value>| match part {
        Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok()?.parse::<u64>().ok(),
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    match (number(parts.first()), number(parts.get(1))) {
        (Some(seconds), Some(micros)) => Ok(EntryId { ms: seconds * 1000 + micros / 1000, seq: 0 }),
        _ => Err(answers::unexpected("TIME")),
    }
}
