use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn paths_lead_to_values() {
    let payload =
        Payload::from_json_value(&json!({"a": [1, {"b": 2}], "symbol": "X", "n": {"m": -3}}))
            .expect("is a payload");
    assert_eq!(payload.get(["symbol"]), Some(Node::Str("X")));
    assert_eq!(payload.get(["n", "m"]), Some(Node::Int(-3)));
    assert_eq!(payload.get(["n", "absent"]), None);
    assert_eq!(payload.get(["symbol", "deeper"]), None);
}

#[test]
fn depth_is_bounded_from_json_too() {
    let text = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Payload::from_json(&text(MAX_DEPTH)).is_ok());
    assert!(Payload::from_json(&text(MAX_DEPTH + 1)).is_err());
}

#[test]
fn a_key_that_comes_twice_is_refused() {
    let error = Payload::from_json(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#).expect_err("twice");
    assert!(error.reason.contains("\"c\" comes twice"), "{error}");
    assert!(Payload::from_json(r#"[{"a": 1}, {"a": 2}]"#).is_ok());
}

#[test]
fn truncated_bytes_end_early_instead_of_panicking() {
    let whole = Payload::from_json(r#"{"a": [1, 2.5, "text", {"b": null}]}"#).expect("valid");
    for end in 0..whole.len() {
        let cut = Payload(Arc::from(&whole.0[..end]));
        let _ = cut.to_json();
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(".{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_goes_in_and_comes_out_unchanged(value in value()) {
        let payload = Payload::from_json_value(&value).expect("JSON values are payloads");
        prop_assert_eq!(payload.to_json_value(), value);
    }

    #[test]
    fn every_key_of_a_map_is_found(
        map in prop::collection::hash_map(".{0,6}", value(), 0..8)
    ) {
        let map: serde_json::Map<String, Value> = map.into_iter().collect();
        let payload = Payload::from_json_value(&Value::Object(map.clone())).expect("valid");
        for (key, value) in &map {
            let found = payload.get([key.as_str()]).map(serde_json::to_value);
            prop_assert_eq!(&found.expect("is there").expect("is JSON"), value);
        }
        prop_assert_eq!(payload.get(["a key that is too long"]), None);
    }
}
