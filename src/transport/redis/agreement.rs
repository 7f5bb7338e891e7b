//! All processes under one prefix have the same number of partitions: else events of one key would
//! go two ways, and some would never be read.

use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, RedisError, RedisResult, Value, cmd};

use super::Inner;
use super::answers;
use super::fault::Fault;
use super::keys::Keys;
use super::link::Link;

/// The number that holds: the one that somebody came with first. Where there are events and no
/// number, they are from before there were partitions.
const AGREE: &str = "
local number = redis.call('GET', KEYS[1])
if not number then
    number = ARGV[1]
    if redis.call('EXISTS', KEYS[2]) == 1 then number = '1' end
    redis.call('SET', KEYS[1], number)
end
return number
";

/// Makes sure that the server knows our number of partitions, and no other.
///
/// # Errors
/// What the server said; one of [`Fault::Disagreed`] where there is another number.
async fn agree(to: &mut MultiplexedConnection, keys: &Keys) -> RedisResult<()> {
    let own = keys.partitions();
    let mut command = cmd("GET");
    command.arg(keys.agreed());
    let mut answer = to.send_packed_command(&command).await?.extract_error()?;
    if answer == Value::Nil {
        let mut command = cmd("EVAL");
        command.arg(AGREE).arg(2).arg(keys.agreed()).arg(keys.categories()).arg(own);
        answer = match to.send_packed_command(&command).await?.extract_error() {
            // A server without room for it has none for other numbers, either.
            Err(cause) if own == 1 && Fault::of(&cause) == Fault::Busy => return Ok(()),
            answer => answer?,
        };
    }
    let number = match answer {
        Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
        _ => return Err(answers::unexpected("GET")),
    };
    if number.parse() == Ok(own) { Ok(()) } else { Err(differs(&number, keys)) }
}

/// The same over `link`, or over one of its own where another server has the number.
///
/// # Errors
/// As [`agree`].
pub(super) async fn agree_over(inner: &Arc<Inner>, link: &mut Link) -> RedisResult<()> {
    if inner.site.is_cluster() {
        return agree_anew(inner).await;
    }
    agree(link.get().await?, &inner.keys).await
}

/// The same over a connection of its own: in a cluster the number may be elsewhere than what else
/// one has to do.
///
/// # Errors
/// As [`agree`].
pub(super) async fn agree_anew(inner: &Arc<Inner>) -> RedisResult<()> {
    let mut link = Link::shared(inner, &inner.keys.agreed());
    let agreed = async { agree(link.get().await?, &inner.keys).await }.await;
    agreed.inspect_err(|cause| link.failed(cause))
}

fn differs(number: &str, keys: &Keys) -> RedisError {
    let (own, agreed) = (keys.partitions(), keys.agreed());
    let said = format!(
        "the prefix {:?} has {number} partition(s) on the server, and this process is to have \
         {own}: set `event_bus.partitions`, or `EventBus(partitions=...)`, to {number}, or use \
         another prefix; to change it for all, let every group handle what there is, stop all \
         processes, and `SET {agreed} {own}`",
        keys.prefix()
    );
    RedisError::from((ErrorKind::InvalidClientConfig, "partitions", said))
}
