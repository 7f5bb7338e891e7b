//! Where what was given up, and what is no event, is put aside: one after the other, each for
//! sure.

use std::sync::Arc;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Confirmation};

use super::Inner;
use super::fault::Cause;
use super::link::Wire;
use super::names::short;
use super::topology::{Declaring, table};

/// Something to be put aside.
#[derive(Clone, Debug)]
pub(super) enum Aside {
    /// What is kept of an event that was given up, in JSON.
    Letter(String),
    /// What is no event.
    Foreign {
        /// As it came, or its beginning.
        data: Vec<u8>,
        /// Why it is none.
        reason: String,
    },
}

/// The channel for it; made when it is needed.
#[derive(Default)]
pub(super) struct Desk(tokio::sync::Mutex<Option<(Arc<Wire>, Channel)>>);

impl Desk {
    /// Puts something from `queue` aside; it is there when this resolves.
    ///
    /// # Errors
    /// Where the broker does not say that it has it.
    pub async fn put(&self, inner: &Inner, queue: &str, aside: &Aside) -> Result<(), Cause> {
        let mut place = self.0.lock().await;
        let channel = match place.take() {
            Some((wire, channel)) if channel.status().connected() => place.insert((wire, channel)),
            _ => place.insert(open(inner).await?),
        };
        let put = publish(inner, &channel.1, queue, aside).await;
        if put.is_err() {
            *place = None; // the next one begins with a new channel, and declares again
        }
        put
    }
}

async fn open(inner: &Inner) -> Result<(Arc<Wire>, Channel), Cause> {
    Declaring::on(&inner.publishing, &inner.names).await?.places_aside().await?;
    let (wire, channel) = inner.publishing.channel().await?;
    let confirms = channel.confirm_select(ConfirmSelectOptions::default());
    inner.publishing.answer(confirms).await?;
    Ok((wire, channel))
}

async fn publish(
    inner: &Inner,
    channel: &Channel,
    queue: &str,
    aside: &Aside,
) -> Result<(), Cause> {
    let from = ("queue", AMQPValue::LongString(queue.into()));
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_timestamp(u64::try_from(inner.clock.unix_ms() / 1000).unwrap_or_default());
    let (exchange, key, properties, data) = match aside {
        Aside::Letter(text) => {
            let properties =
                properties.with_content_type("application/json".into()).with_headers(table([from]));
            (inner.names.dead(), String::new(), properties, text.as_bytes())
        }
        Aside::Foreign { data, reason } => {
            let reason = ("reason", AMQPValue::LongString(reason.as_str().into()));
            let properties = properties.with_headers(table([from, reason]));
            (String::new(), inner.names.quarantine(), properties, data.as_slice())
        }
    };
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published =
        channel.basic_publish(short(&exchange)?, short(&key)?, options, data, properties);
    let confirmed = async { published.await?.await };
    match inner.publishing.answer(confirmed).await? {
        // Nothing else is under way here: what is returned is this one.
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => Err(Cause::Returned),
        _ => Err(Cause::Refused),
    }
}
