//! What a server can do: asked when it is reached, not guessed.

use std::fmt;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisResult, Value, cmd};

use super::address::Seat;
use super::fault::{self, Fault};
use super::{answers, site::Site};

/// Without what this version brought (these, `ZRANGE ... BYSCORE`, exclusive ranges), nothing here
/// works. Others than Redis count otherwise, and have it nevertheless.
const NEEDED: &[&str] = &["XAUTOCLAIM", "ZMSCORE"];

/// It goes by this where a server does not say what it knows.
const OLDEST: Version = Version(6, 2, 0);

/// Since then a read that brought nothing tells that its reader is there.
const COUNTS_EMPTY_READS: Version = Version(7, 2, 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u16, u16, u16);

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split(['.', '-', '+']).map(|part| part.parse::<u16>().ok());
        Some(Version(
            parts.next()??,
            parts.next().flatten().unwrap_or(0),
            parts.next().flatten().unwrap_or(0),
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What a server has said of itself; nothing, where it may not be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// `Redis`, `Valkey` or what it calls itself.
    name: String,
    version: Option<Version>,
    /// Whether it is a node of a cluster.
    pub is_of_cluster: bool,
}

impl Features {
    /// Whether a read that brought nothing tells that its reader is there.
    pub fn counts_empty_reads(&self) -> bool {
        self.version.is_some_and(|version| version >= COUNTS_EMPTY_READS)
    }

    /// Asks a server; one that would not do is refused.
    ///
    /// # Errors
    /// What is in the way, and that it is too old.
    pub async fn ask(
        connection: &mut MultiplexedConnection,
        site: &Site,
        seat: &Seat,
    ) -> RedisResult<Features> {
        let features = Features::found(connection).await?;
        let is_old = features.version.is_some_and(|version| version < OLDEST);
        if knows_what_is_needed(connection).await?.map_or(is_old, |knows| !knows) {
            let version = features.version.map(|v| format!(" {v}")).unwrap_or_default();
            return Err(fault::misconfigured(format!(
                "{seat} is {}{version}, and 6.2 or newer is needed",
                features.name
            )));
        }
        if features.is_of_cluster && !site.is_cluster() {
            return Err(of_cluster(seat));
        }
        tracing::debug!(
            target: "tiebeam::transport", "{seat} is {} {:?}", features.name, features.version
        );
        Ok(features)
    }

    async fn found(connection: &mut MultiplexedConnection) -> RedisResult<Features> {
        // Whoever may connect may say this, and it is answered while a server loads; the other
        // one is for those who do not know it, or whose administrator does not want it said.
        let said = connection.send_packed_command(&cmd("HELLO")).await?;
        let pairs = match said.extract_error() {
            Ok(answer) => answers::pairs(answer).into_iter().filter_map(texts).collect(),
            Err(cause) if Fault::of(&cause) == Fault::Lost => return Err(cause),
            Err(_) => {
                let said = connection.send_packed_command(cmd("INFO").arg("server")).await?;
                match said.extract_error() {
                    Ok(Value::BulkString(text)) => lines(&String::from_utf8_lossy(&text)),
                    Err(cause) if Fault::of(&cause) == Fault::Lost => return Err(cause),
                    _ => Vec::new(),
                }
            }
        };
        Ok(Features::of(&pairs))
    }

    fn of(pairs: &[(String, String)]) -> Features {
        let get = |names: &[&str]| {
            let found = names.iter().find_map(|name| pairs.iter().find(|(key, _)| key == name));
            found.map(|(_, value)| value.as_str())
        };
        let valkey =
            get(&["server", "server_name"]) == Some("valkey") || get(&["valkey_version"]).is_some();
        Features {
            name: if valkey { "Valkey" } else { "Redis" }.to_owned(),
            version: get(&["version", "valkey_version", "redis_version"]).and_then(Version::parse),
            is_of_cluster: get(&["mode", "redis_mode", "server_mode"]) == Some("cluster"),
        }
    }
}

/// Whether a server knows the commands that are needed; none where it does not say.
async fn knows_what_is_needed(connection: &mut MultiplexedConnection) -> RedisResult<Option<bool>> {
    let mut asked = cmd("COMMAND");
    asked.arg("INFO").arg(NEEDED);
    match connection.send_packed_command(&asked).await?.extract_error() {
        Ok(Value::Array(known)) if known.len() == NEEDED.len() => Ok(Some(
            known.iter().all(|one| matches!(one, Value::Array(about) if !about.is_empty())),
        )),
        Err(cause) if Fault::of(&cause) == Fault::Lost => Err(cause),
        _ => Ok(None),
    }
}

/// The error for a node of a cluster that is taken for a server that stands alone.
pub(super) fn of_cluster(seat: &Seat) -> ::redis::RedisError {
    fault::misconfigured(format!(
        "{seat} is one of a Redis Cluster: its URL begins with `redis+cluster://`, or with TLS \
         `rediss+cluster://`"
    ))
}

fn texts((name, value): (Vec<u8>, Value)) -> Option<(String, String)> {
    let value = match value {
        Value::BulkString(text) => String::from_utf8(text).ok()?,
        Value::SimpleString(text) => text,
        _ => return None,
    };
    Some((String::from_utf8(name).ok()?, value))
}

fn lines(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| line.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(|line| pair(line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (String, Option<Version>, bool) {
        let found = Features::of(&lines(text));
        (found.name, found.version, found.is_of_cluster)
    }

    #[test]
    fn what_a_server_says_of_itself_is_understood() {
        let old = of("# Server\r\nredis_version:5.0.3\r\nredis_mode:standalone\r\n");
        assert_eq!(old, ("Redis".into(), Some(Version(5, 0, 3)), false));
        let valkey = of("redis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.1.0-rc1\n\
                         server_mode:cluster\n");
        assert_eq!(valkey, ("Valkey".into(), Some(Version(8, 1, 0)), true));
        let hello = of("server:redis\nversion:7.0.15\nproto:2\nmode:cluster\nrole:master\n");
        assert_eq!(hello, ("Redis".into(), Some(Version(7, 0, 15)), true));
        assert_eq!(of("").1, None);
        assert_eq!(of("version:unstable").1, None);
    }

    #[test]
    fn what_is_not_known_is_not_used() {
        assert!(!Features::default().counts_empty_reads());
        let at = |version| Features { version: Version::parse(version), ..Features::default() };
        assert!(!at("7.0.15").counts_empty_reads());
        assert!(at("7.2").counts_empty_reads() && at("8.0.0").counts_empty_reads());
    }
}
