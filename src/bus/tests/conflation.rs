//! `latest` and `sample`: of each topic and key, the newest event is the one that counts.

use super::*;

fn latest(capacity: usize) -> Options {
    Options { capacity, overflow: Overflow::Latest, ..options("x") }
}

fn sampling(capacity: usize, interval: u64) -> Options {
    Options {
        capacity,
        overflow: Overflow::Sample,
        sample_interval: Some(ms(interval)),
        ..options("x")
    }
}

fn put(bus: &Bus, n: i64, key: Option<&str>) {
    let draft = Draft { key: key.map(Arc::from), ..draft("a", n) };
    assert!(bus.publish(draft).expect("valid").admission.is_none());
}

#[test]
fn the_newest_takes_the_place_of_the_one_that_waits() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let subscription = bus.subscribe("a", latest(10), desk.clone()).expect("valid");
    for (n, key) in [(1, Some("x")), (2, Some("y")), (3, Some("x")), (4, None), (5, None)] {
        put(&bus, n, key);
    }
    assert_eq!(subscription.depth(), 3);
    desk.work();
    assert_eq!(desk.numbers(), [3, 2, 5]);
    let tally = subscription.tally();
    assert_eq!((tally.published, tally.delivered, tally.conflated), (5, 3, 2));
    assert_balanced(&bus);
}

#[test]
fn topics_do_not_conflate_with_each_other() {
    let (bus, _) = bus();
    let desk = Desk::new();
    bus.subscribe("*", latest(10), desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    publish(&bus, "b", 2);
    publish(&bus, "a", 3);
    desk.work();
    assert_eq!(desk.numbers(), [3, 2]);
}

#[test]
fn what_is_being_handled_is_not_replaced() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    let subscription = bus.subscribe("a", latest(10), desk.clone()).expect("valid");
    put(&bus, 1, None);
    desk.work();
    (2..=4).for_each(|n| put(&bus, n, None));
    desk.release();
    assert_eq!(desk.numbers(), [1, 4]);
    desk.release();
    assert_eq!(subscription.tally().conflated, 2);
    assert_balanced(&bus);
}

#[test]
fn a_more_urgent_one_moves_to_its_lane() {
    let (bus, _) = bus();
    let desk = Desk::new();
    bus.subscribe("a", latest(10), desk.clone()).expect("valid");
    for (n, key) in [(1, "x"), (2, "y"), (3, "z")] {
        put(&bus, n, Some(key));
    }
    for (n, key, priority) in [(4, "z", Priority::High), (5, "x", Priority::Low)] {
        let draft = Draft { priority, key: Some(Arc::from(key)), ..draft("a", n) };
        let _ = bus.publish(draft).expect("valid");
    }
    desk.work();
    assert_eq!(desk.numbers(), [4, 5, 2]);
    assert_balanced(&bus);
}

#[test]
fn full_of_different_keys_the_oldest_goes() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let subscription = bus.subscribe("a", latest(2), desk.clone()).expect("valid");
    for (n, key) in [(1, "x"), (2, "y"), (3, "z"), (4, "y"), (5, "x")] {
        put(&bus, n, Some(key));
    }
    desk.work();
    assert_eq!(desk.numbers(), [3, 5]);
    let tally = subscription.tally();
    assert_eq!((tally.dropped, tally.conflated), (2, 1));
    assert_balanced(&bus);
}

#[test]
fn a_retry_is_kept_and_the_newest_follows_it() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |call| match (call.n, call.attempt) {
        (1, 1) => Outcome::Fail(Category::Transient),
        _ => Outcome::Done,
    });
    let options = Options { policy: retrying(2), ..latest(10) };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    put(&bus, 1, Some("x"));
    desk.work();
    for n in 2..=4 {
        put(&bus, n, Some("x"));
        desk.work();
    }
    assert_eq!((desk.numbers(), subscription.depth()), (vec![1], 1));
    clock.advance(ms(100));
    put(&bus, 5, Some("x"));
    desk.work();
    assert_eq!(desk.numbers(), [1, 1, 5]);
    assert_eq!(subscription.tally().conflated, 3);
    assert_balanced(&bus);
}

#[test]
fn what_is_handed_back_unseen_gives_way_to_a_newer_one() {
    for options in [latest(10), sampling(10, 1000)] {
        let (bus, _) = bus();
        let desk = Desk::new();
        let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
        put(&bus, 1, Some("x"));
        put(&bus, 2, Some("y"));
        let mut batch = VecDeque::new();
        assert!(subscription.claim(10, &mut batch));
        put(&bus, 3, Some("y"));
        put(&bus, 4, Some("y"));
        subscription.put_back(0, batch.drain(..));
        subscription.release();
        desk.work();
        assert_eq!(desk.numbers(), [1, 4]);
        assert_eq!(subscription.tally().conflated, 2);
        assert_balanced(&bus);
    }
}

#[test]
fn conflated_and_keyed_side_by_side() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    let options = Options { concurrency: 2, ..latest(10) };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    put(&bus, 1, Some("x"));
    desk.work();
    for (n, key) in [(2, "x"), (3, "y"), (4, "x"), (5, "y")] {
        put(&bus, n, Some(key));
    }
    desk.work();
    assert_eq!(desk.numbers(), [1, 5]);
    desk.release();
    assert_eq!(desk.numbers(), [1, 5, 4]);
    desk.release();
    assert_eq!(bus.books().total.conflated, 2);
    assert_balanced(&bus);
}

#[test]
fn in_each_interval_the_last_one_is_handled_and_the_first_at_once() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    let subscription = bus.subscribe("a", sampling(10, 1000), desk.clone()).expect("valid");
    for n in 0..25 {
        put(&bus, n, None); // every 100 ms
        desk.work();
        clock.advance(ms(100));
        desk.work();
    }
    assert_eq!(desk.numbers(), [0, 9, 19]);
    clock.advance(ms(500));
    desk.work();
    assert_eq!(desk.numbers(), [0, 9, 19, 24]);
    let tally = subscription.tally();
    assert_eq!((tally.delivered, tally.conflated, tally.in_flight), (4, 21, 0));
    assert_balanced(&bus);
    clock.advance(ms(1000));
    assert_eq!(clock.pending(), 0, "an idle subscription sets no timers");
    put(&bus, 30, None);
    desk.work();
    assert_eq!(desk.numbers().last(), Some(&30));
}

#[test]
fn every_key_has_an_interval_of_its_own() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    bus.subscribe("a", sampling(10, 1000), desk.clone()).expect("valid");
    for (n, key) in [(1, "x"), (2, "y"), (3, "x"), (4, "y"), (5, "x")] {
        put(&bus, n, Some(key));
        desk.work();
        clock.advance(ms(100));
    }
    assert_eq!(desk.numbers(), [1, 2]);
    clock.advance(ms(500)); // 1000 since the first
    desk.work();
    assert_eq!(desk.numbers(), [1, 2, 5]);
    clock.advance(ms(100));
    desk.work();
    assert_eq!(desk.numbers(), [1, 2, 5, 4]);
    assert_balanced(&bus);
}

#[test]
fn a_slow_handler_gets_no_two_in_one_interval() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    bus.subscribe("a", sampling(10, 1000), desk.clone()).expect("valid");
    put(&bus, 1, None);
    desk.work();
    put(&bus, 2, None);
    clock.advance(ms(5000)); // the second one's turn came, and nobody was free
    put(&bus, 3, None);
    desk.release();
    assert_eq!(desk.numbers(), [1, 3]);
    put(&bus, 4, None);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [1, 3]);
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers(), [1, 3, 4]);
    assert_balanced(&bus);
}

#[test]
fn what_waits_for_an_interval_is_bounded_and_ends_with_the_subscription() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    let subscription = bus.subscribe("a", sampling(2, 1000), desk.clone()).expect("valid");
    for round in 0..2 {
        for (n, key) in [(1, "x"), (2, "y"), (3, "z")] {
            put(&bus, n + 10 * round, Some(key));
            desk.work();
        }
    }
    // Two keys wait at most; the interval of a third one ended early.
    assert!(subscription.depth() <= 2, "{}", subscription.depth());
    assert_balanced(&bus);
    let waiting = subscription.depth();
    assert_eq!(subscription.cancel(), waiting);
    clock.advance(ms(2000));
    assert_eq!(bus.books().total.in_flight, 0);
    assert_balanced(&bus);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let (bus, _) = bus();
    for (options, says) in [
        (Options { sample_interval: None, ..sampling(1, 1) }, "needs sample_interval="),
        (sampling(1, 0), "above zero"),
        (Options { sample_interval: Some(ms(1)), ..latest(1) }, "belongs to overflow=\"sample\""),
    ] {
        let error = bus.subscribe("a", options, Desk::new()).expect_err(says);
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.message().contains(says), "{error}");
    }
}
