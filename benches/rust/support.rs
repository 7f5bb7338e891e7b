//! A bus, the event that the Python benchmarks publish too, and an executor that costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use tiebeam::bus::{Bus, BusSettings, Delivery, Draft, Executor, Options, Subscription};
use tiebeam::clock::Clock;
use tiebeam::event::{Event, Payload};
use tiebeam::filter::Filter;

pub const TYPE: &str = "market_data.price_update";
pub const PAYLOAD: &str = r#"{"symbol":"BTCUSDT","price":38245.5,"volume":2.15}"#;

pub fn payload() -> Payload {
    Payload::from_json(PAYLOAD).expect("valid JSON")
}

pub fn bus() -> Bus {
    Bus::new(BusSettings::default(), Clock::real())
}

/// An event as it is stamped by a bus.
pub fn event() -> Arc<Event> {
    bus().publish(Draft::new(TYPE, payload())).expect("a valid draft").event
}

/// Publishes, and makes sure that nobody had to wait.
pub fn publish(bus: &Bus, event_type: &str, payload: &Payload) {
    let published = bus.publish(Draft::new(event_type, payload.clone())).expect("a valid draft");
    assert!(published.admission.is_none(), "there is room");
}

pub fn options(name: &str) -> Options {
    Options::named(name)
}

pub fn filtered(name: &str, filter: &str) -> Options {
    Options { filter: Some(Filter::parse(filter).expect("a valid filter")), ..options(name) }
}

/// Leaves events where they are; [`drain`] takes them out.
#[derive(Debug)]
pub struct Later;

impl Executor for Later {
    fn schedule(&self, _subscription: &Arc<Subscription>) {}

    fn describe(&self) -> &'static str {
        "later"
    }
}

/// Handles all that waits, in batches; how many there were.
pub fn drain(subscription: &Arc<Subscription>, batch: &mut VecDeque<Delivery>) -> usize {
    let mut drained = 0;
    let mut more = subscription.claim(100, batch);
    while more {
        let handled = batch.len();
        batch.clear();
        drained += handled;
        more = subscription.next(handled, 100, batch);
    }
    drained
}
