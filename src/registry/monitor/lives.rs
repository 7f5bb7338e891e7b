//! The lives of components: with each, its checks start anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::running::key_of;
use super::{Known, Monitor, Phase, Source, Watched};
use crate::error::Result;
use crate::event::{Event, Node};
use crate::health::{CheckState, Escalation};

impl Known {
    /// The component has begun `life`: nothing is known of its checks, whose answers are waited for
    /// where somebody asks. Returns the names of those whose verdict was held.
    pub(super) fn begin_anew(&mut self, life: u64, asked: bool) -> Vec<String> {
        self.life = life;
        self.escalations.iter_mut().for_each(Escalation::begin_anew);
        let anew =
            |state: &mut CheckState| state.begin_anew(asked).then(|| state.check().name.clone());
        self.states.iter_mut().filter_map(anew).collect()
    }
}

impl Monitor {
    /// Hears when components begin to start, and when they are at work.
    pub(super) fn watch_lives(&self) -> Result<()> {
        let inner = Arc::downgrade(&self.0);
        let hear = move |event: &Event| {
            let Some(inner) = inner.upgrade() else { return };
            if let Some(Node::Str(name)) = event.payload.get(["component"]) {
                Monitor(inner).look_at_life(name);
            }
        };
        let ear =
            self.0.registry.listen("tiebeam.health.lives", ("system.component.*", false), hear)?;
        self.0.ears.lock().push(ear);
        Ok(())
    }

    fn look_at_life(&self, name: &str) {
        let Ok(slot) = self.0.registry.get(name) else { return };
        let watched = self.watched(&slot);
        self.renew(&watched);
        if slot.state().is_operational() {
            let life = watched.known.lock().life;
            watched.lives.send_if_modified(|known| std::mem::replace(known, life) != life);
        }
    }

    /// Has the checks of a component start anew, if it has begun another life.
    pub(super) fn renew(&self, watched: &Watched) {
        let slot = &watched.slot;
        let life = slot.with(|known| known.lives);
        let (names, held) = {
            let mut known = watched.known.lock();
            if known.life >= life {
                return; // whoever saw a later one was faster
            }
            let held = known.begin_anew(life, watched.looping.load(Ordering::Acquire));
            known.told = crate::health::Verdict::Unknown;
            let names = known.entries.iter().map(|entry| entry.check.name.clone());
            (names.collect::<Vec<_>>(), held)
        };
        for name in names {
            slot.relieve(&key_of(&name));
        }
        for name in held {
            self.tell_of_flapping(watched, &name, false);
        }
    }

    pub(super) fn tell_of_flapping(&self, watched: &Watched, check: &str, flapping: bool) {
        let component = watched.slot.name();
        let told = json!({"component": component, "check": check, "flapping": flapping});
        watched.slot.emit("system.health.flapping", &told);
    }

    /// Waits until the checks without which components cannot take work have answered for the
    /// first time, for `health.check_timeout` at most. Those that are told are not waited for.
    pub async fn answered(&self) {
        let clock = self.0.registry.bus().clock().clone();
        let all = async {
            loop {
                let answered = self.0.answered.notified();
                futures_util::pin_mut!(answered);
                // Enabled before the look: whoever answers after it is heard.
                answered.as_mut().enable();
                if !self.awaits_answers() {
                    return;
                }
                answered.await;
            }
        };
        let limit: Duration = self.0.settings.check_timeout;
        let _ = clock.timeout(limit, all).await; // who is late is not ready, and says so
    }

    fn awaits_answers(&self) -> bool {
        self.phase() == Phase::Installed
            && self.0.registry.slots().iter().any(|slot| {
                let watched = self.watched(slot);
                let known = watched.known.lock();
                let asked = known.entries.iter().map(|e| !matches!(e.source, Source::Told(_)));
                slot.state().is_operational()
                    && asked.zip(&known.states).any(|(asked, state)| asked && state.is_awaited())
            })
    }
}
