//! Ends in the middle of everything: nothing starts after them, and nothing is lost unbooked.

use super::*;

fn end_while_busy(end: fn(&Arc<Subscription>)) {
    schedules(move || {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let options = Options { capacity: 1, ..options("x") };
        let subscription = bus.subscribe("a", options, crew.clone()).expect("valid");
        let working = workers(&crew, 1, 2);
        let ending = spawn({
            let subscription = subscription.clone();
            move || {
                end(&subscription);
                let mut batch = VecDeque::new();
                assert!(!subscription.claim(10, &mut batch), "nothing is handed out any more");
                subscription.tally().published
            }
        });
        // Whoever waits for room is admitted or refused: else this would wait for ever.
        join([producer(&bus, "a", 0..3), producer(&bus, "a", 100..103), auditor(&bus)]);
        let published = join([ending])[0];
        crew.close();
        join(working);
        let total = assert_books(&bus, &[subscription]);
        assert_eq!(total.in_flight, 0);
        assert_eq!(total.published, published, "nothing was taken after the end");
        assert_eq!(total.delivered, crew.seen.lock().len() as u64);
        assert_eq!(bus.dead_letters().len() as u64, total.dead_lettered);
        assert!(!bus.has_subscribers("a"));
    });
}

#[test]
fn cancel_while_others_publish_and_handle() {
    end_while_busy(|subscription| {
        subscription.cancel();
    });
}

#[test]
fn the_loop_goes_while_others_publish_and_handle() {
    end_while_busy(Subscription::orphan);
}

/// A group with an heir loses nothing, whoever ends in between.
fn a_member_ends(key: Option<&'static str>) {
    schedules(move || {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let member = |name: &str| Options {
            group: Some(Arc::from("g")),
            competing: true,
            capacity: 2,
            ..options(name)
        };
        let members: Vec<_> = ["x", "y", "z"]
            .iter()
            .map(|name| bus.subscribe("a", member(name), crew.clone()).expect("valid"))
            .collect();
        let working = workers(&crew, 2, 2);
        let ending = [0, 2].map(|index: usize| {
            let member = members[index].clone();
            spawn(move || {
                if index == 0 {
                    member.cancel();
                } else {
                    member.orphan()
                }
            })
        });
        let producers = (0..2).map(|producer: i64| {
            let bus = bus.clone();
            spawn(move || {
                for n in 0..3 {
                    let key = key.map(Arc::from);
                    let draft = Draft { key, ..draft("a", producer * 100 + n) };
                    if let Some(admission) = bus.publish(draft).expect("open").admission {
                        wait(admission).expect("somebody takes it");
                    }
                }
            })
        });
        join(producers.collect::<Vec<_>>().into_iter().chain(ending));
        crew.close();
        join(working);
        assert_eq!(crew.sorted(), [0, 1, 2, 100, 101, 102]);
        let total = assert_books(&bus, &members);
        assert_eq!((total.delivered, total.in_flight), (6, 0));
    });
}

#[test]
fn members_of_a_group_end_and_nothing_is_lost() {
    a_member_ends(None);
}

#[test]
fn members_of_a_group_end_with_the_keys_they_had() {
    a_member_ends(Some("k"));
}

#[test]
fn the_bus_closes_while_others_publish() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let made = bus.subscribe("a", options("x"), crew.clone()).expect("valid");
        let working = workers(&crew, 1, 2);
        let producers = [0, 100].map(|from: i64| {
            let bus = bus.clone();
            spawn(move || (from..from + 3).filter(|n| bus.publish(draft("a", *n)).is_ok()).count())
        });
        let closing = spawn({
            let bus = bus.clone();
            move || {
                wait(Box::pin(bus.close(ms(1000))));
                0
            }
        });
        let accepted: usize = join(producers.into_iter().chain([closing])).into_iter().sum();
        crew.close();
        join(working);
        let total = assert_books(&bus, &[made]);
        assert_eq!(total.in_flight, 0);
        assert_eq!(bus.books().events, accepted as u64);
        assert_eq!(total.delivered, crew.seen.lock().len() as u64);
    });
}

#[test]
fn once_is_once_and_leaves() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let made = bus.subscribe_once("a", options("x"), crew.clone()).expect("valid");
        let working = workers(&crew, 1, 2);
        join([producer(&bus, "a", 0..2), producer(&bus, "a", 100..102)]);
        crew.close();
        join(working);
        assert_eq!(crew.seen.lock().len(), 1);
        assert_eq!(made.status(), "cancelled");
        assert_eq!(assert_books(&bus, &[made]).published, 1);
        assert!(bus.subscriptions().is_empty() && !bus.has_subscribers("a"));
    });
}

#[test]
fn draining_waits_for_what_handlers_publish() {
    schedules(|| {
        /// Publishes what it handles on, as a handler would.
        #[derive(Debug)]
        struct Relay(Arc<Crew>, WeakBus);

        impl Executor for Relay {
            fn schedule(&self, subscription: &Arc<Subscription>) {
                self.0.schedule(subscription);
            }

            fn describe(&self) -> &'static str {
                "relay"
            }
        }

        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        // Against the order in which draining looks at them.
        bus.subscribe("b", options("last"), crew.clone()).expect("valid");
        let relay = Arc::new(Relay(Arc::default(), bus.downgrade()));
        bus.subscribe("a", options("first"), relay.clone()).expect("valid");
        publish(&bus, "a", 0);
        let relaying = spawn({
            let relay = relay.clone();
            move || {
                let first = relay.0.next_ready().expect("has an event");
                let mut batch = VecDeque::new();
                assert!(first.claim(1, &mut batch));
                let bus = relay.1.upgrade().expect("is there");
                publish(&bus, "b", number(&batch.pop_front().expect("one").event));
                assert!(!first.next(1, 1, &mut batch));
            }
        });
        let working = workers(&crew, 1, 1);
        wait(Box::pin(bus.drained()));
        assert_eq!(crew.seen.lock().len(), 1, "drained means that nothing is left");
        crew.close();
        join(working.into_iter().chain([relaying]));
    });
}
