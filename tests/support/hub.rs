//! A broker that is one table in this process: what one bus sends, the readers of all buses get
//! at once. It can lose its connections, and forget to deliver.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tiebeam::error::Result;
use tiebeam::transport::carrier::Later;
use tiebeam::transport::open::Options;
use tiebeam::transport::{
    Capabilities, Entry, News, Parcel, Reader, Reading, Receipt, Sink, Source, To, Transport,
};

struct Place {
    source: Source,
    address: String,
    sink: Arc<dyn Sink>,
}

#[derive(Default)]
struct Table {
    places: Vec<Weak<Place>>,
    /// Those whose connection is down.
    down: Vec<String>,
    /// Those who send and are not heard, nor hear: without any trouble that they know of.
    cut: Vec<String>,
    /// Those who have a trouble to tell of, while all goes its way.
    troubled: Vec<String>,
    /// Those whose new readers never begin.
    unread: Vec<String>,
}

/// What connects buses.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Table>>);

impl Hub {
    /// A way to it for one bus, which has that address.
    pub fn line(&self, address: &str) -> impl FnOnce(News) -> Result<Arc<dyn Transport>> {
        let (hub, address) = (self.clone(), address.to_owned());
        move |news| Ok(Arc::new(Line { hub, address, news }) as Arc<dyn Transport>)
    }

    /// The bus knows that it has no connection.
    pub fn set_down(&self, address: &str, down: bool) {
        self.set(|table| &mut table.down, address, down);
    }

    /// The bus is cut off, and does not know.
    pub fn set_cut(&self, address: &str, cut: bool) {
        self.set(|table| &mut table.cut, address, cut);
    }

    /// The bus tells of a trouble, as with one subscription among many.
    pub fn set_troubled(&self, address: &str, troubled: bool) {
        self.set(|table| &mut table.troubled, address, troubled);
    }

    /// What the bus reads from now on never begins to be read.
    pub fn set_unread(&self, address: &str, unread: bool) {
        self.set(|table| &mut table.unread, address, unread);
    }

    fn set(&self, of: impl Fn(&mut Table) -> &mut Vec<String>, address: &str, is: bool) {
        let mut table = self.0.lock().unwrap();
        let list = of(&mut table);
        list.retain(|other| other != address);
        if is {
            list.push(address.to_owned());
        }
    }
}

struct Line {
    hub: Hub,
    address: String,
    news: News,
}

impl Line {
    fn is(&self, of: impl Fn(&Table) -> &Vec<String>) -> bool {
        of(&self.hub.0.lock().unwrap()).contains(&self.address)
    }

    pub fn tell(&self, topic: &str) {
        (self.news)(topic, serde_json::json!({}));
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.address)
    }
}

impl Transport for Line {
    fn capabilities(&self) -> Capabilities {
        Capabilities { name: "hub", shared: true, ..Capabilities::IN_MEMORY }
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn renew(&self, _options: &Options) -> Result<()> {
        Ok(())
    }

    fn connect(&self, _limit: Duration) -> Later<'_, Result<()>> {
        self.tell("system.transport.connected");
        Box::pin(std::future::ready(Ok(())))
    }

    fn send(&self, parcel: Parcel<'_>) -> Result<Receipt> {
        let (pending, receipt) = Receipt::new();
        pending.settle(Ok(()));
        if self.is(|table| &table.cut) || self.is(|table| &table.down) {
            return Ok(receipt);
        }
        let places: Vec<Arc<Place>> = {
            let mut table = self.hub.0.lock().unwrap();
            table.places.retain(|place| place.strong_count() > 0);
            let Table { places, down, cut, .. } = &*table;
            let there = places.iter().filter_map(Weak::upgrade);
            there.filter(|p| !down.contains(&p.address) && !cut.contains(&p.address)).collect()
        };
        let mut served = Vec::new();
        for place in places {
            // All that a bus reads copies of comes to it once.
            if parcel.to == To::Topic && served.contains(&place.address) {
                continue;
            }
            let wanted = match (&place.source, parcel.to) {
                (Source::Topics(pattern), To::Topic) => pattern.matches(&parcel.event.topic),
                (Source::Replies, To::Reply(address)) => place.address == address,
                _ => false,
            };
            if wanted {
                served.push(place.address.clone());
                // As it would be read: nothing but the text has travelled.
                let text = parcel.event.to_json();
                let event = tiebeam::event::Event::from_json(&text).expect("our own");
                let taken = place.sink.take(vec![Entry { event, deliveries: 1 }]).now_or_never();
                assert!(taken.is_some(), "who listens has room");
            }
        }
        Ok(receipt)
    }

    fn read(&self, reading: Reading, sink: Arc<dyn Sink>) -> Reader {
        let address = self.address.clone();
        let place = Arc::new(Place { source: reading.source, address, sink });
        self.hub.0.lock().unwrap().places.push(Arc::downgrade(&place));
        let (begun, reader) = Reader::new(place);
        if self.is(|table| &table.unread) {
            // A promise that is neither kept nor broken.
            std::mem::forget(begun);
        } else {
            begun.tell(Ok(()));
        }
        reader
    }

    fn unsent(&self) -> usize {
        0
    }

    fn trouble(&self) -> Option<String> {
        if self.is(|table| &table.down) {
            return Some("the hub is down".to_owned());
        }
        self.is(|table| &table.troubled).then(|| "one of many is not read".to_owned())
    }

    fn duplicates(&self) -> u64 {
        0
    }

    fn wipe(&self) -> Later<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self, _grace: Duration) -> Later<'_, usize> {
        Box::pin(std::future::ready(0))
    }
}
