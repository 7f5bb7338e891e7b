//! What a framework tells others of itself, and hears of them: from its start to its goodbye.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::announcement::{ANNOUNCEMENT, Announcement, cut};
use super::inquiry::QUESTION;
use super::others::Others;
use super::telling::{Due, Word};
use super::watching::Known;
use crate::bus::Subscription;
use crate::clock::{Clock, Instant};
use crate::config::PresenceSettings;
use crate::error::Result;
use crate::event::Event;
use crate::registry::{Monitor, Registry};

/// What names this process to others.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The machine; looked up where it is empty.
    pub host: String,
    /// The process there.
    pub pid: u32,
}

/// What a framework tells others of itself, and hears of them; clones are handles to the same
/// one.
#[derive(Clone)]
pub struct Presence(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) registry: Registry,
    pub(super) monitor: Monitor,
    pub(super) others: Others,
    /// What does not change in what we say.
    pub(super) we: Announcement,
    pub(super) interval: Duration,
    pub(super) number: AtomicU64,
    pub(super) ignored: AtomicU64,
    ears: Mutex<Vec<Arc<Subscription>>>,
    running: Mutex<Option<CancellationToken>>,
    pub(super) wake: Arc<Notify>,
    pub(super) due: Mutex<Due>,
    pub(super) known: Mutex<Known>,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("we", &self.0.we.instance).finish_non_exhaustive()
    }
}

impl Presence {
    /// The presence of what `registry` holds; nothing is told yet.
    pub fn new(
        registry: Registry,
        monitor: Monitor,
        settings: &PresenceSettings,
        who: Identity,
    ) -> Presence {
        let (bus, clock) = (registry.bus().clone(), registry.bus().clock().clone());
        let instance = match (settings.instance.as_str(), bus.address()) {
            ("", Some(address)) => Arc::from(address),
            // In virtual time every run is the same run.
            ("", None) if clock.is_virtual() => Arc::from("virtual"),
            ("", None) => format!("{:016x}", fastrand::u64(..)).into(),
            (given, _) => Arc::from(given),
        };
        let system = registry.0.config.read().settings().system.clone();
        let we = Announcement {
            instance,
            incarnation: u64::try_from(clock.unix_ms()).unwrap_or_default(),
            number: 0,
            system: system.name,
            version: system.version,
            host: if who.host.is_empty() { host() } else { who.host },
            pid: who.pid,
            lease: settings.lease.as_secs_f64(),
            asks: false,
            leaves: false,
            components: Vec::new(),
        };
        Presence(Arc::new(Inner {
            others: registry.0.others.clone(),
            registry,
            monitor,
            we,
            interval: settings.interval,
            number: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            ears: Mutex::default(),
            running: Mutex::default(),
            wake: Arc::default(),
            due: Mutex::default(),
            known: Mutex::default(),
        }))
    }

    /// What names this process to others.
    pub fn instance(&self) -> &Arc<str> {
        &self.0.we.instance
    }

    /// How many announcements could not be read, or found no room.
    pub fn ignored(&self) -> u64 {
        self.0.ignored.load(Ordering::Relaxed)
    }

    /// Announces this process from now on, and listens to others; nothing on a bus that reaches
    /// no other process.
    ///
    /// # Errors
    /// As [`Bus::subscribe`](crate::bus::Bus::subscribe).
    pub fn start(&self) -> Result<()> {
        let bus = self.0.registry.bus();
        if !bus.capabilities().shared {
            return Ok(());
        }
        let token = {
            let mut running = self.0.running.lock();
            if running.is_some() {
                return Ok(());
            }
            running.insert(CancellationToken::new()).clone()
        };
        for (name, pattern) in [
            ("tiebeam.presence", "system.presence.*"),
            ("tiebeam.presence.states", "system.component.*"),
            ("tiebeam.presence.health", "system.health.changed"),
            ("tiebeam.presence.transport", "system.transport.connected"),
        ] {
            let abroad = pattern == "system.presence.*";
            let inner = Arc::downgrade(&self.0);
            let ear = self.0.registry.listen(name, (pattern, abroad), move |event| {
                if let Some(inner) = inner.upgrade() {
                    Presence(inner).heard(event);
                }
            })?;
            self.0.ears.lock().push(ear);
        }
        {
            let mut due = self.0.due.lock();
            (due.at, due.asks) = (Some(bus.clock().now()), true);
        }
        let (inner, wake) = (Arc::downgrade(&self.0), self.0.wake.clone());
        let clock = bus.clock().clone();
        self.0.registry.0.spawner.spawn(Box::pin(keep(inner, wake, clock, token)));
        Ok(())
    }

    /// Says goodbye, and listens no more. Idempotent.
    pub fn leave(&self) {
        let Some(token) = self.0.running.lock().take() else { return };
        token.cancel();
        self.announce(Word::Goodbye);
        let ears = std::mem::take(&mut *self.0.ears.lock());
        ears.iter().for_each(|ear| {
            ear.cancel();
        });
    }

    fn heard(&self, event: &Event) {
        match event.topic.as_str() {
            ANNOUNCEMENT => self.hear(event),
            QUESTION => self.answer(event),
            "system.transport.connected" => self.tell_soon(true, Duration::ZERO),
            _ => self.tell_soon(false, Duration::ZERO),
        }
    }

    /// Does what is due, and says when the next thing is.
    async fn turn(&self) -> Instant {
        let bus = self.0.registry.bus();
        let clock = bus.clock();
        self.listen_to_ourselves(clock.now());
        let (due, asks) = {
            let mut due = self.0.due.lock();
            let now = clock.now();
            let regular =
                due.last.is_none_or(|(last, _)| now >= last.saturating_add(self.0.interval));
            let is_due = regular || due.at.is_some_and(|at| now >= at);
            if is_due {
                due.at = None;
            }
            (is_due, is_due && std::mem::take(&mut due.asks))
        };
        if due {
            // What we call ready is read: whoever hears of it may publish to it at once. What the
            // broker refuses to have read is told elsewhere, and is no reason to wait.
            let read = clock.timeout(self.0.interval, bus.ready()).await.is_ok();
            // It was this that took so long, and not that we stood still.
            self.0.due.lock().looked = Some(clock.now());
            if self.0.running.lock().is_some() {
                self.announce(Word::Here { asks, read });
            }
        }
        let now = clock.now();
        let over = self.0.others.with(|table| table.pass(now, self.0.interval));
        let steady = self.act(&over, now);
        let due = self.0.due.lock();
        let regular = due.last.map_or(now, |(last, _)| last.saturating_add(self.0.interval));
        let pass = self.0.others.with(|table| table.next_pass());
        [due.at, pass, steady].into_iter().flatten().fold(regular, Instant::min)
    }
}

/// Until `token` ends it, or there is nobody left.
async fn keep(inner: Weak<Inner>, wake: Arc<Notify>, clock: Clock, token: CancellationToken) {
    loop {
        let woken = wake.notified();
        let next = {
            let Some(inner) = inner.upgrade() else { return };
            let presence = Presence(inner);
            let turn = presence.turn();
            let cancelled = token.cancelled();
            futures_util::pin_mut!(turn, cancelled);
            match select(turn, cancelled).await {
                Either::Left((next, _)) => next,
                Either::Right(_) => return,
            }
        };
        let (sleep, cancelled) = (clock.sleep_until(next), token.cancelled());
        futures_util::pin_mut!(woken, cancelled);
        if let Either::Right((Either::Right(_), _)) = select(sleep, select(woken, cancelled)).await
        {
            return;
        }
    }
}

/// What this machine calls itself.
fn host() -> String {
    let asked = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = asked.ok().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let mut name = name.trim().to_owned();
    cut(&mut name, 64);
    if name.is_empty() { "unknown".into() } else { name }
}
