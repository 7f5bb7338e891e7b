//! Priorities: an urgent event overtakes, and none waits longer than the shares of the lanes say.

use proptest::prelude::*;

use super::super::*;

/// How many events of each lane are handled before less urgent ones get their turn; in all, 15.
const SHARES: [usize; 4] = [8, 4, 2, 1];

/// One that waits: its number, how many others may be handled before it, and how many were.
struct Waits {
    n: i64,
    most: usize,
    so_far: usize,
}

proptest! {
    #![proptest_config(super::cases(300))]

    #[test]
    fn each_waits_no_longer_than_its_share_says(
        steps in proptest::collection::vec(proptest::option::weighted(0.6, 0..4usize), 1..300),
    ) {
        let (bus, _) = bus();
        let desk = Desk::with(1, |_| Outcome::Hold);
        bus.subscribe("a", options("x"), desk.clone()).expect("valid");
        let mut lanes: [VecDeque<Waits>; 4] = Default::default();
        // The first event is handled at once, and stands for nothing.
        publish(&bus, "a", -2);
        desk.work();
        for (n, step) in steps.into_iter().enumerate() {
            let n = n as i64;
            if let Some(lane) = step {
                let priority = Priority::BY_URGENCY[lane];
                let _ = bus.publish(Draft { priority, ..draft("a", n) }).expect("valid");
                let (ahead, share) = (lanes[lane].len(), SHARES[lane]);
                // At worst its lane has had its share: the others finish theirs. Then it takes
                // so many rounds until those ahead are through, and in the last one those of
                // more urgent lanes come before it.
                let urgent: usize = SHARES[..lane].iter().sum();
                let most = 15 - share + ahead / share * 15 + urgent + ahead % share;
                lanes[lane].push_back(Waits { n, most, so_far: 0 });
                continue;
            }
            let before = desk.calls.lock().len();
            desk.release();
            let handled = desk.numbers()[before..].to_vec();
            if lanes.iter().all(VecDeque::is_empty) {
                prop_assert!(handled.is_empty());
                publish(&bus, "a", -2); // so that somebody is always at work
                desk.work();
                continue;
            }
            prop_assert_eq!(handled.len(), 1, "something waits, one at a time");
            let first = lanes.iter().position(|l| l.front().is_some_and(|w| w.n == handled[0]));
            prop_assert!(first.is_some(), "{} is not the first of its lane", handled[0]);
            let first = first.unwrap_or_default();
            lanes[first].pop_front();
            for (lane, waits) in lanes.iter_mut().flat_map(|lane| {
                let lane = lane.iter_mut();
                lane.map(|waits| (0, waits))
            }) {
                waits.so_far += 1;
                prop_assert!(
                    waits.so_far <= waits.most,
                    "{} waited for {} others, the most is {} {lane}", waits.n, waits.so_far, waits.most
                );
            }
        }
    }

    /// An urgent event that comes while others wait is next, unless its lane has just had its
    /// share: then the shares of the others come first, and no more.
    #[test]
    fn an_urgent_event_overtakes(queued in proptest::collection::vec(1..4usize, 1..60), served in 0..40usize) {
        let (bus, _) = bus();
        let desk = Desk::with(1, |_| Outcome::Hold);
        bus.subscribe("a", options("x"), desk.clone()).expect("valid");
        for (n, lane) in queued.iter().enumerate() {
            let priority = Priority::BY_URGENCY[*lane];
            let _ = bus.publish(Draft { priority, ..draft("a", n as i64) }).expect("valid");
        }
        desk.work();
        (0..served).for_each(|_| desk.release());
        let before = desk.calls.lock().len();
        let urgent = Draft { priority: Priority::Critical, ..draft("a", 1000) };
        let _ = bus.publish(urgent).expect("valid");
        desk.work();
        (0..70).for_each(|_| desk.release());
        let at = desk.numbers()[before..].iter().position(|n| *n == 1000);
        prop_assert_eq!(at, Some(0), "no urgent one came before it");
    }
}
