//! Events published later, once or again and again.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Published;
use super::draft::Draft;
use super::handle::{Bus, WeakBus};
use crate::clock::{Instant, Timer};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::topic::Topic;
use crate::transport::To;

impl Bus {
    /// Publishes `draft` after `delay`.
    ///
    /// # Errors
    /// As `publish`, as far as can be known now.
    pub fn publish_later(&self, draft: Draft<'_>, delay: Duration) -> Result<Published> {
        publish_later(self, draft, delay)
    }

    /// Publishes the same payload every `period`, first after one period.
    ///
    /// # Errors
    /// As `publish`, and `Kind::Configuration` for a period of zero.
    pub fn every(&self, period: Duration, draft: Draft<'_>) -> Result<Periodic> {
        every(self, period, draft, Box::new(|| ()))
    }

    /// As [`Bus::every`], with `told` called after each publish, for whoever counts.
    ///
    /// # Errors
    /// As [`Bus::every`].
    pub fn every_told(
        &self,
        period: Duration,
        draft: Draft<'_>,
        told: impl Fn() + Send + Sync + 'static,
    ) -> Result<Periodic> {
        every(self, period, draft, Box::new(told))
    }
}

fn publish_later(bus: &Bus, draft: Draft<'_>, delay: Duration) -> Result<Published> {
    bus.0.check_open("publish")?;
    let topic = Topic::parse(draft.event_type)?;
    let event = bus.0.stamp(draft, topic)?;
    if let Some(remote) = bus.0.remote() {
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let due = bus.clock().unix_ms().saturating_add(millis);
        return bus.0.send_out(remote, event, To::Topic, Some(due));
    }
    bus.0.once(event, |event| {
        let (later, due) = (bus.downgrade(), event.clone());
        let publish = move || {
            if let Some(bus) = later.upgrade() {
                publish_now(&bus, due);
            }
        };
        bus.clock().schedule(delay, publish).detach();
        Ok(Published { event, admission: None, duplicate: false })
    })
}

/// Nobody waits for a scheduled event: no room means lost there, booked and logged.
fn publish_now(bus: &Bus, event: Arc<Event>) {
    let result = bus.0.check_open("publish").and_then(|()| {
        if let Some(remote) = bus.0.remote() {
            return bus.0.send_out(remote, event.clone(), To::Topic, None);
        }
        let route = bus.0.router.route(event.topic.as_str())?;
        bus.0.published.fetch_add(1, Ordering::Relaxed);
        // A delay is no wait: what there is to handle is here since now.
        bus.0.deliver_route(event.clone().arriving(bus.clock().unix_ms()), &route)
    });
    match result {
        Ok(Published { admission: None, .. }) => {}
        Ok(Published { admission: Some(admission), .. }) => {
            // On its way to the broker it is no error: that says so itself.
            if let Err(error) = admission.give_up() {
                tracing::error!(target: "tiebeam::bus", event_id = %event.id, "{error}");
            }
        }
        Err(error) => {
            tracing::error!(target: "tiebeam::bus", event_id = %event.id, "scheduled event lost: {error}");
        }
    }
}

fn every(bus: &Bus, period: Duration, draft: Draft<'_>, told: Told) -> Result<Periodic> {
    bus.0.check_open("every")?;
    if period.is_zero() {
        return Err(Error::new(Kind::Configuration, "every", "the period must be above zero"));
    }
    Topic::parse(draft.event_type)?;
    let state = Arc::new(State {
        bus: bus.downgrade(),
        event_type: draft.event_type.to_owned(),
        // The parent is not kept: what a timer publishes is caused by the clock.
        draft: draft.with_type("", None),
        period,
        told,
        timer: Mutex::new(None),
        cancelled: AtomicBool::new(false),
    });
    let first = bus.clock().now().saturating_add(period);
    arm(&state, bus, first);
    Ok(Periodic { state, detached: false })
}

type Told = Box<dyn Fn() + Send + Sync>;

struct State {
    bus: WeakBus,
    event_type: String,
    draft: Draft<'static>,
    period: Duration,
    told: Told,
    timer: Mutex<Option<Timer>>,
    cancelled: AtomicBool,
}

fn arm(state: &Arc<State>, bus: &Bus, at: Instant) {
    let next = state.clone();
    let timer = bus.clock().schedule_at(at, move || {
        let Some(bus) = next.bus.upgrade() else { return };
        if next.cancelled.load(Ordering::Acquire) || bus.is_closed() {
            return;
        }
        let draft = next.draft.clone().with_type(&next.event_type, None);
        if let Ok(topic) = Topic::parse(&next.event_type)
            && let Ok(event) = bus.0.stamp(draft, topic)
        {
            publish_now(&bus, event);
            (next.told)();
        }
        // From the planned time, not from now: a period does not drift. Beats missed while the
        // machine slept are left out rather than fired all at once.
        let mut due = at.saturating_add(next.period);
        let now = bus.clock().now();
        if due < now {
            due = now.saturating_add(next.period);
        }
        arm(&next, &bus, due);
    });
    // Bound before it is dropped: dropping a timer takes the clock's lock.
    let previous = state.timer.lock().replace(timer);
    drop(previous);
}

/// A periodic publish; it ends when this is cancelled or dropped.
#[must_use = "a periodic publish ends when this is dropped"]
pub struct Periodic {
    state: Arc<State>,
    detached: bool,
}

impl Periodic {
    /// Ends it. Idempotent.
    pub fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::Release);
        let timer = self.state.timer.lock().take();
        drop(timer);
    }

    /// Lets it go on, until the bus closes, although nobody holds it.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        if !self.detached {
            self.cancel();
        }
    }
}

impl std::fmt::Debug for Periodic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Periodic({} every {:?})", self.state.event_type, self.state.period)
    }
}
