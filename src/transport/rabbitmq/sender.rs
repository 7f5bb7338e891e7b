//! Sending: what waits is sent in the order in which it came, and confirmed by the broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::fault::{self, Cause, Fault};
use super::flight::{self, Answer, Flight, Way};
use super::lanes::{self, Lanes};
use super::pulse::Pulse;
use super::reader::BOUND;
use super::{Addressee, Inner, Item};
use crate::error::{Error, Kind};
use crate::transport::outbox::{Lane, Late};
use crate::transport::patience::Patience;

/// How many events may be under way at once.
const WINDOW: usize = 1_000;

/// How often it is looked at what is too late, while the broker does not answer.
const LOOK: Duration = Duration::from_millis(100);

/// What publishers hear while the broker takes nothing.
const BLOCKED: &str = "its memory or its disk is full, and it takes nothing until it has room";

/// Sends what comes, until the end.
pub(super) async fn send(inner: Arc<Inner>) {
    let mut sender = Sender {
        patience: inner.patience(),
        lanes: Lanes::new(&inner),
        flights: VecDeque::new(),
        alone: 0,
        blocked: false,
        pulse: Pulse::new(),
        inner,
    };
    let ending = sender.inner.ending.clone();
    tokio::select! {
        () = ending.cancelled() => {}
        () = sender.run() => {}
    }
    // Perhaps some arrived; nobody waits to hear of it.
    for flight in sender.flights.drain(..) {
        sender.inner.outbox.settled(flight.len());
        flight.fail(&Error::new(Kind::Dependency, "publish", "the transport ended meanwhile"));
    }
}

struct Sender {
    inner: Arc<Inner>,
    patience: Patience,
    lanes: Lanes,
    flights: VecDeque<Flight>,
    /// How many are sent one by one: among them is one that the broker will not have.
    alone: usize,
    /// Whether the broker took nothing when it was last looked.
    blocked: bool,
    pulse: Pulse,
}

impl Sender {
    async fn run(&mut self) {
        let mut look = Box::pin(self.inner.clock.sleep(LOOK));
        loop {
            self.look_at_broker();
            let inner = self.inner.clone();
            let flying: usize = self.flights.iter().map(Flight::len).sum();
            let most = match (self.alone, flying) {
                (0, _) => inner.settings.batch.min(WINDOW.saturating_sub(flying)),
                (_, 0) => 1,
                _ => 0,
            };
            let more = most > 0 && !self.blocked && inner.openings.have_begun();
            let idle = more && self.flights.is_empty();
            let items = tokio::select! {
                biased;
                () = inner.ending.cancelled() => return,
                landed = flight::first_landed(&mut self.flights), if !self.flights.is_empty() => {
                    self.landed(landed).await;
                    continue;
                }
                items = inner.outbox.next(&Lane::MAIN, most), if more => items,
                () = inner.openings.all_begun(), if !inner.openings.have_begun() => continue,
                () = &mut look, if !idle => {
                    look.set(inner.clock.sleep(LOOK));
                    self.expire();
                    continue;
                }
            };
            self.alone = self.alone.saturating_sub(items.len());
            self.let_readings_begin(&items).await;
            if let Err((items, cause)) = self.take_off(items).await {
                // What is under way came before them.
                let mut before = self.land_all(&items).await;
                before.extend(items);
                self.failed(before, cause).await;
            }
        }
    }

    /// A reading may have come while we waited for these events, which came behind it then.
    async fn let_readings_begin(&mut self, items: &[Item]) {
        if self.inner.openings.have_begun() {
            return;
        }
        let Sender { inner, flights, blocked, .. } = self;
        let begun = async {
            tokio::select! {
                () = inner.openings.all_begun() => {}
                () = inner.ending.cancelled() => {}
            }
        };
        meanwhile(inner, *blocked, flights, items, begun).await;
    }

    /// Whether the broker takes something.
    fn look_at_broker(&mut self) {
        let blocked = self.lanes.are_blocked();
        if blocked && !self.blocked {
            tracing::warn!(target: "tiebeam::transport", "the broker is blocked: {BLOCKED}");
            self.inner.trouble.begins("sending", BLOCKED);
        } else if !blocked && self.blocked {
            self.inner.trouble.over("sending");
        }
        self.blocked = blocked;
    }

    /// Tells publishers of what is too late. What is under way and of no use to anybody any more
    /// is not waited for.
    fn expire(&mut self) {
        tell_late(&self.inner, self.blocked, &mut self.flights, &[]);
        let now = self.inner.clock.now();
        let kind = Late::without_answer(None);
        while self.flights.front().is_some_and(|flight| flight.expire(now, kind)) {
            let Some(flight) = self.flights.pop_front() else { return };
            if flight.is_asked() {
                self.lanes.leave_asked();
            }
            self.inner.outbox.settled(flight.len());
        }
        if self.blocked || self.flights.is_empty() {
            self.pulse.rests();
        } else if self.pulse.is_missed(now) {
            self.lanes.feel_pulse();
        }
    }

    /// Sends a batch without waiting for the answer.
    async fn take_off(&mut self, items: Vec<Item>) -> Result<(), (Vec<Item>, Cause)> {
        let now = self.inner.clock.unix_ms();
        let ways = items.iter().map(|item| Way::of(&self.inner, &item.place, now)).collect();
        let ways: Vec<Way> = match ways {
            Ok(ways) => ways,
            Err(cause) => return Err((items, cause)),
        };
        let needs = flight::needs(&ways);
        // Only what is under way alone is known to be what came back.
        while needs.asked && self.flights.iter().any(Flight::is_asked) {
            let Some(landed) = self.next_landed(&items).await else { continue };
            let (left, cause) = self.settle(landed);
            if let Some(cause) = cause {
                let behind = self.land_all(&items).await;
                return Err((left.into_iter().chain(behind).chain(items).collect(), cause));
            }
        }
        let Sender { inner, lanes, flights, blocked, .. } = self;
        let ready = lanes.ready(needs);
        if let Err(cause) = meanwhile(inner, *blocked, flights, &items, ready).await {
            return Err((items, cause));
        }
        let mut flight = Flight::take_off(&self.inner, &self.lanes, items, ways);
        match flight::begin(&mut flight) {
            None => self.flights.push_back(flight),
            Some(landed) => {
                let (left, cause) = self.settle(landed);
                if let Some(cause) = cause {
                    return Err((left, cause));
                }
            }
        }
        Ok(())
    }

    /// Some have landed.
    async fn landed(&mut self, landed: Vec<(Item, Answer)>) {
        if landed.iter().all(|(item, answer)| !answer.is_left(item)) {
            // Before publishers hear of their events: what they see then is that all is well.
            self.patience.renew();
            if !self.blocked {
                self.inner.trouble.over("sending");
            }
        }
        if let (left, Some(cause)) = self.settle(landed) {
            self.failed(left, cause).await;
        }
    }

    /// Settles those of which it is known what became of them; the others, and why they are left.
    fn settle(&mut self, landed: Vec<(Item, Answer)>) -> (Vec<Item>, Option<Cause>) {
        if landed.iter().any(|(_, answer)| !matches!(answer, Answer::Failed(_))) {
            self.pulse.beats();
        }
        let count = landed.len();
        let (mut left, mut last) = (Vec::new(), None);
        for (item, answer) in landed {
            match answer {
                Answer::Accepted => item.accepted(),
                // It was to wait on the broker, where the queue is gone in which it would.
                Answer::Returned if item.place.due.is_some() => {
                    self.lanes.declare_again();
                    left.push(item);
                    last = Some(Cause::Returned);
                }
                Answer::Returned => {
                    let error = nobody(item.place.to, item.event.topic.as_str());
                    item.failed(error);
                }
                Answer::Failed(cause) => {
                    left.push(item);
                    last = Some(cause);
                }
            }
        }
        self.inner.outbox.settled(count - left.len());
        (left, last)
    }

    /// What could not be sent is sent again, in order, before all else; what is too late, or of no
    /// use, ends here.
    async fn failed(&mut self, mut items: Vec<Item>, mut cause: Cause) {
        loop {
            // What was sent behind it over the same connection has failed, too, most likely.
            let behind = self.land_all(&items).await;
            items.extend(behind);
            let error = fault::error("publish", &cause);
            self.inner.trouble.begins("sending", error.message());
            if matches!(cause, Cause::Silence(_)) {
                // Whatever it is that it waits for: another connection is read.
                self.inner.publishing.hang_up().await;
            }
            let mut passes = Fault::of(&cause).passes();
            if !passes && items.len() > 1 && cause.is_of_channel() {
                // It does not say which one it will not have: each by itself finds out.
                let others = items.split_off(1);
                self.alone += others.len();
                self.inner.outbox.put_back(&Lane::MAIN, others);
                passes = true;
            }
            let now = self.inner.clock.now();
            let most = self.inner.settings.max_retry;
            let outbox = &self.inner.outbox;
            let stays = |item: &Item| {
                passes && item.sends <= most && !item.is_late(now) && !outbox.lets_go(item)
            };
            let (kept, over): (Vec<Item>, Vec<Item>) = items.into_iter().partition(stays);
            self.inner.outbox.settled(over.len());
            over.into_iter().for_each(|item| item.failed(error.again()));
            items = kept;
            let Sender { inner, patience, flights, .. } = self;
            let waiting = async {
                match Fault::of(&cause) {
                    // It is there, and said so: it is asked again at its own pace.
                    Fault::Busy => pause(inner, inner.settings.retry_delay).await,
                    // An exchange was deleted, and what was bound to it is not any more: it is
                    // there again before those who read bind their queues, and they before it is
                    // published to.
                    Fault::Gone if !matches!(cause, Cause::Returned) => {
                        match lanes::make_exchanges(inner).await {
                            Ok(()) => pause(inner, BOUND * 2).await,
                            Err(_) => patience.wait().await,
                        }
                    }
                    _ => patience.wait().await,
                }
            };
            if !meanwhile(inner, false, flights, &items, waiting).await {
                self.inner.outbox.settled(items.len());
                items.into_iter().for_each(|item| item.failed(error.again()));
                return;
            }
            let now = self.inner.clock.now();
            let (kept, over): (Vec<Item>, Vec<Item>) = items
                .into_iter()
                .partition(|item| !item.is_late(now) && !self.inner.outbox.lets_go(item));
            self.inner.outbox.settled(over.len());
            over.into_iter().for_each(|item| item.failed(error.again()));
            items = kept;
            if items.is_empty() {
                return;
            }
            match self.take_off(items).await {
                Ok(()) => return,
                Err((back, again)) => (items, cause) = (back, again),
            }
        }
    }

    /// Waits for what is under way; what is left of it. Meanwhile publishers hear of what is too
    /// late, `items` included.
    async fn land_all(&mut self, items: &[Item]) -> Vec<Item> {
        let mut left = Vec::new();
        while !self.flights.is_empty() {
            if let Some(landed) = self.next_landed(items).await {
                left.append(&mut self.settle(landed).0);
            }
        }
        left
    }

    /// The next that have landed; none where it was looked at what is too late instead.
    async fn next_landed(&mut self, items: &[Item]) -> Option<Vec<(Item, Answer)>> {
        let clock = self.inner.clock.clone();
        tokio::select! {
            landed = flight::first_landed(&mut self.flights) => Some(landed),
            () = clock.sleep(LOOK) => {
                self.look_at_broker();
                self.expire();
                tell_late(&self.inner, self.blocked, &mut VecDeque::new(), items);
                None
            }
        }
    }
}

/// What `future` gives; until then, publishers hear of what is too late.
async fn meanwhile<T>(
    inner: &Inner,
    blocked: bool,
    flights: &mut VecDeque<Flight>,
    items: &[Item],
    future: impl Future<Output = T>,
) -> T {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            output = &mut future => return output,
            () = inner.clock.sleep(LOOK) => tell_late(inner, blocked, flights, items),
        }
    }
}

/// Waits before the broker is asked again; false when everything ends.
async fn pause(inner: &Inner, time: Duration) -> bool {
    tokio::select! {
        () = inner.clock.sleep(time) => true,
        () = inner.ending.cancelled() => false,
    }
}

/// Tells the publishers of what is too late: of what waits, what is under way, and `items`.
fn tell_late(inner: &Inner, blocked: bool, flights: &mut VecDeque<Flight>, items: &[Item]) {
    let (now, trouble) = (inner.clock.now(), inner.trouble.now());
    let why = match blocked {
        true => Late { kind: Kind::BrokerBlocked, trouble: Some(BLOCKED) },
        false => Late::without_answer(trouble.as_deref()),
    };
    for flight in flights.iter() {
        flight.expire(now, why);
    }
    for item in items {
        item.expire(now, why);
    }
    inner.outbox.expire(&Lane::MAIN, now, why);
}

/// The error where nobody reads an event.
fn nobody(to: Addressee, topic: &str) -> Error {
    let (kind, operation, said) = match to {
        Addressee::Topic => (Kind::Unroutable, "publish", "nobody reads"),
        Addressee::Command => (Kind::NoHandler, "send", "nobody handles the command"),
        Addressee::Request => (Kind::NoResponder, "request", "nobody responds to"),
        Addressee::Reply => (Kind::Unroutable, "reply", "nobody waits any more for the reply to"),
    };
    let said = format!("{said} `{topic}`, here or in another process");
    Error::new(kind, operation, said).with("event_type", topic)
}
