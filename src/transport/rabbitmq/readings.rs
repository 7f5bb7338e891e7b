//! Who reads what: each queue is read once, however many subscriptions want it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::names;
use super::reader;
use super::topology::{Queue, Shape};
use super::wants::{Binding, Wants};
use crate::transport::{Reader, Reading, Sink, Source, reading};

/// The readers at work, by the names of their queues.
#[derive(Default)]
pub(super) struct Readings {
    running: Mutex<HashMap<String, Running>>,
}

struct Running {
    users: usize,
    shape: Shape,
    wants: Arc<Wants>,
    stop: CancellationToken,
}

/// A share in a reader; with the last one it ends. What the queue is bound to stays so: other
/// processes may read it, and this one again.
struct Share {
    inner: Arc<Inner>,
    queue: String,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut running = self.inner.readings.running.lock();
        if let Some(found) = running.get_mut(&self.queue) {
            found.users -= 1;
            if found.users == 0 {
                found.stop.cancel();
                running.remove(&self.queue);
            }
        }
    }
}

impl Readings {
    /// Whether a queue is read.
    pub fn is_read(&self, queue: &str) -> bool {
        self.running.lock().contains_key(queue)
    }
}

/// Begins a reading.
pub(super) fn begin(inner: &Arc<Inner>, reading: Reading, sink: Arc<dyn Sink>) -> Reader {
    let Reading { source, group, start: _, keyed } = reading;
    let (queue, binding) = place(inner, &source, (group.as_deref(), keyed));
    let share = Share { inner: inner.clone(), queue: queue.name.clone() };
    let (begun, first) = Reader::new(share);
    let opening = inner.openings.open(begun);
    let mut running = inner.readings.running.lock();
    if let Some(found) = running.get_mut(&queue.name) {
        found.users += 1;
        if found.shape != queue.shape {
            opening.failed(reading::differs(group.as_deref().unwrap_or_default()));
            return first;
        }
        found.wants.add(binding, opening);
        return first;
    }
    let (wants, stop) = (Arc::<Wants>::default(), inner.ending.child_token());
    wants.add(binding, opening);
    let shape = queue.shape;
    let entry = Running { users: 1, shape, wants: wants.clone(), stop: stop.clone() };
    running.insert(queue.name.clone(), entry);
    drop(running);
    let holding = inner.holding(&queue.name);
    let reader = reader::Reader {
        inner: inner.clone(),
        queue,
        group,
        wants,
        sink,
        holding,
        stop,
        begun: AtomicBool::default(),
        homeless: AtomicBool::default(),
    };
    inner.tasks.spawn_on(reader.read(), &inner.runtime);
    first
}

/// The queue to be read, and what it is to be bound to.
fn place(inner: &Inner, source: &Source, (group, keyed): (Option<&str>, bool)) -> (Queue, Binding) {
    let names = &inner.names;
    let direct =
        |key: String, shape| (Queue { name: names.behind(&key), shape }, (names.direct(), key));
    match source {
        Source::Topics(pattern) => {
            let binding = (names.topic(), pattern.as_str().to_owned());
            let queue = match group {
                Some(group) => {
                    let shape = if keyed { Shape::InTurn } else { Shape::Lasting };
                    Queue { name: names.group(group), shape }
                }
                None => Queue { name: names.broadcast(&inner.address), shape: Shape::Own },
            };
            (queue, binding)
        }
        Source::Commands(topic) => direct(names::command(topic.as_str()), Shape::Lasting),
        Source::Requests(topic) => direct(names::request(topic.as_str()), Shape::Passing),
        Source::Replies => direct(names::reply(&inner.address), Shape::Own),
    }
}
