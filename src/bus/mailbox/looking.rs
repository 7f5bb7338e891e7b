//! How long its events wait, and how many went well, for who looks.

use std::time::Duration;

use super::super::lanes::Delivery;
use super::super::waits::Watcher;
use super::Mailbox;
use super::state::State;
use crate::event::Event;

impl Mailbox {
    /// At `unix_ms` a consumer begins with `last`, the last of its batch.
    pub fn last_begins(&self, last: &Event, unix_ms: i64) {
        self.lock().waits.last_begins(last, unix_ms);
    }

    /// The longest wait lately, or of what waits at `unix_ms`.
    pub fn delay(&self, unix_ms: i64) -> Duration {
        let mut state = self.lock();
        let since = waits_since(&state);
        state.waits.lately(since, unix_ms)
    }

    /// The longest wait of what was handed out since `who` last looked, or of what waits at
    /// `unix_ms`; none where there was neither.
    pub fn delay_for(&self, who: Watcher, unix_ms: i64) -> Option<Duration> {
        let mut state = self.lock();
        let since = waits_since(&state);
        state.waits.news_for(who, since, unix_ms)
    }

    /// How many events its handler has handled with success, and how many are under way. Called under
    /// locks, it wakes nobody.
    pub fn handled_well(&self) -> (u64, u64) {
        let state = self.state.lock();
        let mut tally = state.tally;
        tally.in_flight = state.running as u64;
        self.passage.add_to(&mut tally);
        (tally.delivered.saturating_sub(state.forgiven), tally.in_flight)
    }
}

/// Since when the one waits that waits longest: the line before a full mailbox included, and what was
/// put aside when its component failed.
fn waits_since(state: &State) -> Option<i64> {
    let in_line = state.line.front().map(|ticket| ticket.event().arrived());
    let aside = state.aside.iter().filter_map(Delivery::waits_since);
    state.backlog.longest_since().into_iter().chain(in_line).chain(aside).min()
}
