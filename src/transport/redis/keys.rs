//! What is called how on the server.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::transport::To;

/// The names of keys, each made once.
///
/// What stands in braces decides where in a cluster a key lives: all that belongs to one stream is
/// together.
pub(super) struct Keys {
    prefix: String,
    /// The stream of each category, beside its name.
    streams: RwLock<HashMap<Arc<str>, Stream>>,
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
    pub fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.to_owned(), streams: RwLock::default() }
    }

    /// The stream of a category.
    pub fn category(&self, category: &str) -> Stream {
        if let Some(stream) = self.streams.read().get(category) {
            return stream.clone();
        }
        let key = format!("{{{}:{category}:0}}", self.prefix).into();
        let stream = Stream { key, kind: Kind::Category };
        self.streams.write().insert(category.into(), stream.clone());
        stream
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
    pub fn of(&self, topic: &str, category: &str, to: To<'_>) -> Stream {
        match to {
            To::Topic => self.category(category),
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

/// What is published in this stream later.
pub(super) fn delayed(stream: &str) -> String {
    format!("{stream}:delayed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_stream_has_one_place_in_a_cluster() {
        let keys = Keys::new("trading");
        let stream = keys.category("market_data").key;
        assert_eq!(&*stream, "{trading:market_data:0}");
        for key in [quarantine(&stream), seen(&stream, "g"), delayed(&stream)] {
            assert!(key.starts_with(&*stream), "{key}");
        }
        assert_eq!(&*keys.of("a.b", "a", To::Command).key, "{trading:command:a.b}");
        assert_eq!(keys.of("a.b", "a", To::Topic), keys.category("a"));
    }
}
