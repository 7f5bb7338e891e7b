//! Dead letters delivered again: in their old order, however soon somebody comes for them.

use super::*;

/// Gives up on five events, and has them replayed to what `executor` runs.
fn replayed(executor: impl FnOnce(Arc<Desk>) -> Arc<dyn Executor>, capacity: usize) -> Vec<i64> {
    let (bus, _) = bus();
    let desk = Desk::with(100, |_| Outcome::Fail(Category::Permanent));
    let first = bus.subscribe("a", options("x"), desk.clone()).expect("valid");
    (0..5).for_each(|n| drop(publish(&bus, "a", n)));
    desk.work();
    assert_eq!(bus.dead_letters().len(), 5);
    first.cancel();
    let desk = Desk::new();
    let options = Options { capacity, ..options("x") };
    bus.subscribe("a", options, executor(desk.clone())).expect("valid");
    let count = bus.replay_dead_letters(|_| true);
    assert_eq!(bus.dead_letters().len(), 5 - count);
    desk.work();
    assert_eq!(bus.books().total.in_flight, 0);
    assert_balanced(&bus);
    desk.numbers()
}

#[test]
fn the_old_order_is_kept_wherever_they_are_handled() {
    let all = [0, 1, 2, 3, 4];
    assert_eq!(replayed(|desk| desk, 10), all);
    assert_eq!(replayed(|desk| Arc::new(Prompt(desk)), 10), all);
    assert_eq!(replayed(|desk| Arc::new(Inside(desk)), 10), all);
}

#[test]
fn the_first_ones_find_room_and_the_rest_stays() {
    assert_eq!(replayed(|desk| desk, 2), [0, 1]);
    assert_eq!(replayed(|desk| Arc::new(Prompt(desk)), 2), [0, 1]);
}

/// Events of one key, whose turns go from one to the next.
#[test]
fn the_old_order_of_a_key_is_kept() {
    for concurrency in [1, 4] {
        let (bus, _) = bus();
        let desk = Desk::with(2, |_| Outcome::Fail(Category::Permanent));
        let options = Options { concurrency, ..options("x") };
        let prompt = Arc::new(Prompt(desk.clone()));
        bus.subscribe("a", options, prompt).expect("valid");
        for n in 0..4 {
            let draft = Draft { key: Some(Arc::from("k")), ..draft("a", n) };
            drop(bus.publish(draft).expect("valid"));
        }
        desk.script(|_| Outcome::Done);
        desk.calls.lock().clear();
        assert_eq!(bus.replay_dead_letters(|_| true), 4);
        assert_eq!(desk.numbers(), [0, 1, 2, 3], "{concurrency}");
        assert_balanced(&bus);
    }
}
