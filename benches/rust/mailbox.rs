//! Into a mailbox, and out of it again.

use std::collections::VecDeque;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use tiebeam::bus::Subscription;

use crate::support::{Later, TYPE, bus, drain, options, payload, publish};

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox");
    for events in [1_u64, 100] {
        let bus = bus();
        let subscription = bus.subscribe(TYPE, options("one"), Arc::new(Later)).expect("valid");
        let (payload, mut batch) = (payload(), VecDeque::new());
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("publish {events}, drain"), |bencher| {
            bencher.iter(|| {
                for _ in 0..events {
                    publish(&bus, TYPE, &payload);
                }
                assert_eq!(drain(&subscription, &mut batch) as u64, events);
            });
        });
    }

    let bus = bus();
    let subscriptions: Vec<Arc<Subscription>> = (0..100)
        .map(|number| bus.subscribe(TYPE, options(&number.to_string()), Arc::new(Later)))
        .collect::<Result<_, _>>()
        .expect("valid");
    let (payload, mut batch) = (payload(), VecDeque::new());
    group.throughput(Throughput::Elements(100));
    group.bench_function("publish 1 to 100 mailboxes, drain", |bencher| {
        bencher.iter(|| {
            publish(&bus, TYPE, &payload);
            let drained: usize =
                subscriptions.iter().map(|subscription| drain(subscription, &mut batch)).sum();
            assert_eq!(drained, 100);
        });
    });
    group.finish();
}
