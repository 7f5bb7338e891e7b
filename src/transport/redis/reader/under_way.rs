//! What may be on its way to us: the server has given it to a read, whose answer is not here yet.
//!
//! The server says only that it is ours. Whoever took it up beside the read would bring it out of
//! order. A read is given what stands behind all that was read before; what stands there and was
//! taken over from others comes by no read.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::transport::redis::entry_id::EntryId;

/// How far reads have come.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last entry of which it is known that no read is to bring it yet.
    last: EntryId,
    /// What stands behind that, and was taken over from others.
    taken_over: HashSet<EntryId>,
}

impl UnderWay {
    /// No read is under way, and it is about to be looked what is ours: the group may be another
    /// one than before.
    pub fn begin(&self) {
        *self.state.lock() = State::default();
    }

    /// What was given to us up to `last` has come, or is known.
    pub fn came(&self, last: EntryId) {
        let mut state = self.state.lock();
        state.last = state.last.max(last);
        let last = state.last;
        if !state.taken_over.is_empty() {
            state.taken_over.retain(|id| *id > last);
        }
    }

    /// These were taken over from others.
    pub fn took_over(&self, ids: impl IntoIterator<Item = EntryId>) {
        let mut state = self.state.lock();
        let last = state.last;
        state.taken_over.extend(ids.into_iter().filter(|id| *id > last));
    }

    /// Somebody here has seen to these.
    pub fn taken_up(&self, ids: impl IntoIterator<Item = EntryId>) {
        let mut state = self.state.lock();
        for id in ids {
            state.taken_over.remove(&id);
        }
    }

    /// Whether an entry that is ours, and that we do not have, may come by a read.
    pub fn may_bring(&self, id: EntryId) -> bool {
        let state = self.state.lock();
        id > state.last && !state.taken_over.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> EntryId {
        EntryId { ms: 1, seq }
    }

    #[test]
    fn a_read_brings_what_stands_behind_all_that_came() {
        let under_way = UnderWay::default();
        assert!(under_way.may_bring(id(1)));
        under_way.came(id(3));
        under_way.came(id(2)); // a later look at what is older
        assert!(!under_way.may_bring(id(3)));
        assert!(under_way.may_bring(id(4)));
        under_way.begin();
        assert!(under_way.may_bring(id(1)), "a new group begins with old entries");
    }

    #[test]
    fn what_was_taken_over_comes_by_no_read() {
        let under_way = UnderWay::default();
        under_way.came(id(3));
        under_way.took_over([id(2), id(5), id(6), id(7)]);
        assert!(!under_way.may_bring(id(5)));
        assert!(under_way.may_bring(id(4)));
        under_way.taken_up([id(6)]);
        assert!(under_way.may_bring(id(6)), "it may be given to somebody else, and then to a read");
        under_way.came(id(5));
        assert_eq!(under_way.state.lock().taken_over.len(), 1, "it keeps what is of use");
    }
}
