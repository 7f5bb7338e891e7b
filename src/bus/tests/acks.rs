//! When a delivery counts as done, and what its failure means.

use super::*;

fn with(ack: Ack) -> Options {
    let manual = (ack == Ack::Manual).then(Arc::<Manual>::default);
    Options { ack, manual, ..options("x") }
}

#[test]
fn a_failure_is_forgiven_rejected_or_tried_again() {
    for (ack, fallback, delivered, reason) in [
        (Ack::First, None, 1, None),
        (Ack::Always, None, 1, None),
        (Ack::RejectOnError, None, 0, Some("rejected")),
        (Ack::NackOnError, None, 0, Some("no_retry")),
        (Ack::Always, Some(Err(Category::Permanent)), 1, None),
        (Ack::RejectOnError, Some(Ok(())), 1, None),
        (Ack::RejectOnError, Some(Err(Category::Permanent)), 0, Some("fallback_failed")),
    ] {
        let (bus, _) = bus();
        let desk = Desk::with(100, |_| Outcome::Fail(Category::Transient));
        *desk.fallback.lock() = fallback;
        let policy = Policy { fallback: fallback.is_some(), ..Policy::default() };
        let errors = Desk::new();
        bus.subscribe("system.error.#", options("errors"), errors.clone()).expect("valid");
        let subscription =
            bus.subscribe("a", Options { policy, ..with(ack) }, desk.clone()).expect("valid");
        publish(&bus, "a", 1);
        desk.work();
        errors.work();
        assert_eq!(subscription.tally().delivered, delivered, "{ack:?} {fallback:?}");
        let letters = bus.dead_letters().list();
        assert_eq!(letters.first().map(|letter| &*letter.reason), reason);
        assert!(!errors.calls.lock().is_empty(), "every failure is told of");
        assert_balanced(&bus);
    }
}

#[test]
fn settled_first_it_counts_while_it_runs_and_draining_waits_for_it() {
    let (bus, _) = bus();
    let desk = Desk::with(1, |_| Outcome::Hold);
    let subscription = bus.subscribe("a", with(Ack::First), desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    publish(&bus, "a", 2);
    desk.work();
    let tally = subscription.tally();
    assert_eq!((tally.delivered, tally.in_flight), (1, 1));
    desk.release();
    assert_eq!(subscription.tally().in_flight, 0);
    let mut draining = Box::pin(bus.drained());
    assert!(now(&mut draining).is_none(), "the second one runs");
    let (_, second) = desk.held.lock().pop().expect("is running");
    assert!(subscription.interrupted(second).is_none(), "it does not come back");
    subscription.release();
    assert!(now(&mut draining).is_some());
    assert_eq!(subscription.tally().delivered, 2);
    assert_balanced(&bus);
}

/// A subscription that decides by hand, and its undecided deliveries in order.
fn by_hand(
    bus: &Bus,
    options: Options,
) -> (Arc<Subscription>, impl FnMut() -> Vec<Undecided> + use<>) {
    let desk = Desk::new();
    let subscription = bus.subscribe("a", options, desk).expect("valid");
    let (reader, manual) = (subscription.clone(), subscription.options().manual.clone());
    let manual = manual.expect("decides by hand");
    let read = move || {
        let mut batch = VecDeque::new();
        let mut opened = Vec::new();
        if reader.claim(100, &mut batch) {
            loop {
                opened.extend(batch.drain(..).map(|delivery| manual.open(&delivery)));
                if !reader.next(0, 100, &mut batch) {
                    break;
                }
            }
        }
        opened
    };
    (subscription, read)
}

#[test]
fn decisions_are_taken_once() {
    let (bus, clock) = bus();
    let options = Options { policy: retrying(2), ..with(Ack::Manual) };
    let (subscription, mut read) = by_hand(&bus, options);
    (0..4).for_each(|n| drop(publish(&bus, "a", n)));
    let mut opened = read();
    assert_eq!(subscription.tally().in_flight, 4);
    opened[0].ack().expect("the first time");
    opened[1].nack().expect("the first time");
    opened[2].reject(Some("no such order")).expect("the first time");
    for decided in &opened[..3] {
        for again in [decided.ack(), decided.nack(), decided.reject(None)] {
            assert_eq!(again.expect_err("the second time").kind(), Kind::Lifecycle);
        }
    }
    drop(opened.pop()); // thrown away undecided
    drop(opened);
    let tally = subscription.tally();
    assert_eq!((tally.delivered, tally.dead_lettered, tally.in_flight), (1, 1, 2));
    clock.advance(ms(100));
    drop(read()); // the last attempt of both
    let letters = bus.dead_letters().list();
    let found: Vec<_> =
        letters.iter().map(|l| (&*l.reason, l.failure.error_type.as_str())).collect();
    assert_eq!(
        found,
        [("rejected", "Rejected"), ("attempts", "Undecided"), ("attempts", "Undecided")]
    );
    assert_eq!(letters[0].failure.message, "no such order");
    assert_eq!(subscription.tally().in_flight, 0);
    assert_balanced(&bus);
}

#[test]
fn an_exception_decides_where_nobody_has() {
    let (bus, _) = bus();
    let (subscription, _) = by_hand(&bus, with(Ack::Manual));
    let manual = subscription.options().manual.clone().expect("is manual");
    for decided in [false, true] {
        publish(&bus, "a", 1);
        let mut batch = VecDeque::new();
        assert!(subscription.claim(1, &mut batch));
        let delivery = batch.pop_front().expect("one");
        let undecided = manual.open(&delivery);
        if decided {
            undecided.ack().expect("the first time");
        }
        assert!(!subscription.failed(delivery, failure(Category::Transient)));
        assert!(undecided.ack().is_err());
        subscription.release();
        assert_balanced(&bus);
    }
    let tally = subscription.tally();
    assert_eq!((tally.delivered, tally.dead_lettered, tally.in_flight), (1, 1, 0));
}

#[test]
fn what_is_undecided_is_bounded_and_keeps_the_turn_of_its_key() {
    let (bus, _) = bus();
    let options = Options { capacity: 2, concurrency: 2, ..with(Ack::Manual) };
    let (subscription, mut read) = by_hand(&bus, options);
    for (n, key) in [(0, "x"), (1, "x")] {
        let draft = Draft { key: Some(Arc::from(key)), ..draft("a", n) };
        let _ = bus.publish(draft).expect("valid");
    }
    let first = read();
    assert_eq!(first.len(), 1, "the second one has the same key");
    (2..3).for_each(|n| drop(publish(&bus, "a", n)));
    let second = read();
    assert_eq!(second.len(), 1);
    publish(&bus, "a", 3);
    assert!(read().is_empty(), "two are undecided");
    assert!(!subscription.mailbox().wake(), "and nobody is called to look for more");
    first[0].ack().expect("the first time");
    let third = read();
    assert_eq!(third.len(), 1);
    for undecided in second.iter().chain(&third) {
        undecided.ack().expect("the first time");
    }
    read().iter().for_each(|last| last.ack().expect("the first time"));
    assert_eq!(subscription.tally().delivered, 4);
    assert_balanced(&bus);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let (bus, _) = bus();
    let retry = |ack| Options { policy: retrying(2), ..with(ack) };
    let fallback = Policy { fallback: true, ..Policy::default() };
    for (options, says) in [
        (retry(Ack::First), "retry="),
        (retry(Ack::Always), "retry="),
        (retry(Ack::RejectOnError), "retry="),
        (Options { policy: fallback, ..with(Ack::Manual) }, "fallback="),
        (Options { role: Role::Responder, ..with(Ack::First) }, "responder"),
        (Options { group: Some(Arc::from("")), ..options("x") }, "a group has a name"),
    ] {
        let error = bus.subscribe("a", options, Desk::new()).expect_err(says);
        assert!(error.message().contains(says), "{error}");
    }
}
