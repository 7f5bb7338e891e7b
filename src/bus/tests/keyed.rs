//! Several handlers at a time: one after the other for each key, side by side across keys.

use super::*;

fn keyed(concurrency: usize) -> Options {
    Options { concurrency, ..options("x") }
}

/// Publishes `n` under `key`.
fn put(bus: &Bus, n: i64, key: Option<&str>) {
    let draft = Draft { key: key.map(Arc::from), ..draft("a", n) };
    assert!(bus.publish(draft).expect("valid").admission.is_none());
}

#[test]
fn one_key_one_at_a_time_and_keys_side_by_side() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    bus.subscribe("a", keyed(3), desk.clone()).expect("valid");
    for (n, key) in [(1, "x"), (2, "x"), (3, "y"), (4, "x"), (5, "y")] {
        put(&bus, n, Some(key));
    }
    desk.work();
    assert_eq!(desk.numbers(), [1, 3]);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [1, 3, 2, 5]);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [1, 3, 2, 5, 4]);
    desk.release();
    assert_eq!(bus.books().total.delivered, 5);
    assert_balanced(&bus);
}

#[test]
fn without_a_key_there_is_nothing_to_wait_for() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    bus.subscribe("a", keyed(3), desk.clone()).expect("valid");
    (0..4).for_each(|n| put(&bus, n, None));
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2]);
}

#[test]
fn the_key_is_where_the_path_says() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    let path = KeyPath::parse("payload.n").expect("valid");
    bus.subscribe("a", Options { key: Some(path), ..keyed(4) }, desk.clone()).expect("valid");
    for n in [1, 1, 2, 2] {
        put(&bus, n, Some("the same"));
    }
    desk.work();
    assert_eq!(desk.numbers(), [1, 2]);
}

#[test]
fn a_waiting_retry_keeps_the_turn_of_its_key_alone() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |call| match (call.n, call.attempt) {
        (1, 1) => Outcome::Fail(Category::Transient),
        _ => Outcome::Done,
    });
    bus.subscribe("a", Options { policy: retrying(2), ..keyed(2) }, desk.clone()).expect("valid");
    for (n, key) in [(1, "x"), (2, "x"), (3, "y"), (4, "x")] {
        put(&bus, n, Some(key));
    }
    desk.work();
    assert_eq!(desk.numbers(), [1, 3]);
    clock.advance(ms(100));
    desk.work();
    assert_eq!(desk.numbers(), [1, 3, 1, 2, 4]);
    assert_balanced(&bus);
}

#[test]
fn every_way_to_end_passes_the_turn_on() {
    // By dead letter, by fallback, by a fallback that fails, and past the deadline.
    for way in 0..4 {
        let (bus, clock) = bus();
        let desk = Desk::with(100, move |call| match call.n {
            1 if way < 3 => Outcome::Fail(Category::Permanent),
            _ => Outcome::Done,
        });
        *desk.fallback.lock() = Some(if way == 2 { Err(Category::Permanent) } else { Ok(()) });
        let policy = Policy { fallback: way == 1 || way == 2, ..Policy::default() };
        bus.subscribe("a", Options { policy, ..keyed(2) }, desk.clone()).expect("valid");
        let deadline = (way == 3).then(|| clock.unix_ms() + 10);
        let key = Some(Arc::from("x"));
        let _ = bus.publish(Draft { key, deadline, ..draft("a", 1) }).expect("valid");
        put(&bus, 2, Some("x"));
        clock.advance(ms(10));
        desk.work();
        assert_eq!(desk.numbers().last(), Some(&2), "way {way}");
        assert_eq!(bus.books().total.in_flight, 0);
        assert_balanced(&bus);
    }
}

#[test]
fn what_is_put_back_keeps_its_turn() {
    let (bus, _) = bus();
    // One that waits hands back the rest of its batch, which another one takes.
    let desk = Desk::with(100, |call| if call.n == 1 { Outcome::Hold } else { Outcome::Done });
    bus.subscribe("a", keyed(2), desk.clone()).expect("valid");
    for (n, key) in [(1, "x"), (2, "y"), (3, "y"), (4, "z"), (5, "x")] {
        put(&bus, n, Some(key));
    }
    desk.work();
    assert_eq!(desk.numbers(), [1, 2, 4, 3]);
    desk.release();
    assert_eq!(desk.numbers(), [1, 2, 4, 3, 5]);
    assert_balanced(&bus);
}

#[test]
fn whoever_waits_for_a_turn_counts_against_the_capacity() {
    for (overflow, kept) in
        [(Overflow::DropOldest, vec![1, 4, 5]), (Overflow::DropNewest, vec![1, 2, 3])]
    {
        let (bus, _) = bus();
        let desk = Desk::with(100, |_| Outcome::Hold);
        let options = Options { capacity: 2, overflow, ..keyed(3) };
        let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
        put(&bus, 1, Some("x"));
        desk.work();
        (2..=5).for_each(|n| put(&bus, n, Some("x")));
        assert_eq!((subscription.depth(), subscription.tally().dropped), (2, 2));
        for _ in 0..5 {
            desk.release();
            desk.work();
        }
        assert_eq!(desk.numbers(), kept);
        assert_balanced(&bus);
    }
}

#[test]
fn its_end_takes_along_what_waits_for_a_turn() {
    for orphan in [false, true] {
        let (bus, _) = bus();
        let desk = Desk::with(100, |_| Outcome::Hold);
        let subscription = bus.subscribe("a", keyed(2), desk.clone()).expect("valid");
        (1..=3).for_each(|n| put(&bus, n, Some("x")));
        desk.work();
        if orphan {
            subscription.orphan();
            assert_eq!(bus.dead_letters().len(), 2);
        } else {
            assert_eq!(subscription.cancel(), 2);
        }
        desk.release();
        assert_eq!(desk.numbers(), [1]);
        assert_eq!(bus.books().total.in_flight, 0);
        assert_balanced(&bus);
    }
}

#[test]
fn an_urgent_event_overtakes_others_of_its_key() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    bus.subscribe("a", keyed(2), desk.clone()).expect("valid");
    (1..=3).for_each(|n| put(&bus, n, Some("x")));
    let urgent = Draft { priority: Priority::High, key: Some(Arc::from("x")), ..draft("a", 4) };
    let _ = bus.publish(urgent).expect("valid");
    for _ in 0..4 {
        desk.work();
        desk.release();
    }
    assert_eq!(desk.numbers(), [1, 4, 2, 3]);
}
