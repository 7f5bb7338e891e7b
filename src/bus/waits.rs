//! How long events wait for their handler: from when they are here to be handled until it begins.
//!
//! Nothing is done for a single event: of each batch that is pulled, the one that has waited
//! longest counts. Of a batch of several, all but the first wait on in the hands of the consumer,
//! who tells when the last of them begins: from then on nothing waits there. Several consumers may
//! have one each, which is known by that last one. What was tried before, and comes again, waits
//! for its retry and not for its handler.

use std::collections::VecDeque;
use std::time::Duration;

use super::lanes::Delivery;
use crate::event::Event;

/// Who looks again and again, and wants to know what is new since the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// Who compares it with the limit of a check.
    Limit,
    /// Who compares it with what was promised.
    Promise,
}

const WATCHERS: usize = 2;

/// Who looks now and then is told the longest wait of this time and of what has begun after it, in
/// milliseconds.
const WINDOW: i64 = 10_000;

/// The waits at one mailbox; all times are Unix milliseconds.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// The longest since each watcher looked.
    news: [Option<Duration>; WATCHERS],
    /// The number of the present window.
    window: i64,
    /// The longest in that, and in the one before.
    longest: [Duration; 2],
    /// What consumers have, and have not begun with.
    hands: Vec<Hand>,
}

/// A batch of several.
#[derive(Debug)]
struct Hand {
    /// Since when its second one waits, and its last one.
    second: Option<i64>,
    last: Option<i64>,
    /// What it is known by: the address of its last event, which it holds.
    ends_with: usize,
}

fn address(event: &Event) -> usize {
    std::ptr::from_ref(event).addr()
}

fn between(since: i64, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(since)).unwrap_or(0))
}

impl Waits {
    /// A batch was pulled, when the first in line had waited since `first`, by one of so many
    /// consumers that are at work. Its own first one begins now.
    pub fn handed_out(
        &mut self,
        first: Option<i64>,
        consumers: usize,
        batch: &VecDeque<Delivery>,
        now: &mut impl FnMut() -> i64,
    ) {
        let Some(begins) = batch.front() else { return };
        let now = now();
        if let Some(since) = first.or_else(|| begins.waits_since()) {
            self.note(between(since, now), now);
        }
        if let (Some(second), Some(last)) = (batch.get(1), batch.back()) {
            if self.hands.len() >= consumers {
                self.hands.remove(0); // each has one at most: it was left by one that is gone
            }
            self.hands.push(Hand {
                second: second.waits_since(),
                last: last.waits_since(),
                ends_with: address(&last.event),
            });
        }
    }

    /// A consumer begins with `last`, which is the last of its batch.
    pub fn last_begins(&mut self, last: &Event, now: i64) {
        if let Some(since) = self.take(last).and_then(|hand| hand.last) {
            self.note(between(since, now), now);
        }
    }

    /// `event` is in no hands any more, without having begun: it waits in the queue again, or is
    /// over. With the last of a batch, nothing of that waits there.
    pub fn handed_back(&mut self, event: &Event) {
        if !self.hands.is_empty() {
            self.take(event);
        }
    }

    /// No consumer has anything that it has not begun with.
    pub fn none_in_hand(&mut self) {
        self.hands.clear();
    }

    fn take(&mut self, last: &Event) -> Option<Hand> {
        let at = self.hands.iter().rposition(|hand| hand.ends_with == address(last))?;
        Some(self.hands.swap_remove(at))
    }

    fn note(&mut self, waited: Duration, now: i64) {
        self.news.iter_mut().for_each(|longest| *longest = (*longest).max(Some(waited)));
        self.turn(now);
        self.longest[0] = self.longest[0].max(waited);
    }

    fn turn(&mut self, now: i64) {
        let window = now.div_euclid(WINDOW);
        if window != self.window {
            let before = if window == self.window + 1 { self.longest[0] } else { Duration::ZERO };
            (self.window, self.longest) = (window, [Duration::ZERO, before]);
        }
    }

    /// How long something waits at `now`, where what is not handed out waits `since` then.
    fn present(&self, since: Option<i64>, now: i64) -> Option<Duration> {
        let in_hand = self.hands.iter().filter_map(|hand| hand.second);
        let since = since.into_iter().chain(in_hand).min()?;
        Some(between(since, now))
    }

    /// The longest wait lately, or at `now`.
    pub fn lately(&mut self, since: Option<i64>, now: i64) -> Duration {
        self.turn(now);
        let [here, before] = self.longest;
        here.max(before).max(self.present(since, now).unwrap_or_default())
    }

    /// The longest wait that is news for a watcher, or at `now`; none if nothing has waited, or
    /// waits.
    pub fn news_for(&mut self, watcher: Watcher, since: Option<i64>, now: i64) -> Option<Duration> {
        let news = self.news[watcher as usize].take();
        news.max(self.present(since, now))
    }
}
