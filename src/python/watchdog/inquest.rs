//! Looking into suspects: with the GIL, and without.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::rounds::{Lead, Watchdog};
use super::suspect::{Place, Suspect, Who};
use super::told::{Findings, StackFrom, Told, way};
use crate::bus::Subscription;
use crate::health::{Home, StallKind, ThreadSample, stack_of, threads};
use crate::python::bridge::{ffi, pause, with_python};
use crate::python::event::PyEvent;
use crate::python::handler::Handler;
use crate::python::pump::LoopExecutor;
use crate::python::workers::ThreadExecutor;

/// Who has waited for the GIL for so long cannot say whether a suspect did not have to wait, too.
const LONG: Duration = Duration::from_millis(250);

/// How long one is watched whose thread was not known before.
const WHILE: Duration = Duration::from_millis(50);

/// How many are named of those who wait for a loop.
const NAMED: usize = 8;

/// What `tiebeam._stalls` says: stack, event, name of the thread, and whether it looks as if it
/// waited for a lock.
type Seen<'py> = (Vec<String>, Option<Bound<'py, PyEvent>>, String, bool);

/// Says of each suspect that is due what it is at.
pub(super) fn with_gil(watchdog: &Watchdog, leads: &[Lead]) {
    let clock = watchdog.runtime().clock();
    let native = |suspect: &Suspect| suspect.thread().and_then(|thread| thread.native);
    // Before the GIL is taken: whoever wants it while we have it waits for us.
    let now: Vec<_> =
        leads.iter().map(|(suspect, _)| ThreadSample::of(native(suspect), clock)).collect();
    let asked = clock.now();
    with_python(|py| {
        if clock.now().saturating_since(asked) >= LONG {
            return; // the next look may find it in peace
        }
        watchdog.gil_is_free();
        for ((suspect, before), now) in leads.iter().zip(&now) {
            if suspect.due
                && (suspect.still)()
                && let Err(error) = look_into(py, watchdog, suspect, before.as_ref(), now.as_ref())
            {
                error.write_unraisable(py, None);
            }
        }
    });
}

fn look_into(
    py: Python<'_>,
    watchdog: &Watchdog,
    suspect: &Arc<Suspect>,
    before: Option<&ThreadSample>,
    now: Option<&ThreadSample>,
) -> PyResult<()> {
    let clock = watchdog.runtime().clock();
    let found = match &suspect.place {
        Place::Loop(event_loop) => Some((event_loop.place().ident, before.copied(), now.copied())),
        Place::Thread(thread) => Some((thread.ident, before.copied(), now.copied())),
        Place::Publisher => {
            let stalls = py.import("tiebeam._stalls")?;
            let found = stalls.call_method1("find", (callables(py, &suspect.who),))?;
            let Some((ident, native)) = found.extract::<Option<(u64, Option<u32>)>>()? else {
                return Ok(()); // it has moved on, or its code is nowhere to be seen
            };
            let before = ThreadSample::of(native, clock);
            pause(py, WHILE)?;
            Some((ident, before, py.detach(|| ThreadSample::of(native, clock))))
        }
        Place::Task(_) => None,
    };
    let (kind, mut findings) = match found {
        None => (StallKind::Awaits, awaited(py, suspect)?),
        Some((ident, before, now)) => {
            let stalls = py.import("tiebeam._stalls")?;
            let seen = stalls.call_method1("place", (ident, callables(py, &suspect.who)))?;
            let (stack, event, thread, locked): Seen<'_> = seen.extract()?;
            let event = event.map(|event| event.get().inner().clone());
            let kind = ThreadSample::told(before.as_ref(), now.as_ref(), locked);
            (kind, Findings { stack, event, thread: Some(thread), ..Findings::default() })
        }
    };
    py.detach(|| findings.waiting = waiting(suspect));
    let told = Arc::new(Told::new(suspect, kind, findings, clock));
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
    let Some((task, coroutine)) = task(py) else { return Ok(Findings::default()) };
    let chain = py.import("tiebeam._stalls")?.call_method1("chain", (task, coroutine))?;
    type Chain<'py> = (Vec<String>, Option<Bound<'py, PyEvent>>, String);
    let (stack, event, waits_for): Chain<'_> = chain.extract()?;
    let event = event.map(|event| event.get().inner().clone());
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

/// The GIL is not to be had: says who holds it.
pub(super) fn without_gil(watchdog: &Watchdog, leads: &[Lead]) {
    let clock = watchdog.runtime().clock();
    let Some(suspect) = holder(watchdog, leads) else {
        tracing::warn!(
            target: "tiebeam::bus",
            "the GIL is held all the time, by none of the handlers and hooks that are under way"
        );
        return;
    };
    let (home, ident) = (home(&suspect.who), suspect.thread().map(|thread| thread.ident));
    let dump = ffi::dump_threads();
    let stack = dump.and_then(|dump| stack_of(&dump, ident, home.as_ref()));
    let (stack, stack_from) = match (stack, home) {
        (Some(stack), _) => (stack, StackFrom::Dump),
        (None, home) => (home.iter().map(Home::to_string).collect(), StackFrom::LastKnown),
    };
    let thread = suspect.thread().map(|thread| thread.name.to_string());
    let waiting = waiting(suspect);
    let findings = Findings { stack, stack_from, thread, waiting, ..Findings::default() };
    let told = Arc::new(Told::new(suspect, StallKind::HoldsGil, findings, clock));
    if watchdog.keep(&told) {
        tracing::warn!(target: "tiebeam::bus", seconds = told.seconds(), "{}", told.said());
        told.tell();
    }
}

/// Which of them holds the GIL: who asks for it does not have it. Of others, one that works before
/// one that is blocked, and the one that came last before others, who had it earlier.
fn holder<'a>(watchdog: &Watchdog, leads: &'a [Lead]) -> Option<&'a Arc<Suspect>> {
    let clock = watchdog.runtime().clock();
    let rank = |(suspect, before): &'a Lead| {
        if !suspect.runs() || !(suspect.still)() {
            return None;
        }
        let now = suspect.thread().and_then(|thread| ThreadSample::of(thread.native, clock));
        let (known, works) = match (before, now) {
            (Some(before), Some(now)) if now.has_worked(before) => (true, true),
            (Some(before), Some(now)) if now.has_asked(before) => return None,
            (Some(_), Some(_)) => (true, false),
            _ => (false, false),
        };
        Some(((works, known, suspect.since), suspect))
    };
    let (rank, suspect) = leads.iter().filter_map(rank).max_by_key(|(rank, _)| *rank)?;
    let (works, known, _) = rank;
    // One that is blocked may hold it as it waits; but not where somebody else may, who works. Of
    // one whose thread is not known, nobody can say.
    (works || !known || !others_work(watchdog, leads)).then_some(suspect)
}

/// Whether a thread of this process works that is none of these.
fn others_work(watchdog: &Watchdog, leads: &[Lead]) -> bool {
    let clock = watchdog.runtime().clock();
    let own: Vec<_> = leads.iter().filter_map(|(suspect, _)| suspect.thread()?.native).collect();
    let others = threads().into_iter().filter(|thread| !own.contains(thread));
    let look = |thread| Some((thread, ThreadSample::of(Some(thread), clock)?));
    let before: Vec<_> = others.filter_map(look).collect();
    watchdog.runtime().handle().block_on(clock.sleep(WHILE));
    before.iter().any(|(thread, before)| {
        ThreadSample::of(Some(*thread), clock).is_some_and(|now| now.has_worked(before))
    })
}

/// Where the code of a suspect is defined.
fn home(who: &Who) -> Option<Home> {
    match who {
        Who::Handler(subscription) => handler_of(subscription)?.home().cloned(),
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
