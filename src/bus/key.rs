//! Where a subscription finds the key of an event.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::event::Event;
use crate::filter::Path;

/// The path of the value that is an event's key, such as `payload.symbol`.
///
/// Events of one key keep their order. Keys are text: 5, 5.0 and `"5"` are the same one. A path
/// that leads nowhere, to null, or to a list or map means that the event has no key.
#[derive(Clone, PartialEq)]
pub struct KeyPath(Arc<(String, Path)>);

impl KeyPath {
    /// Reads a path as filters have them.
    ///
    /// # Errors
    /// `Kind::Configuration` for a path that leads nowhere in any event.
    pub fn parse(text: &str) -> Result<KeyPath> {
        Ok(KeyPath(Arc::new((text.to_owned(), Path::parse(text)?))))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.0
    }

    /// The key of `event`, if it has one here.
    pub fn key_of<'a>(&self, event: &'a Event) -> Option<Cow<'a, str>> {
        self.0.1.text(event)
    }
}

impl fmt::Debug for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPath({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::bus::{
        Bus, BusSettings, Delivery, Draft, Executor, Failure, Options, Policy, Subscription,
    };
    use crate::clock::Clock;
    use crate::error::Category;
    use crate::event::Payload;
    use crate::resilience::{Backoff, RetryPolicy};

    fn event(payload: &serde_json::Value) -> Event {
        let json = json!({
            "event_id": "e", "event_type": "market_data.price", "timestamp": 7,
            "producer": "feed", "payload": payload, "metadata": {"key": "own", "tenant": {"id": 3}},
        });
        Event::from_json(&json.to_string()).expect("valid")
    }

    #[test]
    fn scalars_are_keys_and_nothing_else_is() {
        let event = event(&json!({
            "text": "BTC", "int": -5, "uint": u64::MAX, "float": 2.5, "whole": 5.0, "zero": -0.0,
            "flag": true, "null": null, "list": [1], "map": {"in": "side"},
        }));
        for (path, key) in [
            ("payload.text", Some("BTC")),
            ("payload.int", Some("-5")),
            ("payload.uint", Some("18446744073709551615")),
            ("payload.float", Some("2.5")),
            ("payload.whole", Some("5")),
            ("payload.zero", Some("0")),
            ("payload.flag", Some("true")),
            ("payload.map.in", Some("side")),
            ("payload.null", None),
            ("payload.list", None),
            ("payload.map", None),
            ("payload.absent", None),
            ("payload.text.deeper", None),
            ("metadata.key", Some("own")),
            ("metadata.priority", Some("normal")),
            ("metadata.tenant.id", Some("3")),
            ("event_id", Some("e")),
            ("producer", Some("feed")),
        ] {
            let found = KeyPath::parse(path).expect(path).key_of(&event);
            assert_eq!(found.as_deref(), key, "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_refused_with_a_suggestion() {
        for (path, says) in [
            ("symbol", "did you mean `payload.symbol`?"),
            ("paylod.symbol", "did you mean `payload.symbol`?"),
            ("key", "did you mean `metadata.key`?"),
            ("payload", "name a field in it"),
            ("", "leads nowhere"),
        ] {
            let error = KeyPath::parse(path).expect_err(path);
            assert!(error.message().contains(says), "{path}: {error}");
        }
    }

    /// Leaves it to the test to come for work.
    #[derive(Debug)]
    struct ByHand;

    impl Executor for ByHand {
        fn schedule(&self, _subscription: &Arc<Subscription>) {}

        fn describe(&self) -> &'static str {
            "by hand"
        }
    }

    /// Handles everything that is ready; `n` 0 fails on its first attempt. Records `n`.
    fn work(subscription: &Arc<Subscription>, seen: &Mutex<Vec<i64>>) {
        let mut batch = VecDeque::new();
        if !subscription.claim(16, &mut batch) {
            return;
        }
        loop {
            let mut delivered = 0;
            while let Some(delivery) = batch.pop_front() {
                let Delivery { event, attempt, .. } = &delivery;
                let number = event.payload.to_json_value()["n"].as_i64().expect("a number");
                seen.lock().push(number);
                if number == 0 && *attempt == 1 {
                    let failure = Failure::new(Category::Transient, "Error", String::new());
                    assert!(!subscription.failed(delivery, failure));
                    subscription.put_back(delivered, batch.drain(..));
                    delivered = 0;
                } else {
                    delivered += 1;
                }
            }
            if !subscription.next(delivered, 16, &mut batch) {
                return;
            }
        }
    }

    /// Publishes `(own key, symbol)` numbered from 0, and returns in which order the numbers
    /// were handled: before the retry of number 0 was due, and from then on.
    fn order(path: Option<&str>, events: &[(Option<&str>, Option<&str>)]) -> (Vec<i64>, Vec<i64>) {
        let clock = Clock::simulated(0);
        let bus = Bus::new(BusSettings::default(), clock.clone());
        let retry = RetryPolicy::builder().backoff(Backoff::constant(Duration::from_secs(1)));
        let options = Options {
            key: path.map(|path| KeyPath::parse(path).expect("valid")),
            policy: Policy {
                retry: Some(Arc::new(retry.build().expect("valid"))),
                guard: None,
                fallback: false,
            },
            ..Options::named("test")
        };
        let subscription = bus.subscribe("a.b", options, Arc::new(ByHand)).expect("valid");
        for (number, (key, symbol)) in events.iter().enumerate() {
            let payload = Payload::from_json_value(&json!({"n": number, "symbol": symbol}));
            let mut draft = Draft::new("a.b", payload.expect("valid"));
            draft.key = key.map(Arc::from);
            drop(bus.publish(draft).expect("there is room"));
        }
        let seen = Mutex::default();
        work(&subscription, &seen);
        let before = std::mem::take(&mut *seen.lock());
        clock.advance(Duration::from_secs(1));
        work(&subscription, &seen);
        let tally = subscription.tally();
        assert!(tally.balances() && tally.in_flight == 0, "{tally:?}");
        (before, seen.into_inner())
    }

    const EVENTS: [(Option<&str>, Option<&str>); 4] = [
        (Some("x"), Some("BTC")),
        (Some("x"), Some("ETH")),
        (Some("y"), Some("BTC")),
        (None, None),
    ];

    #[test]
    fn a_waiting_retry_holds_back_the_key_that_the_path_finds() {
        assert_eq!(order(Some("payload.symbol"), &EVENTS), (vec![0, 1, 3], vec![0, 2]));
    }

    #[test]
    fn without_a_path_the_key_is_the_events_own() {
        for path in [None, Some("metadata.key")] {
            assert_eq!(order(path, &EVENTS), (vec![0, 2, 3], vec![0, 1]));
        }
    }

    #[test]
    fn an_event_without_a_key_holds_nothing_back() {
        let path = Some("payload.absent");
        assert_eq!(order(path, &EVENTS), (vec![0, 1, 2, 3], vec![0]));
    }
}
