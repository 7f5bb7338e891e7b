//! From a type to those who want it: known to the cache, and for the first time.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use tiebeam::bus::Subscription;
use tiebeam::topic::{Pattern, Topic, Trie};

use crate::support::{Later, bus, drain, options, payload, publish};

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing");
    group.throughput(Throughput::Elements(1));
    for patterns in [10_usize, 1_000, 10_000] {
        let bus = bus();
        let subscriptions: Vec<Arc<Subscription>> = (0..patterns)
            .map(|number| {
                let pattern = format!("market_data.s{number}.*");
                bus.subscribe(&pattern, options(&pattern), Arc::new(Later))
            })
            .collect::<Result<_, _>>()
            .expect("valid");
        let types: Vec<String> =
            (0..patterns).map(|number| format!("market_data.s{number}.trade")).collect();
        let (payload, mut batch) = (payload(), VecDeque::new());
        let mut next = (0..patterns).cycle();
        group.bench_function(format!("publish, {patterns} patterns and types"), |bencher| {
            bencher.iter(|| {
                let number = next.next().expect("endless");
                publish(&bus, &types[number], &payload);
                assert_eq!(drain(&subscriptions[number], &mut batch), 1);
            });
        });

        let mut trie = Trie::default();
        for number in 0..patterns {
            let pattern = Pattern::parse(&format!("market_data.s{number}.*")).expect("valid");
            trie.insert(&pattern, number);
        }
        let topic = Topic::parse("market_data.s7.trade").expect("valid");
        group.bench_function(format!("look up a new type, {patterns} patterns"), |bencher| {
            bencher.iter(|| assert_eq!(trie.find(black_box(&topic)), [7]));
        });
    }
    group.finish();
}
