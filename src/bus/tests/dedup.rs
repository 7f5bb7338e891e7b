//! Ids seen lately: what is published twice is delivered once.

use super::*;
use crate::event::Id;

fn remembering(window: u64, size: usize) -> (Bus, Clock) {
    let clock = Clock::simulated(1_700_000_000_000);
    let dedup = Some(DedupSettings { window: ms(window), size });
    (Bus::new(BusSettings { dedup, ..BusSettings::default() }, clock.clone()), clock)
}

fn put(bus: &Bus, n: i64, id: &str) -> Result<Published> {
    bus.publish(Draft { id: Some(Id::parse(id)), ..draft("a", n) })
}

#[test]
fn within_the_window_and_among_the_newest() {
    let (bus, clock) = remembering(1000, 2);
    let desk = Desk::new();
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    for (n, id, after, duplicate) in [
        (1, "x", 0, false),
        (2, "x", 999, true),
        (3, "x", 1, false), // the window counts from the first, not from the duplicate
        (4, "y", 0, false),
        (5, "x", 0, true),
        (6, "z", 0, false), // the third id: the oldest is forgotten
        (7, "x", 0, false),
        (8, "z", 0, true),
    ] {
        clock.advance(ms(after));
        assert_eq!(put(&bus, n, id).expect("valid").duplicate, duplicate, "{n}");
    }
    desk.work();
    assert_eq!(desk.numbers(), [1, 3, 4, 6, 7]);
    let books = bus.books();
    assert_eq!((books.events, books.duplicates, books.total.published), (5, 3, 5));
    assert_balanced(&bus);
}

#[test]
fn an_id_that_the_bus_made_is_remembered_too() {
    let (bus, _) = remembering(1000, 10);
    let first = publish(&bus, "a", 1);
    assert!(put(&bus, 1, &first.id.to_string()).expect("valid").duplicate);
}

#[test]
fn without_being_asked_a_bus_remembers_nothing() {
    let (bus, _) = bus();
    assert!(!put(&bus, 1, "x").expect("valid").duplicate);
    assert!(!put(&bus, 1, "x").expect("valid").duplicate);
    assert_eq!(bus.books().duplicates, 0);
}

#[test]
fn what_did_not_get_everywhere_may_be_tried_again() {
    for overflow in [Overflow::Fail, Overflow::Block] {
        let (bus, _) = remembering(1000, 10);
        let desk = Desk::new();
        let options = Options { capacity: 1, overflow, ..options("x") };
        bus.subscribe("a", options, desk.clone()).expect("valid");
        assert!(put(&bus, 1, "x").is_ok());
        match put(&bus, 2, "y") {
            Err(error) => assert_eq!(error.kind(), Kind::MailboxFull),
            Ok(published) => drop(published), // its publisher does not wait
        }
        desk.work();
        assert!(!put(&bus, 2, "y").expect("valid").duplicate);
        desk.work();
        assert_eq!(desk.numbers(), [1, 2]);
        assert_balanced(&bus);
    }
}

#[test]
fn what_waited_for_room_and_got_it_is_remembered() {
    let (bus, _) = remembering(1000, 10);
    let desk = Desk::new();
    let options = Options { capacity: 1, ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    assert!(put(&bus, 1, "x").is_ok());
    let waiting = put(&bus, 2, "y").expect("valid");
    desk.work();
    assert!(waiting.admission.as_ref().is_some_and(Admission::is_complete));
    drop(waiting);
    assert!(put(&bus, 2, "y").expect("valid").duplicate);
}

#[test]
fn commands_requests_and_what_is_published_later() {
    let (bus, clock) = remembering(10_000, 10);
    let desk = Desk::new();
    let with = |event_type, id| Draft { id: Some(Id::parse(id)), ..draft(event_type, 1) };
    for (name, role) in [("do", Role::CommandHandler), ("ask", Role::Responder)] {
        bus.subscribe(name, Options { role, ..options(name) }, desk.clone()).expect("valid");
    }
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    assert!(!bus.send(with("do", "1")).expect("valid").duplicate);
    assert!(bus.send(with("do", "1")).expect("valid").duplicate);
    let first = bus.request(with("ask", "2"), ms(1000)).expect("valid");
    let error = bus.request(with("ask", "2"), ms(100)).expect_err("a duplicate");
    assert_eq!(error.kind(), Kind::Permanent);
    assert_eq!(bus.books().pending_requests, 1);
    drop(first);
    assert!(!bus.publish_later(with("a", "3"), ms(100)).expect("valid").duplicate);
    assert!(bus.publish_later(with("a", "3"), ms(100)).expect("valid").duplicate);
    clock.advance(ms(100));
    desk.work();
    assert_eq!(bus.books().total.delivered, 3);
    assert_balanced(&bus);
}
