//! Whether anybody is there for a request, or a command.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisResult, cmd};
use parking_lot::Mutex;

use super::answers;
use super::fault::{self, Fault};
use super::keys::{Kind as StreamKind, Stream};
use super::link::Link;
use super::place::Place;
use super::reader::BLOCK;
use super::{Inner, RESPONDERS};
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};

/// Whoever reads asks every [`BLOCK`]; who has not for so long is gone.
const GONE: Duration = Duration::from_secs(BLOCK.as_secs() * 2 + 1);

/// How long somebody who was there counts as there.
const KNOWN: Duration = Duration::from_secs(1);

/// Who was there when it was last looked.
#[derive(Default)]
pub(super) struct Presence(Mutex<HashMap<Arc<str>, Instant>>);

impl Presence {
    /// Whether somebody was there a moment ago.
    pub fn is_known(&self, stream: &Stream, now: Instant) -> bool {
        let known = self.0.lock().get(&stream.key).copied();
        known.is_some_and(|at| now.saturating_since(at) < KNOWN)
    }

    fn note(&self, stream: &Stream, now: Instant) {
        self.0.lock().insert(stream.key.clone(), now);
    }
}

/// Waits until it is known whether somebody is there for what `stream` carries.
///
/// # Errors
/// `Kind::NoResponder` or `Kind::NoHandler` if nobody is; `Kind::Dependency` if the server does
/// not say.
pub(super) async fn look(inner: &Arc<Inner>, stream: &Stream, topic: &str) -> Result<()> {
    let mut link = Link::new(inner, inner.settings.response_timeout);
    let there = async {
        let connection = link.get().await?;
        match stream.kind {
            StreamKind::Requests => responds(connection, &stream.key).await,
            _ => Ok(!groups(connection, &stream.key).await?.is_empty()),
        }
    };
    match there.await {
        Ok(true) => {
            inner.presence.note(stream, inner.clock.now());
            Ok(())
        }
        Ok(false) => Err(nobody(stream.kind, topic)),
        Err(cause) => Err(fault::error("request", &cause).with("outcome", "refused")),
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
async fn groups(to: &mut MultiplexedConnection, key: &str) -> RedisResult<Vec<String>> {
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

/// The error for the second handler of a command, if `place` is one.
pub(super) async fn rival(
    to: &mut MultiplexedConnection,
    place: &Place,
) -> RedisResult<Option<Error>> {
    for group in groups(to, &place.stream.key).await? {
        if *group == *place.group {
            continue;
        }
        let other = Place { group: group.as_str().into(), ..place.clone() };
        if other.others(to, GONE).await?.is_empty() {
            continue;
        }
        let said = format!("the command is already handled by {group}, in another process");
        return Ok(Some(
            Error::new(Kind::DuplicateHandler, "subscribe", said).with("handler", group),
        ));
    }
    Ok(None)
}
