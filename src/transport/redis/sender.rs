//! Sending: what waits is sent in the order in which it came, many events in one round trip, and
//! several round trips at once.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Pipeline, RedisError, RedisResult, Value, cmd};
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesOrdered;

use super::Inner;
use super::agreement;
use super::answers;
use super::entry_id::EntryId;
use super::fault::{self, Fault};
use super::keys::{self, Kind as StreamKind, Stream};
use super::link::Link;
use super::place;
use crate::clock::Instant;
use crate::error::{Error, Kind};
use crate::event::Id;
use crate::transport::outbox::{self, Late};
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
        since: EntryId::default(),
        unknown: HashMap::new(),
        flights: FuturesOrdered::new(),
        under_way: VecDeque::new(),
        rest: None,
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
    sender.inner.outbox.close();
    sender.inner.outbox.give_up();
}

struct Sender {
    inner: Arc<Inner>,
    link: Link,
    patience: Patience,
    /// When the server was told of each category.
    announced: HashMap<Arc<str>, Instant>,
    /// The last entry of ours in each stream.
    last: HashMap<Arc<str>, EntryId>,
    /// When we came, by the server's clock: before that, there is nothing of ours.
    since: EntryId,
    /// Events of which nobody knows whether the server has them, and behind which entry they
    /// stand if so.
    unknown: HashMap<Id, EntryId>,
    flights: FuturesOrdered<Flight>,
    /// Nothing is sent until this is over.
    rest: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What is under way in each of them, in the same order.
    under_way: VecDeque<Batch>,
}

/// A round trip under way: it ends with the answers.
type Flight = Pin<Box<dyn Future<Output = Answers> + Send>>;

type Answers = RedisResult<Vec<Value>>;

/// What is sent in one round trip.
struct Batch {
    items: Vec<Item>,
    /// Which of the answers belong to the items.
    places: Vec<usize>,
}

impl Sender {
    async fn run(&mut self) {
        let mut look = Box::pin(self.inner.clock.sleep(LOOK));
        loop {
            let (inner, batch) = (self.inner.clone(), self.inner.settings.batch);
            let ready = self.rest.is_none() && inner.openings.have_begun();
            let connected = self.link.is_there();
            let more = ready && connected && self.flights.len() < WINDOW;
            let items = tokio::select! {
                biased;
                () = inner.ending.cancelled() => return,
                Some(answers) = self.flights.next(), if !self.flights.is_empty() => {
                    self.landed(answers).await;
                    continue;
                }
                items = inner.outbox.next(batch), if more => items,
                // Until there is a connection, what waits stays where it can be dropped.
                () = inner.outbox.filled(), if ready && !connected => {
                    if let Err(cause) = self.reach().await {
                        if !Fault::of(&cause).passes() {
                            inner.outbox.refuse(&fault::error("publish", &cause));
                        }
                        self.failed(Vec::new(), cause).await;
                    }
                    continue;
                }
                () = inner.openings.all_begun(), if !inner.openings.have_begun() => continue,
                () = async { OptionFuture::from(self.rest.as_mut()).await; }, if self.rest.is_some() => {
                    self.rest = None;
                    continue;
                }
                () = &mut look, if !(more && self.flights.is_empty()) => {
                    look.set(inner.clock.sleep(LOOK));
                    self.expire();
                    continue;
                }
            };
            if self.inner.openings.have_begun() {
                self.take_off(items);
            } else {
                self.inner.outbox.put_back(items); // somebody subscribed meanwhile
            }
        }
    }

    /// Gets a connection; meanwhile publishers hear of what is too late.
    async fn reach(&mut self) -> RedisResult<()> {
        let (inner, before) = (self.inner.clone(), self.link.number());
        let (since, agreeing) = (self.since, inner.clone());
        let link = &mut self.link;
        let mut reaching = Box::pin(async move {
            let connection = link.get().await?;
            // A server that loads refuses what comes until it has, in the middle of a round trip:
            // what stands behind would overtake what stands before.
            place::done(connection, &cmd("PING")).await?;
            agreement::agree(connection, &agreeing.keys).await?;
            RedisResult::Ok(if since == EntryId::default() {
                place::time(connection).await?
            } else {
                since
            })
        });
        let mut over = Vec::new();
        let reached = loop {
            tokio::select! {
                since = &mut reaching => break since,
                () = inner.clock.sleep(LOOK) => {
                    let (now, trouble) = (inner.clock.now(), inner.trouble.now());
                    over.extend(inner.outbox.expire(now, Late::without_answer(trouble.as_deref())));
                }
                () = inner.ending.cancelled() => break Ok(since),
            }
        };
        drop(reaching);
        over.iter().for_each(|item| self.remember(item));
        if reached.is_err() {
            self.link.failed(Fault::Lost); // not one to send over
        }
        self.since = reached?;
        self.inner.trouble.over("sending");
        if self.link.number() != before {
            self.announced.clear(); // it may be a server that has lost everything
        }
        Ok(())
    }

    /// Tells the publishers of what is too late, whether it is under way or not.
    fn expire(&mut self) {
        let (now, trouble) = (self.inner.clock.now(), self.inner.trouble.now());
        let mut under_way = std::mem::take(&mut self.under_way);
        let items = under_way.iter_mut().flat_map(|batch| &mut batch.items);
        for item in items.filter(|item| item.is_due(now)) {
            self.unanswered(item);
            self.remember(item);
            item.expire(now, Late::without_answer(trouble.as_deref()));
        }
        self.under_way = under_way;
        for item in self.inner.outbox.expire(now, Late::without_answer(trouble.as_deref())) {
            self.remember(&item);
        }
    }

    /// Sends a batch without waiting for the answer.
    fn take_off(&mut self, mut items: Vec<Item>) {
        let Some(mut connection) = self.link.current() else {
            return self.inner.outbox.put_back(items);
        };
        self.leave_out(&mut items);
        if items.is_empty() {
            return;
        }
        for item in &mut items {
            item.sends += 1;
            if let Some(after) = self.unknown.remove(&item.event.id) {
                item.place.again = Some(after);
            }
        }
        let (commands, places, announces) = self.commands(&items);
        let inner = self.inner.clone();
        self.flights.push_back(Box::pin(async move {
            let answers = connection.send_packed_commands(&commands, 0, commands.len()).await;
            if announces {
                inner.announced.notify_waiters();
            }
            answers
        }));
        self.under_way.push_back(Batch { items, places });
    }

    /// What became too late before it could be sent is not sent any more.
    fn leave_out(&mut self, items: &mut Vec<Item>) {
        let now = self.inner.clock.now();
        let late = |item: &Item| item.is_late(now);
        if !items.iter().any(late) {
            return;
        }
        let (late, kept): (Vec<_>, Vec<_>) = std::mem::take(items).into_iter().partition(late);
        *items = kept;
        self.inner.outbox.settled(late.len());
        let trouble = self.inner.trouble.now();
        for item in late {
            self.remember(&item);
            item.expire(now, Late::without_answer(trouble.as_deref()));
        }
    }

    /// The commands for a batch, which of them carry its events, and whether there is a category
    /// among them that is announced for the first time.
    fn commands(&mut self, items: &[Item]) -> (Pipeline, Vec<usize>, bool) {
        let mut commands = Pipeline::with_capacity(items.len() + 1);
        let mut places = Vec::with_capacity(items.len());
        let now = self.inner.clock.now();
        let (mut data, mut announces) = (Vec::new(), false);
        let mut replied: Vec<&Stream> = Vec::new();
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
        (commands, places, announces)
    }

    /// A round trip has ended.
    async fn landed(&mut self, answers: Answers) {
        let Some(batch) = self.under_way.pop_front() else { return };
        let count = batch.items.len();
        if is_well(&batch, &answers) {
            // Before publishers hear of their events: what they see then is that all is well.
            self.patience.renew();
            self.inner.trouble.over("sending");
        }
        let (left, cause) = self.settle(batch, answers);
        self.inner.outbox.settled(count - left.len());
        if let Some(cause) = cause {
            self.failed(left, cause).await;
        }
    }

    /// Settles those of which it is known what became of them; the others, and why they are left.
    fn settle(&mut self, batch: Batch, answers: Answers) -> (Vec<Item>, Option<RedisError>) {
        let Batch { items, places } = batch;
        let answers = match answers {
            Ok(answers) => answers,
            Err(cause) => {
                self.link.failed(Fault::of(&cause));
                let mut left = items;
                left.iter_mut().for_each(|item| self.unanswered(item));
                return (left, Some(cause));
            }
        };
        let mut answers: Vec<Option<Value>> = answers.into_iter().map(Some).collect();
        let (mut left, mut last) = (Vec::new(), None);
        for (item, place) in items.into_iter().zip(places) {
            match answers.get_mut(place).and_then(Option::take) {
                Some(Value::ServerError(cause)) => {
                    let cause = RedisError::from(cause);
                    self.link.failed(Fault::of(&cause));
                    if Fault::of(&cause).passes() {
                        left.push(item);
                        last = Some(cause);
                    } else {
                        item.failed(fault::error("publish", &cause));
                    }
                }
                answer => {
                    if item.place.stream.kind != StreamKind::Replies
                        && let Some(id) = answers::id(answer.as_ref())
                    {
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
        (left, last)
    }

    /// The answer was lost: the server may have it.
    fn unanswered(&self, item: &mut Item) {
        item.unanswered = true;
        if item.place.again.is_none() {
            let last = self.last.get(&item.place.stream.key).copied();
            item.place.again = Some(last.unwrap_or(self.since));
        }
    }

    /// What could not be sent is sent again after a while, in order, before all else; what is too
    /// late, or of no use, ends here.
    async fn failed(&mut self, mut items: Vec<Item>, cause: RedisError) {
        // What was sent behind it over the same connection has failed, too, most likely.
        self.land_all(&mut items).await;
        let (error, fault) = (fault::error("publish", &cause), Fault::of(&cause));
        self.inner.trouble.begins("sending", error.message());
        let now = self.inner.clock.now();
        let unreachable = items.is_empty();
        let again = |item: &Item| {
            fault.passes() && item.sends <= self.inner.settings.max_retry && !item.is_late(now)
        };
        let (kept, over): (Vec<_>, Vec<_>) = items.into_iter().partition(again);
        self.inner.outbox.settled(over.len());
        for item in over {
            self.remember(&item);
            item.failed(error.again());
        }
        // It is there, and said so: what it did not take waits for a while. Without it, all does.
        if fault != Fault::Busy || unreachable || !kept.is_empty() {
            self.rest = Some(Box::pin(rest(self.inner.clone(), self.patience.next_wait(), fault)));
        }
        self.inner.outbox.put_back(kept);
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
            let answers = tokio::select! {
                biased;
                answers = self.flights.next() => answers,
                () = &mut parting => break,
                () = inner.clock.sleep(LOOK) => {
                    self.expire();
                    continue;
                }
            };
            let (Some(answers), Some(batch)) = (answers, self.under_way.pop_front()) else { break };
            let count = batch.items.len();
            let (back, _) = self.settle(batch, answers);
            self.inner.outbox.settled(count - back.len());
            left.extend(back);
        }
        self.flights.clear();
        for mut batch in std::mem::take(&mut self.under_way) {
            batch.items.iter_mut().for_each(|item| self.unanswered(item));
            left.extend(batch.items);
        }
    }
}

/// Waits before anything is sent again.
async fn rest(inner: Arc<Inner>, patience: Duration, fault: Fault) {
    let wait = if fault == Fault::Busy { inner.settings.retry_delay } else { patience };
    inner.clock.sleep(wait).await;
}

/// Whether no event of a batch is to be sent again.
fn is_well(batch: &Batch, answers: &Answers) -> bool {
    let Ok(answers) = answers else { return false };
    batch.places.iter().all(|place| match answers.get(*place) {
        Some(Value::ServerError(cause)) => !Fault::of(&RedisError::from(cause.clone())).passes(),
        _ => true,
    })
}
