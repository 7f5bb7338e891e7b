//! Who gets what, while subscriptions come and go and routes are cached, against a naive list.

use proptest::prelude::*;

use super::super::*;
use crate::filter::Filter;
use crate::topic::Topic;

#[derive(Clone, Debug)]
enum Step {
    Subscribe { pattern: String, exclude: Option<String>, odd: bool },
    Cancel(usize),
    Retire(usize),
    Publish { topic: String, kept: bool },
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![3 => "([ab*#]\\.){0,3}[ab*#]", 1 => Just("#".to_owned()), 1 => topic()]
}

fn topic() -> impl Strategy<Value = String> {
    "([ab]\\.){0,3}[ab]"
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (pattern(), proptest::option::weighted(0.2, pattern()), any::<bool>()).prop_map(
            |(pattern, exclude, odd)| Step::Subscribe { pattern, exclude, odd }
        ),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Retire),
        8 => (topic(), any::<bool>()).prop_map(|(topic, kept)| Step::Publish { topic, kept }),
    ]
}

/// By a table: whether the first `p` segments of the pattern match the first `t` of the topic.
fn matches(pattern: &str, topic: &str) -> bool {
    let (pattern, topic): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), topic.split('.').collect());
    let mut table = vec![vec![false; topic.len() + 1]; pattern.len() + 1];
    table[0][0] = true;
    for p in 1..=pattern.len() {
        for t in 0..=topic.len() {
            table[p][t] = match pattern[p - 1] {
                "#" => table[p - 1][t] || t > 0 && table[p][t - 1],
                "*" => t > 0 && table[p - 1][t - 1],
                text => t > 0 && text == topic[t - 1] && table[p - 1][t - 1],
            };
        }
    }
    table[pattern.len()][topic.len()]
}

struct Naive {
    pattern: String,
    exclude: Option<String>,
    odd: bool,
    active: bool,
    published: u64,
    filtered: u64,
    seen: Vec<i64>,
}

proptest! {
    #![proptest_config(super::cases(300))]

    #[test]
    fn everybody_gets_what_a_naive_list_says(steps in proptest::collection::vec(step(), 1..60)) {
        let (bus, _) = bus();
        let desk = Desk::new();
        let mut made: Vec<Arc<Subscription>> = Vec::new();
        let mut naive: Vec<Naive> = Vec::new();
        let mut kept: std::collections::HashMap<String, (u64, Destination)> = Default::default();
        for (n, step) in steps.into_iter().enumerate() {
            let n = n as i64;
            match step {
                Step::Subscribe { pattern, exclude, odd } => {
                    let options = Options {
                        exclude: exclude.iter().map(|p| Pattern::parse(p).expect("valid")).collect(),
                        filter: odd.then(|| Filter::parse("payload.odd == true").expect("valid")),
                        ..options(&made.len().to_string())
                    };
                    made.push(bus.subscribe(&pattern, options, desk.clone()).expect("valid"));
                    let (published, filtered, seen) = (0, 0, Vec::new());
                    naive.push(Naive { pattern, exclude, odd, active: true, published, filtered, seen });
                }
                Step::Cancel(which) | Step::Retire(which) if !made.is_empty() => {
                    let which = which % made.len();
                    if matches!(step, Step::Cancel(_)) {
                        made[which].cancel();
                    } else {
                        made[which].retire();
                    }
                    naive[which].active = false;
                }
                Step::Cancel(_) | Step::Retire(_) => {}
                Step::Publish { topic, kept: false } => {
                    let payload = json!({"n": n, "odd": n % 2 == 1});
                    let payload = Payload::from_json_value(&payload).expect("valid");
                    let _ = bus.publish(Draft::new(&topic, payload)).expect("valid");
                    expect(&mut naive, &topic, n);
                }
                Step::Publish { topic, kept: true } => {
                    // As a publisher that keeps where its events go.
                    let version = bus.routing();
                    if kept.get(&topic).is_none_or(|(known, _)| *known != version) {
                        let found = bus.destination(&topic).expect("valid");
                        kept.insert(topic.clone(), (version, found));
                    }
                    let payload = json!({"n": n, "odd": n % 2 == 1});
                    let payload = Payload::from_json_value(&payload).expect("valid");
                    let draft = Draft::new(&topic, payload);
                    let _ = bus.publish_to(&kept[&topic].1, draft).expect("valid");
                    expect(&mut naive, &topic, n);
                }
            }
            desk.work();
        }
        for (index, (made, naive)) in made.iter().zip(&naive).enumerate() {
            let tally = made.tally();
            prop_assert_eq!(desk.numbers_of(&index.to_string()), naive.seen.clone());
            prop_assert_eq!((tally.published, tally.filtered), (naive.published, naive.filtered));
        }
        for topic in ["a", "b", "a.b", "b.a.a", "a.b.a.b"] {
            let expected = naive.iter().filter(|naive| naive.wants(topic)).count();
            let explained = bus.explain(topic, false).expect("valid");
            prop_assert_eq!(explained.receivers.len(), expected);
            prop_assert_eq!(bus.has_subscribers(topic), expected > 0);
        }
        assert_balanced(&bus);
    }

    #[test]
    fn a_pattern_matches_what_a_table_says(pattern in "([ab*#]\\.){0,7}[ab*#]", topic in "([ab]\\.){0,7}[ab]") {
        let parsed = Pattern::parse(&pattern).expect("valid");
        let found = parsed.matches(&Topic::parse(&topic).expect("valid"));
        prop_assert_eq!(found, matches(&pattern, &topic));
    }
}

impl Naive {
    fn wants(&self, topic: &str) -> bool {
        let excluded = self.exclude.as_ref().is_some_and(|exclude| matches(exclude, topic));
        self.active && !excluded && matches(&self.pattern, topic)
    }
}

fn expect(naive: &mut [Naive], topic: &str, n: i64) {
    for naive in naive.iter_mut().filter(|naive| naive.wants(topic)) {
        naive.published += 1;
        if naive.odd && n % 2 == 0 {
            naive.filtered += 1;
        } else {
            naive.seen.push(n);
        }
    }
}
