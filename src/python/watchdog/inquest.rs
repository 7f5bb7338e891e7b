//! Looking into suspects: with the GIL, and without.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::asker::{Asker, Asking};
use super::rounds::{Lead, Watchdog};
use super::suspect::{Place, Suspect, Suspended, Who};
use super::told::{Findings, StackFrom, Told, way};
use crate::bus::Subscription;
use crate::health::{Home, StallKind, ThreadSample, stack_of, threads};
use crate::python::bridge::{ffi, native_thread, with_python};
use crate::python::handler::Handler;
use crate::python::pump::LoopExecutor;
use crate::python::workers::ThreadExecutor;

/// Who has waited for the GIL for so long cannot say whether a suspect held it, or had to wait, too;
/// and asks again at the next look. After so many times in a row it is a crowd that wants it.
const LONG: Duration = Duration::from_millis(250);
const TURNS: u32 = 4;

/// How long threads are watched, who of them holds the GIL: at least, and at most.
const WHILE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// How many are named of those who wait for a loop.
const NAMED: usize = 8;

/// What `tiebeam._stalls` says: stack, name of the thread, and whether it looks as if it waited for
/// a lock.
type Seen = (Vec<String>, String, bool);

/// Says of each suspect that is due what it is at.
pub(super) fn with_gil(watchdog: &Watchdog, leads: &[Lead], asker: &Asker) {
    let clock = watchdog.runtime().clock();
    let native = |suspect: &Suspect| suspect.thread().and_then(|thread| thread.native);
    // Before the GIL is taken: whoever wants it while we have it waits for us.
    let now: Vec<_> =
        leads.iter().map(|(suspect, _)| ThreadSample::of(native(suspect), clock)).collect();
    asker.begins(clock);
    let asked = clock.now();
    with_python(|py| {
        let contended = clock.now().saturating_since(asked) >= LONG;
        if watchdog.gil_was_had(contended) < TURNS && contended {
            return; // the next look may find it in peace
        }
        // Some threads always want it, then; those that did nothing else are not stuck.
        let pace = contended.then(|| asker.pace(clock));
        for ((suspect, before), now) in leads.iter().zip(&now) {
            let (before, now) = (before.as_ref(), now.as_ref());
            let sure = |pace| !suspect.runs() || did_else(before, now, pace);
            if suspect.due
                && pace.as_ref().is_none_or(sure)
                && (suspect.still)()
                && let Err(error) = look_into(py, watchdog, suspect, before, now)
            {
                error.write_unraisable(py, None);
            }
        }
    });
}

/// Whether a thread is known to have done anything but wait for the GIL.
fn did_else(before: Option<&ThreadSample>, now: Option<&ThreadSample>, pace: &Asking) -> bool {
    match (before, now, pace) {
        (Some(before), Some(now), Asking::Known(pace)) => {
            now.has_worked(before) || !now.has_asked(before, *pace)
        }
        _ => false,
    }
}

fn look_into(
    py: Python<'_>,
    watchdog: &Watchdog,
    suspect: &Arc<Suspect>,
    before: Option<&ThreadSample>,
    now: Option<&ThreadSample>,
) -> PyResult<()> {
    let (kind, mut findings) = match suspect.thread() {
        None => (StallKind::Awaits, awaited(py, suspect)?),
        Some(thread) => {
            let stalls = py.import("tiebeam._stalls")?;
            let seen = stalls.call_method1("place", (thread.ident, callables(py, &suspect.who)))?;
            let (stack, thread, locked): Seen = seen.extract()?;
            let event = suspect.asks.as_ref().and_then(|asks| asks(py));
            let kind = ThreadSample::told(before, now, locked);
            (kind, Findings { stack, event, thread: Some(thread), ..Findings::default() })
        }
    };
    py.detach(|| findings.waiting = waiting(suspect));
    let told = Arc::new(Told::new(suspect, kind, findings, watchdog.runtime().clock()));
    if watchdog.keep(&told) {
        let seconds = told.seconds();
        py.detach(|| told.tell());
        told.warn(py, &told.said(), seconds);
    }
    Ok(())
}

/// What one that is suspended waits for, and the chain of coroutines down to there.
fn awaited(py: Python<'_>, suspect: &Suspect) -> PyResult<Findings> {
    let Place::Task(task) = &suspect.place else { return Ok(Findings::default()) };
    let Some(suspended) = task(py) else { return Ok(Findings::default()) };
    let Suspended { task, coroutine, event } = suspended;
    let chain = py.import("tiebeam._stalls")?.call_method1("chain", (task, coroutine))?;
    let (stack, waits_for): (Vec<String>, String) = chain.extract()?;
    Ok(Findings { stack, event, waits_for: Some(waits_for), ..Findings::default() })
}

/// Who waits for the loop that is blocked.
fn waiting(suspect: &Suspect) -> Vec<String> {
    let Place::Loop(event_loop) = &suspect.place else { return Vec::new() };
    let Some(thread) = event_loop.thread() else { return Vec::new() };
    let own = |other: &Arc<Subscription>| match &suspect.who {
        Who::Handler(subscription) => Arc::ptr_eq(subscription, other),
        Who::Hook(_) => false,
    };
    let all = suspect.shared.bus.unfinished();
    let there = all.iter().filter(|other| other.executor().thread() == Some(thread) && !own(other));
    there.take(NAMED).map(|other| other.name().to_owned()).collect()
}

/// The GIL is not to be had: says who holds it. False: it is too early to say.
pub(super) fn without_gil(watchdog: &Watchdog, leads: &[Lead], asker: &Asker) -> bool {
    let clock = watchdog.runtime().clock();
    let pace = match asker.pace(clock) {
        Asking::NotYet => return false,
        Asking::Unknown => None,
        Asking::Known(pace) => Some(pace),
    };
    // All that is said of threads is seen within one while, in which the same one holds it.
    let before: HashMap<u32, ThreadSample> = threads()
        .into_iter()
        .filter_map(|thread| Some((thread, ThreadSample::of(Some(thread), clock)?)))
        .collect();
    let window = pace.map_or(WHILE, |pace| pace.window().clamp(WHILE, LONGEST));
    watchdog.runtime().handle().block_on(clock.sleep(window));
    if asker.has_ended() {
        return true; // it was let go
    }
    let is_at = |thread: u32| {
        let (before, now) = (before.get(&thread)?, ThreadSample::of(Some(thread), clock)?);
        // On a machine with much to do, who wakes to ask waits for its turn, too.
        let asks = now.has_asked(before, pace?);
        Some(if asks {
            At::Asks { runs: now.has_run(before) }
        } else {
            At::Else { works: now.has_worked(before) }
        })
    };
    let own = [native_thread(), asker.thread()];
    match holder(leads, &is_at, before.keys().copied().filter(|t| !own.contains(&Some(*t)))) {
        Holder::Is(suspect) => tell_of_holder(watchdog, suspect),
        Holder::OneOf(suspects) => {
            let names: Vec<_> = suspects.iter().map(|suspect| suspect.named()).collect();
            tracing::warn!(
                target: "tiebeam::bus",
                "the GIL is held all the time; nobody can say whether it is by one of those that \
                 are under way: {}",
                names.join(", ")
            );
        }
        Holder::NoneOfThem => tracing::warn!(
            target: "tiebeam::bus",
            "the GIL is held all the time, by none of the handlers and hooks that have stood still \
             since: by other code, or by one that was told of before"
        ),
    }
    true
}

fn tell_of_holder(watchdog: &Watchdog, suspect: &Arc<Suspect>) {
    if watchdog.is_told(suspect) {
        return; // it lets go of it now and then
    }
    let home = home(suspect);
    let dump = suspect.thread().filter(|_| watchdog.may_dump()).and_then(ffi::dump);
    let ident = suspect.thread().map(|thread| thread.ident);
    let stack = dump.and_then(|dump| stack_of(&dump, ident, home.as_ref()));
    let (stack, stack_from) = match (stack, home) {
        (Some(stack), _) => (stack, StackFrom::Dump),
        (None, home) => (home.iter().map(Home::to_string).collect(), StackFrom::LastKnown),
    };
    let thread = suspect.thread().map(|thread| thread.name.to_string());
    let waiting = waiting(suspect);
    let findings = Findings { stack, stack_from, thread, waiting, ..Findings::default() };
    let clock = watchdog.runtime().clock();
    let told = Arc::new(Told::new(suspect, StallKind::HoldsGil, findings, clock));
    if watchdog.keep(&told) {
        tracing::warn!(target: "tiebeam::bus", seconds = told.seconds(), "{}", told.said());
        told.tell();
    }
}

/// Who holds the GIL.
enum Holder<'a> {
    Is(&'a Arc<Suspect>),
    /// One of these, or somebody else.
    OneOf(Vec<&'a Arc<Suspect>>),
    NoneOfThem,
}

/// What a thread is at while somebody holds the GIL.
#[derive(Clone, Copy)]
enum At {
    /// It asks for it, and so does not have it all the time; if it runs, it has it now and then.
    Asks {
        runs: bool,
    },
    Else {
        works: bool,
    },
}

/// Which of them holds the GIL: not one that asks for it. Of others, one that works before one that
/// is blocked, and the one that came last before others, who had it earlier. Of one that the system
/// says nothing of, nobody can say.
fn holder<'a>(
    leads: &'a [Lead],
    is_at: &dyn Fn(u32) -> Option<At>,
    mut all: impl Iterator<Item = u32>,
) -> Holder<'a> {
    let (mut found, mut unknown) = (None, Vec::new());
    let native = |suspect: &Suspect| suspect.thread().and_then(|thread| thread.native);
    let those = leads.iter().map(|(suspect, _)| suspect);
    for suspect in those.clone().filter(|suspect| suspect.runs() && (suspect.still)()) {
        match native(suspect).and_then(is_at) {
            None => unknown.push(suspect),
            Some(At::Asks { .. }) => {}
            Some(At::Else { works }) => {
                let rank = (works, suspect.since);
                if found.is_none_or(|(best, _)| best <= rank) {
                    found = Some((rank, suspect));
                }
            }
        }
    }
    let mut others_work = || {
        let own: Vec<_> = those.clone().filter_map(|suspect| native(suspect)).collect();
        all.any(|other| {
            let works = |at| matches!(at, At::Asks { runs: true } | At::Else { works: true });
            !own.contains(&other) && is_at(other).is_some_and(works)
        })
    };
    // One that is blocked may hold it as it waits; but not where somebody else may, who works.
    match found {
        Some(((works, _), suspect)) if works || !others_work() => Holder::Is(suspect),
        Some((_, suspect)) => {
            unknown.push(suspect);
            Holder::OneOf(unknown)
        }
        None if !unknown.is_empty() => Holder::OneOf(unknown),
        _ => Holder::NoneOfThem,
    }
}

/// Where the code of a suspect is defined.
fn home(suspect: &Suspect) -> Option<Home> {
    match &suspect.who {
        Who::Handler(subscription) => handler_of(subscription)?.home(suspect.fallback).cloned(),
        Who::Hook(hook) => hook.home.clone(),
    }
}

/// All that a suspect may be running.
fn callables(py: Python<'_>, who: &Who) -> Vec<Py<PyAny>> {
    match who {
        Who::Handler(subscription) => handler_of(subscription)
            .map(|handler| handler.callables().into_iter().map(|c| c.clone_ref(py)).collect())
            .unwrap_or_default(),
        Who::Hook(hook) => vec![hook.function.clone_ref(py)],
    }
}

/// The handler of a subscription, whatever runs it.
fn handler_of(subscription: &Subscription) -> Option<&Handler> {
    let executor: &dyn Any = &**subscription.executor();
    None.or_else(|| executor.downcast_ref::<LoopExecutor>().map(LoopExecutor::handler))
        .or_else(|| executor.downcast_ref::<ThreadExecutor>().map(|threads| &*threads.handler))
        .or_else(|| executor.downcast_ref::<Handler>())
}

/// Says of a loop for which handlers wait what it is at instead.
pub(in crate::python) fn elsewhere(stack: &[String], seconds: f64) -> String {
    format!(
        "an event loop has not come to its handlers for {seconds:.1} s: something else blocks \
         it{}",
        way(stack)
    )
}
