//! Requests, replies and commands.

use super::*;

fn responder(bus: &Bus, name: &str) -> (Arc<Desk>, Arc<Subscription>) {
    let desk = Desk::with(100, |_| Outcome::Hold);
    let options = Options { role: Role::Responder, ..options(name) };
    let subscription = bus.subscribe("ask", options, desk.clone()).expect("valid");
    (desk, subscription)
}

fn ask(bus: &Bus, n: i64) -> Requested {
    bus.request(draft("ask", n), ms(1000)).expect("has a responder")
}

fn held(desk: &Desk) -> Arc<Event> {
    desk.held.lock()[0].1.event.clone()
}

#[test]
fn a_reply_reaches_its_request() {
    let (bus, clock) = bus();
    let (desk, _) = responder(&bus, "x");
    let mut requested = ask(&bus, 1);
    desk.work();
    let event = held(&desk);
    assert_eq!(event.deadline(), Some(clock.unix_ms() + 1000));
    assert!(now(&mut requested.reply).is_none());
    assert_eq!(bus.books().pending_requests, 1);
    bus.answer(&event, Ok(payload(42)));
    let reply = now(&mut requested.reply).expect("settled").expect("a reply");
    assert_eq!(reply, payload(42));
    desk.release();
    assert_eq!(bus.books().pending_requests, 0);
    drop(requested);
    clock.advance(ms(1000));
    assert_eq!(clock.pending(), 0, "its time limit is gone");
    assert_eq!(bus.books().late_replies, 0);
    assert_balanced(&bus);
}

#[test]
fn the_first_answer_counts_and_the_second_is_late() {
    let (bus, _) = bus();
    let (desk, _) = responder(&bus, "x");
    let mut requested = ask(&bus, 1);
    desk.work();
    bus.answer(&held(&desk), Ok(payload(1)));
    bus.answer(&held(&desk), Ok(payload(2)));
    assert_eq!(now(&mut requested.reply).expect("settled").expect("a reply"), payload(1));
    assert_eq!(bus.books().late_replies, 1);
}

#[test]
fn time_runs_out_exactly_then() {
    let (bus, clock) = bus();
    let (desk, _) = responder(&bus, "x");
    let mut requested = ask(&bus, 1);
    desk.work();
    clock.advance(ms(999));
    assert!(now(&mut requested.reply).is_none());
    clock.advance(ms(1));
    let error = now(&mut requested.reply).expect("settled").expect_err("no reply");
    assert_eq!(error.kind(), Kind::RequestTimeout);
    bus.answer(&held(&desk), Ok(payload(1)));
    assert_eq!(bus.books().late_replies, 1);
    desk.release();
    assert_balanced(&bus);
}

#[test]
fn a_failure_is_a_fault_and_no_dead_letter() {
    let (bus, _) = bus();
    let (desk, _) = responder(&bus, "x");
    desk.script(|_| Outcome::Fail(Category::Transient));
    let mut requested = ask(&bus, 1);
    desk.work();
    let error = now(&mut requested.reply).expect("settled").expect_err("a fault");
    assert_eq!((error.kind(), error.category()), (Kind::RequestFault, Category::Transient));
    assert_eq!(error.get("error_type"), Some("Scripted"));
    assert!(bus.dead_letters().is_empty());
    assert_eq!(desk.calls.lock().len(), 1);
    assert_balanced(&bus);
}

#[test]
fn giving_up_leaves_nothing() {
    let (bus, clock) = bus();
    let (_desk, _) = responder(&bus, "x");
    (1..100).for_each(|n| drop(ask(&bus, n)));
    assert_eq!(bus.books().pending_requests, 0);
    assert_eq!(clock.pending(), 1, "one timer for all of them");
    clock.advance(ms(1000));
    assert_eq!(clock.pending(), 0);
}

#[test]
fn a_reply_to_whom_has_given_up_is_late() {
    let (bus, _) = bus();
    let (desk, _) = responder(&bus, "x");
    drop(ask(&bus, 1));
    desk.work();
    bus.answer(&held(&desk), Ok(payload(1)));
    assert_eq!(bus.books().late_replies, 1);
}

#[test]
fn responders_take_turns() {
    let (bus, _) = bus();
    let desks: Vec<_> = ["x", "y", "z"].iter().map(|name| responder(&bus, name).0).collect();
    let requests: Vec<_> = (0..9).map(|n| ask(&bus, n)).collect();
    for desk in &desks {
        desk.script(|_| Outcome::Done);
        desk.work();
        assert_eq!(desk.numbers().len(), 3);
    }
    drop(requests);
}

#[test]
fn nobody_to_ask() {
    let (bus, _) = bus();
    let kind = |result: Result<Requested>| result.expect_err("nobody").kind();
    assert_eq!(kind(bus.request(draft("ask", 1), ms(1))), Kind::NoResponder);
    assert_eq!(kind(bus.request(draft("ask.*", 1), ms(1))), Kind::Topic);
    let (_, subscription) = responder(&bus, "x");
    subscription.cancel();
    assert_eq!(kind(bus.request(draft("ask", 1), ms(1))), Kind::NoResponder);
    assert_eq!(bus.books().pending_requests, 0);
}

#[test]
fn the_end_of_a_responder_is_an_answer() {
    let (bus, _) = bus();
    let (desk, subscription) = responder(&bus, "x");
    let mut begun = ask(&bus, 1);
    desk.work();
    let mut waiting = ask(&bus, 2);
    subscription.cancel();
    let error = now(&mut waiting.reply).expect("settled").expect_err("a fault");
    assert_eq!(error.kind(), Kind::RequestFault);
    assert!(now(&mut begun.reply).is_none());
    bus.answer(&held(&desk), Ok(payload(1)));
    assert!(now(&mut begun.reply).expect("settled").is_ok());
    desk.release();
    assert_balanced(&bus);
}

#[test]
fn the_end_of_the_bus_is_an_answer() {
    let (bus, _) = bus();
    let (desk, _) = responder(&bus, "x");
    let mut begun = ask(&bus, 1);
    desk.work();
    bus.close_now();
    let error = now(&mut begun.reply).expect("settled").expect_err("closed");
    assert_eq!(error.kind(), Kind::Closed);
}

#[test]
fn a_command_has_one_handler() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let command = || Options { role: Role::CommandHandler, ..options("x") };
    assert_eq!(bus.send(draft("do", 1)).expect_err("nobody").kind(), Kind::NoHandler);
    let first = bus.subscribe("do", command(), desk.clone()).expect("the first");
    let error = bus.subscribe("do", command(), desk.clone()).expect_err("the second");
    assert_eq!((error.kind(), error.get("handler")), (Kind::DuplicateHandler, Some("x")));
    let responder = Options { role: Role::Responder, ..options("y") };
    assert!(bus.subscribe("do", responder, desk.clone()).is_err());
    assert!(bus.subscribe("do.*", command(), desk.clone()).is_err());
    let sent = bus.send(draft("do", 1)).expect("handled");
    assert!(sent.admission.is_none());
    publish(&bus, "do", 2); // an event of the same name is no command
    desk.work();
    assert_eq!(desk.numbers(), [1]);
    first.cancel();
    assert_eq!(bus.send(draft("do", 1)).expect_err("nobody").kind(), Kind::NoHandler);
    bus.subscribe("do", command(), desk).expect("the place is free again");
    assert_balanced(&bus);
}

/// The responder may be quicker than the one who asks.
#[test]
fn an_answer_that_comes_before_the_wait_is_kept() {
    let (bus, clock) = bus();
    let (desk, _) = responder(&bus, "x");
    let meanwhile = || {
        desk.work();
        bus.answer(&held(&desk), Ok(payload(1)));
        bus.answer(&held(&desk), Ok(payload(2)));
        true
    };
    let asked = bus.request_meanwhile(draft("ask", 1), ms(1000), meanwhile);
    let mut requested = asked.expect("has a responder");
    assert_eq!(bus.books().pending_requests, 0);
    assert_eq!(bus.books().late_replies, 1);
    assert_eq!(clock.pending(), 0, "nothing to wait for");
    assert_eq!(now(&mut requested.reply).expect("settled").expect("a reply"), payload(1));
    let refused = bus.request_meanwhile(draft("ask", 2), ms(1000), || {
        bus.close_now();
        true
    });
    let error = now(&mut refused.expect("asked").reply).expect("settled").expect_err("closed");
    assert_eq!(error.kind(), Kind::Closed);
}

/// The bus ends what nobody has answered, and counts no reply of its own making.
#[test]
fn the_end_of_the_bus_is_no_late_reply() {
    let (bus, _) = bus();
    let (_desk, _) = responder(&bus, "x");
    let mut asked: Vec<_> = (1..=5).map(|n| ask(&bus, n)).collect();
    bus.close_now();
    for request in &mut asked {
        let error = now(&mut request.reply).expect("settled").expect_err("closed");
        assert_eq!(error.kind(), Kind::Closed);
    }
    assert_eq!(bus.books().late_replies, 0);
    assert_eq!(bus.books().pending_requests, 0);
}

/// Whoever asked comes to see it only later.
#[test]
fn what_ran_out_of_time_before_the_end_did_so() {
    let (bus, clock) = bus();
    let (desk, _) = responder(&bus, "x");
    let mut one = ask(&bus, 1);
    let (other, _) = responder(&bus, "y");
    let wanted = Wanted::new(2, Some(1)).expect("valid");
    let many = bus.request_many(draft("ask", 2), ms(1_000), wanted).expect("two responders");
    desk.work();
    other.work();
    bus.answer(&many.event, Ok(payload(7)));
    clock.advance(ms(60_000));
    bus.close_now();
    let error = now(&mut one.reply).expect("settled").expect_err("too late");
    assert_eq!(error.kind(), Kind::RequestTimeout);
    let mut replies = many.replies;
    assert_eq!(now(&mut replies).expect("settled").expect("a quorum"), [payload(7)]);
}
