//! Running one hook of a component: with a limit, and never past a panic.

use std::any::Any;
use std::collections::HashSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use indexmap::IndexMap;

use crate::bus::Failure;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// Runs the hook that `make` begins, for at most `limit`.
pub(super) async fn run<'a, T>(
    clock: &Clock,
    limit: Duration,
    component: &str,
    hook: &'static str,
    make: impl FnOnce() -> BoxFuture<'a, Result<T>>,
) -> Result<T> {
    // The making is inside: a hook may panic before it has given its future.
    let guarded = AssertUnwindSafe(async move { make().await }).catch_unwind();
    let result = match clock.timeout(limit, guarded).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let message = format!("`{component}` panicked in {hook}: {}", panic_text(&*panic));
            Err(Error::new(Kind::Internal, hook, message).with("error_type", "panic"))
        }
        Err(elapsed) => {
            let seconds = elapsed.limit.as_secs_f64();
            let message = format!("`{component}` did not finish {hook} within {seconds} s");
            Err(Error::new(Kind::Timeout, hook, message))
        }
    };
    result.map_err(|error| error.with("component", component).with("hook", hook))
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "no message",
    }
}

/// What an error of a hook says in an error event. An adapter that knows the class and the
/// traceback of the exception behind it gives them as `error_type` and `traceback`.
pub(super) fn failure_of(error: &Error) -> Failure {
    let error_type =
        error.get("error_type").map_or_else(|| format!("{:?}", error.kind()), str::to_owned);
    let message = error.message();
    // An adapter's message begins with the class: it is read without the rest elsewhere.
    let said = message.strip_prefix(error_type.as_str()).and_then(|m| m.strip_prefix(": "));
    let traceback = error.get("traceback").map(str::to_owned);
    Failure {
        traceback,
        ..Failure::new(error.category(), error_type.clone(), said.unwrap_or(message))
    }
}

/// Does `work` for each of `names`, for each when all of its `before` have been done, and at
/// the same time for those that are independent.
pub(super) async fn in_order<T, F: Future<Output = T>>(
    names: Vec<String>,
    before: impl Fn(&str) -> Vec<String>,
    work: impl Fn(String) -> F,
) -> Vec<(String, T)> {
    let all: HashSet<&String> = names.iter().collect();
    let mut waiting: IndexMap<String, HashSet<String>> = names
        .iter()
        .map(|name| {
            let before = before(name).into_iter().filter(|other| all.contains(other));
            (name.clone(), before.collect())
        })
        .collect();
    let mut results = Vec::with_capacity(waiting.len());
    let mut at_work = FuturesUnordered::new();
    loop {
        waiting.retain(|name, before| {
            if before.is_empty() {
                let (name, work) = (name.clone(), work(name.clone()));
                at_work.push(async move { (name, work.await) });
            }
            !before.is_empty()
        });
        let Some((name, result)) = at_work.next().await else { return results };
        waiting.values_mut().for_each(|before| {
            before.remove(&name);
        });
        results.push((name, result));
    }
}
