//! Who reads what: a stream is read once for each group, however many subscriptions want it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{RedisResult, Value, cmd};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::answers;
use super::council::{self, Turn};
use super::fault::{self, Fault};
use super::keys::Stream;
use super::link::Links;
use super::place::Place;
use super::{HANDLERS, Inner, presence, reader, tail, upkeep};
use crate::error::Result;
use crate::transport::opening::Opening;
use crate::transport::reading::Begun;
use crate::transport::{Reader, Reading, Sink, Source, Start, reading};

/// How often it is looked which categories there are.
const LOOK: Duration = Duration::from_secs(1);

/// Who has trouble when that cannot be seen.
const WHO: &str = "the categories";

/// What is read, and for whom.
type Key = (Stream, Option<Arc<str>>);

/// The readers at work.
#[derive(Default)]
pub(super) struct Readings {
    running: Mutex<HashMap<Key, Running>>,
}

struct Running {
    users: usize,
    keyed: bool,
    begun: Begun,
    stop: CancellationToken,
}

/// A share in a reader; with the last one it ends.
struct Share {
    inner: Arc<Inner>,
    key: Key,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut running = self.inner.readings.running.lock();
        if let Some(found) = running.get_mut(&self.key) {
            found.users -= 1;
            if found.users == 0 {
                found.stop.cancel();
                running.remove(&self.key);
            }
        }
    }
}

impl Readings {
    /// Whether a stream is read for a group.
    pub fn is_read(&self, stream: &Stream, group: &Arc<str>) -> bool {
        self.running.lock().contains_key(&(stream.clone(), Some(group.clone())))
    }
}

/// Begins a reading.
pub(super) fn begin(inner: &Arc<Inner>, reading: Reading, sink: Arc<dyn Sink>) -> Reader {
    let Reading { source, mut group, start, keyed } = reading;
    let mut owner = None;
    let stream = match &source {
        Source::Topics(pattern) => match pattern.category() {
            Some(category) => {
                let streams = inner.keys.category(category);
                return each(inner, &streams, group, (start, keyed), &sink);
            }
            None => return all(inner, group, (start, keyed), sink),
        },
        Source::Commands(topic) => {
            // Whoever handles it by then: what waits is for that one.
            owner = group.replace(HANDLERS.into());
            inner.keys.commands(topic.as_str())
        }
        Source::Requests(topic) => inner.keys.requests(topic.as_str()),
        Source::Replies => inner.keys.replies(&inner.address),
    };
    one(inner, (stream, group), (start, owner), None, sink)
}

/// Reads all partitions of a category.
fn each(
    inner: &Arc<Inner>,
    streams: &Arc<[Stream]>,
    group: Option<Arc<str>>,
    (start, keyed): (Start, bool),
    sink: &Arc<dyn Sink>,
) -> Reader {
    let council = group.as_ref().filter(|_| keyed).map(|group| council::of(inner, streams, group));
    let read = |(number, stream): (usize, &Stream)| {
        let turn = council.clone().map(|council| Turn::new(council, number));
        one(inner, (stream.clone(), group.clone()), (start, None), turn, sink.clone())
    };
    let mut readers: Vec<Reader> = streams.iter().enumerate().map(read).collect();
    if readers.len() == 1
        && let Some(only) = readers.pop()
    {
        return only;
    }
    let ready: Vec<_> = readers.iter().map(Reader::ready).collect();
    let (begun, reader) = Reader::new(readers);
    let telling = async move { begun.tell(try_join_all(ready).await.map(drop)) };
    inner.tasks.spawn_on(telling, &inner.runtime);
    reader
}

/// Reads one stream, together with whoever does so for the same group.
fn one(
    inner: &Arc<Inner>,
    key: Key,
    (start, owner): (Start, Option<Arc<str>>),
    turn: Option<Turn>,
    sink: Arc<dyn Sink>,
) -> Reader {
    upkeep::add(inner, &key.0);
    let share = Share { inner: inner.clone(), key: key.clone() };
    let mut running = inner.readings.running.lock();
    if let Some(found) = running.get_mut(&key) {
        found.users += 1;
        if found.keyed != turn.is_some() {
            let (begun, refused) = Reader::new(share);
            begun.tell(Err(reading::differs(key.1.as_deref().unwrap_or_default())));
            return refused;
        }
        return found.begun.reader(share);
    }
    let stop = inner.ending.child_token();
    let (begun, first) = Reader::new(share);
    let opening = inner.openings.open(begun.clone());
    running.insert(
        key.clone(),
        Running { users: 1, keyed: turn.is_some(), begun, stop: stop.clone() },
    );
    drop(running);
    let (stream, group) = key;
    match group {
        None => {
            let reading = tail::follow(inner.clone(), (stream, start), sink, opening, stop);
            inner.tasks.spawn_on(reading, &inner.runtime);
        }
        Some(group) => {
            let place = Place { stream, group, owner, consumer: inner.consumer.clone(), start };
            let reading = reader::read(inner.clone(), (place, turn), sink, opening, stop);
            inner.tasks.spawn_on(reading, &inner.runtime);
        }
    }
    first
}

/// Reads every category there is, and those that come.
fn all(
    inner: &Arc<Inner>,
    group: Option<Arc<str>>,
    how: (Start, bool),
    sink: Arc<dyn Sink>,
) -> Reader {
    let stop = inner.ending.child_token();
    let (begun, reader) = Reader::new(stop.clone().drop_guard());
    let opening = inner.openings.open(begun);
    let following = follow_categories(inner.clone(), group, how, (sink, opening));
    let following = async move {
        tokio::select! {
            () = following => {}
            () = stop.cancelled() => {}
        }
    };
    inner.tasks.spawn_on(following, &inner.runtime);
    reader
}

async fn follow_categories(
    inner: Arc<Inner>,
    group: Option<Arc<str>>,
    (start, keyed): (Start, bool),
    (sink, opening): (Arc<dyn Sink>, Opening),
) {
    let mut links = Links::new(&inner);
    let mut patience = inner.patience();
    let mut readers: HashMap<String, Reader> = HashMap::new();
    let mut start = start;
    loop {
        let looked =
            look(&inner, &mut links, group.as_deref().filter(|_| readers.is_empty())).await;
        match looked {
            Ok((found, group_is_there)) => {
                patience.renew();
                inner.trouble.over(WHO);
                if group_is_there {
                    // What came while nobody of it was there is for it, too.
                    start = Start::First;
                }
                for category in found {
                    if readers.contains_key(&category) {
                        continue;
                    }
                    let streams = inner.keys.category(&category);
                    let reader = each(&inner, &streams, group.clone(), (start, keyed), &sink);
                    readers.insert(category, reader);
                }
                let mut result: Result<()> = Ok(());
                if !opening.is_told() {
                    for reader in readers.values() {
                        result = result.and(reader.ready().await);
                    }
                }
                match result {
                    Ok(()) => opening.begun(),
                    Err(error) => opening.failed(error),
                }
                // Whoever followed before a category was there misses nothing of it.
                start = Start::First;
            }
            Err(cause) => {
                links.failed(&cause);
                let error = fault::error("read", &cause);
                inner.trouble.begins(WHO, error.message());
                if !Fault::of(&cause).passes() {
                    opening.failed(error);
                }
                if !patience.wait().await {
                    return;
                }
                continue;
            }
        }
        tokio::select! {
            () = inner.clock.sleep(LOOK) => {}
            () = inner.announced.notified() => {}
        }
    }
}

/// Which categories there are, and whether `group` reads one of them.
async fn look(
    inner: &Inner,
    links: &mut Links,
    group: Option<&str>,
) -> RedisResult<(Vec<String>, bool)> {
    let (mut command, key) = (cmd("SMEMBERS"), inner.keys.categories());
    let connection = links.to(&key).get().await?;
    let answer: Value = connection.send_packed_command(command.arg(&key)).await?;
    let found = answers::texts(answer)?;
    let Some(group) = group else { return Ok((found, false)) };
    for category in &found {
        // A group reads all partitions, or none.
        let stream = inner.keys.category(category)[0].key.clone();
        let groups = presence::groups(links.to(&stream).get().await?, &stream).await?;
        if groups.iter().any(|name| name == group) {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}
