//! Order by key: with failures, retries and handlers that take long, whatever the concurrency.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::*;

#[derive(Clone, Debug)]
enum Step {
    Publish(Option<u8>),
    Work,
    Release,
    Advance(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => proptest::option::weighted(0.8, 0..3u8).prop_map(Step::Publish),
        2 => Just(Step::Work),
        2 => Just(Step::Release),
        1 => (0..300u16).prop_map(Step::Advance),
    ]
}

proptest! {
    #![proptest_config(super::cases(300))]

    #[test]
    fn events_of_a_key_are_settled_one_after_the_other(
        concurrency in 1..4usize,
        batch in 1..5usize,
        outcomes in proptest::collection::vec(0..6u8, 1..20),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let (bus, clock) = bus();
        let desk = Desk::with(batch, move |call| match outcomes[(call.n as usize) % outcomes.len()] {
            0 => Outcome::Hold,
            // Fails once or twice; the third attempt is the last.
            1 if call.attempt < 3 => Outcome::Fail(Category::Transient),
            2 if call.attempt < 2 => Outcome::Fail(Category::Transient),
            // Refused twice, which is no attempt; or first failed, and then refused.
            3 if call.waits < 2 => Outcome::Refused(150),
            4 if call.attempt < 2 => Outcome::Fail(Category::Transient),
            4 if call.waits < 2 => Outcome::Refused(50),
            _ => Outcome::Done,
        });
        let options = Options { concurrency, policy: retrying(3), ..options("x") };
        let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
        let mut keys = Vec::new();
        let mut take = |step: &Step| match step {
            Step::Publish(key) => {
                let n = keys.len() as i64;
                keys.push(*key);
                let key = key.map(|key| Arc::from(key.to_string()));
                let _ = bus.publish(Draft { key, ..draft("a", n) }).expect("valid");
            }
            Step::Work => desk.work(),
            Step::Release => desk.release(),
            Step::Advance(by) => clock.advance(ms((*by).into())),
        };
        for step in &steps {
            take(step);
            prop_assert!(desk.held.lock().len() <= concurrency, "too many at once");
            assert_balanced(&bus);
        }
        for _ in 0..200 {
            [Step::Work, Step::Release, Step::Advance(300)].iter().for_each(&mut take);
        }
        // No key has an event that waits for ever, and each is settled before the next begins.
        let tally = subscription.tally();
        prop_assert_eq!((tally.delivered, tally.in_flight), (keys.len() as u64, 0));
        let mut last: HashMap<u8, (i64, u32, u8)> = HashMap::new();
        for call in desk.calls.lock().iter() {
            let Some(key) = keys[call.n as usize] else { continue };
            let now = (call.n, call.attempt, call.waits);
            let (n, attempt, waits) = last.insert(key, now).unwrap_or((-1, 0, 0));
            let again = [(n, attempt + 1, 0), (n, attempt, waits + 1)].contains(&now);
            let new = call.n > n && (call.attempt, call.waits) == (1, 0);
            prop_assert!(again || new, "{:?} after {n} {attempt} {waits}", call);
        }
    }
}
