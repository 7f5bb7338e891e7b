//! One mailbox against naive lists, for every overflow policy that needs no time.

use proptest::prelude::*;

use super::super::*;

const TOPICS: [&str; 3] = ["a.b", "a.c", "b"];

proptest! {
    #![proptest_config(super::cases(400))]

    /// Conflation: the calls are exactly those of a naive list of the newest, in the order in
    /// which each topic and key got its place.
    #[test]
    fn of_each_topic_and_key_the_newest_stays(
        capacity in 1..5usize,
        steps in proptest::collection::vec((0..4u8, 0..3usize, proptest::option::of(0..3u8)), 1..80),
    ) {
        let (bus, _) = bus();
        let desk = Desk::with(1, |_| Outcome::Hold);
        let options = Options { capacity, overflow: Overflow::Latest, ..options("x") };
        let subscription = bus.subscribe("#", options, desk.clone()).expect("valid");
        let mut places: Vec<((usize, Option<u8>), i64)> = Vec::new();
        let (mut running, mut handled) = (false, Vec::new());
        let (mut conflated, mut dropped) = (0, 0);
        for (n, (step, topic, key)) in steps.into_iter().enumerate() {
            let n = n as i64;
            if step < 3 {
                let key_text = key.map(|key| Arc::from(key.to_string()));
                let _ = bus.publish(Draft { key: key_text, ..draft(TOPICS[topic], n) });
                if let Some((_, newest)) = places.iter_mut().find(|(slot, _)| *slot == (topic, key)) {
                    *newest = n;
                    conflated += 1;
                } else {
                    if places.len() == capacity {
                        places.remove(0);
                        dropped += 1;
                    }
                    places.push(((topic, key), n));
                }
            } else {
                desk.release();
                running = false;
            }
            desk.work();
            if !running && !places.is_empty() {
                handled.push(places.remove(0).1);
                running = true;
            }
            prop_assert_eq!(desk.numbers(), handled.clone());
            prop_assert_eq!(subscription.depth(), places.len());
            let tally = subscription.tally();
            prop_assert_eq!((tally.conflated, tally.dropped), (conflated, dropped));
            prop_assert!(tally.balances());
        }
    }

    /// One mailbox, one lane, success always: the calls are exactly those of a naive queue.
    #[test]
    fn a_mailbox_is_a_queue(
        capacity in 1..5usize,
        overflow in 0..4usize,
        steps in proptest::collection::vec(0..3u8, 1..60),
    ) {
        let (bus, _) = bus();
        // One at a time: what a batch puts back stands beside the room it had made.
        let desk = Desk::with(1, |_| Outcome::Hold);
        let overflow = Overflow::ALL[overflow];
        let options = Options { capacity, overflow, ..options("x") };
        let subscription = bus.subscribe("a", options, desk.clone()).expect("valid");
        let (mut queue, mut line) = (VecDeque::new(), VecDeque::new());
        let (mut running, mut handled, mut dropped) = (false, Vec::new(), 0);
        let mut admissions = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let n = n as i64;
            match step {
                0 | 1 => {
                    let published = bus.publish(draft("a", n));
                    if queue.len() < capacity {
                        queue.push_back(n);
                    } else {
                        match overflow {
                            Overflow::Block => line.push_back(n),
                            Overflow::Fail => {
                                prop_assert!(published.is_err());
                                dropped += 1;
                            }
                            Overflow::DropNewest => dropped += 1,
                            Overflow::DropOldest => {
                                queue.pop_front();
                                queue.push_back(n);
                                dropped += 1;
                            }
                            Overflow::Latest | Overflow::Sample => unreachable!("have a model of their own"),
                        }
                    }
                    admissions.extend(published.ok().and_then(|p| p.admission));
                    if !running && let Some(first) = queue.pop_front() {
                        // The consumer begins at once, and whoever is first in line moves up.
                        desk.work();
                        handled.push(first);
                        running = true;
                        queue.extend(line.pop_front());
                    }
                }
                _ => {
                    desk.release();
                    running = false;
                    if let Some(first) = queue.pop_front() {
                        handled.push(first);
                        running = true;
                        queue.extend(line.pop_front());
                    }
                    desk.work();
                }
            }
            prop_assert_eq!(desk.numbers(), handled.clone());
            prop_assert_eq!(subscription.depth(), queue.len());
            prop_assert_eq!(subscription.tally().dropped, dropped);
            prop_assert!(subscription.tally().balances());
        }
    }
}
