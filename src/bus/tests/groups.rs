//! Groups: each event goes to one member.

use super::*;

fn member(name: &str) -> Options {
    Options { group: Some(Arc::from("g")), competing: true, ..options(name) }
}

fn put(bus: &Bus, topic: &str, n: i64, key: Option<&str>) {
    let draft = Draft { key: key.map(Arc::from), ..draft(topic, n) };
    assert!(bus.publish(draft).expect("valid").admission.is_none());
}

fn join(bus: &Bus, desk: &Arc<Desk>, options: Options) -> Arc<Subscription> {
    bus.subscribe("a.#", options, desk.clone()).expect("valid")
}

#[test]
fn each_event_goes_to_one_member_and_to_everybody_else() {
    let (bus, _) = bus();
    let desk = Desk::new();
    for options in [member("x"), member("y"), options("alone")] {
        join(&bus, &desk, options);
    }
    (0..6).for_each(|n| put(&bus, "a", n, None));
    desk.work();
    assert_eq!(desk.numbers_of("x"), [0, 2, 4]);
    assert_eq!(desk.numbers_of("y"), [1, 3, 5]);
    assert_eq!(desk.numbers_of("alone"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(bus.books().total.published, 12);
    assert_balanced(&bus);
}

#[test]
fn a_key_stays_with_its_member_and_only_those_of_one_that_leaves_move() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let members: Vec<_> =
        ["x", "y", "z"].iter().map(|name| join(&bus, &desk, member(name))).collect();
    let round = |from: i64| {
        let before = desk.calls.lock().len();
        (0..30).for_each(|n| put(&bus, "a", from + n % 10, Some(&(n % 10).to_string())));
        desk.work();
        let mut found = std::collections::BTreeMap::new();
        for call in &desk.calls.lock()[before..] {
            let first = found.entry(call.n - from).or_insert_with(|| call.handler.clone()).clone();
            assert_eq!(first, call.handler, "one key, one member");
        }
        found
    };
    let before = round(0);
    assert!(before.values().collect::<std::collections::BTreeSet<_>>().len() > 1, "{before:?}");
    members[1].cancel();
    for (key, handler) in round(100) {
        if before[&key] != "y" {
            assert_eq!(before[&key], handler, "the key {key} had no reason to move");
        }
    }
    assert_balanced(&bus);
}

#[test]
fn patterns_and_filters_decide_who_may_take_it() {
    let (bus, _) = bus();
    let desk = Desk::new();
    let filter = crate::filter::Filter::parse("payload.n > 5").expect("valid");
    join(&bus, &desk, Options { filter: Some(filter), ..member("big") });
    bus.subscribe("a.b", member("some"), desk.clone()).expect("valid");
    for (topic, n) in [("a.b", 1), ("a.b", 2), ("a.c", 9), ("a.c", 3)] {
        put(&bus, topic, n, None);
    }
    desk.work();
    assert_eq!((desk.numbers_of("big"), desk.numbers_of("some")), (vec![9], vec![1, 2]));
    assert_eq!(bus.books().total.filtered, 1);
    assert_balanced(&bus);
}

#[test]
fn whoever_has_room_comes_first() {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Hold);
    let full = join(&bus, &desk, Options { capacity: 1, ..member("full") });
    let free = join(&bus, &desk, member("free"));
    (0..6).for_each(|n| put(&bus, "a", n, None));
    assert_eq!((full.depth(), free.depth()), (1, 5));
    assert_balanced(&bus);
}

#[test]
fn what_waits_at_one_that_ends_goes_to_the_others_in_order() {
    for orphan in [false, true] {
        let (bus, clock) = bus();
        let (desk, other) = (
            Desk::with(1, |call| match (call.n, call.attempt) {
                (0, 1) => Outcome::Fail(Category::Transient),
                _ => Outcome::Hold,
            }),
            Desk::new(),
        );
        let first = join(&bus, &desk, Options { policy: retrying(3), capacity: 3, ..member("x") });
        let mut admissions = Vec::new();
        for n in 0..6 {
            let published = bus.publish(draft("a", n)).expect("valid");
            admissions.extend(published.admission);
            if n < 2 {
                desk.work(); // 0 waits for its retry, 1 is being handled
            }
        }
        assert_eq!(admissions.len(), 1, "the last one stands in line");
        let heir = join(&bus, &other, Options { policy: retrying(3), ..member("y") });
        if orphan {
            first.orphan();
        } else {
            assert_eq!(first.cancel(), 0);
        }
        assert!(now(&mut admissions.remove(0)).is_some_and(|result| result.is_ok()));
        other.work();
        assert_eq!(other.numbers(), [2, 3, 4, 5]);
        clock.advance(ms(100));
        other.work();
        assert_eq!(other.calls.lock().last().map(|call| (call.n, call.attempt)), Some((0, 2)));
        assert_balanced(&bus);
        desk.release();
        assert_eq!((first.tally().published, heir.tally().delivered), (1, 5));
        assert_eq!((bus.books().total.delivered, bus.dead_letters().len()), (6, 0));
        assert_balanced(&bus);
        // The last one has nobody to leave anything to.
        publish(&bus, "a", 7);
        assert_eq!(heir.cancel(), 1);
        assert_balanced(&bus);
    }
}

#[test]
fn what_is_handed_over_gives_way_to_what_is_newer_there() {
    for interval in [None, Some(ms(1000))] {
        let (bus, _) = bus();
        let desk = Desk::new();
        let overflow = if interval.is_some() { Overflow::Sample } else { Overflow::Latest };
        let of = |name: &str| Options { overflow, sample_interval: interval, ..member(name) };
        let (first, heir) = (join(&bus, &desk, of("x")), join(&bus, &desk, of("y")));
        (0..2).for_each(|n| put(&bus, "a", n, None)); // one each
        assert_eq!((first.depth(), heir.depth()), (1, 1));
        assert_eq!(first.cancel(), 0);
        desk.work();
        assert_eq!(desk.numbers(), [1]);
        assert_eq!(heir.tally().conflated, 1);
        assert_balanced(&bus);
    }
}

#[test]
fn closing_hands_nothing_from_one_to_the_next() {
    let (bus, _) = bus();
    let desk = Desk::new();
    ["x", "y"].iter().for_each(|name| drop(join(&bus, &desk, member(name))));
    (0..4).for_each(|n| put(&bus, "a", n, None));
    assert_eq!(bus.close_now(), [("x".to_owned(), 2), ("y".to_owned(), 2)]);
    assert_eq!(bus.books().total.dropped, 4);
    assert_balanced(&bus);
}

#[test]
fn members_share_one_key_and_explain_tells_of_them() {
    let (bus, _) = bus();
    let desk = Desk::new();
    join(&bus, &desk, member("x"));
    let path = KeyPath::parse("payload.n").expect("valid");
    let other = Options { key: Some(path), ..member("y") };
    let error = bus.subscribe("b", other, desk.clone()).expect_err("another key");
    assert!(error.message().contains("key=\"payload.n\""), "{error}");
    join(&bus, &desk, member("z"));
    let explanation = bus.explain("a", false).expect("valid");
    let found: Vec<_> =
        explanation.receivers.iter().map(|r| (r.group.as_deref(), r.shared_by)).collect();
    assert_eq!(found, [(Some("g"), 2), (Some("g"), 2)]);
}

#[test]
fn what_a_member_leaves_behind_keeps_its_order_however_quick_the_heir_is() {
    for concurrency in [1, 4] {
        let (bus, _) = bus();
        let (desk, quick) = (Desk::new(), Desk::new());
        let with = |name| Options { concurrency, ..member(name) };
        let x = join(&bus, &desk, with("x"));
        (0..4).for_each(|n| put(&bus, "a", n, Some("k")));
        let heir = Arc::new(Prompt(quick.clone()));
        bus.subscribe("a.#", with("y"), heir).expect("valid");
        x.cancel();
        assert_eq!(quick.numbers(), [0, 1, 2, 3], "{concurrency}");
        assert_balanced(&bus);
    }
}
