//! Later, and again and again.

use super::*;

#[test]
fn delayed_events_come_in_the_order_of_their_time() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    for (n, delay) in [(1, 300), (2, 100), (3, 200), (4, 100)] {
        let _ = bus.publish_later(draft("a", n), ms(delay)).expect("valid");
    }
    assert_eq!(bus.books().events, 0);
    clock.advance(ms(99));
    desk.work();
    assert!(desk.numbers().is_empty());
    clock.advance(ms(500));
    desk.work();
    assert_eq!(desk.numbers(), [2, 4, 3, 1]);
}

#[test]
fn a_delayed_event_is_checked_at_once_and_lost_aloud() {
    let (bus, clock) = bus();
    assert!(bus.publish_later(draft("a.*", 1), ms(1)).is_err());
    let options = Options { capacity: 1, ..options("x") };
    let subscription = bus.subscribe("a", options, Desk::new()).expect("valid");
    publish(&bus, "a", 0);
    let _ = bus.publish_later(draft("a", 1), ms(1)).expect("valid");
    clock.advance(ms(1));
    assert_eq!(subscription.tally().dropped, 1);
    assert_balanced(&bus);
    let _ = bus.publish_later(draft("a", 2), ms(1)).expect("valid");
    bus.close_now();
    clock.advance(ms(1));
    assert_balanced(&bus);
}

#[test]
fn a_period_does_not_drift_and_ends_when_told() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    let periodic = bus.every(ms(100), draft("a", 1)).expect("valid");
    clock.advance(ms(1050));
    desk.work();
    assert_eq!(desk.numbers().len(), 10);
    clock.advance(ms(50));
    desk.work();
    assert_eq!(desk.numbers().len(), 11);
    periodic.cancel();
    clock.advance(ms(1000));
    desk.work();
    assert_eq!(desk.numbers().len(), 11);
    drop(periodic);
    assert_eq!(clock.pending(), 0);
    assert!(bus.every(Duration::ZERO, draft("a", 1)).is_err());
    assert!(bus.every(ms(1), draft("a.*", 1)).is_err());
}

#[test]
fn a_periodic_publish_does_not_keep_its_bus() {
    let (bus, clock) = bus();
    let weak = bus.downgrade();
    let _periodic = bus.every(ms(100), draft("a", 1)).expect("valid");
    let _ = bus.publish_later(draft("a", 1), ms(50)).expect("valid");
    drop(bus);
    assert!(weak.upgrade().is_none());
    clock.advance(ms(1000));
    assert_eq!(clock.pending(), 0);
}
