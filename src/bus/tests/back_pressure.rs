//! Full mailboxes: who waits, who is dropped, and that the books say so.

use super::*;

/// A subscription to `a` with room for two, whose handler is busy.
fn busy(bus: &Bus, name: &str, overflow: Overflow) -> (Arc<Desk>, Arc<Subscription>) {
    let desk = Desk::with(100, |call| if call.n == 0 { Outcome::Hold } else { Outcome::Done });
    let options = Options { capacity: 2, overflow, ..options(name) };
    let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
    publish(bus, "a", 0);
    desk.work();
    publish(bus, "a", 1);
    publish(bus, "a", 2);
    assert_eq!(subscription.depth(), 2);
    (desk, subscription)
}

#[test]
fn publishers_wait_in_line_and_are_admitted_in_order() {
    let (bus, _) = bus();
    let (desk, subscription) = busy(&bus, "slow", Overflow::Block);
    let mut waiting: Vec<Admission> = (3..8)
        .map(|n| bus.publish(draft("a", n)).expect("valid").admission.expect("no room"))
        .collect();
    assert!(waiting.iter_mut().all(|admission| now(admission).is_none()));
    assert_eq!(subscription.tally().in_flight, 8);
    assert_balanced(&bus);
    desk.release();
    desk.work();
    assert!(waiting.iter_mut().all(|admission| matches!(now(admission), Some(Ok(())))));
    assert_eq!(desk.numbers(), (0..8).collect::<Vec<_>>());
    assert_eq!(subscription.tally().delivered, 8);
}

#[test]
fn nobody_slips_past_the_line() {
    let (bus, _) = bus();
    let (desk, subscription) = busy(&bus, "slow", Overflow::Block);
    let waiting = bus.publish(draft("a", 3)).expect("valid");
    drop(subscription); // the bus holds it
    let late = bus.publish(draft("a", 4)).expect("valid");
    assert!(late.admission.is_some());
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2, 3, 4]);
    drop((waiting, late));
    assert_eq!(bus.books().total.dropped, 0);
}

#[test]
fn mailboxes_with_room_are_filled_first() {
    let (bus, _) = bus();
    let (desk, _) = busy(&bus, "slow", Overflow::Block);
    let other = Desk::new();
    bus.subscribe("a", options("quick"), other.clone()).expect("valid");
    let published = bus.publish(draft("a", 3)).expect("valid");
    other.work();
    assert_eq!(other.numbers(), [3]);
    let admission = published.admission.expect("no room in one");
    let names: Vec<_> = admission.waiting_for().map(|s| s.name().to_owned()).collect();
    assert_eq!(names, ["slow"]);
    let error = admission.give_up().expect_err("no room");
    assert_eq!(error.kind(), Kind::MailboxFull);
    assert!(error.message().contains("slow (2 queued)"), "{error}");
    assert_eq!(bus.books().total.dropped, 1);
    desk.release();
    assert_balanced(&bus);
}

#[test]
fn who_has_found_room_meanwhile_loses_nothing_by_not_waiting() {
    let (bus, _) = bus();
    let (desk, subscription) = busy(&bus, "slow", Overflow::Block);
    let admission = bus.publish(draft("a", 3)).expect("valid").admission.expect("no room");
    desk.release();
    assert!(admission.give_up().is_ok(), "nobody is to be named");
    desk.work();
    assert_eq!((desk.numbers().len(), subscription.tally().dropped), (4, 0));
    assert_balanced(&bus);
}

#[test]
fn who_does_not_wait_hears_of_a_mailbox_that_has_ended() {
    let (bus, _) = bus();
    let (_, subscription) = busy(&bus, "slow", Overflow::Block);
    let admission = bus.publish(draft("a", 3)).expect("valid").admission.expect("no room");
    subscription.cancel();
    let error = admission.give_up().expect_err("it is taken nowhere");
    assert_eq!(error.kind(), Kind::Closed);
    assert!(error.message().starts_with("slow ended"), "{error}");
    assert_balanced(&bus);
}

#[test]
fn giving_up_the_place_books_the_loss_there() {
    let (bus, _) = bus();
    let (desk, subscription) = busy(&bus, "slow", Overflow::Block);
    let first = bus.publish(draft("a", 3)).expect("valid");
    let second = bus.publish(draft("a", 4)).expect("valid");
    drop(first);
    assert_eq!(subscription.tally().dropped, 1);
    assert_balanced(&bus);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2, 4]);
    drop(second);
    assert_eq!(subscription.tally().dropped, 1);
    assert_balanced(&bus);
}

#[test]
fn an_admission_ends_with_its_subscription() {
    let (bus, _) = bus();
    let (_, subscription) = busy(&bus, "slow", Overflow::Block);
    let mut admission = bus.publish(draft("a", 3)).expect("valid").admission.expect("no room");
    assert!(now(&mut admission).is_none());
    subscription.cancel();
    let error = now(&mut admission).expect("settled").expect_err("refused");
    assert_eq!(error.kind(), Kind::Closed);
    assert!(error.message().contains("slow"));
    assert_balanced(&bus);
}

#[test]
fn dropping_policies_drop_what_they_say() {
    for (overflow, kept) in [(Overflow::DropOldest, [5, 6]), (Overflow::DropNewest, [1, 2])] {
        let (bus, _) = bus();
        let (desk, subscription) = busy(&bus, "slow", overflow);
        for n in 3..7 {
            publish(&bus, "a", n);
        }
        assert_eq!(subscription.tally().dropped, 4);
        desk.release();
        desk.work();
        assert_eq!(desk.numbers()[1..], kept);
        assert_balanced(&bus);
    }
}

#[test]
fn the_oldest_of_the_least_urgent_goes_first() {
    let (bus, _) = bus();
    let (desk, _) = busy(&bus, "slow", Overflow::DropOldest);
    let high = |n| Draft { priority: Priority::High, ..draft("a", n) };
    for n in 3..5 {
        let _ = bus.publish(high(n)).expect("valid");
    }
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [0, 3, 4]);
}

#[test]
fn failing_is_an_error_that_names_all_and_books_all() {
    let (bus, _) = bus();
    let (_, failing) = busy(&bus, "failing", Overflow::Fail);
    let blocking = Options { capacity: 1, ..options("blocking") };
    let blocking = bus.subscribe("a", blocking, Desk::new()).expect("valid");
    let error = bus.publish(draft("a", 3)).expect_err("no room");
    assert_eq!(error.kind(), Kind::MailboxFull);
    assert_eq!(blocking.tally().in_flight, 1);
    let error = bus.publish(draft("a", 4)).expect_err("no room");
    assert!(error.message().contains("failing") && error.message().contains("blocking"));
    assert_eq!((failing.tally().dropped, blocking.tally().dropped), (2, 1));
    assert_balanced(&bus);
}

#[test]
fn events_past_their_deadline_are_not_handled() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    let at = |after| Some(clock.unix_ms() + after);
    for (n, deadline) in [(1, at(10)), (2, None), (3, at(100)), (4, at(10))] {
        let _ = bus.publish(Draft { deadline, ..draft("a", n) }).expect("valid");
    }
    clock.advance(ms(10));
    desk.work();
    assert_eq!(desk.numbers(), [2, 3]);
    assert_eq!(bus.books().total.expired, 2);
    assert_balanced(&bus);
}

#[test]
fn expired_events_make_room_too() {
    let (bus, clock) = bus();
    let (desk, _) = busy(&bus, "slow", Overflow::Block);
    let deadline = Some(clock.unix_ms() + 10);
    let waiting = Draft { deadline, ..draft("a", 3) };
    let mut expired = bus.publish(waiting).expect("valid").admission.expect("no room");
    let mut last = bus.publish(draft("a", 4)).expect("valid").admission.expect("no room");
    clock.advance(ms(20));
    desk.release();
    desk.work();
    assert!(matches!(now(&mut expired), Some(Ok(()))));
    assert!(matches!(now(&mut last), Some(Ok(()))));
    assert_eq!(desk.numbers(), [0, 1, 2, 4]);
    assert_eq!(bus.books().total.expired, 1);
}
