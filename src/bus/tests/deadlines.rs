//! What loses its worth while it stands in a batch, behind a handler that takes its time.

use super::*;
use crate::resilience::{BreakerSettings, CircuitBreaker};

/// A desk whose handler of the first event, at that attempt, takes `time`.
fn dawdling(clock: &Clock, attempt: u32, time: u64) -> Arc<Desk> {
    let clock = clock.clone();
    Desk::with(100, move |call| {
        if call.attempt < attempt {
            return Outcome::Fail(Category::Transient);
        }
        if call.n == 1 {
            clock.advance(ms(time));
        }
        Outcome::Done
    })
}

/// Publishes where nobody wants the event after `after` milliseconds.
fn perishable(bus: &Bus, n: i64, key: Option<&str>, after: i64) {
    let (key, deadline) = (key.map(Arc::from), Some(bus.clock().unix_ms() + after));
    let _ = bus.publish(Draft { key, deadline, ..draft("a", n) }).expect("valid");
}

#[test]
fn what_expires_in_its_batch_is_not_handled() {
    let (bus, clock) = bus();
    let desk = dawdling(&clock, 1, 10);
    let subscription = bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    perishable(&bus, 2, None, 10);
    perishable(&bus, 3, None, 11);
    publish(&bus, "a", 4);
    desk.work();
    assert_eq!(desk.numbers(), [1, 3, 4]);
    let tally = subscription.tally();
    assert_eq!((tally.delivered, tally.expired, tally.in_flight), (3, 1, 0));
    assert!(bus.dead_letters().is_empty());
    assert_balanced(&bus);
}

#[test]
fn a_retry_that_expires_in_its_batch_is_not_handled() {
    let (bus, clock) = bus();
    let desk = dawdling(&clock, 2, 50);
    bus.subscribe("a", Options { policy: retrying(2), ..options("x") }, desk.clone())
        .expect("valid");
    publish(&bus, "a", 1);
    perishable(&bus, 2, None, 150);
    desk.work();
    clock.advance(ms(100));
    desk.work();
    assert_eq!(desk.numbers(), [1, 2, 1]);
    assert_eq!(bus.books().total.expired, 1);
    assert!(bus.dead_letters().is_empty());
    assert_balanced(&bus);
}

#[test]
fn what_expires_in_its_batch_passes_the_turn_of_its_key_on() {
    let (bus, clock) = bus();
    let desk = dawdling(&clock, 1, 10);
    bus.subscribe("a", Options { concurrency: 2, ..options("x") }, desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    perishable(&bus, 2, Some("x"), 10);
    perishable(&bus, 3, Some("x"), 100);
    desk.work();
    assert_eq!(desk.numbers(), [1, 3]);
    assert_balanced(&bus);
}

#[test]
fn what_expires_in_its_batch_is_no_sample() {
    let (bus, clock) = bus();
    let desk = dawdling(&clock, 1, 10);
    let options =
        Options { overflow: Overflow::Sample, sample_interval: Some(ms(1000)), ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    let late = bus.clone();
    let script = clock.clone();
    desk.script(move |call| {
        if call.n == 1 {
            perishable(&late, 3, Some("y"), 100);
            script.advance(ms(10));
        }
        Outcome::Done
    });
    perishable(&bus, 1, Some("x"), 100);
    perishable(&bus, 2, Some("y"), 10);
    desk.work();
    assert_eq!(desk.numbers(), [1, 3], "nothing of its key was handled in this interval");
    assert_balanced(&bus);
}

#[test]
fn a_probe_that_expires_in_its_batch_leaves_its_place_to_another() {
    let (bus, clock) = bus();
    let settings =
        BreakerSettings { half_open_permits: 2, ..BreakerSettings::consecutive(1, ms(100)) };
    let breaker = CircuitBreaker::new("x", settings, clock.clone()).expect("valid");
    let policy = Policy { guard: Some(Arc::new(Guard::new(breaker, 2))), ..Policy::default() };
    let desk = Desk::with(100, |_| Outcome::Fail(Category::Transient));
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    publish(&bus, "a", 1);
    perishable(&bus, 2, None, 110);
    publish(&bus, "a", 3);
    desk.work();
    assert_eq!(desk.numbers(), [0]);
    let time = clock.clone();
    desk.script(move |call| {
        if call.n == 1 {
            time.advance(ms(10));
        }
        Outcome::Done
    });
    clock.advance(ms(100));
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 3]);
    assert_eq!(bus.books().total.in_flight, 0);
    assert_balanced(&bus);
}

#[test]
fn what_is_expired_when_it_is_published_is_not_handled_inside_that() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let inside = Arc::new(Inside(desk.clone()));
    let subscription = bus.subscribe("a", options("x"), inside).expect("valid");
    perishable(&bus, 1, None, 0);
    perishable(&bus, 2, None, 1);
    assert_eq!(desk.numbers(), [2]);
    let tally = subscription.tally();
    assert_eq!((tally.published, tally.delivered, tally.expired), (2, 1, 1));
    assert!(subscription.is_idle());
    assert_balanced(&bus);
}
