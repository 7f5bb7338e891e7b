//! The entries at work: others are kept from taking them over, and they are acknowledged in
//! batches.

use std::collections::HashSet;
use std::sync::Arc;

use ::redis::RedisResult;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Inner;
use super::fault::Fault;
use super::link::{Link, Patience};
use super::stream::Place;
use crate::transport::entry::{Held, Settle};

#[derive(Default)]
struct State {
    /// At work.
    held: HashSet<Arc<str>>,
    /// Handled, and not yet acknowledged.
    done: Vec<Arc<str>>,
    /// The same, while the server is told.
    telling: HashSet<Arc<str>>,
}

/// What one reader holds.
#[derive(Default)]
pub(super) struct Holding {
    state: Mutex<State>,
    handled: Notify,
}

impl Holding {
    /// Takes an entry on; nothing where this process has it already.
    pub fn take(self: &Arc<Self>, id: &Arc<str>) -> Option<Held> {
        let mut state = self.state.lock();
        if state.telling.contains(id) || state.done.contains(id) || !state.held.insert(id.clone()) {
            return None;
        }
        drop(state);
        Some(Held::new(One { id: id.clone(), of: self.clone() }))
    }

    /// What is to be acknowledged now.
    fn take_done(&self) -> Vec<Arc<str>> {
        let mut state = self.state.lock();
        let done = std::mem::take(&mut state.done);
        state.telling.extend(done.iter().cloned());
        done
    }

    /// The server knows of these.
    fn told(&self, ids: &[Arc<str>]) {
        let mut state = self.state.lock();
        for id in ids {
            state.telling.remove(id);
        }
    }

    /// The server could not be told of these.
    fn untold(&self, ids: Vec<Arc<str>>) {
        let mut state = self.state.lock();
        for id in ids {
            state.telling.remove(&id);
            state.done.push(id);
        }
    }

    fn is_at_work(&self, id: &Arc<str>) -> bool {
        let state = self.state.lock();
        state.held.contains(id) || state.telling.contains(id) || state.done.contains(id)
    }

    /// How many entries this process has.
    pub fn count(&self) -> usize {
        let state = self.state.lock();
        state.held.len() + state.telling.len() + state.done.len()
    }
}

struct One {
    id: Arc<str>,
    of: Arc<Holding>,
}

impl Settle for One {
    fn acknowledge(self: Box<Self>) {
        let mut state = self.of.state.lock();
        if state.held.remove(&self.id) {
            state.done.push(self.id.clone());
        }
        drop(state);
        self.of.handled.notify_one();
    }

    fn release(self: Box<Self>) {
        self.of.state.lock().held.remove(&self.id);
    }
}

/// Acknowledges what is handled, and keeps alive what is at work, until the reader ends; then what
/// was handled by then is acknowledged once more.
pub(super) async fn keep(
    inner: Arc<Inner>,
    place: Place,
    holding: Arc<Holding>,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut link = Link::new(&inner, inner.settings.response_timeout);
    let mut patience = Patience::new(&inner);
    let every = inner.settings.claim_idle / 3;
    let mut next = inner.clock.now().saturating_add(every);
    loop {
        let ends = tokio::select! {
            () = holding.handled.notified() => false,
            () = inner.clock.sleep_until(next) => false,
            () = stop.cancelled() => true,
        };
        let mut result = acknowledge(&mut link, &place, &holding).await;
        if ends {
            return;
        }
        if result.is_ok() && inner.clock.now() >= next {
            next = inner.clock.now().saturating_add(every);
            result = refresh(&mut link, &place, &holding).await;
        }
        match result {
            Ok(()) => patience.renew(),
            Err(cause) => {
                link.failed(Fault::of(&cause));
                // Without their group there is nothing to acknowledge.
                if !patience.wait().await {
                    return;
                }
                holding.handled.notify_one(); // at once again
            }
        }
    }
}

async fn acknowledge(link: &mut Link, place: &Place, holding: &Holding) -> RedisResult<()> {
    let done = holding.take_done();
    if done.is_empty() {
        return Ok(());
    }
    let told = match link.get().await {
        Ok(connection) => place.acknowledge(connection, &done).await,
        Err(cause) => Err(cause),
    };
    match told {
        Ok(()) => {
            holding.told(&done);
            Ok(())
        }
        Err(cause) => {
            holding.untold(done);
            Err(cause)
        }
    }
}

/// Keeps alive what is at work here and still ours: another process may have taken something over
/// while this one stood still.
async fn refresh(link: &mut Link, place: &Place, holding: &Holding) -> RedisResult<()> {
    let count = holding.count();
    if count == 0 {
        return Ok(());
    }
    let connection = link.get().await?;
    let ours = place.deliveries(connection, ("-", "+"), count).await?;
    let ids: Vec<Arc<str>> = ours.into_keys().filter(|id| holding.is_at_work(id)).collect();
    if ids.is_empty() {
        return Ok(());
    }
    place.keep(connection, &ids).await
}
