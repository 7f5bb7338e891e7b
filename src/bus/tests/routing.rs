//! Who gets what, and in which order.

use super::*;
use crate::filter::{Filter, Literal};

#[test]
fn every_match_gets_it_once() {
    let (bus, _) = bus();
    let desk = Desk::new();
    for pattern in ["a.b", "a.*", "a.#", "#", "a", "a.b.*", "b.#"] {
        bus.subscribe(pattern, options(pattern), desk.clone()).expect("valid");
    }
    publish(&bus, "a.b", 1);
    desk.work();
    let handlers: Vec<String> = desk.calls.lock().iter().map(|call| call.handler.clone()).collect();
    assert_eq!(handlers, ["a.b", "a.*", "a.#", "#"]); // in the order of subscription
    assert_eq!(bus.books().total.delivered, 4);
    assert_eq!(bus.books().events, 1);
}

#[test]
fn a_route_is_looked_up_anew_after_every_change() {
    let (bus, _) = bus();
    let desk = Desk::new();
    publish(&bus, "a.b", 0);
    assert!(!bus.has_subscribers("a.b"));
    let first = bus.subscribe("a.*", options("first"), desk.clone()).expect("valid");
    publish(&bus, "a.b", 1);
    let _second = bus.subscribe("a.b", options("second"), desk.clone()).expect("valid");
    publish(&bus, "a.b", 2);
    desk.work();
    first.cancel();
    publish(&bus, "a.b", 3);
    desk.work();
    assert_eq!(desk.numbers_of("first"), [1, 2]);
    assert_eq!(desk.numbers_of("second"), [2, 3]);
}

#[test]
fn what_is_excluded_or_filtered_never_arrives() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let exclude = vec![Pattern::parse("a.b").expect("valid")];
    bus.subscribe("a.*", Options { exclude, ..options("others") }, desk.clone()).expect("valid");
    let filter = Filter::default().and_equals("payload.n", Literal::Int(2)).expect("valid");
    let filter = Some(filter);
    bus.subscribe("a.*", Options { filter, ..options("two") }, desk.clone()).expect("valid");
    for n in 1..4 {
        publish(&bus, "a.b", n);
        publish(&bus, "a.c", n);
    }
    desk.work();
    assert_eq!(desk.numbers_of("others"), [1, 2, 3]);
    assert_eq!(desk.numbers_of("two"), [2, 2]);
    assert_eq!(bus.books().total.filtered, 4);
    assert_balanced(&bus);
    let explained = bus.explain("a.b", false).expect("valid");
    assert_eq!(explained.receivers.len(), 1);
    assert!(explained.others[0].1.contains("excludes"));
}

#[test]
fn malformed_topics_are_refused_and_counted_nowhere() {
    let (bus, _) = bus();
    for topic in ["", "a..b", "a.*", "#", "a b"] {
        let error = bus.publish(draft(topic, 1)).expect_err(topic);
        assert_eq!(error.kind(), Kind::Topic);
    }
    assert_eq!(bus.books().events, 0);
}

#[test]
fn no_capacity_and_no_concurrency_are_refused() {
    let (bus, _) = bus();
    for options in
        [Options { capacity: 0, ..options("x") }, Options { concurrency: 0, ..options("x") }]
    {
        let error = bus.subscribe("a", options, Desk::new()).expect_err("refused");
        assert_eq!(error.kind(), Kind::Configuration);
    }
}

#[test]
fn order_is_kept_whatever_the_batch() {
    for batch in [1, 2, 7, 100] {
        let (bus, _) = bus();
        let desk = Desk::with(batch, |_| Outcome::Done);
        bus.subscribe("a", options("x"), desk.clone()).expect("valid");
        for n in 0..50 {
            publish(&bus, "a", n);
        }
        desk.work();
        assert_eq!(desk.numbers(), (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn a_burst_costs_one_wake_up() {
    let (bus, _) = bus();
    let desk = Desk::new();
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    for n in 0..50 {
        publish(&bus, "a", n);
    }
    assert_eq!(desk.ready.lock().len(), 1);
}

#[test]
fn urgent_events_come_first_and_none_starves() {
    let (bus, _) = bus();
    let desk = Desk::with(1, |_| Outcome::Done);
    bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    for (index, priority) in Priority::BY_URGENCY.into_iter().rev().enumerate() {
        for n in 0..30 {
            let n = 100 * index as i64 + n;
            let _ = bus.publish(Draft { priority, ..draft("a", n) }).expect("valid");
        }
    }
    desk.work();
    let lanes: Vec<i64> = desk.numbers().iter().map(|n| n / 100).collect();
    assert!(lanes[..8].iter().all(|lane| *lane == 3), "the most urgent first");
    for start in (0..45).step_by(15) {
        let round = &lanes[start..start + 15];
        let share = |lane| round.iter().filter(|other| **other == lane).count();
        assert_eq!([share(3), share(2), share(1), share(0)], [8, 4, 2, 1]);
    }
    for lane in 0..4 {
        let mine: Vec<i64> = desk.numbers().into_iter().filter(|n| n / 100 == lane).collect();
        assert!(mine.is_sorted());
        assert_eq!(mine.len(), 30);
    }
}

#[test]
fn concurrency_lets_others_work_while_one_waits() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    let options = Options { concurrency: 3, ..options("x") };
    bus.subscribe("a", options, desk.clone()).expect("valid");
    for n in 0..5 {
        publish(&bus, "a", n);
    }
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2]);
    desk.release();
    desk.work();
    assert_eq!(desk.numbers(), [0, 1, 2, 3, 4]);
    desk.release();
    assert_eq!(bus.books().total.delivered, 5);
}

#[test]
fn lineage_is_the_parents() {
    let (bus, _) = bus();
    let root = publish(&bus, "a", 1);
    assert_eq!(*root.correlation_id(), root.id);
    let child = Draft { parent: Some(&root), deadline: None, ..draft("b", 2) };
    let child = bus.publish(child).expect("valid").event;
    assert_eq!(*child.correlation_id(), root.id);
    assert_eq!(child.causation_id(), Some(&root.id));
    let with_deadline =
        bus.publish(Draft { deadline: Some(500), ..draft("a", 1) }).expect("valid").event;
    let later = Draft { parent: Some(&with_deadline), deadline: Some(900), ..draft("b", 2) };
    assert_eq!(bus.publish(later).expect("valid").event.deadline(), Some(500));
    let sooner = Draft { parent: Some(&with_deadline), deadline: Some(100), ..draft("b", 2) };
    assert_eq!(bus.publish(sooner).expect("valid").event.deadline(), Some(100));
}
