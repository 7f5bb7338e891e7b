//! Why the broker is not there just now, as those see it who use it.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::carrier::News;

/// Who has trouble with the broker, and which.
pub(super) struct Trouble {
    of: Mutex<BTreeMap<String, String>>,
    news: News,
}

impl Trouble {
    pub fn new(news: News) -> Trouble {
        Trouble { of: Mutex::default(), news }
    }

    /// `who` cannot do its work, because of `why`.
    pub fn begins(&self, who: &str, why: &str) {
        let mut of = self.of.lock();
        let first = of.is_empty();
        of.insert(who.to_owned(), why.to_owned());
        drop(of);
        if first {
            (self.news)("system.transport.disconnected", serde_json::json!({"reason": why}));
        }
    }

    /// `who` can do its work.
    pub fn over(&self, who: &str) {
        let mut of = self.of.lock();
        let last = of.remove(who).is_some() && of.is_empty();
        drop(of);
        if last {
            (self.news)("system.transport.connected", serde_json::json!({}));
        }
    }

    /// The trouble of one of them, if there is any.
    pub fn now(&self) -> Option<String> {
        self.of.lock().values().next().cloned()
    }
}
