//! What goes to the server in one round trip, and what comes back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Pipeline, RedisError, RedisResult, Value, cmd};

use super::Inner;
use super::answers;
use super::entry_id::EntryId;
use super::fault::Fault;
use super::keys::{self, Kind, Stream};
use super::link::Link;
use super::place;
use crate::clock::Instant;
use crate::transport::outbox;

/// How often the server is told which categories there are.
const ANNOUNCE: Duration = Duration::from_secs(10);

/// How many replies to one process are kept, and how long after the last one.
const REPLIES: usize = 10_000;
const REPLIES_LAST: Duration = Duration::from_secs(600);

/// Where an event goes.
pub(super) struct Destination {
    pub stream: Stream,
    /// The category to announce, for its stream.
    pub category: Option<Arc<str>>,
    /// When it is to be published, in Unix milliseconds; now, if absent.
    pub due: Option<i64>,
    /// Behind which entry an earlier copy may stand.
    pub again: Option<EntryId>,
}

pub(super) type Item = outbox::Item<Destination>;

pub(super) type Answers = RedisResult<Vec<Value>>;

/// What is sent in one round trip.
pub(super) struct Batch {
    pub items: Vec<Item>,
    /// Which of the answers belong to the items.
    pub places: Vec<usize>,
}

impl Batch {
    /// Whether none of its events is to be sent again.
    pub fn is_well(&self, answers: &Answers) -> bool {
        let Ok(answers) = answers else { return false };
        self.places.iter().all(|place| match answers.get(*place) {
            Some(Value::ServerError(cause)) => {
                !Fault::of(&RedisError::from(cause.clone())).passes()
            }
            _ => true,
        })
    }
}

/// When the server was told of each category.
#[derive(Default)]
pub(super) struct Announced(HashMap<Arc<str>, Instant, foldhash::fast::RandomState>);

impl Announced {
    /// Whether it is to be told of a category now, and whether that was so before; it counts as
    /// told from now on.
    fn is_due(&mut self, category: &Arc<str>, now: Instant) -> Option<bool> {
        let told = self.0.get(category);
        if told.is_some_and(|at| now.saturating_since(*at) <= ANNOUNCE) {
            return None;
        }
        Some(self.0.insert(category.clone(), now).is_some())
    }

    /// It may be a server that has lost everything.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// The commands for a batch.
pub(super) struct Packed {
    pub commands: Pipeline,
    /// Which of the answers belong to the events.
    pub places: Vec<usize>,
    /// Whether they are a transaction.
    pub transaction: bool,
    /// Whether there is a category among them that is announced for the first time.
    pub announces: bool,
}

/// The commands for a batch. In a cluster they are one transaction: a node that takes things again,
/// in the middle of a round trip, would take what comes later and not what came before. The
/// categories are at another node than the events, and are not among them.
pub(super) fn pack(inner: &Arc<Inner>, items: &[Item], announced: &mut Announced) -> Packed {
    let mut commands = Pipeline::with_capacity(items.len() + 1);
    let mut places = Vec::with_capacity(items.len());
    let (now, apart) = (inner.clock.now(), inner.site.is_cluster());
    let (mut data, mut announces) = (Vec::new(), false);
    let mut replied: Vec<&Stream> = Vec::new();
    if apart {
        commands.cmd("MULTI");
    }
    for item in items {
        let Destination { stream, category, due, again } = &item.place;
        if let Some(category) = category
            && let Some(before) = announced.is_due(category, now)
        {
            if apart {
                let announcing = announce(inner.clone(), category.clone());
                inner.tasks.spawn_on(announcing, &inner.runtime);
            } else {
                announces |= !before;
                commands.cmd("SADD").arg(inner.keys.categories()).arg(&**category);
            }
        }
        data.clear();
        item.event.write_json(&mut data);
        // The answers of a transaction are counted without its beginning.
        places.push(commands.len() - usize::from(apart));
        if let Some(due) = due {
            commands.cmd("ZADD").arg(keys::delayed(&stream.key)).arg(due).arg(&data);
            continue;
        }
        commands.cmd("XADD").arg(&*stream.key);
        if stream.kind == Kind::Replies {
            commands.arg("MAXLEN").arg("~").arg(REPLIES);
            if !replied.contains(&stream) {
                replied.push(stream);
            }
        }
        commands.arg("*").arg("data").arg(&data);
        if let Some(after) = again {
            commands.arg("again").arg(after);
        }
    }
    for stream in replied {
        let last = REPLIES_LAST.as_millis() as u64;
        commands.cmd("PEXPIRE").arg(&*stream.key).arg(last);
    }
    if apart {
        commands.cmd("EXEC");
    }
    Packed { commands, places, transaction: apart, announces }
}

/// The answers of a transaction; where nothing was done, each of them says why.
pub(super) fn executed(mut answers: Vec<Value>) -> Answers {
    if matches!(answers.first(), Some(Value::ServerError(_))) {
        // It was none, and what stands behind may be done.
        return Err(answers.swap_remove(0).extract_error().err().unwrap_or_else(unexpected));
    }
    let is_error = |answer: &Value| matches!(answer, Value::ServerError(_));
    // What it begins with, and what it ends with, are no answers to what stands between.
    let count = answers.len().saturating_sub(2);
    let done = answers.last().cloned();
    match (done, answers.into_iter().find(is_error)) {
        (Some(Value::Array(done)), None) if done.len() == count => Ok(done),
        // The first one is what made the others fail.
        (_, Some(refused)) => Ok(vec![refused; count]),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> RedisError {
    answers::unexpected("EXEC")
}

/// Tells whichever node keeps the categories that there is this one. Where it cannot, and knew it
/// before, it is told again a little later.
pub(super) async fn announce(inner: Arc<Inner>, category: Arc<str>) -> RedisResult<()> {
    let key = inner.keys.categories();
    let mut link = Link::shared(&inner, &key);
    let announced = async {
        let mut command = cmd("SADD");
        command.arg(&key).arg(&*category);
        place::done(link.get().await?, &command).await
    };
    let announced = announced.await;
    match &announced {
        Ok(()) => inner.announced.notify_waiters(),
        Err(cause) => link.failed(cause),
    }
    announced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> Value {
        let said = format!("-{code} and more\r\n");
        ::redis::parse_redis_value(said.as_bytes()).expect("an answer")
    }

    #[test]
    fn a_transaction_is_done_or_is_not() {
        let queued = Value::SimpleString("QUEUED".into());
        let done = vec![Value::Int(1), error("WRONGTYPE")];
        let answers = vec![Value::Okay, queued.clone(), queued.clone(), Value::Array(done.clone())];
        assert_eq!(executed(answers).expect("answers"), done);

        for refused in ["CLUSTERDOWN", "MOVED", "OOM"] {
            let answers = vec![Value::Okay, error(refused), queued.clone(), error("EXECABORT")];
            assert_eq!(executed(answers).expect("answers"), [error(refused), error(refused)]);
        }
        let late = vec![Value::Okay, queued.clone(), error("EXECABORT")];
        assert_eq!(executed(late).expect("an answer"), [error("EXECABORT")]);
        assert!(executed(vec![Value::Okay, queued]).is_err());
        assert!(executed(Vec::new()).is_err());
        let none = vec![error("NOPERM"), Value::Int(1), error("ERR")];
        assert!(executed(none).is_err(), "it may be done, and may not");
    }
}
