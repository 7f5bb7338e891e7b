//! What is declared on the broker. To declare what is there already changes nothing, and is done
//! again for each connection: it may be a broker that has lost everything.

use lapin::ExchangeKind;
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};

use super::delay;
use super::fault::{Cause, Fault};
use super::link::{Declares, Link};
use super::names::{Names, short};

/// How many events that are not, and how many delayed ones that nobody read, are kept; the oldest
/// goes first.
const ASIDE: i64 = 10_000;

/// How much is kept of what was given up; the oldest goes first.
const LETTERS_BYTES: i64 = 1 << 30;

/// How long a queue outlives those who read it, where nobody told the broker that they are gone: so
/// long a process may be without its connection and miss nothing of its own.
const EXPIRES_MS: i64 = 60_000;

/// What a queue has that is read by one at a time.
pub(super) const IN_TURN: &str = "x-single-active-consumer";

/// A queue as its readers need it.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub name: String,
    pub shape: Shape,
}

/// Who shares a queue, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// For a group: it stays, with all that is in it.
    Lasting,
    /// The same, and one of the group at a time gets what is in it, in order.
    InTurn,
    /// For all who are there: it goes with the last of them.
    Passing,
    /// For this process, whichever connection it has.
    Own,
}

/// What somebody declares with: a channel for that alone, because the broker closes it where it
/// disagrees.
pub(super) struct Declaring<'a> {
    link: &'a Link,
    channel: Declares,
    names: &'a Names,
}

impl<'a> Declaring<'a> {
    pub async fn on(link: &'a Link, names: &'a Names) -> Result<Declaring<'a>, Cause> {
        let channel = link.declares().await?;
        Ok(Declaring { link, channel, names })
    }

    /// With another channel: the broker has closed this one.
    async fn again(self) -> Result<Declaring<'a>, Cause> {
        let Declaring { link, channel, names } = self;
        drop(channel);
        Declaring::on(link, names).await
    }

    /// The exchanges that everybody needs.
    pub async fn exchanges(&self) -> Result<(), Cause> {
        self.exchange(&self.names.topic(), ExchangeKind::Topic, FieldTable::default()).await?;
        self.exchange(&self.names.direct(), ExchangeKind::Direct, FieldTable::default()).await?;
        // Without a place for what nobody reads, it would go round in the queue that it came from.
        let unread = self.names.unread();
        self.exchange(&unread, ExchangeKind::Fanout, FieldTable::default()).await?;
        self.queue(&unread, durable(), table([("x-max-length", ASIDE.into())])).await?;
        self.bind(&unread, &unread, "").await?;
        let arguments = table([("alternate-exchange", text(&unread))]);
        self.exchange(&self.names.due(), ExchangeKind::Topic, arguments).await
    }

    /// Whether a queue is there, and what to declare with after that.
    pub async fn finds(self, queue: &str) -> Result<(bool, Declaring<'a>), Cause> {
        let asked = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match self.queue(queue, asked, FieldTable::default()).await {
            Ok(()) => Ok((true, self)),
            Err(cause) if Fault::of(&cause) == Fault::Gone => Ok((false, self.again().await?)),
            Err(cause) => Err(cause),
        }
    }

    /// A queue for readers.
    pub async fn reading(&self, queue: &Queue) -> Result<(), Cause> {
        let (options, arguments) = match queue.shape {
            Shape::Lasting => (durable(), self.lasting(&self.names.dead())),
            Shape::InTurn => {
                let mut arguments = self.lasting(&self.names.dead());
                arguments.insert(IN_TURN.into(), true.into());
                (durable(), arguments)
            }
            Shape::Passing => (
                QueueDeclareOptions { auto_delete: true, ..durable() },
                table([("x-expires", EXPIRES_MS.into())]),
            ),
            Shape::Own => (
                durable(),
                table([("x-queue-type", text("classic")), ("x-expires", EXPIRES_MS.into())]),
            ),
        };
        self.queue(&queue.name, options, arguments).await
    }

    /// Has a queue get what is published to `exchange` by `key`, now or later.
    pub async fn reach(
        &self,
        queue: &str,
        (exchange, key): &(String, String),
    ) -> Result<(), Cause> {
        self.bind(queue, exchange, key).await?;
        self.bind(queue, &self.names.due(), &self.names.due_key(exchange, key)).await
    }

    /// The way that an event goes which waits so many steps.
    pub async fn delays(&self, steps: u32) -> Result<(), Cause> {
        let next = |level: u32| match level.checked_sub(1) {
            Some(lower) => self.names.delay(lower),
            None => self.names.due(),
        };
        for level in 0..=delay::highest(steps) {
            let name = self.names.delay(level);
            self.exchange(&name, ExchangeKind::Topic, FieldTable::default()).await?;
            let bound = self.channel.exchange_bind(
                short(&next(level))?,
                short(&name)?,
                short(&delay::pattern(level, '0'))?,
                ExchangeBindOptions::default(),
                FieldTable::default(),
            );
            self.link.answer(bound).await?;
        }
        for level in delay::levels(steps) {
            let name = self.names.delay(level);
            let mut arguments = self.lasting(&next(level));
            let wait = i64::try_from(delay::wait_ms(level)).unwrap_or(i64::MAX);
            arguments.insert("x-message-ttl".into(), wait.into());
            self.queue(&name, durable(), arguments).await?;
            self.bind(&name, &name, &delay::pattern(level, '1')).await?;
        }
        Ok(())
    }

    /// The stream for what was given up: it can be read without taking anything out.
    pub async fn letters(&self) -> Result<(), Cause> {
        let stream =
            table([("x-queue-type", text("stream")), ("x-max-length-bytes", LETTERS_BYTES.into())]);
        self.queue(&self.names.dead_letters(), durable(), stream).await
    }

    /// The places for what was given up, and for what is no event.
    pub async fn places_aside(self) -> Result<(), Cause> {
        let (dead, letters) = (self.names.dead(), self.names.dead_letters());
        self.exchange(&dead, ExchangeKind::Fanout, FieldTable::default()).await?;
        let quarantine = table([("x-max-length", ASIDE.into())]);
        self.queue(&self.names.quarantine(), durable(), quarantine).await?;
        let Err(cause) = self.letters().await else {
            return self.bind(&letters, &dead, "").await;
        };
        if Fault::of(&cause) != Fault::Different {
            return Err(cause);
        }
        // The broker has no streams, or something else under that name: it will do.
        let another = self.again().await?;
        let there = QueueDeclareOptions { passive: true, ..durable() };
        match another.queue(&letters, there, FieldTable::default()).await {
            Ok(()) => another.bind(&letters, &dead, "").await,
            Err(cause) if Fault::of(&cause) == Fault::Gone => {
                let another = another.again().await?;
                another.queue(&letters, durable(), FieldTable::default()).await?;
                another.bind(&letters, &dead, "").await
            }
            Err(cause) => Err(cause),
        }
    }

    /// Deletes what is ours, `queues` included; what is not there is no harm.
    pub async fn wipe(&self, queues: &[String]) -> Result<(), Cause> {
        let names = self.names;
        let delays = || (0..delay::LEVELS).map(|level| names.delay(level));
        let aside = [names.dead_letters(), names.quarantine(), names.unread()];
        for queue in queues.iter().cloned().chain(aside).chain(delays()) {
            let gone = self.channel.queue_delete(short(&queue)?, QueueDeleteOptions::default());
            self.link.answer(gone).await?;
        }
        let own = [names.topic(), names.direct(), names.dead(), names.due(), names.unread()];
        for exchange in own.into_iter().chain(delays()) {
            let gone = self.channel.exchange_delete(short(&exchange)?, Default::default());
            self.link.answer(gone).await?;
        }
        Ok(())
    }

    /// A queue that survives the death of the broker, and hands on to `exchange` what it cannot
    /// keep: not before that is sure to have it.
    fn lasting(&self, exchange: &str) -> FieldTable {
        table([
            ("x-queue-type", text("quorum")),
            ("x-dead-letter-exchange", text(exchange)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ])
    }

    async fn exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> Result<(), Cause> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = self.channel.exchange_declare(short(name)?, kind, options, arguments);
        self.link.answer(declared).await
    }

    async fn queue(
        &self,
        name: &str,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Result<(), Cause> {
        let declared = self.channel.queue_declare(short(name)?, options, arguments);
        self.link.answer(declared).await.map(drop)
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Cause> {
        let bound = self.channel.queue_bind(
            short(queue)?,
            short(exchange)?,
            short(key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.link.answer(bound).await
    }
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

/// A text, as arguments and headers have it.
pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Arguments, or headers, by name.
pub(super) fn table<const N: usize>(entries: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}
