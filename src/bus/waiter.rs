//! Waiting for one event: resolved where it is published, and gone with that.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::executor::Executor;
use super::handle::Bus;
use super::options::Options;
use super::subscription::Subscription;
use crate::clock::Timer;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::sync::Mutex;

#[derive(Debug)]
enum Outcome {
    Came(Arc<Event>),
    Timeout,
    Ended,
}

/// Takes the first event on its publisher's thread.
struct Slot(Mutex<Option<oneshot::Sender<Outcome>>>);

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

impl Slot {
    fn settle(&self, outcome: Outcome) {
        // Bound first: the receiver's waker must not run under the lock.
        let sender = self.0.lock().take();
        if let Some(sender) = sender {
            // Where nobody waits any more, nobody has to be told.
            let _ = sender.send(outcome);
        }
    }
}

impl Executor for Slot {
    fn schedule(&self, subscription: &Arc<Subscription>) {
        let mut batch = VecDeque::with_capacity(1);
        if !subscription.claim(1, &mut batch) {
            return;
        }
        subscription.put_back(batch.len(), std::iter::empty());
        subscription.release();
        if let Some(delivery) = batch.pop_front() {
            self.settle(Outcome::Came(delivery.event));
        }
        subscription.cancel();
    }

    fn ended(&self) {
        self.settle(Outcome::Ended);
    }

    fn can_wait(&self) -> bool {
        false
    }

    fn describe(&self) -> &'static str {
        "waiter"
    }
}

/// The next matching event. Dropping it ends the wait.
pub struct Awaited {
    subscription: Arc<Subscription>,
    receiver: oneshot::Receiver<Outcome>,
    limit: Option<Duration>,
    _timer: Option<Timer>,
}

impl Awaited {
    /// Its place on the bus, while it waits.
    pub fn subscription(&self) -> &Arc<Subscription> {
        &self.subscription
    }
}

impl Future for Awaited {
    type Output = Result<Arc<Event>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Arc<Event>>> {
        let outcome = match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(outcome) => outcome.unwrap_or(Outcome::Ended),
        };
        let pattern = self.subscription.pattern().as_str();
        let error = match outcome {
            Outcome::Came(event) => return Poll::Ready(Ok(event)),
            Outcome::Timeout => {
                let limit = self.limit.unwrap_or_default();
                let chosen = if self.subscription.options().filter.is_some() {
                    " that `where` accepts"
                } else {
                    ""
                };
                let said = format!("no event matching `{pattern}`{chosen} came within {limit:?}");
                Error::new(Kind::Timeout, "wait_for", said)
            }
            Outcome::Ended => {
                let said = format!(
                    "the wait for `{pattern}` was ended: the bus closed, or its \
                                    component stopped, before an event came"
                );
                Error::new(Kind::Closed, "wait_for", said)
            }
        };
        Poll::Ready(Err(error.with("pattern", pattern)))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.subscription.cancel();
    }
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Awaited({})", self.subscription.pattern())
    }
}

impl Bus {
    /// The next event whose type matches `pattern`, from this call on; `limit` runs from here.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    pub fn wait_for(
        &self,
        pattern: &str,
        options: Options,
        limit: Option<Duration>,
    ) -> Result<Awaited> {
        let (sender, receiver) = oneshot::channel();
        let slot = Arc::new(Slot(Mutex::new(Some(sender))));
        let subscription = self.subscribe(pattern, options, slot.clone())?;
        let timed = subscription.clone();
        let timer = limit.map(|limit| {
            self.clock().schedule(limit, move || {
                slot.settle(Outcome::Timeout);
                timed.cancel();
            })
        });
        Ok(Awaited { subscription, receiver, limit, _timer: timer })
    }
}
