//! Events under way to the broker: sent, and not yet confirmed.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};

use super::delay;
use super::fault::Cause;
use super::lanes::{Lanes, Needs};
use super::names::short;
use super::together::Together;
use super::{Destination, Inner, Item};
use crate::clock::Instant;
use crate::error::Error;
use crate::event::{Event, Id};
use crate::transport::outbox::Late;

/// Events that were sent together.
pub(super) struct Flight {
    items: Vec<Item>,
    /// Whether each of them was under way before, and the answer got lost.
    before: Vec<bool>,
    sent: Together<BoxFuture<'static, lapin::Result<Confirmation>>>,
    /// Whether there are some among them that come back where nobody reads them.
    asked: bool,
}

/// What became of one of them.
pub(super) enum Answer {
    /// The broker has it.
    Accepted,
    /// Nobody reads it.
    Returned,
    /// It is to be sent again.
    Failed(Cause),
}

impl Answer {
    /// Whether the event is to be sent again: also what was to wait on the broker, where the queue
    /// is gone in which it would.
    pub fn is_left(&self, item: &Item) -> bool {
        match self {
            Answer::Accepted => false,
            Answer::Returned => item.place.due.is_some(),
            Answer::Failed(_) => true,
        }
    }
}

/// How an event is sent.
pub(super) struct Way {
    exchange: ShortString,
    key: ShortString,
    /// Whether it is to come back where nobody reads it.
    pub asked: bool,
    /// How long it waits on the broker.
    pub steps: u32,
}

impl Way {
    /// The way of an event to a place, if it is sent at `now`.
    pub fn of(inner: &Inner, place: &Destination, now: i64) -> Result<Way, Cause> {
        let Destination { to, exchange, key, due } = place;
        let left = due.map_or(0, |due| due.saturating_sub(now)).max(0).unsigned_abs();
        let steps = delay::steps(Duration::from_millis(left)).unwrap_or(delay::MOST);
        if steps == 0 {
            // Of what we tell ourselves nobody has to hear.
            let ours = key.as_str().starts_with("system.");
            let asked = !to.is_topic() || (inner.settings.mandatory && !ours);
            return Ok(Way { exchange: exchange.clone(), key: key.clone(), asked, steps });
        }
        let kept = inner.names.kept_key(exchange.as_str(), key.as_str());
        Ok(Way {
            exchange: short(&inner.names.delay(delay::highest(steps)))?,
            key: short(&format!("{}{kept}", delay::digits(steps)))?,
            asked: true,
            steps,
        })
    }
}

/// What these need.
pub(super) fn needs(ways: &[Way]) -> Needs {
    ways.iter().fold(Needs::default(), |needs, way| Needs {
        plain: needs.plain || !way.asked,
        asked: needs.asked || way.asked,
        steps: needs.steps | way.steps,
    })
}

impl Flight {
    /// Sends events on their ways, for which everything is ready. Until the answers are there, the
    /// broker may have them.
    pub fn take_off(inner: &Inner, lanes: &Lanes, mut items: Vec<Item>, ways: Vec<Way>) -> Flight {
        let before = items.iter().map(|item| item.unanswered).collect();
        let asked = ways.iter().any(|way| way.asked);
        let now = inner.clock.unix_ms();
        let publish = |(item, way): (&Item, Way)| match lanes.channel(way.asked) {
            Some(channel) => publish(channel, way, &item.event, properties(item, now)),
            None => std::future::ready(Err(lapin::ErrorKind::InvalidChannel(0).into())).boxed(),
        };
        let sent = Together::new(items.iter().zip(ways).map(publish).collect());
        for item in &mut items {
            item.unanswered = true;
            item.sends += 1;
        }
        Flight { items, before, sent, asked }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// Tells the publishers of those whose time is over; whether that are all.
    pub fn expire(&self, now: Instant, why: Late<'_>) -> bool {
        self.items.iter().filter(|item| !item.expire(now, why)).count() == 0
    }

    /// They are not waited for any more.
    pub fn fail(self, error: &Error) {
        self.items.into_iter().for_each(|item| item.failed(error.again()));
    }

    /// What became of them, as their confirms say.
    fn landed(&mut self, confirms: Vec<lapin::Result<Confirmation>>) -> Vec<(Item, Answer)> {
        let returned: HashSet<ShortString> = confirms.iter().filter_map(returned).collect();
        let items = std::mem::take(&mut self.items);
        let befores = std::mem::take(&mut self.before);
        let mut landed = Vec::with_capacity(items.len());
        for ((mut item, before), confirm) in items.into_iter().zip(befores).zip(confirms) {
            let answer = match confirm {
                Ok(Confirmation::Ack(_)) => {
                    // Which confirm carries the message that came back is not said: it is found by
                    // its id, among all that were under way over that channel.
                    let back = !returned.is_empty() && returned.contains(&name(&item.event.id));
                    if back { Answer::Returned } else { Answer::Accepted }
                }
                Ok(_) => Answer::Failed(Cause::Refused),
                Err(error) => Answer::Failed(error.into()),
            };
            // It is known that the broker does not have this one.
            if matches!(answer, Answer::Returned | Answer::Failed(Cause::Refused)) {
                item.unanswered = before;
            }
            landed.push((item, answer));
        }
        landed
    }
}

/// Resolves when the first of these has landed, which is then not among them any more; never
/// where there is none.
pub(super) async fn first_landed(flights: &mut VecDeque<Flight>) -> Vec<(Item, Answer)> {
    poll_fn(|cx| {
        let Some(first) = flights.front_mut() else { return Poll::Pending };
        let confirms = ready!(Pin::new(&mut first.sent).poll(cx));
        let landed = first.landed(confirms);
        flights.pop_front();
        Poll::Ready(landed)
    })
    .await
}

/// Has all of them sent: what is behind it in the queue of the channel comes behind it.
pub(super) fn begin(flight: &mut Flight) -> Option<Vec<(Item, Answer)>> {
    let confirms = (&mut flight.sent).now_or_never()?;
    Some(flight.landed(confirms))
}

fn publish(
    channel: Arc<Channel>,
    way: Way,
    event: &Event,
    properties: BasicProperties,
) -> BoxFuture<'static, lapin::Result<Confirmation>> {
    let mut data = Vec::with_capacity(256);
    event.write_json(&mut data);
    let options = BasicPublishOptions { mandatory: way.asked, ..BasicPublishOptions::default() };
    Box::pin(async move {
        let Way { exchange, key, .. } = way;
        channel.basic_publish(exchange, key, options, &data, properties).await?.await
    })
}

fn properties(item: &Item, now: i64) -> BasicProperties {
    let event = &item.event;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(name(&event.id))
        .with_timestamp(u64::try_from(event.timestamp / 1000).unwrap_or_default())
        .with_type(event.topic.as_str().into());
    match event.deadline() {
        // Whoever asked does not wait any longer.
        Some(deadline) if item.place.to.is_request() => {
            let left = deadline.saturating_sub(now).max(1).to_string();
            properties.with_expiration(left.as_str().into())
        }
        _ => properties,
    }
}

/// The id of an event, or as much of it as has room.
fn name(id: &Id) -> ShortString {
    let mut buffer = [0; Id::TEXT_LEN];
    let text = id.text(&mut buffer);
    let end = (0..=text.len().min(255)).rev().find(|end| text.is_char_boundary(*end));
    short(&text[..end.unwrap_or_default()]).unwrap_or_default()
}

fn returned(confirm: &lapin::Result<Confirmation>) -> Option<ShortString> {
    match confirm {
        Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) => {
            message.delivery.properties.message_id().clone()
        }
        _ => None,
    }
}
