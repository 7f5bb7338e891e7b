//! Filters: no text makes the parser panic, and what it reads can be evaluated on anything.

use tiebeam::error::Kind;
use tiebeam::event::Event;
use tiebeam::filter::{Filter, MAX_LENGTH};

/// `data` is an expression, and below it, if there is more than one line, a payload.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, payload) = text.rsplit_once('\n').unwrap_or((text, "{}"));
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Configuration);
            return assert!(!error.message().is_empty());
        }
    };
    assert_eq!(Filter::parse(text).expect("the same text"), filter);
    let events: Vec<Event> = ["{}", r#"{"a": 1, "b": [null], "c": {"d": "x"}}"#, payload]
        .iter()
        .filter_map(|payload| Event::from_json(&wire(payload)).ok())
        .collect();
    let passes: Vec<bool> = events.iter().map(|event| filter.accepts(event)).collect();
    // Where the limits allow it, a condition in `not ( )` is its opposite.
    let opposite = format!("not ({text}\n)");
    if opposite.len() <= MAX_LENGTH
        && let Ok(opposite) = Filter::parse(&opposite)
    {
        for (event, passes) in events.iter().zip(passes) {
            assert_eq!(opposite.accepts(event), !passes, "{text:?}");
        }
    }
}

fn wire(payload: &str) -> String {
    format!(
        r#"{{"event_id":"e","event_type":"a.b","timestamp":1,"producer":"p","version":1,"payload":{payload},"metadata":{{"priority":"high","key":"k"}}}}"#
    )
}
