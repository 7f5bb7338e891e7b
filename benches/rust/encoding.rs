//! Payloads and events, from and to bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use serde_json::{Map, Value, json};
use tiebeam::event::{Encoder, Event, Node, Payload};

use crate::support::{PAYLOAD, event, payload};

pub fn bench(criterion: &mut Criterion) {
    payloads(criterion);
    wire(criterion);
}

fn payloads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("payload");
    group.bench_function("encode 3 fields", |bencher| {
        let mut buffer = Some(Vec::new());
        bencher.iter(|| {
            let mut encoder = Encoder::reusing(buffer.take().unwrap_or_default());
            let map = encoder.begin_map();
            encoder.key("symbol");
            encoder.str(black_box("BTCUSDT"));
            encoder.key("price");
            encoder.float(black_box(38245.5));
            encoder.key("volume");
            encoder.float(black_box(2.15));
            encoder.end(map, 3);
            let (payload, rest) = encoder.finish_reusing();
            buffer = Some(rest);
            payload
        });
    });
    let small = payload();
    group.bench_function("one field of 3", |bencher| {
        bencher.iter(|| assert_eq!(black_box(&small).get(["volume"]), Some(Node::Float(2.15))));
    });
    let nested = nested();
    group.bench_function("one field of 50, two levels down", |bencher| {
        bencher.iter(|| {
            assert_eq!(black_box(&nested).get(["group_9", "field_4"]), Some(Node::Int(94)));
        });
    });
    group
        .bench_function("walk 3 fields", |bencher| bencher.iter(|| walk(black_box(&small).root())));
    group.bench_function("walk 50 nested fields", |bencher| {
        bencher.iter(|| walk(black_box(&nested).root()));
    });
    group.finish();
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let event = event();
    let text = event.to_json();
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("event to JSON", |bencher| bencher.iter(|| black_box(&event).to_json()));
    group.bench_function("event from JSON", |bencher| {
        bencher.iter(|| Event::from_json(black_box(&text)).expect("what was written"));
    });
    group.throughput(Throughput::Bytes(PAYLOAD.len() as u64));
    group.bench_function("payload from JSON", |bencher| {
        bencher.iter(|| Payload::from_json(black_box(PAYLOAD)).expect("valid JSON"));
    });
    group.finish();
}

/// Ten groups of five fields.
fn nested() -> Payload {
    let groups: Map<String, Value> = (0..10)
        .map(|group| {
            let fields: Map<String, Value> =
                (0..5).map(|field| (format!("field_{field}"), json!(group * 10 + field))).collect();
            (format!("group_{group}"), Value::Object(fields))
        })
        .collect();
    Payload::from_json_value(&Value::Object(groups)).expect("valid")
}

/// Looks at every value; how many there are.
fn walk(node: Node<'_>) -> usize {
    match node {
        Node::Map(entries) => entries.map(|(_, value)| walk(value)).sum(),
        Node::List(items) => items.map(walk).sum(),
        other => {
            black_box(other);
            1
        }
    }
}
