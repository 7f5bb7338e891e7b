//! What is handled inside `publish` passes the mailbox by, without its lock.

use super::*;

/// Handles on the publisher's thread; every third event fails and is a dead letter.
#[derive(Debug, Default)]
struct Inside {
    began: parking_lot::Mutex<Vec<i64>>,
    running: parking_lot::Mutex<usize>,
}

impl Executor for Inside {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn is_inline(&self) -> bool {
        true
    }

    fn run_inline(&self, subscription: &Arc<Subscription>, event: &Arc<Event>) {
        let n = number(event);
        self.began.lock().push(n);
        *self.running.lock() += 1;
        yield_now();
        *self.running.lock() -= 1;
        if n % 3 == 2 {
            let delivery = subscription.adopt_inline(event);
            assert!(!subscription.failed(delivery, failure(Category::Permanent)));
        } else {
            subscription.handled_inline(event);
        }
    }

    fn describe(&self) -> &'static str {
        "inside"
    }
}

#[test]
fn the_books_count_what_passes_by() {
    schedules(|| {
        let (bus, _) = bus();
        let inside = Arc::<Inside>::default();
        let made = bus.subscribe("a", options("x"), inside.clone()).expect("valid");
        join([producer(&bus, "a", 0..3), producer(&bus, "a", 100..103), auditor(&bus)]);
        let total = assert_books(&bus, &[made]);
        // 2 and 101 fail.
        assert_eq!((total.delivered, total.dead_lettered, total.in_flight), (4, 2, 0));
    });
}

#[test]
fn nothing_begins_after_the_end() {
    schedules(|| {
        let (bus, _) = bus();
        let inside = Arc::<Inside>::default();
        let made = bus.subscribe("a", options("x"), inside.clone()).expect("valid");
        let ending = spawn({
            let made = made.clone();
            move || {
                made.cancel();
                made.tally().published
            }
        });
        join([producer(&bus, "a", 0..3), producer(&bus, "a", 100..103), auditor(&bus)]);
        // What had begun may go on; it was in the books by then.
        let published = join([ending])[0];
        let began = inside.began.lock().len() as u64;
        let total = assert_books(&bus, &[made]);
        assert!(published >= began, "{published} in the books, {began} began");
        assert_eq!((total.published, total.in_flight), (began, 0));
    });
}

#[test]
fn whoever_waits_for_the_end_of_all_is_woken() {
    schedules(|| {
        let (bus, _) = bus();
        let inside = Arc::<Inside>::default();
        let made = bus.subscribe("a", options("x"), inside.clone()).expect("valid");
        let waiting = spawn({
            let made = made.clone();
            move || wait(Box::pin(made.drained())) // for ever, if nobody wakes it
        });
        let ending = spawn({
            let made = made.clone();
            move || {
                made.cancel();
            }
        });
        join([producer(&bus, "a", 0..2), producer(&bus, "a", 100..102), waiting, ending]);
    });
}

#[test]
fn draining_the_bus_waits_for_what_runs_inside_publish() {
    schedules(|| {
        let (bus, _) = bus();
        let inside = Arc::<Inside>::default();
        bus.subscribe("a", options("x"), inside.clone()).expect("valid");
        let producing = producer(&bus, "a", 0..1);
        while inside.began.lock().is_empty() {
            yield_now();
        }
        wait(Box::pin(bus.drained()));
        assert_eq!(*inside.running.lock(), 0, "it still runs");
        join([producing]);
    });
}
