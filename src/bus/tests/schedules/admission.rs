//! Publishers in line: each is admitted or refused, and whoever gives up is in the books.

use super::*;

#[test]
fn giving_up_a_place_while_there_is_room() {
    schedules(|| {
        let (bus, _) = bus();
        let crew = Arc::<Crew>::default();
        let options = Options { capacity: 1, ..options("x") };
        let made = bus.subscribe("a", options, crew.clone()).expect("valid");
        publish(&bus, "a", 0);
        let given_up = bus.publish(draft("a", 1)).expect("open").admission.expect("no room");
        let kept = bus.publish(draft("a", 2)).expect("open").admission.expect("no room");
        let giving_up = spawn(move || drop(given_up));
        let waiting = spawn(move || wait(kept).expect("admitted"));
        let working = workers(&crew, 1, 1);
        join([giving_up, waiting]);
        crew.close();
        join(working);
        let total = assert_books(&bus, &[made]);
        let seen = crew.seen.lock().clone();
        assert_eq!((total.published, total.delivered), (3, seen.len() as u64));
        assert_eq!(total.dropped, u64::from(!seen.contains(&1)));
        assert!(seen.is_sorted() && seen.contains(&2), "{seen:?}");
    });
}

#[test]
fn of_an_event_that_was_given_up_the_id_is_forgotten_and_of_no_other() {
    schedules(|| {
        let clock = Clock::simulated(0);
        let dedup = Some(DedupSettings::default());
        let bus = Bus::new(BusSettings { dedup, ..BusSettings::default() }, clock);
        let crew = Arc::<Crew>::default();
        let options = Options { capacity: 1, ..options("x") };
        let made = bus.subscribe("a", options, crew.clone()).expect("valid");
        let put = |n| {
            let id = Some(crate::event::Id::parse("same"));
            bus.publish(Draft { id, ..draft("a", n) }).expect("open")
        };
        publish(&bus, "a", 0);
        let published = put(1);
        let giving_up = spawn(move || drop(published));
        let working = workers(&crew, 1, 1);
        let ending = spawn({
            let made = made.clone();
            move || {
                made.cancel();
            }
        });
        join([giving_up, ending]);
        crew.close();
        join(working);
        // In the mailbox or gone from it by its end, it was taken; only in line it was not.
        let total = assert_books(&bus, &[made]);
        let delivered = crew.seen.lock().contains(&1);
        let again = put(1);
        assert!(!delivered || again.duplicate, "delivered, and not remembered");
        assert_eq!(total.in_flight, 0);
    });
}

#[test]
fn several_mailboxes_and_one_publisher() {
    schedules(|| {
        let (bus, _) = bus();
        let crews: Vec<_> = (0..2).map(|_| Arc::<Crew>::default()).collect();
        let made: Vec<_> = crews
            .iter()
            .map(|crew| {
                let options = Options { capacity: 1, ..options("x") };
                bus.subscribe("a", options, crew.clone()).expect("valid")
            })
            .collect();
        let working: Vec<_> = crews.iter().flat_map(|crew| workers(crew, 1, 1)).collect();
        let ending = spawn({
            let made = made[1].clone();
            move || {
                made.cancel();
            }
        });
        join([producer(&bus, "a", 0..3), producer(&bus, "a", 100..103), ending]);
        crews.iter().for_each(|crew| crew.close());
        join(working);
        assert_eq!(crews[0].seen.lock().len(), 6, "the end of one is no concern of the other");
        assert_eq!(assert_books(&bus, &made).in_flight, 0);
    });
}
