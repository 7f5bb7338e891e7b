use std::cell::Cell;

use futures_util::FutureExt;

use super::*;

fn event(n: u64) -> Arc<Event> {
    let json = format!(
        r#"{{"event_id": "evt_{n}", "event_type": "a.b", "timestamp": 1, "payload": {n}}}"#
    );
    Arc::new(Event::from_json(&json).expect("an event"))
}

fn outbox(most: usize, full: Full) -> Outbox<()> {
    Outbox::new(Bounds { most, full, ..Bounds::default() }, Clock::real())
}

fn put(outbox: &Outbox<()>, lane: &str, n: u64) -> Result<(Receipt, bool)> {
    let opened = Cell::new(false);
    let receipt = outbox.put_in_lane(event(n), (), lane.into(), || opened.set(true))?;
    Ok((receipt, opened.get()))
}

fn lane(name: &str) -> Lane {
    Lane::named(name.into())
}

fn next(outbox: &Outbox<()>, name: &str) -> Vec<Item<()>> {
    outbox.next(&lane(name), 100).now_or_never().unwrap_or_default()
}

fn ids(items: &[Item<()>]) -> String {
    items.iter().map(|item| item.event.id.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_lane_has_its_own_order_and_opens_once() {
    let outbox = outbox(10, Full::Block);
    let opened: Vec<bool> = [("a", 1), ("b", 2), ("a", 3)]
        .map(|(lane, n)| put(&outbox, lane, n).expect("room").1)
        .into();
    assert_eq!(opened, [true, true, false]);
    let first = next(&outbox, "a");
    assert_eq!((ids(&first).as_str(), outbox.len()), ("evt_1 evt_3", 3));
    put(&outbox, "a", 4).expect("room").0.now_or_never();
    outbox.put_back(&lane("a"), first);
    assert_eq!(ids(&next(&outbox, "a")), "evt_1 evt_3 evt_4");
    assert_eq!(ids(&next(&outbox, "b")), "evt_2");
    assert!(next(&outbox, "c").is_empty());
    outbox.settled(4);
    assert!(outbox.is_empty());
}

#[test]
fn a_lane_with_something_in_it_or_in_line_does_not_end() {
    let outbox = outbox(1, Full::Block);
    let (_first, _) = put(&outbox, "a", 1).expect("room");
    let (in_line, opened) = put(&outbox, "b", 2).expect("it waits");
    assert!(opened && in_line.waits_for_room());
    assert!(!outbox.end_lane(&lane("a")) && !outbox.end_lane(&lane("b")));
    assert_eq!(next(&outbox, "a").len(), 1);
    outbox.settled(1); // there is room, for what waits in another lane
    assert!(!in_line.waits_for_room());
    assert_eq!(ids(&next(&outbox, "b")), "evt_2");
    outbox.settled(1);
    assert!(outbox.end_lane(&lane("a")) && outbox.end_lane(&lane("b")));
    assert!(put(&outbox, "a", 3).expect("room").1, "it is opened again");
    assert!(!outbox.end_lane(&Lane::MAIN));
}

#[test]
fn the_bounds_are_those_of_all_lanes() {
    let full = outbox(2, Full::Fail);
    let _kept = [put(&full, "a", 1).expect("room"), put(&full, "b", 2).expect("room")];
    assert_eq!(put(&full, "c", 3).expect_err("no room").kind(), Kind::MailboxFull);
    next(&full, "a");
    full.settled(1);
    assert!(put(&full, "c", 4).expect("room").1, "what found no room opened nothing");

    let oldest = outbox(2, Full::DropOldest);
    let (first, _) = put(&oldest, "a", 1).expect("room");
    let _others = [put(&oldest, "b", 2), put(&oldest, "b", 3)];
    let dropped = first.now_or_never().expect("it was told").expect_err("dropped");
    assert_eq!(dropped.kind(), Kind::MailboxFull);
    assert!(next(&oldest, "a").is_empty());
    assert_eq!(ids(&next(&oldest, "b")), "evt_2 evt_3");
}

#[test]
fn what_one_lane_cannot_send_is_refused_there_and_nowhere_else() {
    let outbox = outbox(2, Full::Block);
    let (a, _) = put(&outbox, "a", 1).expect("room");
    let (b, _) = put(&outbox, "b", 2).expect("room");
    let (line, _) = put(&outbox, "a", 3).expect("it waits");
    outbox.refuse(&lane("a"), &Error::new(Kind::Configuration, "publish", "no"));
    for refused in [a, line] {
        let error = refused.now_or_never().expect("it was told").expect_err("refused");
        assert_eq!(error.kind(), Kind::Configuration);
    }
    assert_eq!(outbox.len(), 1);
    outbox.give_up();
    assert_eq!(b.now_or_never().expect("told").expect_err("ended").kind(), Kind::Closed);
    assert!(outbox.is_empty());
}
