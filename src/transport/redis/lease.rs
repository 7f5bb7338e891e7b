//! One reader at a time: leases on the server, and the commands that only their owner can do.
//!
//! Whether the lease is held is looked at in the same step as what depends on it, so that a process
//! that stood still reads nothing by mistake.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, Value, cmd};

use super::answers::{self, Raw};
use super::entry_id::EntryId;
use super::keys;
use super::place::{self, Place};

/// How long a lease, and the word of a member, hold.
pub(super) const LASTS: Duration = Duration::from_secs(5);

/// Who is there, this member included.
const ATTEND: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return redis.call('ZRANGE', KEYS[1], 0, -1)
";

const RENEW: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
";

const GIVE_UP: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// An error is handed on as it is: raised, old servers would wrap it.
const FRESH: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.pcall('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4],
    'STREAMS', KEYS[2], '>')
";

const CLAIM: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.pcall('XAUTOCLAIM', KEYS[2], ARGV[2], ARGV[3], ARGV[4], ARGV[5],
    'COUNT', ARGV[6], 'JUSTID')
";

fn script(text: &str, keys: &[&str]) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}

/// Says that a member is there, and hears who else is.
pub(super) async fn attend(
    to: &mut MultiplexedConnection,
    members: &str,
    member: &str,
) -> RedisResult<Vec<String>> {
    let mut command = script(ATTEND, &[members]);
    command.arg(member).arg(LASTS.as_millis() as u64);
    answers::texts(to.send_packed_command(&command).await?)
}

/// A member goes.
pub(super) async fn part(
    to: &mut MultiplexedConnection,
    members: &str,
    member: &str,
) -> RedisResult<()> {
    let mut command = cmd("ZREM");
    place::done(to, command.arg(members).arg(member)).await
}

/// Takes a lease that nobody has, by a token of its own; whether it did.
pub(super) async fn take(
    to: &mut MultiplexedConnection,
    lease: &str,
    token: &str,
) -> RedisResult<bool> {
    let mut command = cmd("SET");
    command.arg(lease).arg(token).arg("NX").arg("PX").arg(LASTS.as_millis() as u64);
    Ok(to.send_packed_command(&command).await?.extract_error()? != Value::Nil)
}

/// Keeps a lease that was taken by `token`; whether it still is. One that has run out is not taken
/// again by that: somebody else may have had it in between.
pub(super) async fn renew(
    to: &mut MultiplexedConnection,
    lease: &str,
    token: &str,
) -> RedisResult<bool> {
    let mut command = script(RENEW, &[lease]);
    command.arg(token).arg(LASTS.as_millis() as u64);
    Ok(to.send_packed_command(&command).await?.extract_error()? == Value::Int(1))
}

/// Gives a lease up, if it is by this token.
pub(super) async fn give_up(
    to: &mut MultiplexedConnection,
    lease: &str,
    token: &str,
) -> RedisResult<()> {
    let mut command = script(GIVE_UP, &[lease]);
    place::done(to, command.arg(token)).await
}

/// What nobody has been given yet; none where the lease is not by this token.
pub(super) async fn fresh(
    place: &Place,
    to: &mut MultiplexedConnection,
    token: &str,
    count: usize,
) -> RedisResult<Option<Vec<Raw>>> {
    let stream = &*place.stream.key;
    let mut command = script(FRESH, &[&keys::lease(stream, &place.group), stream]);
    command.arg(token).arg(&*place.group).arg(&*place.consumer).arg(count);
    match to.send_packed_command(&command).await?.extract_error()? {
        Value::Int(_) => Ok(None),
        found => answers::read(found).map(Some),
    }
}

/// Takes over all that others left alone for `idle`. How much is gone; none where the lease is not by
/// this token.
pub(super) async fn claim(
    place: &Place,
    to: &mut MultiplexedConnection,
    token: &str,
    (idle, count): (Duration, usize),
) -> RedisResult<Option<usize>> {
    let stream = &*place.stream.key;
    let (mut cursor, mut gone) = (EntryId::default(), 0);
    loop {
        let mut command = script(CLAIM, &[&keys::lease(stream, &place.group), stream]);
        command.arg(token).arg(&*place.group).arg(&*place.consumer);
        command.arg(idle.as_millis() as u64).arg(cursor).arg(count);
        let answer = to.send_packed_command(&command).await?.extract_error()?;
        if matches!(answer, Value::Int(_)) {
            return Ok(None);
        }
        let claimed = answers::claimed(answer)?;
        gone += claimed.gone;
        if claimed.next == EntryId::default() {
            return Ok(Some(gone));
        }
        cursor = claimed.next;
    }
}
