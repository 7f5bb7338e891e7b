//! Sending: what waits is sent in the order in which it came, many events in one round trip, and
//! several round trips at once.
//!
//! One sender sends all there is. In a cluster there is one for each stream, and those whose
//! streams are at one node share the connection to it: the order within a stream is what is
//! promised, and no stream waits for what another one's node does.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{RedisError, RedisResult, Value, cmd};
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesOrdered;

use super::Inner;
use super::agreement;
use super::answers;
use super::batch::{self, Announced, Answers, Batch, Destination, Item, Packed};
use super::entry_id::EntryId;
use super::fault::{self, Fault};
use super::keys::Kind as StreamKind;
use super::link::Link;
use super::place;
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Id};
use crate::transport::Receipt;
use crate::transport::outbox::{Lane, Late};
use crate::transport::patience::Patience;

/// How many round trips may be under way at once.
const WINDOW: usize = 4;

/// How many of one stream in a cluster: a node that takes things again meanwhile would take the next
/// one, and not the one before it.
const WINDOW_IN_CLUSTER: usize = 1;

/// How often it is looked at what is too late, while the server does not answer.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// How long answers are waited for when everything ends.
const PARTING: Duration = Duration::from_secs(1);

/// How many ids are remembered of which nobody knows whether the server has them.
const UNKNOWN: usize = 10_000;

/// How long they are worth it at least: by then, whoever wanted to has published them again.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How long a sender of one stream stays that has nothing to do.
const IDLE: Duration = Duration::from_secs(60);

/// Begins to send, where one sender is enough.
pub(super) fn begin(inner: &Arc<Inner>) {
    if !inner.site.is_cluster() {
        let sending = send(inner.clone(), Lane::MAIN, None);
        inner.tasks.spawn_on(sending, &inner.runtime);
    }
}

/// Hands an event to whoever sends it.
pub(super) fn put(inner: &Arc<Inner>, event: Arc<Event>, place: Destination) -> Result<Receipt> {
    if !inner.site.is_cluster() {
        return inner.outbox.put(event, place);
    }
    let (key, category) = (place.stream.key.clone(), place.category.clone());
    inner.outbox.put_in_lane(event, place, key.clone(), || {
        let sending = send(inner.clone(), Lane::named(key), category);
        inner.tasks.spawn_on(sending, &inner.runtime);
    })
}

/// Sends what comes into a lane, until the end.
async fn send(inner: Arc<Inner>, lane: Lane, category: Option<Arc<str>>) {
    let key = lane.name().map_or("", |key| key);
    let mut sender = Sender {
        patience: inner.patience(),
        link: Link::shared(&inner, key),
        who: if key.is_empty() { "sending".into() } else { format!("sending to {key}") },
        lane,
        introduces: category,
        announced: Announced::default(),
        last: HashMap::default(),
        since: EntryId::default(),
        unknown: HashMap::new(),
        remembered: None,
        flights: FuturesOrdered::new(),
        under_way: VecDeque::new(),
        rest: None,
        inner,
    };
    if sender.run().await == End::Idle {
        return;
    }
    // Perhaps some arrived: whoever waits is told what is known.
    let mut left = Vec::new();
    sender.land_all(&mut left).await;
    sender.inner.outbox.settled(left.len());
    for item in left {
        item.failed(Error::new(Kind::Dependency, "publish", "the transport ended meanwhile"));
    }
    sender.inner.outbox.close(true);
    sender.inner.outbox.give_up();
}

/// Why a sender ends.
#[derive(PartialEq, Eq)]
enum End {
    /// Everything does.
    OfAll,
    /// It has nothing to do; with the next event of its stream there is another one.
    Idle,
}

struct Sender {
    inner: Arc<Inner>,
    lane: Lane,
    link: Link,
    /// Who has the trouble that it has.
    who: String,
    patience: Patience,
    /// The category that has to be known before anything of it is sent: in a cluster it cannot be
    /// made known in the same round trip.
    introduces: Option<Arc<str>>,
    announced: Announced,
    /// The last entry of ours in each stream.
    last: HashMap<Arc<str>, EntryId, foldhash::fast::RandomState>,
    /// When we came, by the server's clock: before that, there is nothing of ours.
    since: EntryId,
    /// Events of which nobody knows whether the server has them, and behind which entry they
    /// stand if so.
    unknown: HashMap<Id, EntryId>,
    /// When the last of them came, as long as there are some.
    remembered: Option<Instant>,
    flights: FuturesOrdered<Flight>,
    /// Nothing is sent until this is over.
    rest: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What is under way in each of them, in the same order.
    under_way: VecDeque<Batch>,
}

/// A round trip under way: it ends with the answers.
type Flight = Pin<Box<dyn Future<Output = Answers> + Send>>;

impl Sender {
    async fn run(&mut self) -> End {
        let mut look = Box::pin(self.inner.clock.sleep(LOOK));
        loop {
            let (inner, batch) = (self.inner.clone(), self.inner.settings.batch);
            let ready = self.rest.is_none() && inner.openings.have_begun();
            let connected = self.link.is_there();
            let in_cluster = inner.site.is_cluster();
            let window = if in_cluster { WINDOW_IN_CLUSTER } else { WINDOW };
            let more = ready && connected && self.flights.len() < window;
            let idle = self.flights.is_empty() && self.rest.is_none();
            let items = tokio::select! {
                biased;
                () = inner.ending.cancelled() => return End::OfAll,
                Some(answers) = self.flights.next(), if !self.flights.is_empty() => {
                    self.landed(answers).await;
                    continue;
                }
                items = inner.outbox.next(&self.lane, batch), if more => items,
                // Until there is a connection, what waits stays where it can be dropped.
                () = inner.outbox.filled(&self.lane), if ready && !connected => {
                    if let Err(cause) = self.reach().await {
                        if !Fault::of(&cause).passes() {
                            inner.outbox.refuse(&self.lane, &fault::error("publish", &cause));
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
                () = &mut look, if !(idle && inner.openings.have_begun()) => {
                    look.set(inner.clock.sleep(LOOK));
                    self.expire();
                    continue;
                }
                // No timer is set where nobody waits for it: this is asked for each round trip.
                () = async { inner.clock.sleep(IDLE).await }, if in_cluster && idle => {
                    let remembers = self.remembered.is_some_and(|at| {
                        inner.clock.now().saturating_since(at) < REMEMBERED
                    });
                    if !remembers && inner.outbox.end_lane(&self.lane) {
                        return End::Idle;
                    }
                    continue;
                }
            };
            if self.inner.openings.have_begun() {
                self.take_off(items);
            } else {
                self.inner.outbox.put_back(&self.lane, items); // somebody subscribed meanwhile
            }
        }
    }

    /// Gets a connection; meanwhile publishers hear of what is too late.
    async fn reach(&mut self) -> RedisResult<()> {
        let (inner, before) = (self.inner.clone(), self.link.number());
        let (since, lane, introduces) = (self.since, &self.lane, self.introduces.clone());
        let (link, agreeing) = (&mut self.link, inner.clone());
        let mut reaching = Box::pin(async {
            let since = match greet(link, lane, since).await {
                Ok(since) => since,
                Err(cause) => {
                    link.failed(&cause);
                    return Err(cause);
                }
            };
            agreement::agree_over(&agreeing, link).await?;
            if let Some(category) = introduces
                && let Err(cause) = batch::announce(inner.clone(), category).await
                && Fault::of(&cause).passes()
            {
                return Err(cause);
            }
            Ok(since)
        });
        let mut over = Vec::new();
        let reached = loop {
            tokio::select! {
                since = &mut reaching => break since,
                () = inner.clock.sleep(LOOK) => {
                    let (now, trouble) = (inner.clock.now(), inner.trouble.now());
                    let why = Late::without_answer(trouble.as_deref());
                    over.extend(inner.outbox.expire(lane, now, why));
                }
                () = inner.ending.cancelled() => break Ok(since),
            }
        };
        drop(reaching);
        over.iter().for_each(|item| self.remember(item));
        if reached.is_err() {
            self.link.let_go(); // not one to send over
        }
        self.since = reached?;
        self.introduces = None;
        self.inner.trouble.over(&self.who);
        if self.link.number() != before {
            self.announced.forget();
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
        let why = Late::without_answer(trouble.as_deref());
        for item in self.inner.outbox.expire(&self.lane, now, why) {
            self.remember(&item);
        }
    }

    /// Sends a batch without waiting for the answer.
    fn take_off(&mut self, mut items: Vec<Item>) {
        let Some(mut connection) = self.link.current() else {
            return self.inner.outbox.put_back(&self.lane, items);
        };
        self.leave_out(&mut items);
        if items.is_empty() {
            return;
        }
        for item in &mut items {
            item.sends += 1;
            if let Some(after) = self.unknown.remove(&item.event.id) {
                item.place.again = Some(after);
                self.remembered = self.remembered.filter(|_| !self.unknown.is_empty());
            }
        }
        let packed = batch::pack(&self.inner, &items, &mut self.announced);
        let Packed { commands, places, transaction, announces } = packed;
        let inner = self.inner.clone();
        self.flights.push_back(Box::pin(async move {
            let answers = connection.send_packed_commands(&commands, 0, commands.len()).await;
            let answers = if transaction { answers.and_then(batch::executed) } else { answers };
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

    /// A round trip has ended.
    async fn landed(&mut self, answers: Answers) {
        let Some(batch) = self.under_way.pop_front() else { return };
        let count = batch.items.len();
        if batch.is_well(&answers) {
            // Before publishers hear of their events: what they see then is that all is well.
            self.patience.renew();
            self.inner.trouble.over(&self.who);
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
                self.link.failed(&cause);
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
                    self.link.failed(&cause);
                    if Fault::of(&cause).passes() {
                        let mut item = item;
                        // Who only says that somebody else has it was not asked to take it.
                        item.sends -= u32::from(Fault::of(&cause) == Fault::Moved);
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
                        self.inner.upkeep.look(&item.place.stream.key);
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
        if !fault::is_told_where(&cause) {
            self.inner.trouble.begins(&self.who, error.message());
        }
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
        self.inner.outbox.put_back(&self.lane, kept);
    }

    /// Its publisher may publish it again, under the same id.
    fn remember(&mut self, item: &Item) {
        if let Some(after) = item.place.again.filter(|_| item.unanswered) {
            if self.unknown.len() >= UNKNOWN {
                self.unknown.clear();
            }
            self.unknown.insert(item.event.id.clone(), after);
            self.remembered = Some(self.inner.clock.now());
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

/// Gets a connection over which what is sent would be taken; when we came, by the server's clock.
async fn greet(link: &mut Link, lane: &Lane, since: EntryId) -> RedisResult<EntryId> {
    let connection = link.get().await?;
    // A server that loads refuses what comes until it has, in the middle of a round trip: what
    // stands behind would overtake what stands before. So does one that gives a slot away.
    match lane.name() {
        Some(key) => place::done(connection, cmd("EXISTS").arg(&**key)).await?,
        None => place::done(connection, &cmd("PING")).await?,
    }
    if since == EntryId::default() { place::time(connection).await } else { Ok(since) }
}

/// Waits before anything is sent again.
async fn rest(inner: Arc<Inner>, patience: Duration, fault: Fault) {
    let wait = if fault == Fault::Busy { inner.settings.retry_delay } else { patience };
    inner.clock.sleep(wait).await;
}
