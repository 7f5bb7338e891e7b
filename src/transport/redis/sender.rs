//! Sending: what waits is sent in the order in which it came, many events in one round trip, and
//! several round trips at once.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, Pipeline, RedisError, RedisResult, Value, cmd};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::Inner;
use super::answers;
use super::entry_id::EntryId;
use super::fault::{self, Fault};
use super::keys::{self, Kind as StreamKind, Stream};
use super::link::Link;
use super::place;
use crate::clock::Instant;
use crate::error::{Error, Kind};
use crate::event::Id;
use crate::transport::outbox;
use crate::transport::patience::Patience;

/// How many round trips may be under way at once.
const WINDOW: usize = 4;

/// How often it is looked at what is too late, while the server does not answer.
const LOOK: Duration = Duration::from_millis(100);

/// How long answers are waited for when everything ends.
const PARTING: Duration = Duration::from_secs(1);

/// How often the server is told which categories there are.
const ANNOUNCE: Duration = Duration::from_secs(10);

/// How many replies to one process are kept, and how long after the last one.
const REPLIES: usize = 10_000;
const REPLIES_LAST: Duration = Duration::from_secs(600);

/// How many ids are remembered of which nobody knows whether the server has them.
const UNKNOWN: usize = 10_000;

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

type Item = outbox::Item<Destination>;

/// Sends what comes, until the end.
pub(super) async fn send(inner: Arc<Inner>, link: Link) {
    let mut sender = Sender {
        patience: inner.patience(),
        link,
        announced: HashMap::new(),
        last: HashMap::new(),
        ready: 0,
        since: EntryId::default(),
        unknown: HashMap::new(),
        flights: FuturesOrdered::new(),
        away: VecDeque::new(),
        inner,
    };
    sender.run().await;
    // Perhaps some arrived: whoever waits is told what is known.
    let mut left = Vec::new();
    sender.land_all(&mut left).await;
    sender.inner.outbox.settled(left.len());
    for item in left {
        item.failed(Error::new(Kind::Dependency, "publish", "the transport ended meanwhile"));
    }
}

struct Sender {
    inner: Arc<Inner>,
    link: Link,
    patience: Patience,
    /// When the server was told of each category.
    announced: HashMap<Arc<str>, Instant>,
    /// The last entry of ours in each stream.
    last: HashMap<Arc<str>, EntryId>,
    /// Which connection is known to be of use.
    ready: u64,
    /// When we came, by the server's clock: before that, there is nothing of ours.
    since: EntryId,
    /// Events of which nobody knows whether the server has them, and behind which entry they
    /// stand if so.
    unknown: HashMap<Id, EntryId>,
    flights: FuturesOrdered<Flight>,
    /// The items of each flight, in the same order.
    away: VecDeque<Vec<Item>>,
}

/// A round trip under way.
type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

/// A round trip that has ended.
struct Landed {
    /// Which of the answers belong to the items.
    places: Vec<usize>,
    answers: RedisResult<Vec<Value>>,
}

impl Sender {
    async fn run(&mut self) {
        let mut look = Box::pin(self.inner.clock.sleep(LOOK));
        loop {
            let (inner, batch) = (self.inner.clone(), self.inner.settings.batch);
            let more = self.flights.len() < WINDOW && inner.openings.have_begun();
            let items = tokio::select! {
                biased;
                () = inner.ending.cancelled() => return,
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => {
                    self.landed(landed).await;
                    continue;
                }
                items = inner.outbox.next(batch), if more => items,
                () = inner.openings.all_begun(), if !inner.openings.have_begun() => continue,
                () = &mut look, if !(more && self.flights.is_empty()) => {
                    look.set(inner.clock.sleep(LOOK));
                    self.expire();
                    continue;
                }
            };
            match self.take_off(items).await {
                Ok(()) => {}
                Err((items, cause)) => self.failed(items, cause).await,
            }
        }
    }

    /// Publishers hear of what is too late, be it under way or not.
    fn expire(&mut self) {
        let (now, trouble) = (self.inner.clock.now(), self.inner.trouble.now());
        self.inner.outbox.expire(now, trouble.as_deref());
        let mut away = std::mem::take(&mut self.away);
        for item in away.iter_mut().flatten().filter(|item| item.is_due(now)) {
            self.unanswered(item);
            self.remember(item);
            item.expire(now, trouble.as_deref());
        }
        self.away = away;
    }

    /// Waits for something while publishers hear of what is too late; of `items`, that goes over to
    /// `late`. None when everything ends.
    async fn meanwhile<T>(
        inner: &Inner,
        items: &mut Vec<Item>,
        late: &mut Vec<Item>,
        what: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return Some(done),
                () = inner.ending.cancelled() => return None,
                () = inner.clock.sleep(LOOK) => {}
            }
            let (now, trouble) = (inner.clock.now(), inner.trouble.now());
            inner.outbox.expire(now, trouble.as_deref());
            late.extend(leave_out(inner, items));
        }
    }

    /// Sends a batch without waiting for the answer.
    async fn take_off(&mut self, mut items: Vec<Item>) -> Result<(), (Vec<Item>, RedisError)> {
        let before = self.link.number();
        let inner = self.inner.clone();
        let mut late = Vec::new();
        let connecting = self.connection();
        let connected = Self::meanwhile(&inner, &mut items, &mut late, connecting).await;
        late.iter().for_each(|item| self.remember(item));
        let mut connection = match connected {
            Some(Ok(connection)) => connection,
            Some(Err(cause)) => return Err((items, cause)),
            None => return Err((items, (ErrorKind::Io, "the transport ends").into())),
        };
        if items.is_empty() {
            return Ok(());
        }
        if self.link.number() != before {
            self.announced.clear(); // it may be a server that has lost everything
        }
        for item in &mut items {
            item.sends += 1;
            if let Some(after) = self.unknown.remove(&item.event.id) {
                item.place.again = Some(after);
            }
        }
        let (commands, places, announces) = self.commands(&items);
        self.away.push_back(items);
        self.flights.push_back(Box::pin(async move {
            let answers = connection.send_packed_commands(&commands, 0, commands.len()).await;
            if announces {
                inner.announced.notify_waiters();
            }
            Landed { places, answers }
        }));
        Ok(())
    }

    async fn connection(&mut self) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.link.get().await?.clone();
        if self.ready != self.link.number() {
            if let Err(cause) = self.greet(&mut connection).await {
                self.link.failed(Fault::of(&cause));
                return Err(cause);
            }
            self.ready = self.link.number();
        }
        Ok(connection)
    }

    /// A server that loads refuses what comes until it has, in the middle of a round trip: what
    /// stands behind would overtake what stands before.
    async fn greet(&mut self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        place::done(connection, &cmd("PING")).await?;
        if self.since == EntryId::default() {
            self.since = place::time(connection).await?;
        }
        Ok(())
    }

    /// The commands for a batch, which of them carry its events, and whether there is a category
    /// among them that is announced for the first time.
    fn commands(&mut self, items: &[Item]) -> (Pipeline, Vec<usize>, bool) {
        let mut commands = Pipeline::with_capacity(items.len() + 1);
        let mut places = Vec::with_capacity(items.len());
        let now = self.inner.clock.now();
        let (mut data, mut announces) = (Vec::new(), false);
        let mut replied: Option<&Stream> = None;
        for item in items {
            let Destination { stream, category, due, again } = &item.place;
            if let Some(category) = category
                && self
                    .announced
                    .get(category)
                    .is_none_or(|at| now.saturating_since(*at) > ANNOUNCE)
            {
                if self.announced.insert(category.clone(), now).is_none() {
                    announces = true;
                }
                commands.cmd("SADD").arg(self.inner.keys.categories()).arg(&**category);
            }
            data.clear();
            item.event.write_json(&mut data);
            places.push(commands.len());
            if let Some(due) = due {
                commands.cmd("ZADD").arg(keys::delayed(&stream.key)).arg(due).arg(&data);
                continue;
            }
            commands.cmd("XADD").arg(&*stream.key);
            if stream.kind == StreamKind::Replies {
                commands.arg("MAXLEN").arg("~").arg(REPLIES);
                replied = Some(stream);
            }
            commands.arg("*").arg("data").arg(&data);
            if let Some(after) = again {
                commands.arg("again").arg(after.to_string());
            }
        }
        if let Some(stream) = replied {
            let last = REPLIES_LAST.as_millis() as u64;
            commands.cmd("PEXPIRE").arg(&*stream.key).arg(last);
        }
        (commands, places, announces)
    }

    /// A round trip has ended.
    async fn landed(&mut self, landed: Landed) {
        let (count, left, cause) = self.settle(landed);
        self.inner.outbox.settled(count - left.len());
        match cause {
            None => {
                self.patience.renew();
                self.inner.trouble.over("sending");
            }
            Some(cause) => self.failed(left, cause).await,
        }
    }

    /// Settles those of which it is known what became of them: how many there were, the others, and
    /// why they are left.
    fn settle(&mut self, landed: Landed) -> (usize, Vec<Item>, Option<RedisError>) {
        let Landed { places, answers } = landed;
        let mut items = self.away.pop_front().unwrap_or_default();
        let count = items.len();
        let answers = match answers {
            Ok(answers) => answers,
            Err(cause) => {
                self.link.failed(Fault::of(&cause));
                items.iter_mut().for_each(|item| self.unanswered(item));
                return (count, items, Some(cause));
            }
        };
        let mut answers: Vec<Option<Value>> = answers.into_iter().map(Some).collect();
        let (mut left, mut last) = (Vec::new(), None);
        for (item, place) in items.into_iter().zip(places) {
            match answers.get_mut(place).and_then(Option::take) {
                Some(Value::ServerError(cause)) => {
                    let cause = RedisError::from(cause);
                    if Fault::of(&cause).passes() {
                        left.push(item);
                        last = Some(cause);
                    } else {
                        item.failed(fault::error("publish", &cause));
                    }
                }
                answer => {
                    if let Some(id) = answers::id(answer.as_ref()) {
                        match self.last.get_mut(&item.place.stream.key) {
                            Some(last) => *last = id,
                            None => drop(self.last.insert(item.place.stream.key.clone(), id)),
                        }
                    }
                    if item.place.due.is_some() {
                        self.inner.upkeep.look();
                    }
                    item.accepted();
                }
            }
        }
        (count, left, last)
    }

    /// The answer was lost: the server may have it.
    fn unanswered(&self, item: &mut Item) {
        item.unanswered = true;
        if item.place.again.is_none() {
            let last = self.last.get(&item.place.stream.key).copied();
            item.place.again = Some(last.unwrap_or(self.since));
        }
    }

    /// What could not be sent is sent again, in order, before all else; what is too late, or of no
    /// use, ends here.
    async fn failed(&mut self, mut items: Vec<Item>, mut cause: RedisError) {
        loop {
            // What was sent behind it over the same connection has failed, too, most likely.
            self.land_all(&mut items).await;
            let error = fault::error("publish", &cause);
            self.inner.trouble.begins("sending", error.message());
            let (now, passes) = (self.inner.clock.now(), Fault::of(&cause).passes());
            let before = items.len();
            let mut kept = Vec::with_capacity(before);
            for item in items {
                if passes && item.sends <= self.inner.settings.max_retry && !item.is_late(now) {
                    kept.push(item);
                } else {
                    self.remember(&item);
                    item.failed(error.again());
                }
            }
            items = kept;
            self.inner.outbox.settled(before - items.len());
            self.inner.outbox.expire(now, Some(error.message()));
            let inner = self.inner.clone();
            let (mut late, patience) = (Vec::new(), &mut self.patience);
            let waiting = async {
                match Fault::of(&cause) {
                    // It is there, and said so: it is asked again at its own pace.
                    Fault::Busy => pause(&inner).await,
                    _ => patience.wait().await,
                }
            };
            let waited = Self::meanwhile(&inner, &mut items, &mut late, waiting).await;
            late.iter().for_each(|item| self.remember(item));
            if waited != Some(true) {
                self.inner.outbox.settled(items.len());
                items.into_iter().for_each(|item| item.failed(error.again()));
                return;
            }
            if items.is_empty() {
                return;
            }
            match self.take_off(items).await {
                Ok(()) => return,
                Err((back, again)) => (items, cause) = (back, again),
            }
        }
    }

    /// Its publisher may publish it again, under the same id.
    fn remember(&mut self, item: &Item) {
        if let Some(after) = item.place.again.filter(|_| item.unanswered) {
            if self.unknown.len() >= UNKNOWN {
                self.unknown.clear();
            }
            self.unknown.insert(item.event.id.clone(), after);
        }
    }

    /// Waits for what is under way; adds what was not taken to `left`. While the server does not
    /// answer, publishers hear of what is too late; and when everything ends, that is not for long.
    async fn land_all(&mut self, left: &mut Vec<Item>) {
        let inner = self.inner.clone();
        let parting = async {
            inner.ending.cancelled().await;
            inner.clock.sleep(PARTING).await;
        };
        tokio::pin!(parting);
        while !self.flights.is_empty() {
            let landed = tokio::select! {
                biased;
                landed = self.flights.next() => landed,
                () = &mut parting => break,
                () = inner.clock.sleep(LOOK) => {
                    self.expire();
                    continue;
                }
            };
            let Some(landed) = landed else { break };
            let (count, back, _) = self.settle(landed);
            self.inner.outbox.settled(count - back.len());
            left.extend(back);
        }
        self.flights.clear();
        for mut items in std::mem::take(&mut self.away) {
            items.iter_mut().for_each(|item| self.unanswered(item));
            left.extend(items);
        }
    }
}

/// Takes out what became too late before it could be sent, and tells its publishers.
fn leave_out(inner: &Inner, items: &mut Vec<Item>) -> Vec<Item> {
    let now = inner.clock.now();
    if !items.iter().any(|item| item.is_late(now)) {
        return Vec::new();
    }
    let (late, kept): (Vec<_>, Vec<_>) =
        std::mem::take(items).into_iter().partition(|item| item.is_late(now));
    *items = kept;
    inner.outbox.settled(late.len());
    let trouble = inner.trouble.now();
    for item in &late {
        item.expire(now, trouble.as_deref());
    }
    late
}

/// Waits before the server is asked again; false when everything ends.
async fn pause(inner: &Inner) -> bool {
    tokio::select! {
        () = inner.clock.sleep(inner.settings.retry_delay) => true,
        () = inner.ending.cancelled() => false,
    }
}
