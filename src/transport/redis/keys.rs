//! What is called how on the server.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::partition;
use crate::event::Event;
use crate::transport::To;

/// The category of the core's own events, which have no keys: it has one partition.
const SYSTEM: &str = "system";

/// The names of keys, each made once.
///
/// What stands in braces decides where in a cluster a key lives: all that belongs to one stream is
/// together.
pub(super) struct Keys {
    prefix: String,
    /// How many a category has.
    partitions: usize,
    /// The streams of each category, one for each partition, beside its name.
    streams: RwLock<HashMap<Arc<str>, Arc<[Stream]>>>,
}

/// A stream as its publishers and readers know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub key: Arc<str>,
    pub kind: Kind,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The events of a category: each group reads all of it.
    Category,
    /// The commands of one type, which one of its readers does: an entry is gone when that is done.
    Commands,
    /// The requests of one type, for one of those who answer them.
    Requests,
    /// The replies to one process.
    Replies,
}

impl Keys {
    pub fn new(prefix: &str, partitions: usize) -> Keys {
        Keys { prefix: prefix.to_owned(), partitions, streams: RwLock::default() }
    }

    /// The first part of all of them.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How many partitions a category has.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// The streams of a category, one for each partition.
    pub fn category(&self, category: &str) -> Arc<[Stream]> {
        if let Some(streams) = self.streams.read().get(category) {
            return streams.clone();
        }
        let count = if category == SYSTEM { 1 } else { self.partitions };
        let stream = |number| {
            let key = format!("{{{}:{category}:{number}}}", self.prefix).into();
            Stream { key, kind: Kind::Category }
        };
        let streams: Arc<[Stream]> = (0..count).map(stream).collect();
        self.streams.write().insert(category.into(), streams.clone());
        streams
    }

    /// The stream that an event of a category goes to.
    fn partition(&self, category: &str, key: Option<&str>) -> Stream {
        let pick = |streams: &[Stream]| streams[partition::of(key, streams.len())].clone();
        if let Some(streams) = self.streams.read().get(category) {
            return pick(streams);
        }
        pick(&self.category(category))
    }

    /// The name of a category, kept once.
    pub fn name(&self, category: &str) -> Arc<str> {
        let known = self.streams.read().get_key_value(category).map(|(name, _)| name.clone());
        known.unwrap_or_else(|| category.into())
    }

    /// The stream of the commands of a type.
    pub fn commands(&self, topic: &str) -> Stream {
        let key = format!("{{{}:command:{topic}}}", self.prefix).into();
        Stream { key, kind: Kind::Commands }
    }

    /// The stream of the requests of a type.
    pub fn requests(&self, topic: &str) -> Stream {
        let key = format!("{{{}:request:{topic}}}", self.prefix).into();
        Stream { key, kind: Kind::Requests }
    }

    /// The stream of the replies to one process.
    pub fn replies(&self, address: &str) -> Stream {
        let key = format!("{{{}:reply:{address}}}", self.prefix).into();
        Stream { key, kind: Kind::Replies }
    }

    /// Where an event goes.
    pub fn of(&self, event: &Event, to: To<'_>) -> Stream {
        let topic = event.topic.as_str();
        match to {
            To::Topic => self.partition(event.topic.category(), event.key().map(|key| &**key)),
            To::Command => self.commands(topic),
            To::Request => self.requests(topic),
            To::Reply(address) => self.replies(address),
        }
    }

    /// The pattern of all keys.
    pub fn all(&self) -> String {
        let escaped: String = self.prefix.chars().fold(String::new(), |mut text, c| {
            if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
                text.push('\\');
            }
            text.push(c);
            text
        });
        format!("{{{escaped}[:}}]*")
    }

    /// The set of all categories there are.
    pub fn categories(&self) -> String {
        format!("{{{}}}:categories", self.prefix)
    }

    /// Whether a stream stands under this prefix.
    pub fn is_ours(&self, key: &str) -> bool {
        let name = key.strip_prefix('{').and_then(|key| key.strip_prefix(&*self.prefix));
        name.is_some_and(|name| name.starts_with(':') && name.ends_with('}'))
    }

    /// Whether a stream has the events of a category: those of a group, and not of whoever serves.
    pub fn is_category(&self, key: &str) -> bool {
        let serves = ["command", "request", "reply"];
        let name = key.get(self.prefix.len() + 2..).unwrap_or_default();
        !serves.iter().any(|kind| {
            // A category of that name has a number behind it, and a type does not begin with one.
            name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(':') && !is_number(rest))
        })
    }

    /// How many partitions all processes have agreed on.
    pub fn agreed(&self) -> String {
        format!("{{{}}}:partitions", self.prefix)
    }

    /// Where what was given up is kept.
    pub fn dead_letters(&self) -> String {
        format!("{{{}}}:dead", self.prefix)
    }
}

/// Whether a partition follows.
fn is_number(rest: &str) -> bool {
    let digits = rest.trim_start_matches(':').trim_end_matches('}');
    digits.parse::<u32>().is_ok()
}

/// Where what is no event is put.
pub(super) fn quarantine(stream: &str) -> String {
    format!("{stream}:quarantine")
}

/// The ids that a group has handled lately.
pub(super) fn seen(stream: &str, group: &str) -> String {
    format!("{stream}:seen:{group}")
}

/// That somebody has told that a group misses some of so many entries that are gone.
pub(super) fn gap(stream: &str, group: &str, gone: u64) -> String {
    format!("{stream}:gap:{group}:{gone}")
}

/// Who reads the streams of a category for a group, of which this is the first.
pub(super) fn members(stream: &str, group: &str) -> String {
    format!("{stream}:members:{group}")
}

/// Whose turn it is to read a stream for a group.
pub(super) fn lease(stream: &str, group: &str) -> String {
    format!("{stream}:reader:{group}")
}

/// In which manner a stream is read for a group.
pub(super) fn manner(stream: &str, group: &str) -> String {
    format!("{stream}:manner:{group}")
}

/// What is published in this stream later.
pub(super) fn delayed(stream: &str) -> String {
    format!("{stream}:delayed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(topic: &str, key: &str) -> Event {
        let json = format!(
            r#"{{"event_id": "e", "event_type": "{topic}", "timestamp": 1, "producer": "p",
                "payload": {{}}, "metadata": {{"key": {key}}}}}"#
        );
        Event::from_json(&json).expect("an event")
    }

    #[test]
    fn what_belongs_to_one_stream_has_one_place_in_a_cluster() {
        let keys = Keys::new("trading", 1);
        let stream = keys.category("market_data")[0].key.clone();
        assert_eq!(&*stream, "{trading:market_data:0}");
        let own = [quarantine(&stream), seen(&stream, "g"), delayed(&stream)];
        let of_group = [members(&stream, "g"), lease(&stream, "g"), manner(&stream, "g")];
        for key in own.into_iter().chain(of_group) {
            assert!(key.starts_with(&*stream), "{key}");
        }
        let event = event("a.b", "null");
        assert_eq!(&*keys.of(&event, To::Command).key, "{trading:command:a.b}");
        assert_eq!(keys.of(&event, To::Topic), keys.category("a")[0]);
    }

    #[test]
    fn a_key_has_its_partition_and_what_has_none_is_in_the_first() {
        let keys = Keys::new("t", 256);
        let place = |topic, key| keys.of(&event(topic, key), To::Topic).key;
        for _ in 0..2 {
            assert_eq!(&*place("a.b", r#""123456789""#), "{t:a:195}");
            assert_eq!(&*place("a.c", r#""123456789""#), "{t:a:195}", "whatever its type");
        }
        assert_eq!(&*place("a.b", "null"), "{t:a:0}");
        assert_eq!(&*place("system.x", r#""123456789""#), "{t:system:0}");
        assert_eq!((keys.category("a").len(), keys.category("system").len()), (256, 1));
    }
}
