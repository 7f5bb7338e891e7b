//! Ids seen lately, against a naive list of them.

use proptest::prelude::*;

use super::super::*;
use crate::event::Id;

#[derive(Clone, Debug)]
enum Step {
    /// Whether its mailbox is full, and it may be tried again.
    Publish {
        id: u8,
        fails: bool,
    },
    Advance(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, proptest::bool::weighted(0.25)).prop_map(|(id, fails)| Step::Publish { id, fails }),
        1 => (0..4u16).prop_map(|quarters| Step::Advance(quarters * 250)),
    ]
}

proptest! {
    #![proptest_config(super::cases(300))]

    #[test]
    fn a_duplicate_is_what_a_naive_list_remembers(
        size in 1..5usize,
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        const WINDOW: u64 = 1000;
        let clock = Clock::simulated(0);
        let dedup = Some(DedupSettings { window: ms(WINDOW), size });
        let bus = Bus::new(BusSettings { dedup, ..BusSettings::default() }, clock.clone());
        let desk = Desk::new();
        let full = Options { capacity: 1, overflow: Overflow::Fail, ..options("full") };
        bus.subscribe("full", full, Desk::new()).expect("valid");
        publish(&bus, "full", 0);
        bus.subscribe("free", options("free"), desk.clone()).expect("valid");
        // That filled mailbox, too, was filled by an event with an id.
        let (mut seen, mut now) = (vec![(None, 0)], 0);
        let (mut duplicates, mut expected) = (0, Vec::new());
        for (n, step) in steps.into_iter().enumerate() {
            let n = n as i64;
            match step {
                Step::Advance(by) => {
                    clock.advance(ms(by.into()));
                    now += u64::from(by);
                }
                Step::Publish { id, fails } => {
                    let topic = if fails { "full" } else { "free" };
                    let text = Id::parse(&id.to_string());
                    let result = bus.publish(Draft { id: Some(text), ..draft(topic, n) });
                    seen.retain(|(_, at)| now - at < WINDOW);
                    if seen.iter().any(|(known, _)| *known == Some(id)) {
                        duplicates += 1;
                        prop_assert!(result.is_ok_and(|published| published.duplicate), "{}", n);
                        continue;
                    }
                    if seen.len() == size {
                        seen.remove(0);
                    }
                    if fails {
                        prop_assert!(result.is_err(), "{} finds no room", n);
                    } else {
                        prop_assert!(result.is_ok_and(|published| !published.duplicate), "{}", n);
                        seen.push((Some(id), now));
                        expected.push(n);
                    }
                }
            }
        }
        desk.work();
        prop_assert_eq!(desk.numbers(), expected);
        prop_assert_eq!(bus.books().duplicates, duplicates);
        assert_balanced(&bus);
    }
}
