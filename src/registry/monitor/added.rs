//! Checks that come and go while the system runs, and those that are reported instead of asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::rounds::until_ended;
use super::running::{key_of, outcome_of};
use super::{Entry, Monitor, OWN_CHECK, Source, Watched};
use crate::clock::Instant;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::health::{Check, Outcome, Verdict};
use crate::registry::HealthAnswer;

/// Most checks of one component.
const MOST: usize = 1_000;

/// A report is late when more time than allowed has passed, not as much.
const MORE: Duration = Duration::from_nanos(1);

impl Monitor {
    /// Adds a check to a component. It is asked by [`Component::run_check`], or, where it is
    /// `told`, reported by [`Monitor::report_check`]: its period is then how long the component
    /// may be silent. With `replaces` it takes the place of one of its name that was added before.
    ///
    /// [`Component::run_check`]: crate::registry::Component::run_check
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown component, a name that is taken, and too many.
    pub fn add_check(
        &self,
        component: &str,
        check: Check,
        told: bool,
        replaces: bool,
    ) -> Result<()> {
        let watched = self.watched(&self.0.registry.get(component)?);
        let source = match told {
            true => Source::Told(Mutex::new(self.0.registry.bus().clock().now())),
            false => Source::Asked,
        };
        self.renew(&watched);
        let at_work = watched.slot.state().is_operational();
        let waits = !at_work && watched.looping.load(Ordering::Acquire);
        let name = check.name.clone();
        let entry = {
            let mut known = watched.known.lock();
            let refused = |message: String| {
                let error = Error::new(Kind::Configuration, "add check", message);
                Err(error.with("component", component))
            };
            match known.place_of(&check.name) {
                // The component's own is meant instead of what the core measures.
                Some(at) if replaces || matches!(known.entries[at].source, Source::Measured(_)) => {
                    known.replace(at, &self.0.settings, check, source)
                }
                Some(_) => {
                    return refused(format!("`{component}` has a check `{}` already", check.name));
                }
                None if known.entries.len() >= MOST => {
                    return refused(format!(
                        "`{component}` has {MOST} checks, and may have no more"
                    ));
                }
                None => {
                    let entry = known.push(&self.0.settings, check, source);
                    // Who is at work goes on while one more is asked for the first time.
                    if let Some(state) = known.states.last_mut().filter(|_| waits) {
                        state.await_answer();
                    }
                    entry
                }
            }
        };
        // What the one before said. Without the lock: whoever hears of it looks at us.
        watched.slot.relieve(&key_of(&name));
        let token = self.0.running.lock().clone();
        if let Some(token) = token
            && watched.looping.load(Ordering::Acquire)
        {
            self.spawn_loop(&watched, &entry, token);
        }
        Ok(())
    }

    /// Takes a check out that was added; what it said counts no more. What the core measures itself
    /// under its name, it measures again.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown component, and for a check that there is not.
    pub fn remove_check(&self, component: &str, name: &str) -> Result<()> {
        let watched = self.watched(&self.0.registry.get(component)?);
        let entry = entry_of(&watched, name)?;
        {
            let mut known = watched.known.lock();
            if let Some(index) = known.position(&entry) {
                known.remove(index);
            }
        }
        watched.slot.relieve(&key_of(name));
        let limits = self.0.limits.lock().clone();
        self.limit(&watched, &limits);
        self.tell(&watched);
        Ok(())
    }

    /// Takes what a component says of a check that is not asked.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unknown component, a check that there is not, and one that
    /// is asked.
    pub fn report_check(&self, component: &str, name: &str, answer: HealthAnswer) -> Result<()> {
        let watched = self.watched(&self.0.registry.get(component)?);
        let entry = entry_of(&watched, name)?;
        let clock = self.0.registry.bus().clock();
        let at = (clock.now(), clock.unix_ms());
        match &entry.source {
            Source::Told(since) => *since.lock() = at.0,
            _ => {
                let message = format!(
                    "check `{name}` of `{component}` is asked; one that is reported is added with \
                     ttl="
                );
                return Err(Error::new(Kind::Configuration, "report check", message));
            }
        }
        self.renew(&watched);
        self.settle(&watched, &entry, at, (outcome_of(Ok(answer)), true));
        self.tell(&watched);
        Ok(())
    }

    /// Fails a check whose component is silent for too long, for as long as it is.
    pub(super) fn spawn_silence(
        &self,
        watched: &Arc<Watched>,
        entry: &Arc<Entry>,
        token: CancellationToken,
    ) {
        let weak = (Arc::downgrade(&self.0), Arc::downgrade(watched), Arc::downgrade(entry));
        let (clock, gone) = (self.0.registry.bus().clock().clone(), entry.gone.clone());
        self.0.registry.0.spawner.spawn(Box::pin(async move {
            loop {
                let due = {
                    let (Some(inner), Some(watched), Some(entry)) =
                        (weak.0.upgrade(), weak.1.upgrade(), weak.2.upgrade())
                    else {
                        return;
                    };
                    Monitor(inner).listen_for(&watched, &entry)
                };
                if until_ended(&token, &gone, clock.sleep_until(due)).await.is_none() {
                    return;
                }
            }
        }));
    }

    /// Books the silence if it lasts too long; when to look again.
    fn listen_for(&self, watched: &Watched, entry: &Arc<Entry>) -> Instant {
        let clock = self.0.registry.bus().clock();
        let (now, ttl) = (clock.now(), entry.check.period);
        let wait = ttl.saturating_add(MORE);
        let (Source::Told(since), true) = (&entry.source, watched.slot.state().is_operational())
        else {
            return now.saturating_add(wait);
        };
        let started = watched.slot.status().started.unwrap_or(now);
        let due = {
            let mut since = since.lock();
            let due = started.max(*since).saturating_add(wait);
            if now >= due {
                *since = now; // a silence that goes on counts again
            }
            due
        };
        if now < due {
            return due;
        }
        let message = format!("nothing was reported for {} s", ttl.as_secs_f64());
        let outcome = Outcome::new(Verdict::Fail).with_message(message);
        self.settle(watched, entry, (now, clock.unix_ms()), (outcome, false));
        self.tell(watched);
        now.saturating_add(wait)
    }
}

fn entry_of(watched: &Watched, name: &str) -> Result<Arc<Entry>> {
    let known = watched.known.lock();
    let found = known.entries.iter().find(|entry| entry.check.name == name);
    found.cloned().ok_or_else(|| {
        let names = known.entries.iter().map(|entry| entry.check.name.as_str());
        let near = did_you_mean(name, names.filter(|name| *name != OWN_CHECK));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let message = format!("`{}` has no check `{name}`{hint}", watched.slot.name());
        Error::new(Kind::Configuration, "find check", message)
    })
}
