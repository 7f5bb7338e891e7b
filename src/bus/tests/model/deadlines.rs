//! Deadlines along causation, and that nothing reaches a handler after its own.

use proptest::prelude::*;

use super::super::*;

proptest! {
    #![proptest_config(super::cases(300))]

    /// Each event is caused by an earlier one, or by none.
    #[test]
    fn a_deadline_is_the_earliest_of_those_that_led_to_it(
        chain in proptest::collection::vec((any::<usize>(), proptest::option::of(1..2000u16), 0..3u8), 1..30),
    ) {
        let (bus, clock) = bus();
        let responder = Options { role: Role::Responder, ..options("r") };
        bus.subscribe("ask", responder, Desk::new()).expect("valid");
        let mut events: Vec<(Arc<Event>, Option<i64>)> = Vec::new();
        let mut replies = Vec::new();
        for (n, (parent, own, kind)) in chain.into_iter().enumerate() {
            clock.advance(ms(7));
            let parent = (parent % (n + 1)).checked_sub(1).map(|index| events[index].clone());
            let own = own.map(|after| clock.unix_ms() + i64::from(after));
            let inherited = parent.as_ref().and_then(|(_, deadline)| *deadline);
            let draft = Draft {
                parent: parent.as_ref().map(|(event, _)| &**event),
                deadline: own,
                ..draft(if kind == 0 { "ask" } else { "a" }, n as i64)
            };
            let mut expected: Vec<i64> = own.into_iter().chain(inherited).collect();
            let event = if kind == 0 {
                // A request is of no use after its time limit.
                expected.push(clock.unix_ms() + 500);
                let requested = bus.request(draft, ms(500)).expect("has a responder");
                replies.push(requested.reply);
                requested.published.event
            } else {
                bus.publish(draft).expect("valid").event
            };
            let expected = expected.into_iter().min();
            prop_assert_eq!(event.deadline(), expected);
            events.push((event, expected));
        }
    }

    #[test]
    fn what_is_past_its_deadline_reaches_no_handler_and_is_counted(
        batch in 1..4usize,
        concurrency in 1..3usize,
        steps in proptest::collection::vec((0..3u8, proptest::option::of(1..300u16), 0..3u8), 1..60),
    ) {
        let (bus, clock) = bus();
        let desk = Desk::with(batch, |call| if call.n % 5 == 0 { Outcome::Hold } else { Outcome::Done });
        let options = Options { concurrency, ..options("x") };
        let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
        let mut deadlines = Vec::new();
        let (mut checked, mut published) = (0, 0);
        for (kind, after, key) in steps {
            match kind {
                0 => {
                    let n = deadlines.len() as i64;
                    let deadline = after.map(|after| clock.unix_ms() + i64::from(after));
                    deadlines.push(deadline);
                    let key = (key > 0).then(|| Arc::from(key.to_string()));
                    let _ = bus.publish(Draft { deadline, key, ..draft("a", n) }).expect("valid");
                    published += 1;
                }
                1 => clock.advance(ms(after.unwrap_or(50).into())),
                _ => {
                    desk.release();
                    desk.work();
                }
            }
            for n in &desk.numbers()[checked..] {
                let deadline = deadlines[*n as usize];
                prop_assert!(deadline.is_none_or(|deadline| clock.unix_ms() < deadline), "{} is late", n);
            }
            checked = desk.calls.lock().len();
            assert_balanced(&bus);
        }
        for _ in 0..=published {
            desk.release();
            desk.work();
        }
        let tally = subscription.tally();
        prop_assert_eq!((tally.delivered + tally.expired, tally.in_flight), (published, 0));
        prop_assert_eq!(tally.delivered, desk.calls.lock().len() as u64);
    }
}
