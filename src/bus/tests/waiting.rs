//! Consumers without a handler, and subscriptions for one event.

use super::*;

fn next(stream: &Stream) -> Poll<Option<Arc<Event>>> {
    stream.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn n_of(polled: Poll<Option<Arc<Event>>>) -> Option<i64> {
    match polled {
        Poll::Ready(Some(event)) => match event.payload.root().get("n") {
            Some(Node::Int(n)) => Some(n),
            _ => None,
        },
        _ => None,
    }
}

fn publish(bus: &Bus, topic: &str, n: i64) {
    drop(bus.publish(draft(topic, n)).expect("open"));
}

#[test]
fn a_waiter_is_resolved_and_gone_as_its_event_is_published() {
    let (bus, clock) = bus();
    let mut awaited = bus.wait_for("a.*", options("w"), Some(ms(100))).expect("valid");
    assert!(now(&mut awaited).is_none());
    publish(&bus, "b", 0);
    publish(&bus, "a.b", 1);
    assert!(bus.subscriptions().is_empty());
    publish(&bus, "a.b", 2);
    clock.advance(ms(200));
    let event = now(&mut awaited).expect("settled").expect("an event");
    assert_eq!(n_of(Poll::Ready(Some(event))), Some(1));
    drop(awaited);
    assert_eq!(clock.pending(), 0, "its timer is gone");
    assert_balanced(&bus);
}

#[test]
fn a_waiter_ends_with_its_time_its_bus_and_itself() {
    let (bus, clock) = bus();
    let mut late = bus.wait_for("a", options("w"), Some(ms(100))).expect("valid");
    clock.advance(ms(100));
    let error = now(&mut late).expect("settled").expect_err("none came");
    assert_eq!((error.kind(), error.get("pattern")), (Kind::Timeout, Some("a")));
    assert!(bus.subscriptions().is_empty());
    let dropped = bus.wait_for("a", options("w"), Some(ms(100))).expect("valid");
    drop(dropped);
    assert!(bus.subscriptions().is_empty());
    assert_eq!(clock.pending(), 0);
    let mut ended = bus.wait_for("a", options("w"), None).expect("valid");
    bus.close_now();
    assert_eq!(now(&mut ended).expect("settled").expect_err("closed").kind(), Kind::Closed);
}

#[test]
fn a_waiter_waits_on_past_what_has_expired() {
    let (bus, clock) = bus();
    let mut awaited = bus.wait_for("a", options("w"), None).expect("valid");
    let expired = Draft { deadline: Some(clock.unix_ms()), ..draft("a", 1) };
    drop(bus.publish(expired).expect("open"));
    assert!(now(&mut awaited).is_none());
    publish(&bus, "a", 2);
    let event = now(&mut awaited).expect("settled").expect("an event");
    assert_eq!(n_of(Poll::Ready(Some(event))), Some(2));
    assert_eq!(bus.books().total.expired, 1);
    assert_balanced(&bus);
}

#[test]
fn a_stream_settles_as_it_goes_on() {
    let (bus, _) = bus();
    let stream = bus.stream("a", options("s")).expect("valid");
    for n in 0..3 {
        publish(&bus, "a", n);
    }
    for n in 0..3 {
        assert_eq!(n_of(next(&stream)), Some(n));
        assert_eq!(stream.subscription().tally().delivered, n as u64);
        assert_balanced(&bus);
    }
    assert!(next(&stream).is_pending());
    assert_eq!(stream.subscription().tally().delivered, 3);
    publish(&bus, "a", 3);
    assert_eq!(n_of(next(&stream)), Some(3));
    drop(stream);
    assert!(bus.subscriptions().is_empty());
    assert_eq!((bus.books().total.delivered, bus.books().total.dropped), (4, 0));
    assert_balanced(&bus);
}

#[test]
fn a_stream_that_failed_drops_the_event_at_hand() {
    let (bus, _) = bus();
    let stream = bus.stream("a", options("s")).expect("valid");
    publish(&bus, "a", 0);
    publish(&bus, "a", 1);
    assert_eq!(n_of(next(&stream)), Some(0));
    stream.close(true);
    stream.close(false);
    assert!(matches!(next(&stream), Poll::Ready(None)));
    assert_eq!((bus.books().total.delivered, bus.books().total.dropped), (0, 2));
    assert_balanced(&bus);
}

#[test]
fn urgent_events_overtake_what_a_stream_has_not_read() {
    let (bus, _) = bus();
    let stream = bus.stream("a", options("s")).expect("valid");
    publish(&bus, "a", 0);
    publish(&bus, "a", 1);
    assert_eq!(n_of(next(&stream)), Some(0));
    drop(bus.publish(Draft { priority: Priority::Critical, ..draft("a", 9) }).expect("open"));
    assert_eq!(n_of(next(&stream)), Some(9));
    assert_eq!(n_of(next(&stream)), Some(1));
}

#[test]
fn a_stream_makes_room_one_by_one() {
    let (bus, _) = bus();
    let stream = bus.stream("a", Options { capacity: 1, ..options("s") }).expect("valid");
    publish(&bus, "a", 0);
    let mut waiting = bus.publish(draft("a", 1)).expect("open").admission.expect("full");
    assert!(now(&mut waiting).is_none());
    assert_eq!(n_of(next(&stream)), Some(0));
    assert!(now(&mut waiting).expect("room").is_ok());
    assert_eq!(n_of(next(&stream)), Some(1));
    drop(waiting);
}

#[test]
fn once_takes_one_event_and_its_retries() {
    let (bus, clock) = bus();
    let desk = Desk::with(100, |call| match call.attempt {
        1 => Outcome::Fail(Category::Transient),
        _ => Outcome::Done,
    });
    let options = Options { policy: retrying(3), ..options("once") };
    let subscription = bus.subscribe_once("a", options, desk.clone()).expect("valid");
    for n in 0..3 {
        publish(&bus, "a", n);
    }
    assert!(bus.subscriptions().is_empty());
    assert_eq!(subscription.status(), "active", "its event is still to be handled");
    desk.work();
    clock.advance(ms(1000));
    desk.work();
    let calls: Vec<_> = desk.calls.lock().iter().map(|call| (call.n, call.attempt)).collect();
    assert_eq!(calls, [(0, 1), (0, 2)]);
    assert_eq!(subscription.status(), "cancelled");
    let total = bus.books().total;
    assert_eq!((total.published, total.delivered), (1, 1));
    assert_balanced(&bus);
}
