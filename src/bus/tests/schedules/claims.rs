//! Mailbox, notice and claims: no wake-up is lost, nothing comes twice.

use super::*;

fn everything_arrives_once(concurrency: usize, capacity: usize, batch: usize) {
    schedules(move || {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let options = Options { concurrency, capacity, ..options("x") };
        let subscription = bus.subscribe("a", options, crew.clone()).expect("valid");
        let working = workers(&crew, 2, batch);
        join([producer(&bus, "a", 0..4), producer(&bus, "a", 100..104)]);
        crew.close();
        join(working);
        assert_eq!(crew.sorted(), [0, 1, 2, 3, 100, 101, 102, 103]);
        let most = crew.running.lock().1;
        assert!(most <= concurrency, "{most} at once");
        if concurrency == 1 {
            let seen = crew.seen.lock();
            for half in [0..100, 100..200] {
                let mine: Vec<_> = seen.iter().filter(|n| half.contains(*n)).collect();
                assert!(mine.is_sorted(), "{mine:?}");
            }
        }
        let total = assert_books(&bus, &[subscription]);
        assert_eq!((total.published, total.delivered), (8, 8));
    });
}

#[test]
fn one_handler_at_a_time() {
    everything_arrives_once(1, 100, 2);
}

#[test]
fn one_handler_at_a_time_and_publishers_that_wait() {
    everything_arrives_once(1, 1, 3);
}

#[test]
fn two_handlers_at_a_time_and_publishers_that_wait() {
    everything_arrives_once(2, 2, 1);
}

#[test]
fn events_of_one_key_take_turns() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let options = Options { concurrency: 2, ..options("x") };
        let subscription = bus.subscribe("a", options, crew.clone()).expect("valid");
        let working = workers(&crew, 2, 2);
        let producers = (0..2).map(|producer: i64| {
            let bus = bus.clone();
            spawn(move || {
                let key: Arc<str> = Arc::from(producer.to_string());
                for n in 0..4 {
                    let n = producer * 100 + n;
                    let _ = bus.publish(Draft { key: Some(key.clone()), ..draft("a", n) });
                }
            })
        });
        join(producers.collect::<Vec<_>>());
        crew.close();
        join(working);
        let seen = crew.seen.lock().clone();
        for half in [0..100, 100..200] {
            let mine: Vec<i64> = seen.iter().copied().filter(|n| half.contains(n)).collect();
            assert_eq!(mine, (half.start..half.start + 4).collect::<Vec<_>>());
        }
        assert_eq!(assert_books(&bus, &[subscription]).delivered, 8);
    });
}

#[test]
fn a_failure_comes_back_while_others_are_published() {
    schedules(|| {
        let (bus, clock) = bus();
        let crew = Arc::<Crew>::default();
        let options = Options { policy: retrying(2), ..options("x") };
        let subscription = bus.subscribe("a", options, crew.clone()).expect("valid");
        publish(&bus, "a", 0);
        let failing = spawn({
            let subscription = subscription.clone();
            move || {
                let mut batch = VecDeque::new();
                assert!(subscription.claim(1, &mut batch));
                let delivery = batch.pop_front().expect("one");
                assert!(!subscription.failed(delivery, failure(Category::Transient)));
                subscription.release();
            }
        });
        let time = spawn({
            let clock = clock.clone();
            move || (0..3).for_each(|_| clock.advance(ms(100)))
        });
        let producing = producer(&bus, "a", 1..3);
        join([failing, time, producing]);
        clock.advance(ms(100));
        crew.close();
        crew.work(2);
        assert_eq!(crew.sorted(), [0, 1, 2]);
        assert_eq!(assert_books(&bus, &[subscription]).delivered, 3);
    });
}

#[test]
fn a_decision_is_taken_once() {
    schedules(|| {
        let (bus, _) = bus();
        let manual = Arc::<Manual>::default();
        let options = Options { ack: Ack::Manual, manual: Some(manual.clone()), ..options("x") };
        let crew = Arc::<Crew>::default();
        let subscription = bus.subscribe("a", options, crew.clone()).expect("valid");
        publish(&bus, "a", 0);
        let mut batch = VecDeque::new();
        assert!(subscription.claim(1, &mut batch));
        let delivery = batch.pop_front().expect("one");
        let undecided = Arc::new(manual.open(&delivery));
        let decisions: [fn(&Undecided) -> Result<()>; 3] =
            [Undecided::ack, Undecided::nack, |undecided| undecided.reject(None)];
        let deciding = decisions.map(|decide| {
            let undecided = undecided.clone();
            spawn(move || decide(&undecided).is_ok())
        });
        let failing = spawn({
            let subscription = subscription.clone();
            move || {
                subscription.failed(delivery, failure(Category::Transient));
                subscription.release();
                false
            }
        });
        let taken = join(deciding.into_iter().chain([failing]));
        assert!(taken.iter().filter(|taken| **taken).count() <= 1, "{taken:?}");
        let total = assert_books(&bus, &[subscription]);
        assert_eq!(total.delivered + total.dead_lettered, 1);
        assert_eq!(total.delivered == 1, taken[0]);
    });
}
