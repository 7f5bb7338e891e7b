//! What was given up, as a broker keeps it for all processes.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::carrier::Later;
use crate::error::Result;
use crate::event::{Event, Lease, Letter};

/// A dead letter as the broker keeps it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What it is called there.
    pub id: String,
    /// What was kept, in JSON: the letter, or the event alone where the broker itself gave it up.
    pub text: String,
    /// Where it was read before, and goes when it is sent again.
    pub place: String,
    /// Why the broker gave it up, if it was the broker.
    pub reason: Option<String>,
}

/// A dead letter that is to be handled again.
#[derive(Clone, Debug)]
pub struct Again {
    /// What it is called on the broker.
    pub id: String,
    /// Its event.
    pub event: Arc<Event>,
    /// Where it was read before.
    pub place: String,
    /// The group that gave it up.
    pub group: Option<Arc<str>>,
}

/// Takes one letter after the other; false ends it.
pub type Take = Box<dyn FnMut(Kept) -> bool + Send>;

/// The dead letters that a broker keeps.
pub trait Letters: Send + Sync {
    /// Shows them to `take`, the oldest first. Nothing is taken out.
    ///
    /// # Errors
    /// What the broker said, or the lack of it.
    fn each(&self, take: Take) -> Later<'_, Result<()>>;

    /// Gives each to the group that gave it up, and to no other, and then takes it out; the ids of
    /// those for which there was a group. Whoever dies between the two leaves both, and the group
    /// handles it once.
    ///
    /// # Errors
    /// As [`Letters::each`].
    fn send_again(&self, letters: Vec<Again>) -> Later<'_, Result<Vec<String>>>;

    /// Takes them out; how many were there.
    ///
    /// # Errors
    /// As [`Letters::each`].
    fn forget(&self, ids: Vec<String>) -> Later<'_, Result<usize>>;

    /// What ties an event to the letter of this name, which this process wrote lately: settled, the
    /// letter is forgotten; buried, another one stands in its place. None if it is not known.
    fn hold(&self, letter: &str) -> Option<Arc<dyn Lease>>;
}

/// What is to become of a letter: it is taken out, once what takes its place, if anything, is kept.
type Replace = Box<dyn FnOnce(Option<Letter>) + Send>;

/// Ties an event to the letter that was written of it.
pub struct Hold(Mutex<Option<Replace>>);

impl Hold {
    /// Ends with `replace`, which is called once at most.
    pub fn ending_with(replace: impl FnOnce(Option<Letter>) + Send + 'static) -> Arc<dyn Lease> {
        Arc::new(Hold(Mutex::new(Some(Box::new(replace)))))
    }

    fn end(&self, by: Option<Letter>) {
        let replace = self.0.lock().take();
        if let Some(replace) = replace {
            replace(by);
        }
    }
}

impl Lease for Hold {
    fn settle(&self) {
        self.end(None);
    }

    fn bury(&self, letter: Letter) {
        self.end(Some(letter));
    }

    /// The letter is still there.
    fn release(&self) {}
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}
