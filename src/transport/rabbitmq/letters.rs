//! Dead letters of all processes, in a stream: it can be read without taking anything out, and
//! nothing can be taken out. What was is said behind it, in a message that names it; whoever
//! reads leaves those out. The end is known by a mark that the reader sends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::AMQPValue;
use lapin::{Channel, Consumer};

use super::desk::{Aside, Message, properties};
use super::fault::{self, Cause, Fault};
use super::names::short;
use super::topology::{Declaring, table, text};
use super::{Inner, RabbitMq};
use crate::error::{Error, Kind, Result};
use crate::event::{Lease, Letter};
use crate::transport::carrier::Later;
use crate::transport::letters::{Again, Hold, Kept, Letters, Take};

/// In the headers of an event that is handled again: the letter that it was.
pub(super) const LETTER: &str = "letter";

/// In the headers of what is no letter: what it is instead.
const WORD: &str = "word";
const GONE: &str = "gone";
const MARK: &str = "mark";

/// How many are sent by the broker before they are acknowledged.
const AHEAD: u16 = 200;

/// How many letters one message says to be gone.
const PAGE: usize = 1_000;

/// What stands in the stream.
enum Word {
    Letter(Kept),
    Gone(Vec<String>),
    Mark(String),
}

impl Word {
    fn of(delivery: &Delivery) -> Option<Word> {
        let headers = delivery.properties.headers().as_ref()?.inner();
        let header = |name: &str| match headers.get(name)? {
            AMQPValue::LongString(value) => Some(value.to_string()),
            _ => None,
        };
        let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
        match header(WORD).as_deref() {
            Some(MARK) => return Some(Word::Mark(id?)),
            Some(GONE) => return Some(Word::Gone(serde_json::from_slice(&delivery.data).ok()?)),
            _ => {}
        }
        let text = String::from_utf8(delivery.data.clone()).ok()?;
        if let Some(place) = header("queue") {
            return Some(Word::Letter(Kept { id: id?, text, place, reason: None }));
        }
        // The broker gave it up itself; it may do so with one event for several groups.
        let AMQPValue::LongLongInt(offset) = headers.get("x-stream-offset")? else { return None };
        // Where it came to its last end, as far as the broker says so: of one that was delayed, an
        // older one tells only where it had waited.
        let death = |what: &str| {
            let last = header(&format!("x-last-death-{what}"));
            last.or_else(|| header(&format!("x-first-death-{what}")))
        };
        let place = death("queue")?;
        let reason = Some(death("reason").unwrap_or_else(|| "unknown".into()));
        Some(Word::Letter(Kept { id: format!("@{offset}"), text, place, reason }))
    }
}

impl Inner {
    /// What stands in the stream by now, without what is gone.
    async fn letters(&self) -> Result<Vec<Kept>, Cause> {
        Declaring::on(&self.publishing, &self.names).await?.places_aside().await?;
        // Declared anew as what it has to be: a queue of another kind would lose what is read.
        Declaring::on(&self.publishing, &self.names).await?.letters().await?;
        let (_wire, channel) = self.consuming.channel().await?;
        let mark = format!("{:032x}", fastrand::u128(..));
        let read = async {
            let mut consumer = self.read_letters(&channel).await?;
            self.send_word(MARK, &mark, &[]).await?;
            self.up_to(&mark, &mut consumer).await
        };
        let read = read.await;
        let _ = self.consuming.answer(channel.close(200, short("OK")?)).await;
        read
    }

    async fn read_letters(&self, channel: &Channel) -> Result<Consumer, Cause> {
        let link = &self.consuming;
        link.answer(channel.basic_qos(AHEAD, BasicQosOptions::default())).await?;
        let consumed = channel.basic_consume(
            short(&self.names.dead_letters())?,
            short("")?,
            BasicConsumeOptions::default(),
            table([("x-stream-offset", text("first"))]),
        );
        link.answer(consumed).await
    }

    async fn up_to(&self, mark: &str, consumer: &mut Consumer) -> Result<Vec<Kept>, Cause> {
        let (mut letters, mut gone) = (Vec::new(), HashSet::new());
        loop {
            let next = async { Ok(consumer.next().await) };
            let delivery = match self.consuming.answer(next).await? {
                Some(delivery) => delivery?,
                None => return Err(Cause::Cancelled),
            };
            self.consuming.answer(delivery.acker.ack(BasicAckOptions::default())).await?;
            match Word::of(&delivery) {
                Some(Word::Mark(found)) if found == mark => break,
                Some(Word::Gone(ids)) => gone.extend(ids),
                Some(Word::Letter(kept)) => letters.push(kept),
                Some(Word::Mark(_)) | None => {}
            }
        }
        letters.retain(|kept| !gone.contains(&kept.id));
        Ok(letters)
    }

    /// Says something in the stream that is no letter.
    async fn send_word(&self, word: &str, id: &str, data: &[u8]) -> Result<(), Cause> {
        let key = self.names.dead_letters();
        let properties =
            properties(self).with_message_id(short(id)?).with_headers(table([(WORD, text(word))]));
        self.desk.send(self, Message { exchange: "", key: &key, properties, data }).await
    }

    /// Says that letters are gone.
    async fn forget_letters(&self, ids: &[String]) -> Result<(), Cause> {
        for ids in ids.chunks(PAGE) {
            let data = serde_json::to_vec(ids).unwrap_or_default(); // texts
            self.send_word(GONE, "", &data).await?;
        }
        Ok(())
    }

    /// Keeps what waits to take the place of letters, and says that those are gone.
    async fn replace_letters(&self) -> Result<(), Cause> {
        let waiting = std::mem::take(&mut *self.replacing.waiting.lock());
        if waiting.is_empty() {
            return Ok(()); // somebody else did so
        }
        let letters = self.letters().await?;
        let places: HashMap<&str, &str> =
            letters.iter().map(|kept| (&*kept.id, &*kept.place)).collect();
        let (mut gone, mut kept) = (Vec::with_capacity(waiting.len()), Ok(()));
        for (name, letter) in waiting {
            let queue = places.get(&*name).copied().unwrap_or_default();
            kept = self.desk.put(self, queue, &Aside::Letter(letter)).await;
            if kept.is_err() {
                break;
            }
            gone.push(name);
        }
        self.forget_letters(&gone).await?;
        kept
    }

    /// Gives an event to the queue that it came from; whether that is there.
    async fn send_letter_again(&self, again: &Again) -> Result<bool, Cause> {
        if !self.names.is_ours(&again.place) {
            return Ok(false); // it may say what it likes
        }
        let data = again.event.to_json();
        let properties = properties(self)
            .with_content_type("application/json".into())
            .with_message_id(short(&again.event.id.to_string())?)
            .with_headers(table([(LETTER, text(&again.id))]));
        let message =
            Message { exchange: "", key: &again.place, properties, data: data.as_bytes() };
        match self.desk.send(self, message).await {
            Ok(()) => Ok(true),
            Err(Cause::Returned) => Ok(false),
            Err(cause) => Err(cause),
        }
    }
}

impl Letters for RabbitMq {
    fn each(&self, take: Take) -> Later<'_, Result<()>> {
        let inner = self.inner().clone();
        self.on_our_runtime("read dead letters", async move {
            let letters = inner.letters().await.map_err(|cause| unreadable(&inner, &cause))?;
            let _all = letters.into_iter().all(take);
            Ok(())
        })
    }

    fn send_again(&self, letters: Vec<Again>) -> Later<'_, Result<Vec<String>>> {
        let inner = self.inner().clone();
        self.on_our_runtime("replay dead letters", async move {
            let mut sent = Vec::new();
            for again in &letters {
                let result = async {
                    let there = inner.send_letter_again(again).await?;
                    if there {
                        inner.forget_letters(std::slice::from_ref(&again.id)).await?;
                    }
                    Ok(there)
                };
                match result.await {
                    Ok(true) => sent.push(again.id.clone()),
                    Ok(false) => {}
                    // What was sent by then is told: it is not there any more.
                    Err(_) if !sent.is_empty() => break,
                    Err(cause) => return Err(fault::error("replay dead letters", &cause)),
                }
            }
            Ok(sent)
        })
    }

    fn forget(&self, ids: Vec<String>) -> Later<'_, Result<usize>> {
        let inner = self.inner().clone();
        self.on_our_runtime("purge dead letters", async move {
            let told = inner.forget_letters(&ids).await;
            told.map_err(|cause| fault::error("purge dead letters", &cause))?;
            Ok(ids.len())
        })
    }

    fn hold(&self, letter: &str) -> Option<Arc<dyn Lease>> {
        let (inner, name) = (self.inner().clone(), letter.to_owned());
        Some(Hold::ending_with(move |by| replace(&inner, name, by)))
    }
}

fn unreadable(inner: &Inner, cause: &Cause) -> Error {
    if Fault::of(cause) != Fault::Different {
        return fault::error("read dead letters", cause);
    }
    let said = format!(
        "dead letters are in the queue `{}`, which is no stream, so that they cannot be read \
         without being taken out; to have one, enable the feature flag `stream_queue` of RabbitMQ, \
         move what is in the queue elsewhere, and delete it",
        inner.names.dead_letters()
    );
    Error::new(Kind::Configuration, "read dead letters", said)
}

/// Letters that take the place of others, which were handled again and failed again: where there are
/// many, the stream is read once for all of them.
#[derive(Default)]
pub(super) struct Replacing {
    waiting: parking_lot::Mutex<Vec<(String, Letter)>>,
    turn: tokio::sync::Mutex<()>,
}

/// Says that a letter is gone, once what takes its place is kept.
fn replace(inner: &Arc<Inner>, name: String, by: Option<Letter>) {
    let (tasks, runtime) = (inner.tasks.clone(), inner.runtime.clone());
    let inner = inner.clone();
    let replacing = async move {
        let replaced = match by {
            None => inner.forget_letters(std::slice::from_ref(&name)).await,
            Some(letter) => {
                inner.replacing.waiting.lock().push((name.clone(), letter));
                let _turn = inner.replacing.turn.lock().await;
                inner.replace_letters().await
            }
        };
        if let Err(cause) = replaced {
            // It stays: what was handled may be handled once more by whoever replays it.
            tracing::warn!(
                target: "tiebeam::transport", letter = name,
                "a dead letter that was handled again could not be taken out: {}",
                fault::error("replay", &cause)
            );
        }
    };
    tasks.spawn_on(replacing, &runtime);
}
