//! What is called how on the server.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The names of keys, each made once.
///
/// What stands in braces decides where in a cluster a key lives: all that belongs to one stream is
/// together.
pub(super) struct Keys {
    prefix: String,
    streams: Mutex<HashMap<String, Arc<str>>>,
}

impl Keys {
    pub fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.to_owned(), streams: Mutex::default() }
    }

    /// The stream of a category.
    pub fn stream(&self, category: &str) -> Arc<str> {
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.get(category) {
            return stream.clone();
        }
        let stream: Arc<str> = format!("{{{}:{category}:0}}", self.prefix).into();
        streams.insert(category.to_owned(), stream.clone());
        stream
    }
}

/// Where what is no event is put.
pub(super) fn quarantine(stream: &str) -> String {
    format!("{stream}:quarantine")
}
