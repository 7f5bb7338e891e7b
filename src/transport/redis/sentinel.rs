//! Who is the master: the sentinels know, and the server itself has the last word.

use std::io;
use std::time::Duration;

use ::redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Value, cmd};

use super::address::{Address, Guide, Seat};
use super::fault::Fault;
use super::site::{Site, Wire};

/// How long one sentinel may take: there are others.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection to the master.
///
/// # Errors
/// What is in the way; the next call begins anew.
pub(super) async fn connect(
    site: &Site,
    address: &Address,
    response_timeout: Duration,
) -> RedisResult<Wire> {
    let Guide::Sentinels { seats, name, .. } = &address.guide else {
        return Err((ErrorKind::InvalidClientConfig, "no sentinels").into());
    };
    let mut worst: Option<(Rank, RedisError)> = None;
    // Not everybody asks the same one first.
    let first = fastrand::usize(..seats.len());
    for seat in seats[first..].iter().chain(&seats[..first]) {
        let found = match master(site, address, seat).await {
            Ok(Some(master)) => {
                let checked = check(site, &master, response_timeout).await;
                checked.map_err(|cause| (Rank::of(&cause, Rank::Master), cause))
            }
            Ok(None) => Err((Rank::Refused, unknown(name))),
            Err(cause) => Err((Rank::of(&cause, Rank::Sentinel), cause)),
        };
        match found {
            Ok(wire) => return Ok(wire),
            // One that has not heard of a failover may be wrong about all of it: ask the next.
            Err(one) => match &worst {
                Some((rank, _)) if *rank >= one.0 => {}
                _ => worst = Some(one),
            },
        }
    }
    Err(worst.map_or_else(|| unknown(name), |(_, cause)| cause))
}

/// What tells most of why there is no connection, last: a sentinel that is down is no reason to
/// think that the others are wrong, and a master that is yet to come is one to try again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Sentinel,
    Refused,
    Master,
}

impl Rank {
    fn of(cause: &RedisError, otherwise: Rank) -> Rank {
        if Fault::of(cause).passes() { otherwise } else { Rank::Refused }
    }
}

fn unknown(name: &str) -> RedisError {
    let said = format!("`{name}`, the first part of the path of the URL");
    (ErrorKind::MasterNameNotFoundBySentinel, "the sentinels watch no master of the name", said)
        .into()
}

/// Where the master is, as the sentinel at `seat` knows.
async fn master(site: &Site, address: &Address, seat: &Seat) -> RedisResult<Option<Seat>> {
    let Guide::Sentinels { name, login, .. } = &address.guide else { return Ok(None) };
    let limit = site.limit.min(PATIENCE);
    let asked = async {
        let mut sentinel = site.reach(seat, login, limit).await?;
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        sentinel.send_packed_command(&command).await?.extract_error()
    };
    let answer = match site.clock.timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|cause| of_sentinel(cause, seat))?,
        Err(elapsed) => {
            let said = format!("the sentinel {seat} did not answer within {:?}", elapsed.limit);
            return Err(io::Error::new(io::ErrorKind::TimedOut, said).into());
        }
    };
    if answer == Value::Nil {
        return Ok(None);
    }
    let (host, port) = <(String, u16)>::from_redis_value(answer)?;
    Ok(Some(Seat::Tcp(host, port)))
}

/// The same, with who said it.
fn of_sentinel(cause: RedisError, seat: &Seat) -> RedisError {
    match Fault::of(&cause) {
        Fault::Denied if crate::transport::tls::wrong(&cause).is_none() => {
            let said = format!("{seat}: {cause}; sentinel_password in the URL is what it asks for");
            (ErrorKind::AuthenticationFailed, "a sentinel refuses us", said).into()
        }
        _ => cause,
    }
}

/// A connection to the server at `seat`, if it is a master: what was one may have been replaced a
/// moment ago, and what is to be one may not know yet.
async fn check(site: &Site, seat: &Seat, response_timeout: Duration) -> RedisResult<Wire> {
    let mut wire = site.reach_server(seat, response_timeout).await?;
    let role = wire.send_packed_command(&cmd("ROLE")).await?.extract_error()?;
    let is_master = match &role {
        Value::Array(parts) => {
            matches!(parts.first(), Some(Value::BulkString(word)) if word == b"master")
        }
        _ => false,
    };
    if is_master {
        return Ok(wire);
    }
    let said = format!("{seat}, the master as the sentinels know, is none just now");
    Err(io::Error::other(said).into())
}
