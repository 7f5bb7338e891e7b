//! Where what was given up, and what is no event, is put aside: one after the other, each for
//! sure.

use std::sync::Arc;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};

use super::Inner;
use super::fault::Cause;
use super::link::Wire;
use super::names::short;
use super::topology::{Declaring, table, text};
use crate::event::Letter;

/// Something to be put aside.
#[derive(Clone, Debug)]
pub(super) enum Aside {
    /// What is kept of an event that was given up.
    Letter(Letter),
    /// What is no event.
    Foreign {
        /// As it came, or its beginning.
        data: Vec<u8>,
        /// Why it is none.
        reason: String,
    },
}

/// A message that is on its way for sure, or not at all.
pub(super) struct Message<'a> {
    pub exchange: &'a str,
    pub key: &'a str,
    pub properties: BasicProperties,
    pub data: &'a [u8],
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
        let (dead, quarantine) = (inner.names.dead(), inner.names.quarantine());
        let from = ("queue", text(queue));
        let properties = properties(inner);
        let message = match aside {
            Aside::Letter(letter) => Message {
                exchange: &dead,
                key: "",
                properties: properties
                    .with_content_type("application/json".into())
                    .with_message_id(short(&letter.name)?)
                    .with_headers(table([from])),
                data: letter.text.as_bytes(),
            },
            Aside::Foreign { data, reason } => Message {
                exchange: "",
                key: &quarantine,
                properties: properties.with_headers(table([from, ("reason", text(reason))])),
                data,
            },
        };
        self.send(inner, message).await
    }

    /// Sends a message; the broker has it when this resolves.
    ///
    /// # Errors
    /// Where it does not say so; [`Cause::Returned`] where there is no queue for it.
    pub async fn send(&self, inner: &Inner, message: Message<'_>) -> Result<(), Cause> {
        let mut place = self.0.lock().await;
        let there = place.take().filter(|(_, channel)| channel.status().connected());
        let sent = async {
            let (wire, channel) = match there {
                Some(there) => there,
                None => open(inner).await?,
            };
            publish(inner, &channel, message).await?;
            Ok((wire, channel))
        };
        match sent.await {
            Ok(there) => {
                *place = Some(there);
                Ok(())
            }
            // The next one begins with a new channel, and declares again.
            Err(cause) => {
                if matches!(cause, Cause::Silence(_)) {
                    inner.publishing.hang_up().await;
                }
                Err(cause)
            }
        }
    }
}

/// Of what is to last.
pub(super) fn properties(inner: &Inner) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_timestamp(u64::try_from(inner.clock.unix_ms() / 1000).unwrap_or_default())
}

async fn open(inner: &Inner) -> Result<(Arc<Wire>, Channel), Cause> {
    Declaring::on(&inner.publishing, &inner.names).await?.places_aside().await?;
    let (wire, channel) = inner.publishing.channel().await?;
    let confirms = channel.confirm_select(ConfirmSelectOptions::default());
    inner.publishing.answer(confirms).await?;
    Ok((wire, channel))
}

async fn publish(inner: &Inner, channel: &Channel, message: Message<'_>) -> Result<(), Cause> {
    let Message { exchange, key, properties, data } = message;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published = channel.basic_publish(short(exchange)?, short(key)?, options, data, properties);
    let confirmed = async { published.await?.await };
    match inner.publishing.answer(confirmed).await? {
        // Nothing else is under way here: what is returned is this one.
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => Err(Cause::Returned),
        _ => Err(Cause::Refused),
    }
}
