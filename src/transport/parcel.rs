//! An event on its way to a broker, and where it goes.

use std::sync::Arc;

use crate::event::Event;

/// What is handed to a transport.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// The event.
    pub event: &'a Arc<Event>,
    /// Who is to get it.
    pub to: To<'a>,
    /// When it is to be published, in Unix milliseconds; at once, if absent.
    pub due: Option<i64>,
}

/// Who is to get an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// Everybody who reads its topic: each group once.
    Topic,
    /// The one handler of its type, now or when there is one.
    Command,
    /// One of those who answer requests of its type.
    Request,
    /// Whoever asked, at this address.
    Reply(&'a str),
}

impl<'a> Parcel<'a> {
    /// An event for whoever reads its topic, now.
    pub fn new(event: &'a Arc<Event>) -> Parcel<'a> {
        Parcel { event, to: To::Topic, due: None }
    }
}
