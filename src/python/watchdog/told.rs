//! What is said of one that is stuck, and when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;

use super::suspect::{Place, Suspect, Who};
use crate::bus::{Stall, Subscription};
use crate::clock::Clock;
use crate::event::Event;
use crate::health::StallKind;
use crate::python::bridge::with_python;

/// What `system.handler_stalled` and `system.handler_recovered` say.
#[derive(Default, Serialize)]
pub(in crate::python) struct Stalled<'a> {
    component: Option<&'a str>,
    /// The handler's or hook's own name.
    handler: &'a str,
    subscription: Option<&'a str>,
    event_id: Option<String>,
    event_type: Option<&'a str>,
    seconds: f64,
    action: &'static str,
    kind: Option<StallKind>,
    /// The name of its thread; of what is suspended, that of none.
    thread: Option<&'a str>,
    /// What waits for it on its loop, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'a str>,
    /// Where it stands: its own line, and from there inwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_from: Option<&'static str>,
}

impl<'a> Stalled<'a> {
    /// What is said of a handler.
    pub fn handler(
        subscription: &'a Subscription,
        event: Option<&'a Event>,
        seconds: f64,
        action: &'static str,
    ) -> Stalled<'a> {
        let component = subscription.component().map(|name| &**name);
        let name = subscription.name();
        let own = component.and_then(|c| name.strip_prefix(c)?.strip_prefix('.'));
        Stalled {
            component,
            handler: own.unwrap_or(name),
            subscription: Some(name),
            event_id: event.map(|event| event.id.to_string()),
            event_type: event.map(|event| event.topic.as_str()),
            seconds,
            action,
            ..Stalled::default()
        }
    }

    /// The same, of what is known to be of this kind.
    pub fn of_kind(self, kind: Option<StallKind>) -> Stalled<'a> {
        Stalled { kind, ..self }
    }
}

/// How a stack was had.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum StackFrom {
    /// From the interpreter.
    #[default]
    Frames,
    /// From a dump that was written without the GIL.
    Dump,
    /// There is none: it is where the code that was last known to run is defined.
    LastKnown,
}

impl StackFrom {
    fn as_str(self) -> &'static str {
        match self {
            StackFrom::Frames => "frames",
            StackFrom::Dump => "dump",
            StackFrom::LastKnown => "last_known",
        }
    }
}

/// What was found out about one that is stuck.
#[derive(Default)]
pub(super) struct Findings {
    pub stack: Vec<String>,
    pub stack_from: StackFrom,
    pub event: Option<Arc<Event>>,
    pub thread: Option<String>,
    /// Who waits for its loop.
    pub waiting: Vec<String>,
    /// What it awaits.
    pub waits_for: Option<String>,
}

/// One that is stuck, and was told of.
pub(super) struct Told {
    pub suspect: Arc<Suspect>,
    kind: StallKind,
    findings: Findings,
    clock: Clock,
    /// Its number among those that its bus shows.
    number: AtomicU64,
}

impl Told {
    pub fn new(suspect: &Arc<Suspect>, kind: StallKind, findings: Findings, clock: &Clock) -> Self {
        let (suspect, clock) = (suspect.clone(), clock.clone());
        Told { suspect, kind, findings, clock, number: AtomicU64::new(0) }
    }

    pub fn seconds(&self) -> f64 {
        self.clock.now().saturating_since(self.suspect.since).as_secs_f64()
    }

    /// Has health know of it.
    pub fn show(&self) {
        let stall = Stall {
            component: self.component().map(Into::into),
            name: self.name(),
            what: self.what(),
            kind: self.kind,
            since: self.suspect.since,
            clock: self.clock.clone(),
        };
        let number = self.suspect.shared.bus.stalls().add(stall);
        self.number.store(number, Ordering::Release);
    }

    /// Has health forget it.
    pub fn hide(&self) {
        self.suspect.shared.bus.stalls().remove(self.number.load(Ordering::Acquire));
    }

    /// Whether it was said to hold the GIL.
    pub(super) fn holds_gil(&self) -> bool {
        self.kind == StallKind::HoldsGil
    }

    fn component(&self) -> Option<&str> {
        match &self.suspect.who {
            Who::Handler(subscription) => subscription.component().map(|name| &**name),
            Who::Hook(hook) => Some(&hook.component),
        }
    }

    /// For people.
    fn name(&self) -> String {
        match &self.suspect.who {
            Who::Handler(subscription) => subscription.name().to_owned(),
            Who::Hook(hook) => format!("{}.{}", hook.component, hook.name),
        }
    }

    fn what(&self) -> &'static str {
        match &self.suspect.place {
            _ if self.kind == StallKind::HoldsGil => "has held the GIL",
            Place::Loop(_) => "has blocked its event loop",
            Place::Thread(_) => "has kept its thread",
            Place::Task(_) => "has been suspended",
        }
    }

    fn action(&self) -> &'static str {
        match &self.suspect.place {
            Place::Loop(_) => "blocks_loop",
            Place::Thread(_) => "keeps_thread",
            Place::Task(_) => "waits",
        }
    }

    fn event(&self) -> Option<&Event> {
        self.suspect.event.as_deref().or(self.findings.event.as_deref())
    }

    fn payload(&self, seconds: f64, action: &'static str) -> Stalled<'_> {
        let payload = match &self.suspect.who {
            Who::Handler(subscription) => {
                Stalled::handler(subscription, self.event(), seconds, action)
            }
            Who::Hook(hook) => Stalled {
                component: Some(&hook.component),
                handler: &hook.name,
                seconds,
                action,
                ..Stalled::default()
            },
        };
        Stalled { kind: Some(self.kind), thread: self.findings.thread.as_deref(), ..payload }
    }

    /// Tells everybody.
    pub fn tell(&self) {
        let (seconds, findings) = (self.seconds(), &self.findings);
        let on_loop = matches!(self.suspect.place, Place::Loop(_));
        let payload = Stalled {
            waiting: on_loop.then_some(&*findings.waiting),
            waits_for: findings.waits_for.as_deref(),
            stack: Some(&findings.stack),
            stack_from: Some(findings.stack_from.as_str()),
            ..self.payload(seconds, self.action())
        };
        self.suspect.shared.bus.emit("system.handler_stalled", &payload);
    }

    /// The same for the log.
    pub fn said(&self) -> String {
        let (seconds, findings) = (self.seconds(), &self.findings);
        let subject = self.suspect.named();
        let does = match &findings.waits_for {
            Some(what) => format!("awaits {what}"),
            None => self.kind.says().to_owned(),
        };
        let (what, way) = (self.what(), way(&findings.stack));
        let mut said = format!("{subject} {what} for {seconds:.1} s: it {does}{way}");
        if matches!(self.suspect.place, Place::Loop(_)) {
            said += "; nothing else runs there meanwhile";
            if !findings.waiting.is_empty() {
                said += &format!(", {} for one", findings.waiting.join(", "));
            }
            said +=
                ": use `await`, `asyncio.to_thread`, or a `def` handler, which runs on a thread";
        }
        said
    }

    /// In Python's `logging`, where a bus that stands alone is heard too.
    pub fn warn(&self, py: Python<'_>, said: &str, seconds: f64) {
        let warned = || {
            let fields = PyDict::new(py);
            fields.set_item("seconds", seconds)?;
            fields.set_item("component", self.component())?;
            let subscription = match &self.suspect.who {
                Who::Handler(subscription) => Some(subscription.name()),
                Who::Hook(_) => None,
            };
            fields.set_item("subscription", subscription)?;
            fields.set_item("event_id", self.event().map(|event| event.id.to_string()))?;
            py.import("tiebeam._stalls")?.call_method1("warn", (said, fields)).map(drop)
        };
        if let Err(error) = warned() {
            error.write_unraisable(py, None);
        }
    }

    /// It has come back, after so many seconds.
    pub fn came_back(&self, seconds: f64) {
        let payload = self.payload(seconds, "came_back");
        self.suspect.shared.bus.emit("system.handler_recovered", &payload);
        let (named, way) = (self.suspect.named(), way(&self.findings.stack));
        let said = match &self.suspect.place {
            // So far it could be told to nobody who hears of it in Python.
            _ if self.holds_gil() => {
                format!("{named} came back after {seconds:.1} s: it held the GIL{way}")
            }
            Place::Loop(_) => format!("{named} gave its event loop back after {seconds:.1} s"),
            _ => format!("{named} came back after {seconds:.1} s"),
        };
        with_python(|py| self.warn(py, &said, seconds));
    }
}

/// The way to where something stands, for a message; of a long one its ends.
pub(super) fn way(stack: &[String]) -> String {
    const SHOWN: usize = 3;
    let steps = match stack {
        [] => return String::new(),
        all if all.len() <= 2 * SHOWN => all.join(" -> "),
        all => {
            let (first, last) = (&all[..SHOWN], &all[all.len() - SHOWN..]);
            format!("{} -> ... -> {}", first.join(" -> "), last.join(" -> "))
        }
    };
    format!(", at {steps}")
}
