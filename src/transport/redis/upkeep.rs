//! What is done for a stream beside reading it: delayed events come when they are due, and what
//! nobody needs is taken out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisResult, Value, cmd};
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::Inner;
use super::answers;
use super::fault::Fault;
use super::keys::{self, Kind, Stream};
use super::link::Link;
use super::trimming;

/// How long what another process has delayed may go unnoticed.
const LOOK: Duration = Duration::from_secs(1);

/// Publishes what is due, in one step on the server, so that it is there once. Returns how many
/// milliseconds are left until the next is due, or -1.
const MOVE: &str = "
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, 1000)
for _, data in ipairs(due) do
    redis.call('XADD', KEYS[2], '*', 'data', data)
end
if #due > 0 then redis.call('ZREM', KEYS[1], unpack(due)) end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #next == 0 then return -1 end
return math.max(0, math.ceil(next[2] - now))
";

/// The streams that this process writes to, or reads from.
#[derive(Default)]
pub(super) struct Upkeep {
    streams: RwLock<BTreeSet<Arc<str>>>,
    changed: Notify,
}

impl Upkeep {
    /// It is written to, or read, from now on.
    pub fn add(&self, stream: &Stream) {
        if stream.kind == Kind::Category && !self.streams.read().contains(&stream.key) {
            self.streams.write().insert(stream.key.clone());
        }
    }

    /// Something was delayed.
    pub fn look(&self) {
        self.changed.notify_one();
    }
}

/// Looks after the streams, until the end.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut link = Link::new(&inner, inner.settings.response_timeout);
    let mut patience = inner.patience();
    let mut tidied = inner.clock.now();
    let mut wait = LOOK;
    loop {
        tokio::select! {
            () = inner.clock.sleep(wait) => {}
            () = inner.upkeep.changed.notified() => {}
            () = inner.ending.cancelled() => return,
        }
        let streams: Vec<Arc<str>> = inner.upkeep.streams.read().iter().cloned().collect();
        if streams.is_empty() {
            wait = LOOK;
            continue;
        }
        let now = inner.clock.now();
        let tidies = now.saturating_since(tidied) >= inner.settings.tidy_every;
        match round(&mut link, &streams, tidies.then_some(inner.settings.keep)).await {
            Ok(next) => {
                patience.renew();
                wait = next.min(LOOK);
                if tidies {
                    tidied = now;
                }
            }
            Err(cause) => {
                link.failed(Fault::of(&cause));
                if !patience.wait().await {
                    return;
                }
            }
        }
    }
}

/// Looks after each stream once; how long until something is due.
async fn round(
    link: &mut Link,
    streams: &[Arc<str>],
    keep: Option<usize>,
) -> RedisResult<Duration> {
    let mut wait = LOOK;
    for key in streams {
        if let Some(next) = publish_due(link.get().await?, key).await? {
            wait = wait.min(next);
        }
        if let Some(keep) = keep {
            trimming::trim(link.get().await?, key, keep).await?;
        }
    }
    Ok(wait)
}

async fn publish_due(
    to: &mut MultiplexedConnection,
    stream: &str,
) -> RedisResult<Option<Duration>> {
    let mut command = cmd("EVAL");
    command.arg(MOVE).arg(2).arg(keys::delayed(stream)).arg(stream);
    match to.send_packed_command(&command).await?.extract_error()? {
        Value::Int(left) => Ok(u64::try_from(left).ok().map(Duration::from_millis)),
        _ => Err(answers::unexpected("EVAL")),
    }
}
