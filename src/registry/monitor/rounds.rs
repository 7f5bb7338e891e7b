//! When checks run: at once when their component is at work, and then once in each period.
//!
//! The periods of each begin at another moment, so that what begins together does not ask
//! together for ever. In virtual time they begin with the first run: every run is the same there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::{Entry, Inner, Monitor, Source, Watched};
use crate::clock::{Clock, Instant};
use crate::health::CheckState;
use crate::registry::Slot;

impl Monitor {
    pub(super) fn spawn_loops(&self, slot: &Arc<Slot>, token: &CancellationToken) {
        let watched = self.watched(slot);
        if watched.looping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.renew(&watched);
        let (entries, life) = {
            let mut known = watched.known.lock();
            known.states.iter_mut().for_each(CheckState::await_answer);
            (known.entries.clone(), known.life)
        };
        if slot.state().is_operational() {
            watched.lives.send_replace(life); // its checks are asked at once in any case
        }
        for entry in entries {
            self.spawn_loop(&watched, &entry, token.clone());
        }
        self.watch_promises(&watched, token.clone());
    }

    pub(super) fn spawn_loop(
        &self,
        watched: &Arc<Watched>,
        entry: &Arc<Entry>,
        token: CancellationToken,
    ) {
        if let Source::Told(_) = entry.source {
            return self.spawn_silence(watched, entry, token);
        }
        let period = entry.check.period;
        let (mut lives, gone) = (watched.lives.subscribe(), entry.gone.clone());
        let weak = (Arc::downgrade(&self.0), Arc::downgrade(watched), Arc::downgrade(entry));
        let clock = self.0.registry.bus().clock().clone();
        self.0.registry.0.spawner.spawn(Box::pin(async move {
            let (mut due, mut first) = (clock.now(), true);
            loop {
                let begins = {
                    let (sleep, begins) = (clock.sleep_until(due), lives.changed());
                    futures_util::pin_mut!(begins);
                    match until_ended(&token, &gone, select(sleep, begins)).await {
                        None | Some(Either::Right((Err(_), _))) => return,
                        Some(Either::Right((Ok(()), _))) => true,
                        Some(Either::Left(_)) => false,
                    }
                };
                if begins {
                    (due, first) = (clock.now(), true);
                }
                lives.mark_unchanged(); // this run is about every life until now
                if !run_due(&weak).await {
                    return;
                }
                due = next(&clock, due, period, std::mem::take(&mut first));
            }
        }));
    }
}

/// What comes of `wait`, unless one of these ends it.
pub(super) async fn until_ended<T>(
    all: &CancellationToken,
    one: &CancellationToken,
    wait: impl Future<Output = T>,
) -> Option<T> {
    all.run_until_cancelled(one.run_until_cancelled(wait)).await.flatten()
}

/// When a check that was `due` runs again.
fn next(clock: &Clock, due: Instant, period: Duration, first: bool) -> Instant {
    if first && !clock.is_virtual() {
        return clock.now().saturating_add(period.mul_f64(fastrand::f64()));
    }
    // Always a whole number of periods: after a slow run or a gap (suspend) what was missed is
    // skipped, and the phase stays.
    let late = clock.now().saturating_since(due).as_nanos();
    let periods = (late / period.as_nanos() + 1).min(u128::from(u32::MAX)) as u32;
    due.saturating_add(period.saturating_mul(periods))
}

/// One scheduled run; false when there is nobody left to run it for.
async fn run_due((inner, watched, entry): &(Weak<Inner>, Weak<Watched>, Weak<Entry>)) -> bool {
    let (Some(inner), Some(watched), Some(entry)) =
        (inner.upgrade(), watched.upgrade(), entry.upgrade())
    else {
        return false;
    };
    Monitor(inner).run(&watched, &entry).await;
    true
}
