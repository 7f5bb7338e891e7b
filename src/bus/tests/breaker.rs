//! The breaker on consumption: it pauses reading, and burns nothing.

use super::*;
use crate::resilience::breaker::{HalfOpenRule, Mode};
use crate::resilience::{BreakerSettings, CircuitBreaker};

fn guarded(clock: &Clock, settings: BreakerSettings, retry: Option<u32>) -> Policy {
    let probes = settings.half_open_permits as usize;
    let breaker = CircuitBreaker::new("x", settings, clock.clone()).expect("valid");
    let policy = retry.map(retrying).unwrap_or_default();
    Policy { guard: Some(Arc::new(Guard::new(breaker, probes))), ..policy }
}

fn down(_: &Call) -> Outcome {
    Outcome::Fail(Category::Transient)
}

fn topics(desk: &Desk, from: usize) -> usize {
    desk.calls.lock().len() - from
}

#[test]
fn an_open_breaker_stops_reading_and_a_probe_closes_it() {
    let (bus, clock) = bus();
    let watcher = Desk::new();
    bus.subscribe("system.circuit_breaker.*", options("watcher"), watcher.clone()).expect("valid");
    let desk = Desk::with(100, down);
    let settings = BreakerSettings::consecutive(3, ms(1000));
    let policy = guarded(&clock, settings, None);
    let subscription =
        bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    for n in 0..10 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2]);
    assert_eq!(subscription.depth(), 7);
    publish(&bus, "a", 10);
    desk.work();
    clock.advance(ms(999));
    desk.work();
    assert_eq!(topics(&desk, 3), 0, "nothing is read while it is open");
    // One probe, which fails: open again, and that one message is all it cost.
    clock.advance(ms(1));
    desk.work();
    assert_eq!(desk.numbers()[3..], [3]);
    assert_eq!(bus.dead_letters().len(), 4);
    clock.advance(ms(999));
    desk.work();
    assert_eq!(topics(&desk, 4), 0);
    desk.script(|_| Outcome::Done);
    clock.advance(ms(1));
    desk.work();
    assert_eq!(desk.numbers()[4..], [4, 5, 6, 7, 8, 9, 10]);
    watcher.work();
    assert_eq!(watcher.calls.lock().len(), 3); // open, open again, closed
    assert_balanced(&bus);
}

#[test]
fn half_open_admits_exactly_its_probes() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, down);
    let settings = BreakerSettings {
        half_open_permits: 2,
        half_open_rule: Some(HalfOpenRule::Successes(3)),
        ..BreakerSettings::consecutive(1, ms(1000))
    };
    let policy = guarded(&clock, settings, None);
    let options = Options { policy, concurrency: 8, ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..10 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!(desk.numbers(), [0]);
    desk.script(|_| Outcome::Hold);
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2], "two at a time");
    desk.script(|_| Outcome::Done);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_verdict_that_tells_nothing_lets_another_probe_through() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, down);
    let policy = guarded(&clock, BreakerSettings::consecutive(1, ms(1000)), None);
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    for n in 0..5 {
        publish(&bus, "a", n);
    }
    desk.work();
    desk.script(|call| match call.n {
        1 | 2 => Outcome::Fail(Category::Permanent),
        _ => Outcome::Done,
    });
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2, 3, 4]);
}

#[test]
fn permanent_errors_never_open_it() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |_| Outcome::Fail(Category::Permanent));
    let policy = guarded(&clock, BreakerSettings::consecutive(2, ms(1000)), Some(3));
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    for n in 0..10 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!(desk.calls.lock().len(), 10);
}

#[test]
fn retries_wait_for_the_breaker_too() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, down);
    let policy = guarded(&clock, BreakerSettings::consecutive(2, ms(1000)), Some(3));
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    desk.work();
    clock.advance(ms(100)); // the second attempt opens it
    desk.work();
    clock.advance(ms(500)); // the third is due, and waits
    desk.work();
    assert_eq!(desk.calls.lock().len(), 2);
    desk.script(|_| Outcome::Done);
    clock.advance(ms(500));
    desk.work();
    assert_eq!(desk.calls.lock().len(), 3);
    assert_eq!(bus.books().total.delivered, 1);
}

#[test]
fn a_rule_that_forgives_a_probe_gets_its_next_one() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, down);
    let settings = BreakerSettings {
        half_open_rule: Some(HalfOpenRule::KOfN { successes: 2, of: 4 }),
        ..BreakerSettings::with_mode(Mode::Consecutive { threshold: 1 }).with_open(ms(1000))
    };
    let policy = guarded(&clock, settings, None);
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    for n in 0..8 {
        publish(&bus, "a", n);
    }
    desk.work();
    desk.script(|call| if call.n == 1 { down(call) } else { Outcome::Done });
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers(), (0..8).collect::<Vec<_>>());
}

#[test]
fn a_half_open_period_without_events_is_not_the_end() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, down);
    let settings = BreakerSettings {
        half_open_rule: Some(HalfOpenRule::Successes(2)),
        half_open_max: Some(ms(500)),
        ..BreakerSettings::consecutive(1, ms(1000))
    };
    let policy = guarded(&clock, settings, None);
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    desk.work();
    desk.script(|_| Outcome::Done);
    clock.advance(ms(1000));
    publish(&bus, "a", 1); // the first success of two
    desk.work();
    clock.advance(ms(10_000)); // too long: open again
    for n in 2..6 {
        publish(&bus, "a", n);
        desk.work();
        clock.advance(ms(1000));
        desk.work();
    }
    assert_eq!(desk.numbers(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_probe_that_is_put_back_is_not_lost() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, down);
    let policy = guarded(&clock, BreakerSettings::consecutive(1, ms(1000)), None);
    let subscription =
        bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    desk.work();
    publish(&bus, "a", 1);
    clock.advance(ms(1000));
    let mut batch = VecDeque::new();
    assert!(subscription.claim(100, &mut batch));
    assert_eq!(batch.len(), 1);
    subscription.put_back(0, batch.drain(..));
    subscription.release();
    desk.script(|_| Outcome::Done);
    desk.work();
    assert_eq!(desk.numbers(), [0, 1]);
}

/// A probe whose outcome says nothing about the handler leaves the place to another one.
#[test]
fn a_probe_that_is_rejected_by_hand_is_followed_by_another() {
    let (bus, clock) = bus();
    let manual = Arc::<Manual>::default();
    let settings = BreakerSettings::consecutive(1, ms(200));
    let breaker = CircuitBreaker::new("x", settings, clock.clone()).expect("valid");
    let policy = Policy { guard: Some(Arc::new(Guard::new(breaker, 1))), ..Policy::default() };
    let options = Options { ack: Ack::Manual, manual: Some(manual), policy, ..options("x") };
    let desk = Desk::new();
    bus.subscribe("a", options, desk.clone()).expect("valid");
    let decide = |act: fn(&Undecided) -> Result<()>| {
        let undecided = desk.opened.lock().pop().expect("is open");
        act(&undecided).expect("the first time");
        desk.work();
    };
    (0..3).for_each(|n| drop(publish(&bus, "a", n)));
    desk.work();
    while desk.opened.lock().len() > 1 {
        decide(Undecided::ack);
    }
    decide(Undecided::nack); // trips
    publish(&bus, "a", 3);
    publish(&bus, "a", 4);
    desk.work();
    assert!(desk.opened.lock().is_empty(), "open");
    clock.advance(ms(200));
    desk.work();
    decide(|undecided| undecided.reject(None));
    decide(Undecided::ack);
    assert_eq!(bus.books().total.in_flight, 0);
    assert_balanced(&bus);
}
