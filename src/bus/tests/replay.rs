//! Dead letters delivered again: in their old order, however soon somebody comes for them.

use super::*;

/// Works as soon as there is something to do, on the thread that brings it.
#[derive(Debug)]
struct Eager(Arc<Desk>);

impl Executor for Eager {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        self.0.schedule(subscription);
        self.0.work();
    }

    fn describe(&self) -> &'static str {
        "eager"
    }
}

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
    assert_eq!(replayed(|desk| Arc::new(Eager(desk)), 10), all);
    assert_eq!(replayed(|desk| Arc::new(Inside(desk)), 10), all);
}

#[test]
fn the_last_ones_find_room_and_the_rest_stays() {
    assert_eq!(replayed(|desk| desk, 2), [3, 4]);
    assert_eq!(replayed(|desk| Arc::new(Eager(desk)), 2), [3, 4]);
}
