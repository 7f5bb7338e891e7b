//! Trimming that never drops what a group has not handled.

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisResult, Value, cmd};

use super::answers;
use super::entry_id::EntryId;
use super::place::done;

/// Takes out the oldest entries of a stream that has more than `keep`: those that every group has
/// handled, and no other.
pub(super) async fn trim(
    to: &mut MultiplexedConnection,
    key: &str,
    keep: usize,
) -> RedisResult<()> {
    let length = match to.send_packed_command(cmd("XLEN").arg(key)).await?.extract_error()? {
        Value::Int(length) => usize::try_from(length).unwrap_or(0),
        _ => return Err(answers::unexpected("XLEN")),
    };
    let Some(more) = length.checked_sub(keep).filter(|more| *more > 0) else { return Ok(()) };
    // Whole nodes of the stream only, which is cheap; and no more than there are too many.
    let mut command = cmd("XTRIM");
    match first_needed(to, key).await? {
        None => command.arg(key).arg("MAXLEN").arg("~").arg(keep),
        Some(first) => command.arg(key).arg("MINID").arg("~").arg(first).arg("LIMIT").arg(more),
    };
    done(to, &command).await
}

/// The first entry that a group has not handled; none where no group reads the stream.
async fn first_needed(to: &mut MultiplexedConnection, key: &str) -> RedisResult<Option<EntryId>> {
    let mut command = cmd("XINFO");
    let answer = to.send_packed_command(command.arg("GROUPS").arg(key)).await?;
    let mut first: Option<EntryId> = None;
    for group in answers::groups(answer)? {
        let mut needed = group.last_delivered;
        if group.pending > 0 {
            let mut command = cmd("XPENDING");
            command.arg(key).arg(&group.name).arg("-").arg("+").arg(1);
            let oldest = answers::pending(to.send_packed_command(&command).await?)?;
            needed = oldest.first().map_or(needed, |(id, _)| needed.min(*id));
        }
        first = Some(first.map_or(needed, |first| first.min(needed)));
    }
    Ok(first)
}
