//! What an error of the broker, or of the connection to it, means.

use std::fmt;
use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::topology;
use crate::error::{Error, Kind};
use crate::transport::tls;

/// Why something could not be done.
#[derive(Debug)]
pub(super) enum Cause {
    /// The broker, or the connection, said so.
    Said(lapin::Error),
    /// There was no answer in this time.
    Silence(Duration),
    /// The broker does not send to this reader any more: its queue is gone.
    Cancelled,
    /// It did not take the message.
    Refused,
    /// There is no queue for the message.
    Returned,
    /// A name has so many bytes.
    LongName(usize),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection, or the channel, is of no use any more; what was sent may have arrived.
    Lost,
    /// The broker has closed the channel of a reader that did not acknowledge in time.
    Impatient,
    /// The broker is there and cannot do it now.
    Busy,
    /// An exchange, or a queue, is not there.
    Gone,
    /// It is there with other properties.
    Different,
    /// The broker will not do it for this user.
    Denied,
    /// It will not do it at all.
    Refused,
}

impl Fault {
    pub fn of(cause: &Cause) -> Fault {
        match cause {
            Cause::Silence(_) => Fault::Lost,
            Cause::Cancelled | Cause::Returned => Fault::Gone,
            Cause::Refused => Fault::Busy,
            Cause::LongName(_) => Fault::Refused,
            Cause::Said(error) => Fault::of_error(error),
        }
    }

    pub fn of_error(error: &lapin::Error) -> Fault {
        match error.kind() {
            ErrorKind::ProtocolError(error) => match error.kind() {
                AMQPErrorKind::Soft(soft) => match soft {
                    AMQPSoftError::ACCESSREFUSED => Fault::Denied,
                    AMQPSoftError::NOTFOUND => Fault::Gone,
                    AMQPSoftError::RESOURCELOCKED => Fault::Busy,
                    AMQPSoftError::PRECONDITIONFAILED if is_impatient(error) => Fault::Impatient,
                    AMQPSoftError::PRECONDITIONFAILED => Fault::Different,
                    _ => Fault::Refused,
                },
                AMQPErrorKind::Hard(_) if is_crowded(error) => Fault::Busy,
                AMQPErrorKind::Hard(hard) => match hard {
                    AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH => Fault::Denied,
                    AMQPHardError::NOTIMPLEMENTED => Fault::Different,
                    AMQPHardError::RESOURCEERROR => Fault::Busy,
                    _ => Fault::Lost,
                },
            },
            ErrorKind::AuthProviderError(_) => Fault::Denied,
            ErrorKind::IOError(_) if tls::wrong(error).is_some() => Fault::Denied,
            ErrorKind::ChannelsLimitReached => Fault::Busy,
            ErrorKind::InvalidProtocolVersion(_) | ErrorKind::SerialisationError(_) => {
                Fault::Refused
            }
            _ => Fault::Lost,
        }
    }

    /// Whether another try may do.
    pub fn passes(self) -> bool {
        matches!(self, Fault::Lost | Fault::Impatient | Fault::Busy | Fault::Gone)
    }
}

/// The same code stands for two things; the text alone tells them apart.
fn is_impatient(error: &AMQPError) -> bool {
    error.get_message().as_str().contains("delivery acknowledgement on channel")
}

/// As many connections, or channels, as the broker allows are there already.
fn is_crowded(error: &AMQPError) -> bool {
    let said = error.get_message().as_str();
    said.contains("is reached") || said.contains("has reached the maximum")
}

impl Cause {
    /// Whether the broker has closed a channel for it, and not the connection: for something that
    /// was asked of it there.
    pub fn is_of_channel(&self) -> bool {
        let Cause::Said(error) = self else { return false };
        let ErrorKind::ProtocolError(error) = error.kind() else { return false };
        matches!(error.kind(), AMQPErrorKind::Soft(_))
    }
}

impl From<lapin::Error> for Cause {
    fn from(error: lapin::Error) -> Cause {
        Cause::Said(error)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Said(error) => write!(f, "{error}"),
            Cause::Silence(limit) => write!(f, "no answer within {limit:?}"),
            Cause::Cancelled => f.write_str("the queue is gone"),
            Cause::Refused => f.write_str("the broker did not take the message"),
            Cause::Returned => f.write_str("there is no queue for the message"),
            Cause::LongName(length) => {
                write!(f, "a name of {length} bytes, and 255 are the limit")
            }
        }
    }
}

/// Whether there are too many connections or channels.
fn of_many(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => is_crowded(error),
        ErrorKind::ChannelsLimitReached => true,
        _ => false,
    }
}

/// The error as its publisher or operator sees it.
pub(super) fn error(operation: &'static str, cause: &Cause) -> Error {
    if let Cause::Said(error) = cause
        && let Some(said) = tls::wrong(error)
    {
        return Error::new(Kind::Configuration, operation, format!("RabbitMQ: {said}"));
    }
    let (kind, advice) = match Fault::of(cause) {
        Fault::Denied => (
            Kind::Configuration,
            "; check user, password and vhost of the URL, and what the user may do",
        ),
        Fault::Different if cause.to_string().contains(topology::IN_TURN) => (
            Kind::Configuration,
            "; all members of a group have key=, or none has: if that is so now, delete the old \
             queue when it is empty, or give the group another name",
        ),
        Fault::Different => {
            (Kind::Configuration, "; delete the old one when it is empty, or use another prefix")
        }
        Fault::Impatient => (
            Kind::Dependency,
            "; a handler takes longer than the broker waits: raise its `consumer_timeout`",
        ),
        Fault::Lost => (Kind::Dependency, "; is the broker running and reachable?"),
        Fault::Busy if matches!(cause, Cause::Said(error) if of_many(error)) => {
            (Kind::Dependency, "; raise the limit, or have others close their connections")
        }
        Fault::Busy | Fault::Gone => (Kind::Dependency, ""),
        Fault::Refused => (Kind::Permanent, ""),
    };
    let said = crate::config::redact::text(&cause.to_string());
    Error::new(kind, operation, format!("RabbitMQ: {said}{advice}"))
}
