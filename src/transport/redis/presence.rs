//! Whether anybody is there for a request, or a command.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisResult, Value, cmd};
use parking_lot::Mutex;

use super::Inner;
use super::answers;
use super::fault::{self, Fault};
use super::keys::{Kind as StreamKind, Stream};
use super::link::{Link, Links};
use super::place::{self, Place};
use super::reader::BLOCK;
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::transport::outcome::Pending;
use crate::transport::reading::RESPONDERS;

/// Whoever reads asks every [`BLOCK`]; who has not for so long is gone.
const GONE: Duration = Duration::from_secs(BLOCK.as_secs() * 2 + 1);

/// How long a command stays with a handler that is gone.
const LEASE: Duration = Duration::from_secs(15);

/// How long somebody who was there counts as there.
const KNOWN: Duration = Duration::from_secs(1);

/// Who was there when it was last looked, and what waits for another look.
#[derive(Default)]
pub(super) struct Presence {
    known: Mutex<HashMap<Arc<str>, Instant>>,
    waiting: Mutex<HashMap<Arc<str>, Vec<Waiting>>>,
}

/// An event that is sent once somebody is there for it, and its publisher.
pub(super) type Waiting = (Arc<Event>, Pending);

impl Presence {
    /// Whether somebody was there a moment ago.
    pub fn is_known(&self, stream: &Stream, now: Instant) -> bool {
        let known = self.known.lock().get(&stream.key).copied();
        known.is_some_and(|at| now.saturating_since(at) < KNOWN)
    }

    fn note(&self, stream: &Stream, now: Instant) {
        self.known.lock().insert(stream.key.clone(), now);
    }

    /// Puts an event in line for a look; whether there was no line, so that somebody has to look.
    /// Nothing gets ahead of what waits.
    pub fn line_up(&self, stream: &Stream, waiting: Waiting) -> bool {
        let mut all = self.waiting.lock();
        let is_new = !all.contains_key(&stream.key);
        all.entry(stream.key.clone()).or_default().push(waiting);
        is_new
    }

    /// Whether something waits for a look.
    pub fn is_waited_for(&self, stream: &Stream) -> bool {
        self.waiting.lock().contains_key(&stream.key)
    }

    /// What waits, in order. Until there is nothing, what comes lines up behind it.
    pub fn next(&self, stream: &Stream) -> Option<Vec<Waiting>> {
        let mut all = self.waiting.lock();
        let line = std::mem::take(all.get_mut(&stream.key)?);
        if line.is_empty() {
            all.remove(&stream.key);
            return None;
        }
        Some(line)
    }

    /// Tells the publishers of those whose time is over at `now`, in Unix milliseconds.
    pub fn expire(&self, inner: &Inner, stream: &Stream, now: i64) {
        let mut all = self.waiting.lock();
        let Some(line) = all.get_mut(&stream.key) else { return };
        let is_over = |(event, _): &Waiting| event.deadline().is_some_and(|until| now >= until);
        let (over, kept): (Vec<_>, Vec<_>) = std::mem::take(line).into_iter().partition(is_over);
        *line = kept;
        drop(all);
        over.iter().for_each(|(_, pending)| pending.settle(Err(untold(inner))));
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().values().map(Vec::len).sum()
    }
}

/// Waits until it is known whether somebody is there for what `stream` carries.
///
/// # Errors
/// `Kind::NoResponder` or `Kind::NoHandler` if nobody is; `Kind::Dependency` if the server does
/// not say.
pub(super) async fn look(inner: &Arc<Inner>, stream: &Stream, topic: &str) -> Result<()> {
    let mut links = Links::new(inner);
    let limit = inner.settings.outbox.limit;
    let there = inner.clock.timeout(limit, async {
        // Whoever subscribed here before is there.
        inner.openings.all_begun().await;
        loop {
            match is_there(links.to(&stream.key), stream).await {
                Err(cause) => links.wait_after(cause).await?,
                known => return known,
            }
        }
    });
    let Ok(there) = there.await else { return Err(untold(inner)) };
    match there {
        Ok(true) => {
            inner.presence.note(stream, inner.clock.now());
            Ok(())
        }
        Ok(false) => Err(nobody(stream.kind, topic)),
        Err(cause) => Err(fault::error("request", &cause).with("outcome", "refused")),
    }
}

/// The error where the broker does not say whether anybody is there.
fn untold(inner: &Inner) -> Error {
    let why = inner.trouble.now().unwrap_or_else(|| "it does not answer".into());
    let said = format!("the broker did not say in time whether anybody is there: {why}");
    Error::new(Kind::Dependency, "request", said).with("outcome", "refused")
}

async fn is_there(link: &mut Link, stream: &Stream) -> RedisResult<bool> {
    let connection = link.get().await?;
    match stream.kind {
        StreamKind::Requests => responds(connection, &stream.key).await,
        _ => Ok(!groups(connection, &stream.key).await?.is_empty()),
    }
}

fn nobody(kind: StreamKind, topic: &str) -> Error {
    let (kind, operation, said) = match kind {
        StreamKind::Requests => (Kind::NoResponder, "request", "nobody responds to"),
        _ => (Kind::NoHandler, "send", "nobody handles the command"),
    };
    let said = format!("{said} `{topic}`, here or in another process");
    Error::new(kind, operation, said).with("event_type", topic).with("outcome", "refused")
}

async fn responds(to: &mut MultiplexedConnection, key: &str) -> RedisResult<bool> {
    let mut command = cmd("XINFO");
    command.arg("CONSUMERS").arg(key).arg(RESPONDERS);
    match to.send_packed_command(&command).await?.extract_error() {
        Ok(answer) => Ok(answers::consumers(answer)?.iter().any(|c| c.idle < GONE)),
        Err(cause) if is_absent(&cause) => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// The names of the groups of a stream.
pub(super) async fn groups(to: &mut MultiplexedConnection, key: &str) -> RedisResult<Vec<String>> {
    let mut command = cmd("XINFO");
    let answer = to.send_packed_command(command.arg("GROUPS").arg(key)).await?;
    match answers::groups(answer) {
        Ok(groups) => Ok(groups.into_iter().map(|group| group.name).collect()),
        Err(cause) if is_absent(&cause) => Ok(Vec::new()),
        Err(cause) => Err(cause),
    }
}

/// Whether there is no such stream, or group.
fn is_absent(cause: &::redis::RedisError) -> bool {
    Fault::of(cause) == Fault::NoGroup || cause.to_string().contains("no such key")
}

/// Claims a command for the handler of `place`, for a while; the error for a second one.
pub(super) async fn claim(
    to: &mut MultiplexedConnection,
    place: &Place,
) -> RedisResult<Option<Error>> {
    let Some(owner) = &place.owner else { return Ok(None) };
    let key = handler_of(&place.stream.key);
    let lease = LEASE.as_millis() as u64;
    let mut command = cmd("SET");
    command.arg(&key).arg(&**owner).arg("NX").arg("PX").arg(lease);
    if to.send_packed_command(&command).await?.extract_error()? != Value::Nil {
        return Ok(None);
    }
    let mut command = cmd("GET");
    let other = match to.send_packed_command(command.arg(&key)).await?.extract_error()? {
        Value::BulkString(name) if *name == *owner.as_bytes() => {
            let mut command = cmd("PEXPIRE");
            place::done(to, command.arg(&key).arg(lease)).await?;
            return Ok(None);
        }
        Value::BulkString(name) => String::from_utf8_lossy(&name).into_owned(),
        _ => "another handler".to_owned(), // it has just given it up: the next look will do
    };
    let said = format!("the command is already handled by {other}, in another process");
    Ok(Some(Error::new(Kind::DuplicateHandler, "subscribe", said).with("handler", other)))
}

/// Gives a command up, so that another handler may have it at once.
pub(super) async fn disclaim(to: &mut MultiplexedConnection, place: &Place) -> RedisResult<()> {
    let mut command = cmd("DEL");
    place::done(to, command.arg(handler_of(&place.stream.key))).await
}

/// Who handles a command.
fn handler_of(stream: &str) -> String {
    format!("{stream}:handler")
}
