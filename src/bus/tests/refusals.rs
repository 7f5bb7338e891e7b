//! A breaker inside of the handler: what it refuses waits for it, and is no attempt.

use super::*;
use crate::resilience::{BreakerSettings, CircuitBreaker};

/// Refuses while `open` says for how many milliseconds.
fn breaker() -> (Arc<Mutex<Option<u64>>>, impl FnMut(&Call) -> Outcome + Send + use<>) {
    let open = Arc::new(Mutex::new(Some(1000)));
    let asked = open.clone();
    (open, move |_: &Call| asked.lock().map_or(Outcome::Done, Outcome::Refused))
}

#[test]
fn what_is_refused_waits_and_comes_in_its_order_and_as_the_first_attempt() {
    let (bus, clock) = bus();
    let (open, script) = breaker();
    let desk = Desk::with(3, script);
    let options = Options { policy: retrying(2), ..options("x") };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..5 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2, 3, 4]);
    assert_eq!((subscription.depth(), subscription.tally().in_flight), (5, 5));
    for _ in 0..4 {
        clock.advance(ms(999));
        desk.work();
        clock.advance(ms(1));
        desk.work();
    }
    assert_eq!(desk.numbers()[5..], [0; 4], "as long as it is open, one tries");
    assert_eq!(bus.dead_letters().len(), 0);
    *open.lock() = None;
    publish(&bus, "a", 5);
    publish(&bus, "a", 6);
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers()[9..], [0, 1, 2, 3, 4, 5, 6], "before what is new");
    assert!(desk.calls.lock().iter().all(|call| call.attempt == 1));
    assert_balanced(&bus);
}

#[test]
fn what_waits_takes_up_room() {
    let (bus, clock) = bus();
    let (open, script) = breaker();
    let desk = Desk::with(7, script);
    let options = Options { capacity: 150, ..options("x") };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..150 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!((desk.numbers().len(), subscription.depth()), (150, 150));
    let more = bus.publish(draft("a", 150)).expect("valid");
    assert!(more.admission.is_some(), "there is no room");
    *open.lock() = None;
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers()[150..], (0..=150).collect::<Vec<_>>());
    assert_eq!(subscription.tally().delivered, 151);
}

#[test]
fn a_probe_that_fails_makes_way_for_the_next_one_alone() {
    let (bus, clock) = bus();
    let (open, mut script) = breaker();
    let failing = Arc::new(Mutex::new(false));
    let fails = failing.clone();
    let desk = Desk::with(100, move |call| match std::mem::take(&mut *fails.lock()) {
        true => Outcome::Fail(Category::Permanent),
        false => script(call),
    });
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    for n in 0..5 {
        publish(&bus, "a", n);
    }
    desk.work();
    *failing.lock() = true; // and the breaker is open again
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers()[5..], [0, 1]);
    *open.lock() = None;
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers()[7..], [1, 2, 3, 4]);
    assert_balanced(&bus);
}

#[test]
fn each_breaker_has_those_that_wait_for_it() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |call| match (call.n % 2, call.waits) {
        (0, 0..3) => Outcome::Refused(700),
        (1, 0) => Outcome::Refused(300),
        _ => Outcome::Done,
    });
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    for n in 0..6 {
        publish(&bus, "a", n);
    }
    desk.work();
    for _ in 0..100 {
        clock.advance(ms(100));
        desk.work();
    }
    let (even, odd): (Vec<_>, Vec<_>) = desk.numbers()[6..].iter().partition(|n| **n % 2 == 0);
    assert_eq!(odd, [1, 3, 5]);
    assert_eq!(even[..3], [0, 0, 0]);
    assert_eq!(even.last(), Some(&4));
    assert_eq!(bus.books().total.delivered, 6);
}

#[test]
fn what_waits_and_ends_otherwise_is_told_as_well() {
    for way in 0..3 {
        let (bus, clock) = bus();
        let watcher = Desk::new();
        bus.subscribe("system.*", options("watcher"), watcher.clone()).expect("valid");
        let desk = Desk::with(3, |call| match call.waits {
            0 => Outcome::Refused(1000),
            _ => Outcome::Fail(Category::Permanent),
        });
        let subscription = bus.subscribe("a", options("x"), desk.clone()).expect("valid");
        let deadline = (way == 1).then(|| clock.unix_ms() + 500);
        let _ = bus.publish(Draft { deadline, ..draft("a", 0) }).expect("valid");
        desk.work();
        watcher.work();
        if way == 2 {
            subscription.cancel();
        }
        clock.advance(ms(1000));
        desk.work();
        watcher.work();
        assert_eq!(watcher.calls.lock().len(), 2, "waiting, and no more: {way}");
    }
}

#[test]
fn others_of_its_key_wait_with_it_and_the_rest_goes_on() {
    for concurrency in [1, 3] {
        let (bus, clock) = bus();
        let desk = Desk::with(10, |call| match (call.n, call.waits) {
            (0, 0 | 1) => Outcome::Refused(500),
            _ => Outcome::Done,
        });
        let options = Options { concurrency, ..options("x") };
        bus.subscribe("a", options, desk.clone()).expect("valid");
        for (n, key) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
            let draft = Draft { key: Some(key.into()), ..draft("a", n as i64) };
            let _ = bus.publish(draft).expect("valid");
        }
        desk.work();
        assert_eq!(desk.numbers(), [0, 1, 3]);
        clock.advance(ms(500));
        desk.work();
        clock.advance(ms(500));
        desk.work();
        assert_eq!(desk.numbers(), [0, 1, 3, 0, 0, 2, 4]);
        assert_balanced(&bus);
    }
}

#[test]
fn the_breaker_of_the_handler_hears_nothing_of_refusals() {
    let (bus, clock) = bus();
    let desk = Desk::with(10, |call| match call.waits {
        0..8 => Outcome::Refused(100),
        _ => Outcome::Done,
    });
    let breaker = BreakerSettings::consecutive(3, ms(60_000));
    let breaker = CircuitBreaker::new("x", breaker, clock.clone()).expect("valid");
    let guard = Arc::new(Guard::new(breaker, 1));
    let policy = Policy { guard: Some(guard.clone()), ..Policy::default() };
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    for _ in 0..9 {
        desk.work();
        clock.advance(ms(100));
    }
    assert_eq!(desk.numbers().len(), 9);
    assert_eq!(bus.books().total.delivered, 1);
    assert_eq!(guard.breaker().state(), crate::resilience::breaker::State::Closed);
}

#[test]
fn a_fallback_and_who_asks_do_not_wait() {
    let (bus, _clock) = bus();
    let desk = Desk::with(10, |_| Outcome::Refused(60_000));
    *desk.fallback.lock() = Some(Ok(()));
    let policy = Policy { fallback: true, ..Policy::default() };
    bus.subscribe("a", Options { policy, ..options("x") }, desk.clone()).expect("valid");
    let responder = Options { role: Role::Responder, ..options("responder") };
    bus.subscribe("ask", responder, desk.clone()).expect("valid");
    let inside = Arc::new(Inside(desk.clone()));
    bus.subscribe("b", options("inline"), inside).expect("valid");
    publish(&bus, "a", 0);
    publish(&bus, "b", 1);
    let mut asked = bus.request(draft("ask", 2), ms(1000)).expect("somebody answers");
    desk.work();
    assert!(now(&mut asked.reply).expect("at once").is_err());
    assert_eq!(bus.books().total.in_flight, 0);
    assert_eq!(bus.dead_letters().len(), 1, "what was handled inside `publish`");
    assert_balanced(&bus);
}

#[test]
fn it_is_told_once_that_events_wait_and_once_that_they_are_handled_again() {
    let (bus, clock) = bus();
    let watcher = Desk::new();
    bus.subscribe("system.*", options("watcher"), watcher.clone()).expect("valid");
    bus.subscribe("system.error.*", options("watcher"), watcher.clone()).expect("valid");
    let (open, script) = breaker();
    let desk = Desk::with(3, script);
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    let told = || {
        watcher.work();
        watcher.calls.lock().len()
    };
    for round in 0..2 {
        *open.lock() = Some(1000);
        for n in 0..5 {
            publish(&bus, "a", n);
        }
        for _ in 0..3 {
            desk.work();
            clock.advance(ms(1000));
        }
        assert_eq!(told(), round * 2 + 1);
        *open.lock() = None;
        desk.work();
        assert_eq!(told(), round * 2 + 2);
    }
}

#[test]
fn what_waits_ends_with_its_subscription() {
    let (bus, clock) = bus();
    let (_, script) = breaker();
    let desk = Desk::with(3, script);
    let options = Options { group: Some("g".into()), competing: true, ..options("x") };
    let first = bus.subscribe("a", options.clone(), desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    publish(&bus, "a", 1);
    desk.work();
    let heir = Desk::new();
    let second = bus.subscribe("a", options, heir.clone()).expect("valid");
    assert_eq!(first.cancel(), 0, "the other one has them");
    heir.work();
    assert_eq!(heir.numbers(), [0, 1]);
    assert_eq!(first.tally().in_flight, 0);
    clock.advance(ms(2000));
    assert_eq!(second.tally().delivered, 2);
    assert_balanced(&bus);
}

#[test]
fn where_there_is_no_room_the_oldest_that_wait_go_first() {
    let (bus, clock) = bus();
    let (open, script) = breaker();
    let desk = Desk::with(3, script);
    let options = Options { capacity: 3, overflow: Overflow::DropOldest, ..options("x") };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..5 {
        publish(&bus, "a", n);
        desk.work();
    }
    assert_eq!((subscription.depth(), subscription.tally().dropped), (3, 2));
    *open.lock() = None;
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers()[5..], [2, 3, 4]);
    assert_balanced(&bus);
}

#[test]
fn where_events_conflate_the_newest_waits() {
    let (bus, clock) = bus();
    let (open, script) = breaker();
    let desk = Desk::with(3, script);
    let options = Options { overflow: Overflow::Latest, ..options("x") };
    let subscription = bus.subscribe("*", options, desk.clone()).expect("valid");
    for n in 0..6 {
        publish(&bus, ["a", "b"][n % 2], n as i64);
        desk.work();
    }
    let tally = subscription.tally();
    assert_eq!((subscription.depth(), tally.conflated), (3, 3));
    *open.lock() = None;
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers()[..2], [0, 0], "what was begun stands for itself");
    let mut rest = desk.numbers()[2..].to_vec();
    rest.sort_unstable();
    assert_eq!(rest, [4, 5]);
    assert_balanced(&bus);
}

#[test]
fn where_events_conflate_nobody_else_tries_a_breaker_beside_the_only_probe() {
    let (bus, clock) = bus();
    let desk = Desk::with(3, |_| Outcome::Refused(1000));
    let options = Options { overflow: Overflow::Latest, concurrency: 4, ..options("x") };
    let subscription = bus.subscribe("*", options, desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    desk.work();
    desk.script(|_| Outcome::Hold);
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers(), [0, 0], "the probe, which is under way");
    for n in 1..5 {
        publish(&bus, "b", n);
        desk.work();
    }
    assert_eq!(desk.numbers(), [0, 0], "what is new waits for what becomes of it");
    assert_eq!((subscription.depth(), subscription.tally().conflated), (1, 3));
    desk.script(|_| Outcome::Done);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [0, 0, 4], "and comes when it has succeeded");
    assert_balanced(&bus);
}

#[test]
fn where_events_conflate_a_probe_comes_before_what_was_put_back() {
    let (bus, clock) = bus();
    let desk = Desk::with(1, |_| Outcome::Refused(1000));
    let options = Options { overflow: Overflow::Latest, concurrency: 2, ..options("x") };
    let subscription = bus.subscribe("*", options, desk.clone()).expect("valid");
    publish(&bus, "b", 1);
    publish(&bus, "c", 2);
    let mut batch = VecDeque::new();
    assert!(subscription.claim(2, &mut batch), "somebody else has these");
    publish(&bus, "a", 0);
    desk.work();
    assert_eq!(desk.numbers(), [0]);
    clock.advance(ms(1000));
    batch.pop_front();
    subscription.put_back(1, batch.drain(..));
    subscription.release();
    desk.script(|_| Outcome::Done);
    desk.work();
    assert_eq!(desk.numbers(), [0, 0, 2]);
    assert_balanced(&bus);
}

#[test]
fn who_hears_that_it_waits_and_waits_with_that_too_comes_to_an_end() {
    let (bus, clock) = bus();
    let desk = Desk::with(1, |_| Outcome::Refused(1000));
    let options = Options { capacity: 1, overflow: Overflow::DropOldest, ..options("x") };
    bus.subscribe("#", options, desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    desk.work();
    assert_eq!(desk.calls.lock().len(), 2, "the event, and what it was dropped for");
    desk.script(|_| Outcome::Done);
    clock.advance(ms(1000));
    desk.work();
    assert_balanced(&bus);
}
