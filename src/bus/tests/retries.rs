//! After a failure: another attempt, a fallback, a dead letter; and what waits for it.

use super::*;

const TRANSIENT: Outcome = Outcome::Fail(Category::Transient);

#[test]
fn attempts_follow_the_schedule() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |_| TRANSIENT);
    let options = Options { policy: retrying(3), ..options("x") };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    desk.work();
    for (wait, attempts) in [(99, 1), (1, 2), (199, 2), (1, 3)] {
        clock.advance(ms(wait));
        desk.work();
        assert_eq!(desk.numbers().len(), attempts, "after {wait} ms more");
        assert_balanced(&bus);
    }
    let letters = bus.dead_letters().list();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].attempts, &*letters[0].reason), (3, "attempts"));
    assert_eq!(letters[0].timestamp, 1_700_000_000_300);
    assert_eq!(subscription.tally().dead_lettered, 1);
    assert_eq!(clock.pending(), 0);
}

#[test]
fn what_no_attempt_can_cure_gets_none() {
    for (category, reason) in [
        (Category::Permanent, "not_retryable"),
        (Category::Internal, "not_retryable"),
        (Category::Configuration, "not_retryable"),
    ] {
        let (bus, _) = bus();
        let desk = Desk::with(100, move |_| Outcome::Fail(category));
        let options = Options { policy: retrying(3), ..options("x") };
        bus.subscribe("a", options, desk.clone()).expect("valid");
        publish(&bus, "a", 1);
        desk.work();
        let letters = bus.dead_letters().list();
        assert_eq!((letters[0].attempts, &*letters[0].reason), (1, reason));
    }
}

#[test]
fn no_attempt_begins_that_would_come_too_late() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |_| TRANSIENT);
    let options = Options { policy: retrying(3), ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    let deadline = Some(clock.unix_ms() + 50);
    let _ = bus.publish(Draft { deadline, ..draft("a", 1) }).expect("valid");
    desk.work();
    assert_eq!(bus.dead_letters().list()[0].reason, "deadline");
}

#[test]
fn retries_come_back_in_the_order_in_which_they_fell_due_and_before_what_is_new() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |call| match call.attempt {
        1 if call.n <= 3 => TRANSIENT,
        _ => Outcome::Done,
    });
    let options = Options { policy: retrying(2), ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 1..=3 {
        publish(&bus, "a", n);
    }
    desk.work();
    for n in 4..=5 {
        publish(&bus, "a", n);
    }
    clock.advance(ms(100)); // all three are due, nobody has come for them
    desk.work();
    assert_eq!(desk.numbers(), [1, 2, 3, 1, 2, 3, 4, 5]);
    assert_balanced(&bus);
}

#[test]
fn a_retry_steps_out_of_the_way_of_others() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |call| match call {
        Call { n: 0, attempt: 1, .. } => TRANSIENT,
        _ => Outcome::Done,
    });
    let options = Options { policy: retrying(3), ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..4 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2, 3]);
    clock.advance(ms(100));
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2, 3, 0]);
}

#[test]
fn a_retry_holds_back_its_own_key_and_no_other() {
    for batch in [1, 100] {
        let (bus, clock) = bus();
        let desk = Desk::with(batch, |call| match call {
            Call { n: 0, attempt: 1 | 2, .. } => TRANSIENT,
            _ => Outcome::Done,
        });
        let options = Options { policy: retrying(3), ..options("x") };
        let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
        let keyed = |n: i64, key: &str| {
            let draft = Draft { key: Some(Arc::from(key)), ..draft("a", n) };
            let _ = bus.publish(draft).expect("valid");
        };
        for n in 0..6 {
            keyed(n, if n % 2 == 0 { "even" } else { "odd" });
        }
        desk.work();
        assert_eq!(desk.numbers(), [0, 1, 3, 5]);
        keyed(6, "even");
        keyed(7, "odd");
        desk.work();
        assert_eq!(desk.numbers(), [0, 1, 3, 5, 7]);
        assert_eq!(subscription.tally().in_flight, 4);
        assert_balanced(&bus);
        clock.advance(ms(100));
        desk.work();
        assert_eq!(desk.numbers(), [0, 1, 3, 5, 7, 0]);
        clock.advance(ms(200));
        desk.work();
        assert_eq!(desk.numbers(), [0, 1, 3, 5, 7, 0, 0, 2, 4, 6]);
        assert_eq!(subscription.tally().delivered, 8);
    }
}

#[test]
fn a_dead_letter_lets_its_key_go_on() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |call| if call.n == 0 { TRANSIENT } else { Outcome::Done });
    let options = Options { policy: retrying(2), ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..3 {
        let _ = bus.publish(Draft { key: Some(Arc::from("k")), ..draft("a", n) }).expect("valid");
    }
    desk.work();
    assert_eq!(desk.numbers(), [0]);
    clock.advance(ms(100));
    desk.work();
    assert_eq!(desk.numbers(), [0, 0, 1, 2]);
}

#[test]
fn a_fallback_has_the_last_word() {
    for (result, delivered) in [(Ok(()), 1), (Err(Category::Permanent), 0)] {
        let (bus, clock) = bus();
        let desk = Desk::with(100, |_| TRANSIENT);
        *desk.fallback.lock() = Some(result);
        let policy = Policy { fallback: true, ..retrying(2) };
        let options = Options { policy, ..options("x") };
        let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
        publish(&bus, "a", 1);
        desk.work();
        assert_eq!(subscription.tally().in_flight, 1);
        clock.advance(ms(100));
        desk.work();
        assert_eq!(subscription.tally().delivered, delivered);
        let letters = bus.dead_letters().list();
        assert_eq!(letters.len() as u64, 1 - delivered);
        if let Some(letter) = letters.first() {
            assert_eq!(
                (&*letter.reason, letter.failure.category),
                ("fallback_failed", Category::Transient)
            );
        }
        assert_balanced(&bus);
    }
}

#[test]
fn every_failed_attempt_is_reported_once() {
    let (bus, clock) = bus();
    let errors = Desk::new();
    let watcher = Options { policy: retrying(3), ..options("watcher") };
    bus.subscribe("system.error.*", watcher, errors.clone()).expect("valid");
    let desk = Desk::with(100, |_| TRANSIENT);
    bus.subscribe("a", Options { policy: retrying(2), ..options("x") }, desk.clone())
        .expect("valid");
    let internal = Options { internal: true, policy: retrying(2), ..options("core") };
    bus.subscribe("a", internal, desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    desk.work();
    clock.advance(ms(100));
    desk.work();
    errors.work();
    assert_eq!(errors.calls.lock().len(), 2);
    assert_eq!(bus.dead_letters().len(), 2);
}

#[test]
fn a_broken_error_handler_feeds_nobody() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |_| TRANSIENT);
    for pattern in ["system.error.#", "system.#", "a"] {
        let options = Options { policy: retrying(2), ..options(pattern) };
        bus.subscribe(pattern, options, desk.clone()).expect("valid");
    }
    publish(&bus, "a", 1);
    for _ in 0..50 {
        desk.work();
        clock.advance(ms(100));
    }
    assert_eq!(bus.books().total.in_flight, 0);
    assert!(desk.calls.lock().len() <= 10);
    assert_balanced(&bus);
}

#[test]
fn dead_letters_go_back_to_whom_they_came_from() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Fail(Category::Permanent));
    let x = bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    bus.subscribe("a", options("y"), desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    desk.work();
    assert_eq!(bus.dead_letters().len(), 2);
    desk.script(|_| Outcome::Done);
    desk.calls.lock().clear();
    assert_eq!(bus.replay_dead_letters(|letter| &*letter.subscription == "x"), 1);
    desk.work();
    assert_eq!((desk.numbers_of("x"), desk.numbers_of("y")), (vec![1], vec![]));
    assert_eq!(bus.dead_letters().len(), 1);
    assert_eq!(x.tally().published, 2);
    x.cancel();
    assert_eq!(bus.replay_dead_letters(|_| true), 1);
    assert!(bus.dead_letters().is_empty());
    assert_balanced(&bus);
}

#[test]
fn a_replay_into_a_full_mailbox_keeps_the_letter() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Fail(Category::Permanent));
    bus.subscribe("a", Options { capacity: 1, ..options("x") }, desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    desk.work();
    publish(&bus, "a", 2); // takes the room
    bus.replay_dead_letters(|_| true);
    assert_eq!(bus.dead_letters().len(), 1);
    assert_balanced(&bus);
}
