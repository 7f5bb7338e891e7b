//! A subscription without a handler: its consumer comes for one event after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::executor::Executor;
use super::handle::Bus;
use super::lanes::Delivery;
use super::options::Options;
use super::subscription::Subscription;
use crate::error::Result;
use crate::event::Event;
use crate::sync::Mutex;

/// Wakes the consumer that waits.
#[derive(Default)]
struct Inbox {
    waker: Mutex<Option<Waker>>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

impl Inbox {
    fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Executor for Inbox {
    fn schedule(&self, _subscription: &Arc<Subscription>) {
        self.wake();
    }

    fn ended(&self) {
        self.wake();
    }

    /// Who reads it is the component itself.
    fn can_wait(&self) -> bool {
        false
    }

    fn describe(&self) -> &'static str {
        "stream"
    }
}

/// Events as one consumer iterates over them. Dropping it ends the subscription.
///
/// An event is settled when the consumer asks for the next one, or closes the stream.
#[derive(Debug)]
pub struct Stream {
    subscription: Arc<Subscription>,
    inbox: Arc<Inbox>,
    at_hand: Mutex<Option<Delivery>>,
}

impl Stream {
    /// Its place on the bus.
    pub fn subscription(&self) -> &Arc<Subscription> {
        &self.subscription
    }

    /// The next event; `None` when the subscription has ended. For one consumer at a time.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Arc<Event>>> {
        // First: what comes while we look wakes us again.
        *self.inbox.waker.lock() = Some(cx.waker().clone());
        let settled = self.at_hand.lock().take();
        // One at a time: what waits stays where urgent events overtake it.
        let mut batch = VecDeque::with_capacity(1);
        let found = settled.is_some() && self.subscription.next(1, 1, &mut batch);
        if (found || self.subscription.claim(1, &mut batch))
            && let Some(delivery) = batch.pop_front()
        {
            let event = delivery.event.clone();
            *self.at_hand.lock() = Some(delivery);
            return Poll::Ready(Some(event));
        }
        if self.subscription.is_active() { Poll::Pending } else { Poll::Ready(None) }
    }

    /// Ends it. The event at hand counts as delivered, or as dropped where the consumer
    /// `failed`. Idempotent.
    pub fn close(&self, failed: bool) {
        let at_hand = self.at_hand.lock().take();
        match at_hand {
            Some(delivery) if failed => {
                self.subscription.cancel();
                self.subscription.abandoned(delivery);
                self.subscription.release();
            }
            Some(_) => {
                self.subscription.put_back(1, std::iter::empty());
                self.subscription.release();
                self.subscription.cancel();
            }
            None => {
                self.subscription.cancel();
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close(false);
    }
}

impl Bus {
    /// The events whose type matches `pattern`, for one consumer that comes for them.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    pub fn stream(&self, pattern: &str, options: Options) -> Result<Stream> {
        let inbox = Arc::<Inbox>::default();
        let subscription = self.subscribe(pattern, options, inbox.clone())?;
        Ok(Stream { subscription, inbox, at_hand: Mutex::new(None) })
    }
}
