//! What goes to the server in one round trip, and what comes back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Pipeline, RedisError, RedisResult, Value, cmd};

use super::Inner;
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
pub(super) struct Announced(HashMap<Arc<str>, Instant>);

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
    /// Which of them carry the events.
    pub places: Vec<usize>,
    /// Whether there is a category among them that is announced for the first time.
    pub announces: bool,
}

/// The commands for a batch. In a cluster the categories are at another node than the events, and
/// are not among them.
pub(super) fn pack(inner: &Arc<Inner>, items: &[Item], announced: &mut Announced) -> Packed {
    let mut commands = Pipeline::with_capacity(items.len() + 1);
    let mut places = Vec::with_capacity(items.len());
    let (now, apart) = (inner.clock.now(), inner.site.is_cluster());
    let (mut data, mut announces) = (Vec::new(), false);
    let mut replied: Vec<&Stream> = Vec::new();
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
        places.push(commands.len());
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
    Packed { commands, places, announces }
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
