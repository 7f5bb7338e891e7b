//! Dead letters of all processes, in a stream of their own: shown, sent again, taken out.

use std::collections::VecDeque;
use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::answers;
use super::entry_id::EntryId;
use super::fault;
use super::link::Links;
use super::{Inner, Redis, presence};
use crate::error::Result;
use crate::event::{Lease, Letter};
use crate::transport::carrier::Later;
use crate::transport::letters::{Again, Hold, Kept, Letters, Take};

/// How many are kept; the oldest goes first.
const MOST: usize = 100_000;

/// How many are asked for at a time.
const PAGE: usize = 100;

/// How many of this process can be found by their name.
const KNOWN: usize = 10_000;

/// A letter for the server, and where its event stood.
pub(super) struct Buried<'a> {
    pub stream: &'a str,
    pub entry: EntryId,
    pub letter: &'a Letter,
}

/// The letters that this process wrote lately, or is about to, and where they stand.
#[derive(Default)]
pub(super) struct Written {
    letters: Mutex<VecDeque<(Arc<str>, Option<Place>)>>,
    /// One of them has its place.
    placed: Notify,
}

/// Where a letter stands, and where its event stood.
#[derive(Clone)]
struct Place {
    letter: EntryId,
    stream: Arc<str>,
    entry: EntryId,
}

impl Place {
    /// Keeps another letter instead, if there is one, and takes this one out.
    async fn replace(
        &self,
        inner: &Inner,
        links: &mut Links,
        by: &mut Option<Letter>,
    ) -> RedisResult<()> {
        if let Some(letter) = by {
            let buried = Buried { stream: &self.stream, entry: self.entry, letter };
            keep(inner, links.to(&inner.keys.dead_letters()).get().await?, &[buried]).await?;
            *by = None;
        }
        inner.forget_letters(links, &[self.letter]).await.map(drop)
    }
}

impl Written {
    /// A letter will be written: somebody may have its event handled again before it is.
    pub fn expect(&self, name: &Arc<str>) {
        self.note(name, None);
    }

    fn note(&self, name: &Arc<str>, place: Option<Place>) {
        let (mut letters, placed) = (self.letters.lock(), place.is_some());
        // The youngest are asked for most often.
        match letters.iter_mut().rev().find(|(known, _)| known == name) {
            Some(known) => known.1 = place.or(known.1.take()),
            None => {
                if letters.len() >= KNOWN {
                    letters.pop_front();
                }
                letters.push_back((name.clone(), place));
            }
        }
        drop(letters);
        if placed {
            self.placed.notify_waiters();
        }
    }

    /// Its place, once it has one; none where it is not known.
    fn of(&self, name: &str) -> Option<Option<Place>> {
        let letters = self.letters.lock();
        letters.iter().rev().find(|(known, _)| **known == *name).map(|(_, place)| place.clone())
    }

    /// Waits until a letter has its place; none where it will not have one.
    async fn wait_for(&self, name: &str) -> Option<Place> {
        loop {
            let placed = self.placed.notified();
            tokio::pin!(placed);
            placed.as_mut().enable();
            match self.of(name) {
                Some(None) => placed.await,
                known => return known.flatten(),
            }
        }
    }
}

/// Keeps what was given up.
pub(super) async fn keep(
    inner: &Inner,
    to: &mut MultiplexedConnection,
    letters: &[Buried<'_>],
) -> RedisResult<()> {
    let key = inner.keys.dead_letters();
    let mut commands = Pipeline::with_capacity(letters.len());
    for Buried { stream, entry, letter } in letters {
        commands.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(MOST).arg("*");
        commands.arg("stream").arg(stream).arg("entry").arg(entry);
        commands.arg("data").arg(&letter.text);
    }
    let answers = to.send_packed_commands(&commands, 0, letters.len()).await?;
    let mut result = Ok(());
    for (Buried { stream, entry, letter }, answer) in letters.iter().zip(answers) {
        match answer.extract_error() {
            Ok(id) => {
                if let Some(id) = answers::id(Some(&id)) {
                    let place = Place { letter: id, stream: (*stream).into(), entry: *entry };
                    inner.written.note(&letter.name, Some(place));
                }
            }
            Err(cause) => result = result.and(Err(cause)),
        }
    }
    result
}

async fn forget(
    inner: &Inner,
    to: &mut MultiplexedConnection,
    ids: &[EntryId],
) -> RedisResult<usize> {
    let mut gone = 0;
    for ids in ids.chunks(PAGE) {
        let mut command = cmd("XDEL");
        command.arg(inner.keys.dead_letters());
        ids.iter().for_each(|id| {
            command.arg(id);
        });
        if let Value::Int(count) = ask(to, &command).await? {
            gone += usize::try_from(count).unwrap_or_default();
        }
    }
    Ok(gone)
}

async fn ask(to: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    to.send_packed_command(command).await?.extract_error()
}

impl Inner {
    /// Shows the letters to `take`, page by page.
    async fn each_letter(
        &self,
        links: &mut Links,
        take: &mut Take,
        after: &mut EntryId,
    ) -> RedisResult<()> {
        let key = self.keys.dead_letters();
        loop {
            let mut command = cmd("XRANGE");
            command.arg(&key).arg(format!("({after}")).arg("+").arg("COUNT").arg(PAGE);
            let page = ask(links.to(&key).get().await?, &command).await?;
            let page = answers::named_entries(page)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            *after = *last;
            for (id, mut fields) in page {
                let mut field = |name: &str| {
                    let found = fields.remove(name.as_bytes())?;
                    String::from_utf8(found).ok()
                };
                let (Some(text), Some(place)) = (field("data"), field("stream")) else { continue };
                if !take(Kept { id: id.to_string(), text, place, reason: None }) {
                    return Ok(());
                }
            }
        }
    }

    /// Sends one again where its group, or whoever else is meant, reads; whether there is one.
    async fn send_letter_again(&self, links: &mut Links, again: &Again) -> RedisResult<bool> {
        let Again { id, event, place, group } = again;
        if !self.keys.is_ours(place) {
            return Ok(false); // it may say what it likes
        }
        let mut command = cmd("XADD");
        command.arg(place).arg("*").arg("data").arg(event.to_json()).arg("letter").arg(id);
        if self.keys.is_category(place) {
            let there = presence::groups(links.to(place).get().await?, place).await?;
            let Some(group) = group.as_ref().filter(|group| there.contains(&group.to_string()))
            else {
                return Ok(false);
            };
            command.arg("to").arg(&**group);
        }
        ask(links.to(place).get().await?, &command).await?;
        Ok(true)
    }
}

impl Inner {
    async fn forget_letters(&self, links: &mut Links, ids: &[EntryId]) -> RedisResult<usize> {
        forget(self, links.to(&self.keys.dead_letters()).get().await?, ids).await
    }

    /// Sends one again, and takes it out.
    async fn replay(
        &self,
        links: &mut Links,
        again: &Again,
        id: EntryId,
        sent: &mut Vec<String>,
    ) -> RedisResult<()> {
        if self.send_letter_again(links, again).await? {
            self.forget_letters(links, &[id]).await?;
            sent.push(again.id.clone());
        }
        Ok(())
    }
}

impl Letters for Redis {
    fn each(&self, take: Take) -> Later<'_, Result<()>> {
        let inner = self.inner().clone();
        let showing = async move {
            let (mut links, mut take) = (Links::new(&inner), take);
            let mut after = EntryId::default();
            loop {
                let Err(cause) = inner.each_letter(&mut links, &mut take, &mut after).await else {
                    return Ok(());
                };
                let waited = links.wait_after(cause).await;
                waited.map_err(|cause| fault::error("read dead letters", &cause))?;
            }
        };
        self.on_our_runtime("read dead letters", showing)
    }

    fn send_again(&self, letters: Vec<Again>) -> Later<'_, Result<Vec<String>>> {
        let inner = self.inner().clone();
        let sending = async move {
            let mut links = Links::new(&inner);
            let mut sent = Vec::new();
            let sending = async {
                for again in &letters {
                    let Some(id) = parsed(&again.id) else { continue };
                    while let Err(cause) = inner.replay(&mut links, again, id, &mut sent).await {
                        links.wait_after(cause).await?;
                    }
                }
                Ok(())
            };
            match sending.await {
                Ok(()) => Ok(sent),
                // What was sent by then is told: it is not there any more.
                Err(_) if !sent.is_empty() => Ok(sent),
                Err(cause) => Err(fault::error("replay dead letters", &cause)),
            }
        };
        self.on_our_runtime("replay dead letters", sending)
    }

    fn forget(&self, ids: Vec<String>) -> Later<'_, Result<usize>> {
        let inner = self.inner().clone();
        let forgetting = async move {
            let mut links = Links::new(&inner);
            let ids: Vec<EntryId> = ids.iter().filter_map(|id| parsed(id)).collect();
            loop {
                match inner.forget_letters(&mut links, &ids).await {
                    Ok(count) => return Ok(count),
                    Err(cause) => links
                        .wait_after(cause)
                        .await
                        .map_err(|cause| fault::error("purge dead letters", &cause))?,
                }
            }
        };
        self.on_our_runtime("purge dead letters", forgetting)
    }

    fn hold(&self, letter: &str) -> Option<Arc<dyn Lease>> {
        let (inner, name) = (self.inner().clone(), Arc::from(letter));
        inner.written.of(letter)?;
        Some(Hold::ending_with(move |by| replace(&inner, name, by)))
    }
}

fn parsed(id: &str) -> Option<EntryId> {
    EntryId::parse(id.as_bytes())
}

/// Takes a letter out, once what takes its place is kept.
fn replace(inner: &Arc<Inner>, name: Arc<str>, mut by: Option<Letter>) {
    if let Some(letter) = &by {
        inner.written.expect(&letter.name);
    }
    let (tasks, runtime) = (inner.tasks.clone(), inner.runtime.clone());
    let inner = inner.clone();
    let replacing = async move {
        // It may be on its way yet: what ends sooner must not leave it there.
        let place = tokio::select! {
            place = inner.written.wait_for(&name) => place,
            () = inner.ending.cancelled() => None,
        };
        let Some(place) = place else { return };
        let mut links = Links::new(&inner);
        let replaced = async {
            while let Err(cause) = place.replace(&inner, &mut links, &mut by).await {
                links.wait_after(cause).await?;
            }
            RedisResult::Ok(())
        };
        if let Err(cause) = replaced.await {
            // It stays: what was handled may be handled once more by whoever replays it.
            tracing::warn!(
                target: "tiebeam::transport", letter = %place.letter,
                "a dead letter that was handled again could not be taken out: {}",
                fault::error("replay", &cause)
            );
        }
    };
    tasks.spawn_on(replacing, &runtime);
}
