//! Filters that reject: alone, and between publish and mailbox.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use tiebeam::filter::Filter;

use crate::support::{Later, TYPE, bus, event, filtered, payload, publish};

const REJECTING: [(&str, &str); 4] = [
    ("equality", "payload.symbol == 'ETHUSDT'"),
    ("comparison", "payload.price >= 40000"),
    ("membership", "payload.symbol in ['ETHUSDT', 'SOLUSDT', 'ADAUSDT']"),
    ("conjunction", "payload.volume > 1 and payload.price > 0 and payload.symbol == 'ETHUSDT'"),
];

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter rejects");
    group.throughput(Throughput::Elements(1));
    let event = event();
    for (name, text) in REJECTING {
        let filter = Filter::parse(text).expect("a valid filter");
        assert!(!filter.accepts(&event), "{text} is to reject");
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&filter).accepts(black_box(&event)));
        });
    }

    let bus = bus();
    for number in 0..100 {
        let options = filtered(&number.to_string(), REJECTING[0].1);
        bus.subscribe(TYPE, options, Arc::new(Later)).expect("valid");
    }
    let payload = payload();
    group.throughput(Throughput::Elements(100));
    group.bench_function("publish to 100 that reject", |bencher| {
        bencher.iter(|| publish(&bus, TYPE, &payload));
    });
    assert!(bus.subscriptions().iter().all(|subscription| subscription.depth() == 0));
    group.finish();
}
