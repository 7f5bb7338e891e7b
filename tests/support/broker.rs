//! What the tests of all brokers need: events that are numbers, and somebody who reads them.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tiebeam::clock::Clock;
use tiebeam::event::Event;
use tiebeam::topic::Pattern;
use tiebeam::transport::{Entry, Parcel, Reader, Reading, Receipt, Sink, Source, Start, Transport};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Longer than anything here may take.
pub const GUARD: Duration = Duration::from_secs(60);

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runs")
}

pub fn event(n: u64) -> Arc<Event> {
    let json = format!(
        r#"{{"event_id": "evt_{n}", "event_type": "market_data.trade", "timestamp": 1,
            "producer": "test", "version": 1, "payload": {{"n": {n}}}, "metadata": {{}}}}"#
    );
    Arc::new(Event::from_json(&json).expect("an event"))
}

pub fn number(event: &Event) -> u64 {
    let id = event.id.to_string();
    id.strip_prefix("evt_").expect("ours").parse().expect("a number")
}

/// What a group was given.
#[derive(Default)]
pub struct Seen {
    /// How often each event was brought, and as which delivery the last time.
    pub events: Mutex<BTreeMap<u64, (u32, u64)>>,
    pub order: Mutex<Vec<u64>>,
    /// What is not acknowledged yet.
    pub kept: Mutex<Vec<Entry>>,
    /// Whether entries are kept instead of acknowledged.
    keeps: bool,
    changed: Notify,
}

impl Seen {
    pub fn keeping() -> Seen {
        Seen { keeps: true, ..Seen::default() }
    }

    pub async fn until(&self, what: impl Fn(&Seen) -> bool) {
        let seen = async {
            loop {
                let changed = self.changed.notified();
                if what(self) {
                    return;
                }
                changed.await;
            }
        };
        Clock::real().timeout(GUARD, seen).await.expect("in time");
    }

    pub async fn all(&self, count: usize) {
        self.until(|seen| seen.events.lock().len() >= count).await;
    }
}

impl Sink for Seen {
    fn take(&self, entries: Vec<Entry>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        for entry in entries {
            let n = number(&entry.event);
            let mut events = self.events.lock();
            let (times, last) = events.entry(n).or_default();
            (*times, *last) = (*times + 1, entry.deliveries);
            drop(events);
            self.order.lock().push(n);
            if self.keeps {
                self.kept.lock().push(entry);
            } else {
                entry.event.settle();
            }
        }
        self.changed.notify_waiters();
        Box::pin(std::future::ready(()))
    }
}

/// Who reads, and what it was given.
pub struct Following {
    pub seen: Arc<Seen>,
    pub reader: Reader,
}

impl std::ops::Deref for Following {
    type Target = Seen;

    fn deref(&self) -> &Seen {
        &self.seen
    }
}

/// Has `seen` follow what the group wants.
pub fn follow_source(
    transport: &dyn Transport,
    source: Source,
    group: Option<&str>,
    start: Start,
    seen: Seen,
) -> Following {
    let seen = Arc::new(seen);
    let reading = Reading { source, group: group.map(Into::into), start, keyed: false };
    Following { reader: transport.read(reading, seen.clone()), seen }
}

/// Has `seen` follow a group that keeps the order of keys, from the first event on.
pub fn follow_in_turn(transport: &dyn Transport, group: &str, seen: Seen) -> Following {
    let seen = Arc::new(seen);
    let source = Source::Topics(Pattern::parse("market_data.*").expect("valid"));
    let group = Some(group.into());
    let reading = Reading { source, group, start: Start::First, keyed: true };
    Following { reader: transport.read(reading, seen.clone()), seen }
}

/// Has `seen` follow the group from `start`.
pub fn follow_from(transport: &dyn Transport, group: &str, start: Start, seen: Seen) -> Following {
    let pattern = Pattern::parse("market_data.*").expect("valid");
    follow_source(transport, Source::Topics(pattern), Some(group), start, seen)
}

/// Has `seen` follow everything for the group `g`.
pub fn follow(transport: &dyn Transport, seen: Seen) -> Following {
    follow_from(transport, "g", Start::First, seen)
}

pub fn publish(transport: &dyn Transport, n: u64) -> tiebeam::error::Result<Receipt> {
    transport.send(Parcel::new(&event(n)))
}

/// Publishes these, and waits until all are accepted.
pub async fn send(transport: &dyn Transport, numbers: impl IntoIterator<Item = u64>) -> usize {
    let numbers = numbers.into_iter();
    let sent: Vec<_> = numbers.map(|n| publish(transport, n).expect("room")).collect();
    accepted(sent).await
}

pub async fn accepted(receipts: impl IntoIterator<Item = Receipt>) -> usize {
    let mut count = 0;
    for receipt in receipts {
        receipt.await.expect("accepted");
        count += 1;
    }
    count
}

/// Asks again until `what` holds; brokers have no way to tell.
pub async fn until_so(mut what: impl AsyncFnMut() -> bool) {
    let clock = Clock::real();
    let until = clock.now().saturating_add(GUARD);
    while !what().await {
        assert!(clock.now() < until, "not in time");
        clock.sleep(Duration::from_millis(5)).await;
    }
}
