//! Reading a queue: over a channel of its own, which is made again when it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::desk::Aside;
use super::fault::{self, Cause, Fault};
use super::holding::{Holding, Session, Tag, Taken};
use super::in_turn::Row;
use super::letters::LETTER;
use super::names::short;
use super::together::Together;
use super::topology::{Declaring, Queue, Shape};
use super::wants::Wants;
use crate::event::{Event, Id, Lease};
use crate::transport::patience::Patience;
use crate::transport::{Entry, Sink, reading};

/// How long what was settled last may take to be told to the broker.
const LAST: Duration = Duration::from_secs(1);

/// How long what nobody here can take stays before it is given to somebody: perhaps to us again,
/// and each time it is counted as given out once more.
const PAUSE: Duration = Duration::from_millis(200);

/// How often it is seen to that a queue is bound to what it is to be bound to.
pub(super) const BOUND: Duration = Duration::from_millis(500);

/// How much is kept of what is no event.
const SHOWN: usize = 64 * 1024;

/// One reader: what it reads, and where it brings it.
pub(super) struct Reader {
    pub inner: Arc<Inner>,
    pub queue: Queue,
    /// What operators know it by.
    pub group: Option<Arc<str>>,
    pub wants: Arc<Wants>,
    pub sink: Arc<dyn Sink>,
    pub holding: Arc<Holding>,
    pub stop: CancellationToken,
    /// Whether its queue was there.
    pub begun: AtomicBool,
    /// Whether it has to be another one, because its node is down.
    pub homeless: AtomicBool,
}

impl Reader {
    /// Reads until it is to stop.
    pub async fn read(mut self) {
        let mut patience = self.inner.patience();
        let first_name = self.queue.name.clone();
        let name = &*first_name;
        loop {
            let session = self.session(|| {
                patience.renew();
                self.inner.trouble.over(name);
            });
            let Err(cause) = session.await else { break };
            let (fault, error) = (Fault::of(&cause), fault::error("read", &cause));
            if matches!(cause, Cause::Cancelled) {
                self.vanished();
            } else {
                tracing::warn!(
                    target: "tiebeam::transport", queue = name, "reading failed: {error}"
                );
                self.inner.trouble.begins(name, error.message());
            }
            if !fault.passes() {
                self.wants.refuse(&error);
            }
            if self.homeless.swap(false, Ordering::Relaxed) {
                self.queue.name = format!("{first_name}.{:08x}", fastrand::u32(..));
            }
            tokio::select! {
                goes_on = patience.wait() => if !goes_on { break },
                () = self.stop.cancelled() => break,
            }
        }
        self.inner.trouble.over(name);
    }

    /// The queue was there, and is not.
    fn vanished(&self) {
        let queue = &*self.queue.name;
        tracing::warn!(
            target: "tiebeam::transport", queue,
            "the queue was gone, and is made again: what was in it is lost"
        );
        self.begun.store(false, Ordering::Relaxed);
        let told = serde_json::json!({"queue": queue, "group": self.group.as_deref()});
        (self.inner.news)("system.stream_reset", told);
    }

    /// Reads over one channel until it fails, or until it is to stop.
    async fn session(&self, worked: impl FnMut()) -> Result<(), Cause> {
        let (channel, held, mut consumer) = tokio::select! {
            opened = self.open(worked) => opened?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let session = held.number;
        let ended = tokio::select! {
            failed = self.consume(&channel, &mut consumer, session) => failed,
            failed = self.bind_more() => failed,
            failed = self.stay_bound() => failed,
            failed = self.acknowledge(&channel, session) => failed,
            failed = self.give_back(&channel, session) => failed,
            failed = self.set_aside() => failed,
            () = self.stop.cancelled() => {
                self.leave(&channel, &consumer, session).await;
                Ok(())
            }
        };
        ended.map_err(|cause| why_closed(&mut consumer).unwrap_or(cause))
    }

    async fn open(&self, mut worked: impl FnMut()) -> Result<(Channel, Session, Consumer), Cause> {
        let link = &self.inner.consuming;
        let mut declaring = Declaring::on(link, &self.inner.names).await?;
        declaring.exchanges().await?;
        if self.queue.shape == Shape::Own && self.begun.load(Ordering::Relaxed) {
            let there;
            (there, declaring) = declaring.finds(&self.queue.name).await?;
            if !there {
                self.vanished(); // we were away for longer than it is kept
            }
        }
        if let Err(cause) = declaring.reading(&self.queue).await {
            // In a cluster, the node that has it may be down; it is of no use without that.
            let gone = Fault::of(&cause) == Fault::Gone && self.queue.shape == Shape::Own;
            self.homeless.store(gone, Ordering::Relaxed);
            return Err(cause);
        }
        self.begun.store(true, Ordering::Relaxed);
        drop(declaring);
        self.bind_again().await?;
        let (_, channel) = link.channel().await?;
        let session = self.holding.begin();
        let consumer = self.consumer(&channel, if self.counts() { 1 } else { self.most() }).await?;
        self.bind(&Declaring::on(link, &self.inner.names).await?).await?;
        worked();
        Ok((channel, session, consumer))
    }

    /// Whether one of the group at a time reads the queue.
    fn in_turn(&self) -> bool {
        self.queue.shape == Shape::InTurn
    }

    /// Whether the broker counts how often it gave a message out, and gives first what it had given
    /// out before.
    fn counts(&self) -> bool {
        self.queue.shape == Shape::Lasting
    }

    fn most(&self) -> u16 {
        u16::try_from(self.inner.settings.batch).unwrap_or(u16::MAX)
    }

    /// Has the broker send, and hold back what goes beyond `most` that are not acknowledged:
    /// nothing else does.
    async fn consumer(&self, channel: &Channel, most: u16) -> Result<Consumer, Cause> {
        let link = &self.inner.consuming;
        link.answer(channel.basic_qos(most, BasicQosOptions::default())).await?;
        let consumed = channel.basic_consume(
            short(&self.queue.name)?,
            short("")?,
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        link.answer(consumed).await
    }

    /// Binds what was not yet, and says so. Where the broker will not have one of them, that is no
    /// harm to the others.
    async fn bind(&self, declaring: &Declaring<'_>) -> Result<(), Cause> {
        let mut fresh = self.wants.fresh();
        while let Some((binding, _)) = fresh.left.first() {
            match declaring.reach(&self.queue.name, binding).await {
                Ok(()) => {
                    let (binding, opening) = fresh.left.remove(0);
                    self.wants.bound(binding);
                    opening.begun();
                }
                Err(cause) if !Fault::of(&cause).passes() => {
                    let (_, opening) = fresh.left.remove(0);
                    opening.failed(fault::error("subscribe", &cause));
                    return Ok(()); // that channel is closed; the others come next
                }
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    /// Binds what comes to be wanted.
    async fn bind_more(&self) -> Result<(), Cause> {
        let mut patience = self.inner.patience();
        loop {
            self.wants.more().await;
            let bound = async {
                let declaring = Declaring::on(&self.inner.consuming, &self.inner.names).await?;
                self.bind(&declaring).await
            };
            match bound.await {
                Ok(()) => patience.renew(),
                Err(cause) => self.put_up_with(cause, &mut patience).await,
            }
        }
    }

    /// Somebody may delete an exchange, and somebody else make it again: the broker tells nobody that
    /// nothing is bound to it any more.
    async fn stay_bound(&self) -> Result<(), Cause> {
        let mut patience = self.inner.patience();
        loop {
            self.inner.clock.sleep(BOUND).await;
            match self.see_to_bindings().await {
                Ok(()) => patience.renew(),
                Err(cause) => self.put_up_with(cause, &mut patience).await,
            }
        }
    }

    /// What we read over may be well for all that, and what came over it is at work: if it is not,
    /// that is noticed there.
    async fn put_up_with(&self, cause: Cause, patience: &mut Patience) {
        tracing::warn!(
            target: "tiebeam::transport", queue = &*self.queue.name,
            "cannot bind: {}", fault::error("subscribe", &cause)
        );
        if !patience.wait().await {
            std::future::pending::<()>().await; // it stops
        }
    }

    async fn see_to_bindings(&self) -> Result<(), Cause> {
        match self.bind_again().await {
            Err(cause) if Fault::of(&cause) == Fault::Gone => {
                let queue = &*self.queue.name;
                tracing::warn!(
                    target: "tiebeam::transport", queue,
                    "an exchange was gone, and is made again"
                );
                let link = &self.inner.consuming;
                Declaring::on(link, &self.inner.names).await?.exchanges().await?;
                self.bind_again().await
            }
            bound => bound,
        }
    }

    async fn bind_again(&self) -> Result<(), Cause> {
        let declaring = Declaring::on(&self.inner.consuming, &self.inner.names).await?;
        for binding in self.wants.bindings() {
            declaring.reach(&self.queue.name, &binding).await?;
        }
        Ok(())
    }

    /// What was given out before may be what ended those who had it. It comes first, and one by
    /// one, so that nothing else is counted with it; when something new comes, there is no more of
    /// it.
    async fn consume(
        &self,
        channel: &Channel,
        consumer: &mut Consumer,
        session: u64,
    ) -> Result<(), Cause> {
        let batch = self.inner.settings.batch;
        let (mut careful, mut row) = (self.counts(), Row::default());
        loop {
            let mut next = consumer.next().await;
            if careful && matches!(&next, Some(Ok(delivery)) if deliveries(delivery) == 1) {
                careful = false;
                // Nothing comes meanwhile: this one is not acknowledged yet.
                let cancelled = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                self.inner.consuming.answer(cancelled).await?;
                *consumer = self.consumer(channel, self.most()).await?;
            }
            let (mut found, mut failed) = (Vec::new(), None);
            loop {
                match next {
                    Some(Ok(delivery)) => found.push(delivery),
                    Some(Err(error)) => failed = Some(error.into()),
                    None => failed = Some(Cause::Cancelled),
                }
                if failed.is_some() || found.len() >= batch {
                    break;
                }
                match consumer.next().now_or_never() {
                    Some(there) => next = there,
                    None => break,
                }
            }
            if self.in_turn() {
                self.bring_in_turn(found, session, &mut row).await;
            } else {
                self.bring(found.into_iter().map(counted), session).await;
            }
            if let Some(cause) = failed {
                return Err(cause);
            }
        }
    }

    /// Brings messages to the sink, and sets aside what is no event.
    pub(super) async fn bring(
        &self,
        found: impl ExactSizeIterator<Item = (Delivery, u64)>,
        session: u64,
    ) {
        let mut entries = Vec::with_capacity(found.len());
        let mut unheld = Vec::new();
        for (delivery, deliveries) in found {
            let tag = Tag { session, number: delivery.delivery_tag };
            let mut event = match event(&delivery.data, self.inner.settings.max_entry) {
                Ok(event) => event,
                Err(reason) => {
                    let data = delivery.data[..delivery.data.len().min(SHOWN)].to_vec();
                    let reason = reading::reason(reason);
                    self.holding.take_foreign(tag, Aside::Foreign { data, reason });
                    continue;
                }
            };
            let letter = letter(&delivery);
            let id = letter.as_ref().unwrap_or(&event.id);
            let Taken::New(lease) = self.holding.take(id, tag) else { continue };
            if self.group.is_some() {
                let retries = u32::try_from(deliveries - 1).unwrap_or(u32::MAX);
                event.metadata.retry_count = event.metadata.retry_count.max(retries);
                event.metadata.extra.get_or_insert_default().lease = Some(lease);
            } else {
                unheld.push(lease);
            }
            entries.push(Entry { event, deliveries });
        }
        if !entries.is_empty() {
            self.sink.take(entries).await;
        }
        unheld.iter().for_each(|lease| lease.settle());
    }

    /// Tells the broker what has ended.
    async fn acknowledge(&self, channel: &Channel, session: u64) -> Result<(), Cause> {
        loop {
            let changed = self.holding.changed.notified();
            if !self.tell(channel, session).await? {
                changed.await;
            }
        }
    }

    /// Whether there was something to tell.
    pub(super) async fn tell(&self, channel: &Channel, session: u64) -> Result<bool, Cause> {
        let told = self.holding.tell(session);
        if told.is_empty() {
            return Ok(false);
        }
        let done = told.up_to.into_iter().map(|number| (number, true));
        let done = done.chain(told.single.into_iter().map(|number| (number, false)));
        let done = done.map(|(number, multiple)| {
            channel.basic_ack(number, BasicAckOptions { multiple }).boxed()
        });
        self.written(Together::new(done.collect())).await?;
        Ok(true)
    }

    /// Gives back what nobody here is at work on any more.
    async fn give_back(&self, channel: &Channel, session: u64) -> Result<(), Cause> {
        let back = BasicNackOptions { multiple: false, requeue: true };
        loop {
            let released = self.holding.released.notified();
            if !self.holding.has_released(session) {
                released.await;
            }
            self.inner.clock.sleep(PAUSE).await;
            let numbers = self.holding.give_back(session).into_iter();
            let sent = numbers.map(|number| channel.basic_nack(number, back).boxed());
            self.written(Together::new(sent.collect())).await?;
        }
    }

    /// Waits until the connection has taken these: what is told to a channel that is lost must not
    /// be waited for.
    async fn written(&self, sent: Together<BoxFuture<'_, lapin::Result<()>>>) -> Result<(), Cause> {
        let all = async { sent.await.into_iter().collect() };
        self.inner.consuming.answer(all).await
    }

    /// Puts aside what was given up, and what is no event; only then it is acknowledged.
    async fn set_aside(&self) -> Result<(), Cause> {
        loop {
            let given_up = self.holding.given_up.notified();
            self.put_all_aside().await;
            given_up.await;
        }
    }

    /// Puts aside what there is, however often that takes; until everything ends.
    pub(super) async fn put_all_aside(&self) {
        let mut patience = self.inner.patience();
        loop {
            match self.put_one_aside().await {
                Ok(true) => patience.renew(),
                Ok(false) => return,
                Err(cause) => {
                    tracing::error!(
                        target: "tiebeam::transport", queue = &*self.queue.name,
                        "cannot put aside what was given up: {}",
                        fault::error("put aside", &cause)
                    );
                    if !patience.wait().await {
                        return std::future::pending().await; // it stops
                    }
                }
            }
        }
    }

    /// Whether there was one.
    pub(super) async fn put_one_aside(&self) -> Result<bool, Cause> {
        let Some(putting) = self.holding.to_put_aside() else { return Ok(false) };
        let queue = &*self.queue.name;
        self.inner.desk.put(&self.inner, queue, &putting.aside).await?;
        let reason = match &putting.aside {
            Aside::Foreign { reason, .. } => Some(reason.clone()),
            Aside::Letter(_) => None,
        };
        putting.done();
        if let Some(reason) = reason {
            tracing::warn!(target: "tiebeam::transport", queue, "no event, set aside: {reason}");
            let told = serde_json::json!({
                "queue": queue, "group": self.group.as_deref(), "reason": reason,
            });
            (self.inner.news)("system.event_quarantined", told);
        }
        Ok(true)
    }

    /// Tells the broker what was settled, once nothing that came over this channel is at work any
    /// more: what was handled is known a moment after its handler has returned. The rest comes again
    /// when the channel is closed.
    async fn leave(&self, channel: &Channel, consumer: &Consumer, session: u64) {
        if self.in_turn() {
            let ended = async {
                self.inner.ending.cancelled().await;
                self.inner.clock.sleep(LAST).await;
            };
            tokio::select! {
                _ = self.leave_in_turn(channel, session) => {}
                () = ended => {}
            }
            return;
        }
        let leaving = async {
            channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            loop {
                let ended = self.holding.something_ended();
                self.put_all_aside().await;
                self.tell(channel, session).await?;
                if self.holding.is_idle(session) {
                    break;
                }
                ended.await;
            }
            let again = self.inner.readings.is_read(&self.queue.name);
            if self.queue.shape == Shape::Own && (self.inner.ending.is_cancelled() || !again) {
                let unread =
                    QueueDeleteOptions { if_unused: true, ..QueueDeleteOptions::default() };
                channel.queue_delete(short(&self.queue.name)?, unread).await?;
            }
            channel.close(200, short("OK")?).await?;
            Ok::<(), Cause>(())
        };
        // Whoever reads later gets what is left.
        let _ = self.inner.clock.timeout(LAST, leaving).await;
    }
}

/// What the broker said when it closed the channel, if that stands behind what was read.
fn why_closed(consumer: &mut Consumer) -> Option<Cause> {
    while let Some(Some(next)) = consumer.next().now_or_never() {
        if let Err(error) = next {
            return Some(error.into());
        }
    }
    None
}

/// The event, or why it is none.
fn event(data: &[u8], most: usize) -> Result<Event, String> {
    if data.len() > most {
        return Err(format!("it has {} bytes, and {most} are the limit", data.len()));
    }
    let text = std::str::from_utf8(data).map_err(|_| "it is not UTF-8".to_owned())?;
    Event::from_json(text).map_err(|error| error.to_string())
}

/// The dead letter that it was: its group, which has handled the event, knows it by that.
fn letter(delivery: &Delivery) -> Option<Id> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get(LETTER)? {
        AMQPValue::LongString(name) => Some(Id::parse(&format!("letter:{name}"))),
        _ => None,
    }
}

/// A message, and how often it was given out, this time included.
pub(super) fn counted(delivery: Delivery) -> (Delivery, u64) {
    let deliveries = deliveries(&delivery);
    (delivery, deliveries)
}

/// How often a message was given out, this time included. Queues for groups count.
pub(super) fn deliveries(delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    let counted = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    let before = match counted {
        Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::LongInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::LongUInt(count)) => Some(u64::from(*count)),
        Some(AMQPValue::ShortInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::ShortShortInt(count)) => u64::try_from(*count).ok(),
        Some(AMQPValue::ShortShortUInt(count)) => Some(u64::from(*count)),
        Some(AMQPValue::ShortUInt(count)) => Some(u64::from(*count)),
        _ => None,
    };
    before.unwrap_or(u64::from(delivery.redelivered)).saturating_add(1)
}
