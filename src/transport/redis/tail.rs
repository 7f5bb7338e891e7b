//! A copy of every entry, which nobody holds: from a place in the stream on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::redis::RedisResult;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::agreement;
use super::answers::Raw;
use super::entry_id::EntryId;
use super::fault::{self, Fault};
use super::keys::{Kind, Stream};
use super::link::Link;
use super::place;
use super::reader::{BLOCK, PARTING};
use crate::event::Decoder;
use crate::transport::opening::Opening;
use crate::transport::seen::{Noted, Seen};
use crate::transport::{Entry, Sink, Start, reading};

/// Reads until `stop`.
pub(super) async fn follow(
    inner: Arc<Inner>,
    (stream, start): (Stream, Start),
    sink: Arc<dyn Sink>,
    opening: Opening,
    stop: CancellationToken,
) {
    let seen = inner.settings.dedup.map(|window| Seen::new(window, inner.clock.clone()));
    let tail = Tail { inner: inner.clone(), stream, sink, seen };
    tokio::select! {
        () = tail.follow(start, opening) => {}
        () = stop.cancelled() => {}
    }
    tail.inner.trouble.over(&tail.stream.key);
    if tail.stream.kind == Kind::Replies {
        tail.take_out().await;
    }
}

struct Tail {
    inner: Arc<Inner>,
    stream: Stream,
    sink: Arc<dyn Sink>,
    seen: Option<Seen<EntryId>>,
}

impl Tail {
    async fn follow(&self, start: Start, opening: Opening) {
        let limit = BLOCK + self.inner.settings.response_timeout;
        let mut link = Link::new(&self.inner, &self.stream.key, limit);
        let mut patience = self.inner.patience();
        let mut after = match start {
            Start::Now => None,
            Start::First => Some(EntryId::default()),
            Start::At(ms) => Some(place::before(ms)),
        };
        loop {
            let session = self.session(&mut link, &opening, &mut after, || {
                patience.renew();
                self.inner.trouble.over(&self.stream.key);
            });
            let Err(cause) = session.await else { return };
            let fault = Fault::of(&cause);
            link.failed(&cause);
            let error = fault::error("read", &cause);
            if !fault::is_told_where(&cause) {
                tracing::warn!(
                    target: "tiebeam::transport", stream = &*self.stream.key,
                    "reading failed: {error}"
                );
                self.inner.trouble.begins(&self.stream.key, error.message());
            }
            if !fault.passes() {
                opening.failed(error);
            }
            if !patience.wait().await {
                return;
            }
        }
    }

    async fn session(
        &self,
        link: &mut Link,
        opening: &Opening,
        after: &mut Option<EntryId>,
        mut worked: impl FnMut(),
    ) -> RedisResult<()> {
        let (room, most) = ((self.inner.settings.batch, BLOCK), self.inner.settings.max_entry);
        agreement::agree_over(&self.inner, link).await?;
        let mut last = match *after {
            Some(last) => last,
            None => place::last(link.get().await?, &self.stream.key).await?,
        };
        *after = Some(last);
        worked();
        opening.begun();
        loop {
            let found = place::behind(link.get().await?, &self.stream.key, last, room).await?;
            worked();
            if let Some(newest) = found.last() {
                last = newest.id;
                *after = Some(last);
            }
            let mut decoder = Decoder::default();
            let understood = |raw: &Raw| match raw.event(&mut decoder, most) {
                Ok(event) => Some((raw.id, event)),
                Err(reason) => {
                    self.left_out(raw, &reason);
                    None
                }
            };
            let ours = found.iter().filter(|raw| raw.is_for(None));
            let mut events: Vec<_> = ours.filter_map(understood).collect();
            if let Some(seen) = &self.seen {
                let noted = seen.note(events.iter().map(|(place, event)| (&event.id, *place)));
                let mut noted = noted.into_iter();
                let before = events.len();
                events.retain(|_| noted.next() != Some(Noted::Copy));
                self.inner.left_out.fetch_add((before - events.len()) as u64, Ordering::Relaxed);
            }
            let entries: Vec<Entry> =
                events.into_iter().map(|(_, event)| Entry { event, deliveries: 1 }).collect();
            if !entries.is_empty() {
                self.sink.take(entries).await;
            }
        }
    }

    /// Takes the stream out, which was for nobody else. Where that cannot be told to the server, it
    /// expires.
    async fn take_out(&self) {
        let mut link = Link::shared(&self.inner, &self.stream.key);
        let taking = async { place::take_out(link.get().await?, &self.stream.key).await };
        let _ = self.inner.clock.timeout(PARTING, taking).await;
    }

    /// What is no event stays where it is: it is read by others, too, and groups set it aside.
    fn left_out(&self, raw: &Raw, reason: &str) {
        let (stream, entry, reason) =
            (&*self.stream.key, raw.id.to_string(), reading::reason(reason.to_owned()));
        tracing::warn!(target: "tiebeam::transport", stream, entry, "no event, left out: {reason}");
    }
}
