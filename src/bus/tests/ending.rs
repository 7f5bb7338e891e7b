//! How subscriptions and buses end, and what becomes of what they still had.

use super::*;

#[test]
fn cancelling_drops_what_waited_and_lets_the_running_end() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    let subscription = bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    for n in 0..5 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!(subscription.cancel(), 4);
    assert_eq!(subscription.cancel(), 0);
    assert_eq!(subscription.status(), "cancelled");
    publish(&bus, "a", 5);
    assert_eq!(bus.books().total.in_flight, 1);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [0]);
    let total = bus.books().total;
    assert_eq!((total.published, total.delivered, total.dropped), (5, 1, 4));
    assert_balanced(&bus);
}

#[test]
fn a_subscription_that_is_over_is_let_go() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let subscription = bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    publish(&bus, "a", 1);
    desk.work();
    subscription.cancel();
    assert_eq!(Arc::strong_count(&subscription), 1);
    assert_eq!(bus.books().total.delivered, 1, "its books are kept");
}

/// Looks whether the books are open while it is dropped, as a handler does that has a stream.
#[derive(Debug)]
struct Caller(Bus, Arc<Mutex<Vec<bool>>>);

impl Executor for Caller {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn describe(&self) -> &'static str {
        "caller"
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.1.lock().push(!self.0.0.ended.is_locked());
    }
}

#[test]
fn who_is_let_go_may_come_back_for_the_books() {
    type Look = fn(&Bus);
    let looks: [Look; 5] = [
        |bus| drop(bus.books()),
        |bus| drop(bus.all_books()),
        |bus| drop(bus.series()),
        |bus| assert_eq!(bus.tally_of("mine").published, 1),
        |bus| {
            bus.subscribe("b", options("y"), Desk::new()).expect("valid").cancel();
        },
    ];
    for look in looks {
        let ((bus, _), open) = (bus(), Arc::default());
        let caller = Arc::new(Caller(bus.clone(), Arc::clone(&open)));
        let options = Options { component: Some(Arc::from("mine")), ..options("x") };
        let subscription = bus.subscribe("a", options, caller).expect("valid");
        publish(&bus, "a", 1);
        let mut batch = VecDeque::new();
        assert!(subscription.claim(1, &mut batch));
        subscription.cancel();
        batch.clear();
        assert!(!subscription.next(1, 1, &mut batch));
        drop(subscription);
        assert!(open.lock().is_empty(), "nobody has looked yet");
        look(&bus);
        assert_eq!(*open.lock(), [true]);
        assert_balanced(&bus);
    }
}

#[test]
fn names_that_come_and_go_take_no_room_of_components() {
    let (bus, _) = bus();
    for n in 0..1_100 {
        bus.subscribe("a", options(&format!("once_{n}")), Desk::new()).expect("valid").cancel();
    }
    let own = Options { component: Some(Arc::from("mine")), ..options("x") };
    let _own = bus.subscribe("a", own, Desk::new()).expect("valid");
    let _late = bus.subscribe("a", options("late"), Desk::new()).expect("valid");
    publish(&bus, "a", 1);
    let series = bus.series();
    assert_eq!(series.len(), 1_002);
    let last = series[1_000..].iter().map(|one| (one.component.as_str(), one.name.as_str()));
    assert_eq!(last.collect::<Vec<_>>(), [("other", "other"), ("mine", "x")]);
    assert!(series[1_000..].iter().all(|one| one.figures.tally.published == 1));
}

#[test]
fn a_retry_that_comes_due_after_the_end_is_dropped() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |_| Outcome::Fail(Category::Transient));
    let options = Options { policy: retrying(3), ..options("x") };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..3 {
        let _ = bus.publish(Draft { key: Some(Arc::from("k")), ..draft("a", n) }).expect("valid");
    }
    desk.work();
    assert_eq!(subscription.cancel(), 2);
    assert_balanced(&bus);
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers(), [0]);
    assert_eq!(bus.books().total.dropped, 3);
    assert_balanced(&bus);
}

#[test]
fn an_orphan_keeps_everything_it_had() {
    let (bus, clock) = bus();
    let watcher = Desk::new();
    bus.subscribe("system.subscription_orphaned", options("watcher"), watcher.clone())
        .expect("valid");
    let desk = Desk::with(100, |call| match call.n {
        0 => Outcome::Fail(Category::Transient),
        _ => Outcome::Hold,
    });
    let options = Options { policy: retrying(3), ..options("x") };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..4 {
        publish(&bus, "a", n);
    }
    desk.work(); // one waits for its retry, one runs, two wait
    subscription.orphan();
    subscription.orphan();
    assert_eq!(subscription.status(), "orphaned");
    assert_eq!(bus.dead_letters().len(), 2);
    assert_balanced(&bus);
    clock.advance(ms(100));
    assert_eq!(bus.dead_letters().len(), 3);
    let (_, running) = desk.held.lock().remove(0);
    subscription.put_back(0, std::iter::once(running));
    subscription.release();
    let mut kept: Vec<i64> = bus.dead_letters().list().iter().map(|l| number(&l.event)).collect();
    kept.sort_unstable();
    assert_eq!(kept, [0, 1, 2, 3]);
    assert!(bus.dead_letters().list().iter().all(|letter| letter.reason == "orphaned"));
    watcher.work();
    assert_eq!(watcher.calls.lock().len(), 1);
    assert_eq!(bus.books().total.dead_lettered, 4);
    subscription.cancel();
    assert_balanced(&bus);
}

#[test]
fn closing_waits_for_what_is_in_flight() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |call| if call.n == 0 { Outcome::Hold } else { Outcome::Done });
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    publish(&bus, "a", 1);
    desk.work();
    let mut closing = Box::pin(bus.close(ms(1000)));
    assert!(now(&mut closing).is_none());
    assert_eq!(bus.publish(draft("a", 2)).expect_err("closed").kind(), Kind::Closed);
    assert_eq!(
        bus.subscribe("a", options("y"), Desk::new()).expect_err("closed").kind(),
        Kind::Closed
    );
    desk.release();
    assert_eq!(now(&mut closing), Some(vec![]));
    assert_eq!(bus.books().total.delivered, 2);
    assert!(bus.subscriptions().is_empty());
}

#[test]
fn closing_waits_no_longer_than_its_grace() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    bus.subscribe("b", options("idle"), desk.clone()).expect("valid");
    publish(&bus, "a", 0);
    publish(&bus, "a", 1);
    desk.work();
    let mut closing = Box::pin(bus.close(ms(1000)));
    assert!(now(&mut closing).is_none());
    clock.advance(ms(999));
    assert!(now(&mut closing).is_none());
    clock.advance(ms(1));
    assert_eq!(now(&mut closing), Some(vec![("x".to_owned(), 2)]));
    desk.release();
    assert_balanced(&bus);
}

#[test]
fn drained_means_all_at_once() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |call| if call.n == 0 { Outcome::Hold } else { Outcome::Done });
    let late = Desk::new();
    bus.subscribe("late", options("late"), late.clone()).expect("valid");
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    let mut idle = Box::pin(bus.drained());
    assert!(now(&mut idle).is_some());
    publish(&bus, "a", 0);
    desk.work();
    let mut draining = Box::pin(bus.drained());
    assert!(now(&mut draining).is_none());
    // The handler publishes to one that was seen idle, and ends.
    publish(&bus, "late", 1);
    desk.release();
    assert!(now(&mut draining).is_none());
    late.work();
    assert!(now(&mut draining).is_some());
}

#[test]
fn a_held_subscription_keeps_its_events_for_later() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let subscription = bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    subscription.hold(true);
    publish(&bus, "a", 0);
    desk.work();
    assert!(desk.numbers().is_empty());
    subscription.hold(false);
    desk.work();
    assert_eq!(desk.numbers(), [0]);
    publish(&bus, "a", 1);
    subscription.retire();
    publish(&bus, "a", 2);
    desk.work();
    assert_eq!(desk.numbers(), [0, 1]);
    assert_eq!(subscription.cancel(), 0);
    assert_balanced(&bus);
}
