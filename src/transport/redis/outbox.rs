//! Sending: what waits is sent in the order in which it came, many events in one round trip.

use std::collections::VecDeque;
use std::sync::Arc;

use ::redis::{Pipeline, RedisError, Value};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Inner;
use super::fault::{self, Fault};
use super::link::{Link, Patience};
use crate::clock::Instant;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::transport::outcome::{Outcome, Pending, Receipt};

/// An event on its way.
struct Item {
    stream: Arc<str>,
    data: String,
    pending: Pending,
    /// When it is too late; set at the first try.
    until: Option<Instant>,
    /// Whether it went out over a connection that was lost before the answer came.
    unanswered: bool,
}

impl Item {
    /// It will not be tried again.
    fn failed(self, cause: &RedisError) {
        let outcome = if self.unanswered { Outcome::Unknown } else { Outcome::Refused };
        let error = fault::error("publish", cause).with("outcome", outcome.as_str());
        self.pending.settle(Err(error));
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    /// How many are being sent.
    sending: usize,
    closed: bool,
}

/// Events that wait to be sent, at most so many.
pub(super) struct Outbox {
    state: Mutex<State>,
    most: usize,
    /// Something came, or the end.
    filled: Notify,
    /// Nothing is left.
    emptied: Notify,
}

impl Outbox {
    pub fn new(most: usize) -> Outbox {
        let (filled, emptied) = (Notify::new(), Notify::new());
        Outbox { state: Mutex::default(), most, filled, emptied }
    }

    /// Puts an event at the end.
    pub fn put(&self, stream: Arc<str>, event: &Event) -> Result<Receipt> {
        let data = event.to_json();
        let (pending, receipt) = Receipt::new();
        let mut state = self.state.lock();
        if state.closed {
            let said = "the transport is closed";
            return Err(Error::new(Kind::Closed, "publish", said).with("outcome", "refused"));
        }
        if state.waiting.len() + state.sending >= self.most {
            let said = format!(
                "{} events wait to be sent to Redis, which is all the outbox holds; is the server \
                 reachable?",
                self.most
            );
            return Err(Error::new(Kind::MailboxFull, "publish", said).with("outcome", "refused"));
        }
        state.waiting.push_back(Item { stream, data, pending, until: None, unanswered: false });
        drop(state);
        self.filled.notify_one();
        Ok(receipt)
    }

    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.sending
    }

    /// Takes nothing new.
    pub fn close(&self) {
        self.state.lock().closed = true;
    }

    /// Resolves when all is sent.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Whoever still waits is told that it was not sent.
    pub fn give_up(&self) {
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        drop(waiting); // each receipt says so
    }

    /// The next events, at most `most`; waits until there is one.
    async fn next(&self, most: usize) -> Vec<Item> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state.lock();
                let count = most.min(state.waiting.len());
                if count > 0 {
                    state.sending = count;
                    return state.waiting.drain(..count).collect();
                }
            }
            filled.await;
        }
    }

    /// So many of those that were being sent are settled.
    fn settled(&self, count: usize) {
        let mut state = self.state.lock();
        state.sending -= count;
        let empty = state.waiting.is_empty() && state.sending == 0;
        drop(state);
        if empty {
            self.emptied.notify_waiters();
        }
    }
}

/// Sends what comes, until the end.
pub(super) async fn send(inner: Arc<Inner>, mut link: Link) {
    let mut patience = Patience::new(&inner);
    loop {
        let batch = tokio::select! {
            batch = inner.outbox.next(inner.settings.batch) => batch,
            () = inner.ending.cancelled() => return,
        };
        if !deliver(&inner, &mut link, &mut patience, batch).await {
            return;
        }
    }
}

/// Sends a batch, again where that may help; false at the end of all.
async fn deliver(
    inner: &Inner,
    link: &mut Link,
    patience: &mut Patience,
    mut batch: Vec<Item>,
) -> bool {
    loop {
        let count = batch.len();
        let (left, cause) = attempt(link, batch).await;
        let Some(cause) = cause else {
            patience.renew();
            inner.outbox.settled(count);
            return true;
        };
        let now = inner.clock.now();
        let again = Fault::of(&cause).passes();
        // What is too late, or of no use, ends here; the rest keeps its order.
        batch = Vec::with_capacity(left.len());
        for mut item in left {
            let limit = inner.settings.send_timeout;
            let until = *item.until.get_or_insert_with(|| now.saturating_add(limit));
            if again && now < until {
                batch.push(item);
            } else {
                item.failed(&cause);
            }
        }
        inner.outbox.settled(count - batch.len());
        if !patience.wait().await {
            // Perhaps some arrived: whoever waits is told what is known.
            inner.outbox.settled(batch.len());
            for item in batch {
                item.failed(&cause);
            }
            return false;
        }
        if batch.is_empty() {
            return true;
        }
    }
}

/// Sends a batch once. What the server did not take, and why.
async fn attempt(link: &mut Link, mut batch: Vec<Item>) -> (Vec<Item>, Option<RedisError>) {
    let connection = match link.get().await {
        Ok(connection) => connection,
        Err(cause) => return (batch, Some(cause)),
    };
    let mut commands = Pipeline::with_capacity(batch.len());
    for item in &batch {
        commands.cmd("XADD").arg(&*item.stream).arg("*").arg("data").arg(&item.data).ignore();
    }
    let answers = match connection.send_packed_commands(&commands, 0, batch.len()).await {
        Ok(answers) => answers,
        Err(cause) => {
            link.failed(Fault::of(&cause));
            batch.iter_mut().for_each(|item| item.unanswered = true);
            return (batch, Some(cause));
        }
    };
    let (mut left, mut last) = (Vec::new(), None);
    for (item, answer) in batch.into_iter().zip(answers) {
        match answer {
            Value::ServerError(cause) => {
                let cause = RedisError::from(cause);
                if Fault::of(&cause).passes() {
                    left.push(item);
                    last = Some(cause);
                } else {
                    item.failed(&cause);
                }
            }
            _ => item.pending.settle(Ok(())),
        }
    }
    (left, last)
}
