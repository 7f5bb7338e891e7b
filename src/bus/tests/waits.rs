//! How long events wait, and for whom that is news.

use super::*;

const LIMIT: Watcher = Watcher::Limit;

fn sub(bus: &Bus, desk: &Arc<Desk>, options: Options) -> Arc<Subscription> {
    bus.subscribe("a", options, desk.clone()).expect("valid")
}

#[test]
fn what_was_handled_is_news_once_and_for_each_watcher() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    let subscription = sub(&bus, &desk, options("x"));
    assert_eq!(subscription.delay_for(LIMIT), None, "there was nothing");
    publish(&bus, "a", 1);
    clock.advance(ms(700));
    desk.work();
    assert_eq!(subscription.delay(), ms(700));
    assert_eq!(subscription.delay_for(LIMIT), Some(ms(700)));
    assert_eq!(subscription.delay_for(LIMIT), None);
    assert_eq!(subscription.delay_for(Watcher::Promise), Some(ms(700)));
    // A shorter one after it is what is new.
    publish(&bus, "a", 2);
    clock.advance(ms(20));
    desk.work();
    assert_eq!(subscription.delay_for(LIMIT), Some(ms(20)));
}

#[test]
fn a_long_wait_is_forgotten_although_others_are_busy() {
    let (bus, clock) = bus();
    let (desk, other) = (Desk::new(), Desk::new());
    let subscription = sub(&bus, &desk, options("x"));
    let busy = bus.subscribe("b", options("y"), other.clone()).expect("valid");
    publish(&bus, "a", 1);
    clock.advance(ms(5_000));
    desk.work();
    subscription.delay_for(LIMIT);
    for n in 0..20 {
        publish(&bus, "b", n);
        clock.advance(ms(1_000));
        other.work();
    }
    assert_eq!((subscription.delay(), subscription.delay_for(LIMIT)), (Duration::ZERO, None));
    assert_eq!(busy.delay(), ms(1_000));
}

#[test]
fn what_stands_behind_a_handler_that_does_not_come_back_waits() {
    for batch in [1, 100] {
        let (bus, clock) = bus();
        let desk = Desk::with(batch, |_| Outcome::Hold);
        let subscription = sub(&bus, &desk, options("x"));
        publish(&bus, "a", 1);
        desk.work();
        clock.advance(ms(300));
        assert_eq!(subscription.delay_for(LIMIT), Some(Duration::ZERO));
        assert_eq!(subscription.delay_for(LIMIT), None, "nobody waits for it");
        publish(&bus, "a", 2);
        publish(&bus, "a", 3);
        clock.advance(ms(4_000));
        publish(&bus, "a", 4);
        assert_eq!(subscription.delay(), ms(4_000));
        assert_eq!(subscription.delay_for(LIMIT), Some(ms(4_000)));
        clock.advance(ms(1_000));
        assert_eq!(subscription.delay_for(LIMIT), Some(ms(5_000)), "it goes on");
    }
}

#[test]
fn what_was_pulled_and_not_begun_waits_too() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    let subscription = sub(&bus, &desk, options("x"));
    (0..4).for_each(|n| drop(publish(&bus, "a", n)));
    let mut batch = VecDeque::new();
    assert!(subscription.claim(10, &mut batch));
    assert_eq!(subscription.delay_for(LIMIT), Some(Duration::ZERO));
    clock.advance(ms(4_000));
    assert_eq!(subscription.delay_for(LIMIT), Some(ms(4_000)), "three stand behind the first");
    // The last one begins; however long it takes, nothing waits for it.
    let last = batch.pop_back().expect("the fourth");
    subscription.last_begins(&last.event);
    clock.advance(ms(60_000));
    assert_eq!(subscription.delay_for(LIMIT), Some(ms(4_000)));
    assert_eq!((subscription.delay(), subscription.delay_for(LIMIT)), (Duration::ZERO, None));
    assert!(!subscription.next(4, 10, &mut VecDeque::new()));
    assert_eq!(subscription.delay_for(LIMIT), None);
    // Nothing waits in the hands of who has gone away.
    (0..2).for_each(|n| drop(publish(&bus, "a", n)));
    let mut batch = VecDeque::new();
    assert!(subscription.claim(10, &mut batch));
    subscription.put_back(2, std::iter::empty());
    subscription.release();
    clock.advance(ms(9_000));
    subscription.delay_for(LIMIT);
    assert_eq!(subscription.delay_for(LIMIT), None);
}

#[test]
fn neither_a_delay_nor_the_wait_for_a_retry_is_one_for_the_handler() {
    let (bus, clock) = bus();
    let desk = Desk::with(10, |call| match call.attempt {
        1 => Outcome::Fail(Category::Transient),
        _ => Outcome::Done,
    });
    let options = Options { policy: retrying(2), ..options("x") };
    let subscription = sub(&bus, &desk, options);
    let published = bus.publish_later(draft("a", 1), ms(60_000)).expect("valid");
    clock.advance(ms(60_000));
    desk.work();
    assert_eq!(subscription.delay(), Duration::ZERO);
    clock.advance(ms(100));
    desk.work();
    assert_eq!(desk.numbers(), [1, 1]);
    assert_eq!(subscription.delay_for(LIMIT), Some(Duration::ZERO));
    assert_eq!(published.event.timestamp, 1_700_000_000_000, "it was published then");
}

#[test]
fn what_is_replayed_begins_to_wait_anew() {
    let (bus, clock) = bus();
    let desk = Desk::with(10, |_| Outcome::Fail(Category::Permanent));
    let subscription = sub(&bus, &desk, options("x"));
    publish(&bus, "a", 1);
    desk.work();
    clock.advance(ms(3_600_000));
    desk.script(|_| Outcome::Done);
    assert_eq!(bus.replay_dead_letters(|_| true), 1);
    clock.advance(ms(50));
    desk.work();
    assert_eq!(subscription.delay(), ms(50));
}

#[test]
fn wherever_it_stands_it_waits() {
    let (bus, clock) = bus();
    // Behind the turn of its key, in a less urgent lane, and in line before a full mailbox.
    let desk = Desk::with(1, |_| Outcome::Hold);
    let keyed = sub(&bus, &desk, Options { concurrency: 4, ..options("x") });
    for n in 0..2 {
        let draft = Draft { key: Some(Arc::from("k")), ..draft("a", n) };
        drop(bus.publish(draft).expect("valid"));
    }
    desk.work();
    clock.advance(ms(2_000));
    assert_eq!(keyed.delay(), ms(2_000));
    let full =
        bus.subscribe("b", Options { capacity: 1, ..options("y") }, Desk::new()).expect("valid");
    let _first = bus.publish(draft("b", 1)).expect("valid");
    full.delay_for(LIMIT);
    assert_eq!(full.depth(), 1);
    clock.advance(ms(3_000));
    let line = bus.publish(draft("b", 2)).expect("valid").admission.expect("no room");
    clock.advance(ms(1_000));
    assert_eq!(full.delay(), ms(4_000));
    drop(line);
}

#[test]
fn the_interval_of_a_sample_is_no_wait() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    let options =
        Options { overflow: Overflow::Sample, sample_interval: Some(ms(60_000)), ..options("x") };
    let subscription = sub(&bus, &desk, options);
    publish(&bus, "a", 1);
    desk.work();
    publish(&bus, "a", 2);
    clock.advance(ms(59_000));
    assert_eq!(subscription.delay_for(LIMIT), Some(Duration::ZERO));
    clock.advance(ms(1_500));
    desk.work();
    assert_eq!(desk.numbers(), [1, 2]);
    assert_eq!(subscription.delay_for(LIMIT), Some(ms(500)));
}

#[test]
fn a_component_has_the_longest_of_all_that_it_has_subscribed_to() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    let of = |component: &str, name: &str| Options {
        component: Some(Arc::from(component)),
        ..options(name)
    };
    let first = sub(&bus, &desk, of("mine", "x"));
    bus.subscribe("b", of("mine", "y"), desk.clone()).expect("valid");
    bus.subscribe("c", of("other", "z"), desk.clone()).expect("valid");
    publish(&bus, "b", 1);
    publish(&bus, "c", 1);
    clock.advance(ms(40));
    publish(&bus, "a", 1);
    clock.advance(ms(2));
    assert_eq!(bus.delay_of("mine", LIMIT), Some(ms(42)));
    assert_eq!(bus.delay_of("nobody", LIMIT), None);
    let names = |component: &str| -> Vec<String> {
        bus.subscriptions_of(component).iter().map(|s| s.name().to_owned()).collect()
    };
    assert_eq!(names("mine"), ["x", "y"]);
    first.retire();
    assert_eq!((names("mine"), names("other")), (vec!["y".into()], vec!["z".into()]));
    // What it has left is still to be handled.
    assert_eq!(bus.delay_of("mine", Watcher::Promise), Some(ms(42)));
    desk.work();
    assert_eq!(bus.delay_of("mine", LIMIT), Some(ms(42)));
    assert_eq!(bus.delay_of("mine", LIMIT), None);
}

#[test]
fn what_was_put_aside_waits_on() {
    let (bus, clock) = bus();
    let desk = Desk::new();
    let subscription = sub(&bus, &desk, options("x"));
    (0..3).for_each(|n| drop(publish(&bus, "a", n)));
    let mut batch = VecDeque::new();
    assert!(subscription.claim(10, &mut batch));
    subscription.suspend();
    for delivery in batch.drain(1..) {
        assert!(subscription.begin(delivery, false).is_none());
    }
    subscription.put_back(1, std::iter::empty());
    subscription.release();
    subscription.delay_for(LIMIT);
    clock.advance(ms(3_000));
    assert_eq!(subscription.delay_for(LIMIT), Some(ms(3_000)));
    subscription.resume();
    desk.work();
    assert_eq!((subscription.delay_for(LIMIT), subscription.depth()), (Some(ms(3_000)), 0));
    assert_eq!(subscription.delay_for(LIMIT), None);
}

#[test]
fn each_of_several_consumers_has_its_own_in_hand() {
    let (bus, clock) = bus();
    let subscription = sub(&bus, &Desk::new(), Options { concurrency: 3, ..options("x") });
    (0..6).for_each(|n| drop(publish(&bus, "a", n)));
    let (mut stuck, mut other) = (VecDeque::new(), VecDeque::new());
    assert!(subscription.claim(3, &mut stuck) && subscription.claim(3, &mut other));
    subscription.delay_for(LIMIT);
    clock.advance(ms(1_000));
    // The one comes to its end, and comes for more; the other does not get further than its first.
    let last = other.pop_back().expect("the sixth");
    subscription.last_begins(&last.event);
    assert!(!subscription.next(3, 3, &mut VecDeque::new()));
    clock.advance(ms(4_000));
    assert_eq!(subscription.delay_for(LIMIT), Some(ms(5_000)), "two stand behind the first");
    // What is done elsewhere meanwhile, and put aside or handed back, does not hide them.
    publish(&bus, "a", 6);
    publish(&bus, "a", 7);
    let mut third = VecDeque::new();
    assert!(subscription.claim(2, &mut third));
    subscription.put_back(0, third.drain(..));
    for done in [0, 1] {
        third.clear();
        assert!(subscription.next(done, 1, &mut third));
    }
    assert!(!subscription.next(1, 1, &mut VecDeque::new()));
    clock.advance(ms(1_000));
    assert_eq!(subscription.delay(), ms(6_000));
    // It is back, and hands back what it has not begun with; then its last one begins elsewhere.
    subscription.put_back(1, stuck.drain(1..));
    subscription.release();
    assert_eq!((subscription.depth(), subscription.delay()), (2, ms(6_000)));
    let mut rest = VecDeque::new();
    assert!(subscription.claim(3, &mut rest));
    let last = rest.pop_back().expect("the third");
    subscription.last_begins(&last.event);
    subscription.delay_for(LIMIT);
    clock.advance(ms(60_000));
    assert_eq!(subscription.delay_for(LIMIT), None, "nothing waits any more");
}

#[test]
fn a_last_one_that_does_not_begin_waits_in_nobodys_hands() {
    let (bus, clock) = bus();
    let subscription = sub(&bus, &Desk::new(), Options { concurrency: 2, ..options("x") });
    let mut batch = VecDeque::new();
    publish(&bus, "a", 0);
    let late = Draft { deadline: Some(clock.unix_ms() + 500), ..draft("a", 1) };
    drop(bus.publish(late).expect("valid"));
    assert!(subscription.claim(2, &mut batch));
    publish(&bus, "a", 2);
    let mut held = VecDeque::new();
    assert!(subscription.claim(1, &mut held), "another one is at work, and stays so");
    clock.advance(ms(1_000));
    assert!(subscription.begin(batch.pop_back().expect("two"), false).is_none());
    subscription.delay_for(LIMIT);
    clock.advance(ms(1_000));
    assert_eq!(subscription.delay_for(LIMIT), None);
}
