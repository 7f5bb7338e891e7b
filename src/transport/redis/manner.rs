//! Whether a group keeps the order of keys: all of its members do, or none does.
//!
//! Who reads with a group says how, as long as it is there. Who would read in another manner waits
//! until nobody is: it would take what others have to keep in order.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisResult, Value, cmd};

use super::keys;
use super::place::{self, Place};
use crate::error::Error;
use crate::transport::reading;

/// How long it holds after somebody has said it: longer than a lease, whose owner says it.
const LASTS: Duration = Duration::from_secs(10);

const SAY: &str = "
local manner = redis.call('GET', KEYS[1])
if manner and manner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

const TAKE_BACK: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

fn name(keyed: bool) -> &'static str {
    if keyed { "keyed" } else { "plain" }
}

/// Says how `place` is read; the error where others read it in another manner.
pub(super) async fn say(
    to: &mut MultiplexedConnection,
    place: &Place,
    keyed: bool,
) -> RedisResult<Option<Error>> {
    let mut command = cmd("EVAL");
    command.arg(SAY).arg(1).arg(keys::manner(&place.stream.key, &place.group));
    command.arg(name(keyed)).arg(LASTS.as_millis() as u64);
    let said = to.send_packed_command(&command).await?.extract_error()?;
    Ok((said == Value::Int(0)).then(|| reading::differs(&place.group)))
}

/// Nobody reads `place` any more: others may in any manner.
pub(super) async fn take_back(
    to: &mut MultiplexedConnection,
    place: &Place,
    keyed: bool,
) -> RedisResult<()> {
    let mut command = cmd("EVAL");
    command.arg(TAKE_BACK).arg(1).arg(keys::manner(&place.stream.key, &place.group));
    place::done(to, command.arg(name(keyed))).await
}
