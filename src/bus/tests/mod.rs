//! The bus without Python: handlers are scripts, and time moves when a test says so.

mod acks;
mod back_pressure;
mod breaker;
mod conflation;
mod deadlines;
mod dedup;
mod ending;
mod groups;
mod keyed;
mod model;
mod refusals;
mod replay;
mod requests;
mod retries;
mod routing;
mod schedule;
mod schedules;
mod threads;
mod waiting;
mod waits;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::error::{Category, Kind, Result};
use crate::event::{Event, Node, Payload, Priority};
use crate::resilience::{Backoff, Jitter, RetryPolicy};
use crate::topic::Pattern;

/// What a scripted handler does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Fail(Category),
    /// A breaker inside of it is open, and says for how many milliseconds.
    Refused(u64),
    /// Goes on until `Desk::release`.
    Hold,
}

/// One call of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    handler: String,
    n: i64,
    attempt: u32,
    /// How often this attempt was refused before.
    waits: u8,
}

type Script = Box<dyn FnMut(&Call) -> Outcome + Send>;

/// An executor that works when it is told to, one claim after the other, on the test's thread.
struct Desk {
    ready: Mutex<VecDeque<Arc<Subscription>>>,
    calls: Mutex<Vec<Call>>,
    script: Mutex<Script>,
    held: Mutex<Vec<(Arc<Subscription>, Delivery)>>,
    /// What nobody has decided on yet, where handlers decide.
    opened: Mutex<Vec<Undecided>>,
    fallback: Mutex<Option<std::result::Result<(), Category>>>,
    batch: usize,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

impl Executor for Desk {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        self.ready.lock().push_back(subscription.clone());
    }

    fn describe(&self) -> &'static str {
        "test"
    }
}

impl Desk {
    fn new() -> Arc<Desk> {
        Desk::with(100, |_| Outcome::Done)
    }

    fn with(batch: usize, script: impl FnMut(&Call) -> Outcome + Send + 'static) -> Arc<Desk> {
        Arc::new(Desk {
            ready: Mutex::default(),
            calls: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            held: Mutex::default(),
            opened: Mutex::default(),
            fallback: Mutex::default(),
            batch,
        })
    }

    fn script(&self, script: impl FnMut(&Call) -> Outcome + Send + 'static) {
        *self.script.lock() = Box::new(script);
    }

    /// Works until there is nothing left to do.
    fn work(&self) {
        while self.work_once() {}
    }

    /// Serves one subscription that has announced work; false when there is none.
    fn work_once(&self) -> bool {
        let Some(subscription) = self.ready.lock().pop_front() else { return false };
        let mut batch = VecDeque::new();
        if subscription.claim(self.batch, &mut batch) {
            self.serve(&subscription, batch);
        }
        true
    }

    /// Ends, with success, the handlers that were held, the oldest first.
    fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        for (subscription, delivery) in held {
            subscription.pass(&delivery);
            let mut batch = VecDeque::new();
            if subscription.next(1, self.batch, &mut batch) {
                self.serve(&subscription, batch);
            }
        }
    }

    fn serve(&self, subscription: &Arc<Subscription>, mut batch: VecDeque<Delivery>) {
        let mut done = 0;
        loop {
            let Some(delivery) = batch.pop_front() else {
                if !subscription.next(std::mem::take(&mut done), self.batch, &mut batch) {
                    return;
                }
                continue;
            };
            let Some(delivery) = subscription.begin(delivery, false) else { continue };
            let call = Call {
                handler: subscription.name().into(),
                n: number(&delivery.event),
                attempt: delivery.attempt,
                waits: delivery.waits,
            };
            if let Some(manual) = &subscription.options().manual {
                self.opened.lock().push(manual.open(&delivery));
                self.calls.lock().push(call);
                continue;
            }
            let outcome = (self.script.lock())(&call);
            self.calls.lock().push(call);
            match outcome {
                Outcome::Done => {
                    subscription.pass(&delivery);
                    done += 1;
                }
                Outcome::Fail(_) | Outcome::Refused(_) => {
                    self.fail(subscription, delivery, outcome);
                    subscription.put_back(std::mem::take(&mut done), batch.drain(..));
                }
                Outcome::Hold => {
                    subscription.put_back(std::mem::take(&mut done), batch.drain(..));
                    self.held.lock().push((subscription.clone(), delivery));
                    return;
                }
            }
        }
    }

    fn fail(&self, subscription: &Arc<Subscription>, delivery: Delivery, outcome: Outcome) {
        let failure = match outcome {
            Outcome::Fail(category) => failure(category),
            Outcome::Refused(millis) => refusal(millis),
            Outcome::Done | Outcome::Hold => unreachable!("no failure"),
        };
        if subscription.failed(delivery.clone(), failure.clone()) {
            let scripted = |category| Failure { category, ..failure.clone() };
            let result = self.fallback.lock().unwrap_or(Ok(())).map_err(scripted);
            subscription.fallback_done(delivery, failure, result);
        }
    }

    /// The numbers of the events that were handled, in order, each attempt by itself.
    fn numbers(&self) -> Vec<i64> {
        self.calls.lock().iter().map(|call| call.n).collect()
    }

    fn numbers_of(&self, handler: &str) -> Vec<i64> {
        self.calls.lock().iter().filter(|call| call.handler == handler).map(|call| call.n).collect()
    }
}

/// Serves a subscription the moment it announces work, as a quick worker would.
#[derive(Debug)]
struct Prompt(Arc<Desk>);

impl Executor for Prompt {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        self.0.schedule(subscription);
        self.0.work();
    }

    fn describe(&self) -> &'static str {
        "prompt"
    }
}

/// A desk that handles events where they are published. What it would hold, it handles.
#[derive(Debug)]
struct Inside(Arc<Desk>);

impl Executor for Inside {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        self.0.schedule(subscription);
    }

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        if subscription.options().manual.is_some() {
            panic!("handlers that decide are not for this desk");
        }
        let handler = subscription.name().into();
        let call = Call { handler, n: number(event), attempt: 1, waits: 0 };
        let outcome = (self.0.script.lock())(&call);
        self.0.calls.lock().push(call);
        if matches!(outcome, Outcome::Done | Outcome::Hold) {
            return subscription.handled_inline(event);
        }
        self.0.fail(subscription, subscription.adopt_inline(event), outcome);
    }

    fn describe(&self) -> &'static str {
        "inside"
    }
}

fn failure(category: Category) -> Failure {
    Failure::new(category, "Scripted", "as the script says")
}

fn refusal(millis: u64) -> Failure {
    let refused_by = Some(Arc::from(format!("for {millis} ms")));
    Failure { retry_after: Some(ms(millis)), refused_by, ..failure(Category::Dependency) }
}

fn number(event: &Event) -> i64 {
    match event.payload.get(["n"]) {
        Some(Node::Int(n)) => n,
        _ => -1,
    }
}

fn payload(n: i64) -> Payload {
    Payload::from_json_value(&json!({ "n": n })).expect("is a payload")
}

fn draft(event_type: &str, n: i64) -> Draft<'_> {
    Draft::new(event_type, payload(n))
}

fn bus() -> (Bus, Clock) {
    let clock = Clock::simulated(1_700_000_000_000);
    (Bus::new(BusSettings { seed: Some(7), ..BusSettings::default() }, clock.clone()), clock)
}

fn options(name: &str) -> Options {
    Options { capacity: 1000, ..Options::named(name) }
}

/// Up to `attempts`, 100 ms apart and doubling.
fn retrying(attempts: u32) -> Policy {
    let backoff = Backoff::exponential(ms(100), 2.0).with_jitter(Jitter::None);
    let retry = RetryPolicy::builder().max_attempts(attempts).backoff(backoff).build();
    Policy { retry: Some(Arc::new(retry.expect("valid"))), ..Policy::default() }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the future comes to now, if it does.
fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Publishes where there must be room.
fn publish(bus: &Bus, event_type: &str, n: i64) -> Arc<Event> {
    let published = bus.publish(draft(event_type, n)).expect("open bus, valid topic");
    assert!(published.admission.is_none(), "{event_type} {n} found no room");
    published.event
}

#[track_caller]
fn assert_balanced(bus: &Bus) {
    let books = bus.books();
    assert!(books.total.balances(), "{books:?}");
    for (name, tally) in &books.subscriptions {
        assert!(tally.balances(), "{name}: {tally:?}");
    }
}
