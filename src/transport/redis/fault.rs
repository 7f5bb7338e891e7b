//! What an error of the server, or of the connection to it, means.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{Error, Kind};
use crate::transport::tls;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is of no use any more; what was sent may have arrived.
    Lost,
    /// The server is there and cannot do it now: it loads, is full, or is no master.
    Busy,
    /// It is there, and is not the one to ask any more.
    Demoted,
    /// It is one of a cluster, which has given what was asked for to another one, or is about to,
    /// or does not know who has it. Nothing was done.
    Moved,
    /// The group is not there, or its stream.
    NoGroup,
    /// It is there already.
    BusyGroup,
    /// It will not do it for this user.
    Denied,
    /// It was agreed on something else.
    Disagreed,
    /// It will not do it at all.
    Refused,
}

impl Fault {
    pub fn of(error: &RedisError) -> Fault {
        match error.code() {
            // The second is for whoever was waiting while the stream was taken away.
            Some("NOGROUP" | "UNBLOCKED") => return Fault::NoGroup,
            Some("BUSYGROUP") => return Fault::BusyGroup,
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => return Fault::Denied,
            Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN") => return Fault::Moved,
            // The last is a transaction that one of the others came in the way of.
            Some("OOM" | "MISCONF" | "LOADING" | "BUSY" | "NOREPLICAS" | "EXECABORT") => {
                return Fault::Busy;
            }
            Some("READONLY" | "MASTERDOWN") => return Fault::Demoted,
            _ => {}
        }
        if is_crowded(error) {
            return Fault::Busy;
        }
        match error.kind() {
            ErrorKind::Io if tls::wrong(error).is_some() => Fault::Denied,
            ErrorKind::InvalidClientConfig => Fault::Disagreed,
            ErrorKind::AuthenticationFailed
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::Server(ServerErrorKind::NoPerm) => Fault::Denied,
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                Fault::Demoted
            }
            ErrorKind::Server(ServerErrorKind::BusyLoading) => Fault::Busy,
            ErrorKind::Io | ErrorKind::Parse => Fault::Lost,
            _ if error.is_timeout() || error.is_connection_dropped() => Fault::Lost,
            _ => Fault::Refused,
        }
    }

    /// Whether another try may do.
    pub fn passes(self) -> bool {
        matches!(self, Fault::Lost | Fault::Busy | Fault::Demoted | Fault::Moved)
    }

    /// Whether its connection is of no use any more to whoever asked.
    pub fn parts(self) -> bool {
        matches!(self, Fault::Lost | Fault::Demoted | Fault::Moved)
    }
}

/// Whether it says who has what was asked for: no trouble, but for that one.
pub(super) fn is_told_where(cause: &RedisError) -> bool {
    cause.code() == Some("MOVED")
}

/// Whether the server takes no more connections; it has no code for that.
fn is_crowded(error: &RedisError) -> bool {
    error.detail().is_some_and(|said| said.contains("max number of clients"))
}

/// The error as its publisher or operator sees it.
pub(super) fn error(operation: &'static str, cause: &RedisError) -> Error {
    let fault = Fault::of(cause);
    if let Some(said) = tls::wrong(cause) {
        return Error::new(Kind::Configuration, operation, format!("Redis: {said}"));
    }
    if let (Fault::Disagreed, Some(said)) = (fault, cause.detail()) {
        return Error::new(Kind::Configuration, operation, format!("Redis: {said}"));
    }
    let (kind, advice) = match fault {
        Fault::Denied if cause.kind() == ErrorKind::MasterNameNotFoundBySentinel => {
            (Kind::Configuration, "")
        }
        Fault::Disagreed => (Kind::Configuration, ""),
        Fault::Denied => (Kind::Configuration, "; check the user and password of the URL"),
        Fault::Lost => (Kind::Dependency, "; is the server running and reachable?"),
        Fault::Busy if is_crowded(cause) => (
            Kind::Dependency,
            "; raise `maxclients` of the server, or have others close their connections",
        ),
        Fault::Busy | Fault::Demoted | Fault::Moved => (Kind::Dependency, ""),
        Fault::NoGroup | Fault::BusyGroup | Fault::Refused => (Kind::Permanent, ""),
    };
    let said = crate::config::redact::text(&cause.to_string());
    Error::new(kind, operation, format!("Redis: {said}{advice}"))
}

/// The error for what the URL asks for, and the server is not.
pub(super) fn misconfigured(said: impl Into<String>) -> RedisError {
    (ErrorKind::InvalidClientConfig, "not as configured", said.into()).into()
}
