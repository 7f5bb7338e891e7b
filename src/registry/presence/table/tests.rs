use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const PAUSE: Duration = Duration::from_secs(5);

fn at(seconds: f64) -> Instant {
    Instant::ZERO.saturating_add(Duration::from_secs_f64(seconds))
}

fn said(instance: &str, incarnation: u64, number: u64) -> Announcement {
    let payload = json!({
        "instance": instance, "incarnation": incarnation, "number": number, "system": "s",
        "lease": 15, "components": [{"name": "feed", "state": "running"}],
    });
    Announcement::read(payload, 100).expect("valid")
}

fn leaves(instance: &str, incarnation: u64, number: u64) -> Announcement {
    Announcement { leaves: true, ..said(instance, incarnation, number) }
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.said.instance).collect()
}

fn there(table: &Table) -> Vec<&str> {
    table.there().map(|entry| &*entry.said.instance).collect()
}

#[test]
fn who_is_silent_for_longer_than_its_lease_is_gone_and_may_come_back() {
    let mut table = Table::default();
    assert_eq!(table.hear(said("a", 1, 1), at(0.0), 1_000), Heard::New);
    assert_eq!(table.hear(said("a", 1, 2), at(5.0), 6_000), Heard::Renewed);
    assert!(table.pass(at(20.0), PAUSE).is_empty(), "over is what is past the lease");
    assert_eq!(table.next_pass(), Some(at(20.001)));
    assert_eq!(names(&table.pass(at(20.001), PAUSE)), ["a"]);
    assert_eq!(table.hear(said("a", 1, 2), at(21.0), 0), Heard::Stale, "it came late");
    assert_eq!(table.hear(said("a", 1, 3), at(22.0), 23_000), Heard::New, "it had been stopped");
    assert_eq!(table.there().next().map(|entry| entry.since), Some(23_000));
}

#[test]
fn what_comes_late_or_twice_means_nothing() {
    let mut table = Table::default();
    table.hear(said("a", 1, 5), at(0.0), 0);
    for late in [said("a", 1, 5), said("a", 1, 4), said("a", 0, 9), leaves("a", 1, 3)] {
        assert_eq!(table.hear(late, at(10.0), 0), Heard::Stale);
    }
    assert_eq!(names(&table.pass(at(15.1), PAUSE)), ["a"], "and it is no renewal");
}

#[test]
fn a_new_incarnation_takes_the_place_of_the_old_one_at_once() {
    let mut table = Table::default();
    table.hear(said("a", 7, 900), at(0.0), 0);
    assert_eq!(table.hear(said("a", 8, 1), at(1.0), 1_000), Heard::Anew);
    assert_eq!(table.hear(said("a", 7, 901), at(2.0), 0), Heard::Stale, "the old one is no more");
    assert_eq!(table.there().next().map(|entry| entry.since), Some(1_000));
}

#[test]
fn after_goodbye_nothing_of_that_incarnation_counts() {
    let mut table = Table::default();
    table.hear(said("a", 1, 1), at(0.0), 0);
    assert_eq!(table.hear(leaves("a", 1, 3), at(1.0), 0), Heard::Left);
    assert_eq!(table.hear(said("a", 1, 2), at(1.5), 0), Heard::Stale);
    assert_eq!(table.hear(said("a", 1, 9), at(1.5), 0), Heard::Stale);
    assert_eq!(table.hear(said("a", 2, 1), at(2.0), 0), Heard::New);
    // A goodbye that overtakes the first word.
    assert_eq!(table.hear(leaves("b", 1, 2), at(3.0), 0), Heard::Stale);
    assert_eq!(table.hear(said("b", 1, 1), at(3.0), 0), Heard::Stale);
}

#[test]
fn while_we_cannot_hear_nobody_is_gone_and_after_that_all_have_a_lease() {
    let mut table = Table::default();
    table.hear(said("a", 1, 1), at(0.0), 0);
    table.hear(said("b", 1, 1), at(0.0), 0);
    table.deafen();
    assert!(table.pass(at(1_000.0), PAUSE).is_empty());
    assert_eq!(table.next_pass(), None);
    table.listen(at(1_000.0));
    table.hear(said("a", 1, 2), at(1_010.0), 0);
    assert!(table.pass(at(1_015.0), PAUSE).is_empty());
    assert_eq!(names(&table.pass(at(1_015.1), PAUSE)), ["b"]);
}

#[test]
fn many_that_fall_silent_at_once_are_given_up_little_by_little() {
    let mut table = Table::default();
    for number in 0..20 {
        table.hear(said(&format!("{number:02}"), 1, 1), at(f64::from(number) / 100.0), 0);
    }
    assert_eq!(names(&table.pass(at(100.0), PAUSE)), ["00", "01", "02"], "20 - floor(17.0)");
    assert_eq!(table.next_pass(), Some(at(105.0)));
    assert!(table.pass(at(104.9), PAUSE).is_empty());
    assert_eq!(names(&table.pass(at(105.0), PAUSE)), ["03", "04", "05"], "17 - floor(14.45)");
    let mut few = Table::default();
    few.hear(said("a", 1, 1), at(0.0), 0);
    assert_eq!(names(&few.pass(at(100.0), PAUSE)), ["a"], "one always may go");
}

/// The rows of one of the cases of behaviour that are shared with the tests in Python.
fn rows(area: &str) -> Vec<Vec<serde_json::Value>> {
    let all = include_str!("../../../../tests/vectors/resilience.json");
    let all: serde_json::Value = serde_json::from_str(all).unwrap();
    let mut cases = all["cases"].as_array().unwrap().iter();
    let case = cases.find(|case| case["area"] == area).unwrap();
    let rows = case["table"].as_array().unwrap().iter();
    rows.map(|row| row.as_array().unwrap().clone()).collect()
}

#[test]
fn a_pass_gives_up_as_many_as_the_shared_cases_say() {
    let cases = rows("lease_eviction_limit");
    assert!(!cases.is_empty());
    for row in cases {
        let [all, over, gone] = [0, 1, 2].map(|at| row[at].as_u64().unwrap());
        let mut table = Table::default();
        for number in 0..all {
            let heard = if number < over { 0.0 } else { 90.0 };
            table.hear(said(&number.to_string(), 1, 1), at(heard), 0);
        }
        assert_eq!(table.pass(at(100.0), PAUSE).len() as u64, gone, "{over} of {all}");
    }
}

#[test]
fn a_lease_ends_when_the_shared_cases_say() {
    let cases = rows("lease_expiry");
    assert!(!cases.is_empty());
    for row in cases {
        let (age, over) = (row[0].as_f64().unwrap(), row[2].as_bool().unwrap());
        let mut table = Table::default();
        let said = Announcement { lease: 90.0, ..said("a", 1, 1) };
        table.hear(said, at(0.0), 0);
        assert_eq!(!table.pass(at(age), PAUSE).is_empty(), over, "after {age} s");
    }
}

#[test]
fn the_table_is_bounded() {
    let mut table = Table::default();
    for number in 0..MOST {
        assert_eq!(table.hear(said(&number.to_string(), 1, 1), at(0.0), 0), Heard::New);
    }
    assert_eq!(table.hear(said("one more", 1, 1), at(0.0), 0), Heard::Full);
    for number in 0..MOST + 10 {
        table.hear(leaves(&format!("unknown {number}"), 1, 1), at(0.0), 0);
    }
    assert_eq!((table.there.len(), table.gone.len()), (MOST, MOST));
    assert_eq!(table.hear(said("0", 1, 2), at(0.0), 0), Heard::Renewed, "the known go on");
}

#[derive(Clone, Debug)]
enum Step {
    Hear { who: u8, incarnation: u64, number: u64, leaves: bool },
    Wait(f64),
    Pass,
    Deafen,
    Listen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_u8, 0..3_u64, 0..8_u64, prop::bool::weighted(0.1))
            .prop_map(|(who, incarnation, number, leaves)| {
                Step::Hear { who, incarnation, number, leaves }
            }),
        4 => (0.0..12.0_f64).prop_map(Step::Wait),
        3 => Just(Step::Pass),
        1 => Just(Step::Deafen),
        1 => Just(Step::Listen),
    ]
}

proptest! {
    /// Against what each rule says by itself.
    #[test]
    fn nobody_goes_too_early_or_comes_back_by_old_words(steps in prop::collection::vec(step(), 0..80)) {
        let mut table = Table::default();
        let mut now = 0.0;
        // The greatest that was believed, and when somebody was last heard or could not be.
        let mut believed: HashMap<u8, (u64, u64)> = HashMap::new();
        let mut safe_until: HashMap<u8, f64> = HashMap::new();
        let mut deaf = false;
        for step in steps {
            match step {
                Step::Hear { who, incarnation, number, leaves: bye } => {
                    let name = who.to_string();
                    let word = if bye { leaves(&name, incarnation, number) } else {
                        said(&name, incarnation, number)
                    };
                    let was = there(&table).contains(&name.as_str());
                    let heard = table.hear(word, at(now), 0);
                    if was && (incarnation, number) <= believed[&who] {
                        prop_assert_eq!(heard, Heard::Stale);
                    }
                    match heard {
                        Heard::Stale => {}
                        Heard::Left => prop_assert!(bye && was),
                        _ => {
                            prop_assert!(!bye);
                            believed.insert(who, (incarnation, number));
                            safe_until.insert(who, now + 15.0);
                        }
                    }
                }
                Step::Wait(seconds) => now += seconds,
                Step::Pass => {
                    for gone in table.pass(at(now), PAUSE) {
                        prop_assert!(!deaf);
                        let who: u8 = gone.said.instance.parse().unwrap();
                        prop_assert!(now > safe_until[&who], "{} went at {}", who, now);
                    }
                }
                Step::Deafen => { table.deafen(); deaf = true; }
                Step::Listen => {
                    table.listen(at(now));
                    if std::mem::take(&mut deaf) {
                        safe_until.values_mut().for_each(|until| *until = until.max(now + 15.0));
                    }
                }
            }
            let mut names = there(&table);
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), table.there().len(), "everybody is there once");
        }
        // In silence all are gone after a lease and as many passes as that takes.
        table.listen(at(now));
        for _ in 0..8 {
            now += 16.0;
            table.pass(at(now), PAUSE);
        }
        prop_assert_eq!(table.there().len(), 0);
        prop_assert_eq!(table.next_pass(), None);
    }

    /// In whichever order and how often they come, the last word of all is what is known.
    #[test]
    fn order_and_repetition_do_not_matter(
        words in prop::collection::vec((0..3_u64, 0..20_u64), 1..30),
        order in prop::collection::vec(any::<prop::sample::Index>(), 30..90),
    ) {
        let mut table = Table::default();
        let mut heard = Vec::new();
        for index in order {
            let word = *index.get(&words);
            table.hear(said("a", word.0, word.1), at(1.0), 0);
            heard.push(word);
        }
        let entry = table.there().next().unwrap();
        prop_assert_eq!(Some((entry.said.incarnation, entry.said.number)), heard.into_iter().max());
    }
}
