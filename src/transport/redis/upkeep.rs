//! What is done for a stream beside reading it: delayed events come when they are due, and what
//! nobody needs is taken out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    /// Each with whom to tell when something was delayed there.
    streams: RwLock<BTreeMap<Arc<str>, Arc<Notify>>>,
    /// One who looks after all of them, where one server has all of them.
    of_all: Arc<Notify>,
}

impl Upkeep {
    /// Something was delayed.
    pub fn look(&self, stream: &str) {
        if let Some(keeper) = self.streams.read().get(stream) {
            keeper.notify_one();
        }
    }
}

/// A stream is written to, or read, from now on. In a cluster each is looked after by itself: a
/// node that is gone is no trouble for what others have.
pub(super) fn add(inner: &Arc<Inner>, stream: &Stream) {
    let upkeep = &inner.upkeep;
    if stream.kind != Kind::Category || upkeep.streams.read().contains_key(&stream.key) {
        return;
    }
    let own = inner.site.is_cluster().then(Arc::<Notify>::default);
    let told = own.clone().unwrap_or_else(|| upkeep.of_all.clone());
    match upkeep.streams.write().entry(stream.key.clone()) {
        Entry::Vacant(place) => drop(place.insert(told)),
        Entry::Occupied(_) => return, // somebody was quicker
    }
    if let Some(told) = own {
        let link = Link::shared(inner, &stream.key);
        let keeping = keep(inner.clone(), link, told, Some(stream.key.clone()));
        inner.tasks.spawn_on(keeping, &inner.runtime);
    }
}

/// Looks after all streams there are, where that is not done for each by itself.
pub(super) fn begin(inner: &Arc<Inner>) {
    if !inner.site.is_cluster() {
        let link = Link::shared(inner, "");
        let keeping = keep(inner.clone(), link, inner.upkeep.of_all.clone(), None);
        inner.tasks.spawn_on(keeping, &inner.runtime);
    }
}

/// Looks after one stream, or all, until the end.
async fn keep(inner: Arc<Inner>, mut link: Link, changed: Arc<Notify>, one: Option<Arc<str>>) {
    let mut patience = inner.patience();
    let mut tidied = inner.clock.now();
    let mut wait = LOOK;
    loop {
        tokio::select! {
            () = inner.clock.sleep(wait) => {}
            () = changed.notified() => {}
            () = inner.ending.cancelled() => return,
        }
        let streams: Vec<Arc<str>> = match &one {
            Some(key) => vec![key.clone()],
            None => inner.upkeep.streams.read().keys().cloned().collect(),
        };
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
                link.failed(&cause);
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
    let (mut wait, mut failed) = (LOOK, None);
    for key in streams {
        match one(link, key, keep).await {
            Ok(next) => wait = wait.min(next.unwrap_or(LOOK)),
            Err(cause) if Fault::of(&cause).passes() => return Err(cause),
            // A stream that is none is no reason to leave the others alone.
            Err(cause) => failed = Some(cause),
        }
    }
    match failed {
        Some(cause) => Err(cause),
        None => Ok(wait),
    }
}

async fn one(link: &mut Link, key: &str, keep: Option<usize>) -> RedisResult<Option<Duration>> {
    let next = publish_due(link.get().await?, key).await?;
    if let Some(keep) = keep {
        trimming::trim(link.get().await?, key, keep).await?;
    }
    Ok(next)
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
