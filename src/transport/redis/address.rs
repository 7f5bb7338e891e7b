//! Where Redis is, as a URL says.

use std::fmt;
use std::path::PathBuf;

use ::redis::{IntoConnectionInfo, RedisConnectionInfo};

use crate::error::Result;
use crate::transport::locator::{Locator, host_and_port, refused, warn_of_plain};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a URL of Redis may ask for; users and passwords of a socket, and of sentinels, stand there.
const KNOWN: &[&str] =
    &["db", "username", "user", "password", "pass", "sentinel_username", "sentinel_password"];
const OF_SOCKETS: &[&str] = &["username", "user", "password", "pass"];
const OF_SENTINELS: &[&str] = &["sentinel_username", "sentinel_password"];

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Seat {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seat::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Seat::Tcp(host, port) => write!(f, "{host}:{port}"),
            Seat::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Who knows where the server is.
#[derive(Clone)]
pub(super) enum Guide {
    /// The URL itself.
    Url(Seat),
    /// The sentinels, who know it by a name.
    Sentinels { seats: Vec<Seat>, name: String, login: RedisConnectionInfo },
    /// Any node of a cluster, which knows the others.
    Cluster(Vec<Seat>),
}

/// Where Redis is, and who we are there. It knows passwords, and shows nothing.
#[derive(Clone)]
pub(super) struct Address {
    pub guide: Guide,
    pub secure: bool,
    /// For the server that has the data.
    pub login: RedisConnectionInfo,
}

impl Address {
    /// What `url` says.
    ///
    /// # Errors
    /// `Kind::Configuration` for what is no such URL; no password is shown.
    pub fn of(url: &str) -> Result<Address> {
        let parts = Locator::of(url, KNOWN)?;
        let secure = parts.scheme.starts_with("rediss");
        let foreign: &[&[&str]] = match parts.scheme.as_str() {
            "unix" | "redis+unix" => &[OF_SENTINELS],
            "redis+sentinel" | "rediss+sentinel" => &[OF_SOCKETS],
            _ => &[OF_SENTINELS, OF_SOCKETS],
        };
        if let Some(name) = foreign.concat().iter().find(|name| parts.asked(name).is_some()) {
            let place = if OF_SENTINELS.contains(name) {
                "goes with `redis+sentinel://`"
            } else {
                "goes with `unix://`; user and password stand before the host, as in \
                 `redis://user:password@host`"
            };
            return Err(refused(format!("has a parameter `{name}`, which {place}")));
        }
        match parts.scheme.as_str() {
            "unix" | "redis+unix" => of_socket(&parts),
            "redis+sentinel" | "rediss+sentinel" => of_sentinels(&parts, secure),
            "redis+cluster" | "rediss+cluster" => of_cluster(&parts, secure),
            "redis" | "rediss" => {
                let (host, port) = parts.host(PORT)?;
                let login = login(parts.userinfo)?.set_db(database(&parts, parts.path)?);
                if !secure {
                    warn_of_plain(&parts, &host);
                }
                Ok(Address { guide: Guide::Url(Seat::Tcp(host, port)), secure, login })
            }
            _ => Err(refused("is none of Redis")),
        }
    }
}

impl Address {
    /// Whether both lead to one place, whoever goes there. Any nodes of a cluster lead to it.
    pub fn leads_where(&self, other: &Address) -> bool {
        let same = match (&self.guide, &other.guide) {
            (Guide::Url(one), Guide::Url(another)) => one == another,
            (
                Guide::Sentinels { seats, name, .. },
                Guide::Sentinels { seats: others, name: another, .. },
            ) => (seats, name) == (others, another),
            (Guide::Cluster(_), Guide::Cluster(_)) => true,
            _ => false,
        };
        same && self.secure == other.secure && self.login.db() == other.login.db()
    }
}

fn of_sentinels(parts: &Locator<'_>, secure: bool) -> Result<Address> {
    let seats = seats(parts, SENTINEL_PORT)?;
    let (name, db) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    if name.is_empty() {
        return Err(refused(
            "does not name the master that the sentinels watch, as in \
             `redis+sentinel://host1:26379,host2:26379/mymaster/0`",
        ));
    }
    let user = parts.asked("sentinel_username").unwrap_or_default();
    let sentinels = match parts.asked("sentinel_password") {
        Some(password) => login(Some(&format!("{}:{}", plain(user), plain(password))))?,
        None if user.is_empty() => RedisConnectionInfo::default(),
        None => return Err(refused("has sentinel_username, and no sentinel_password")),
    };
    let login = login(parts.userinfo)?.set_db(database(parts, db)?);
    warn_of(parts, secure, &seats);
    let guide = Guide::Sentinels { seats, name: plain_text(name)?, login: sentinels };
    Ok(Address { guide, secure, login })
}

fn of_cluster(parts: &Locator<'_>, secure: bool) -> Result<Address> {
    if database(parts, parts.path)? != 0 {
        return Err(refused(
            "names a database, and a cluster has no other than 0: leave it out, as in \
             `redis+cluster://host1:6379,host2:6379`",
        ));
    }
    let seats = seats(parts, PORT)?;
    warn_of(parts, secure, &seats);
    Ok(Address { guide: Guide::Cluster(seats), secure, login: login(parts.userinfo)? })
}

/// All hosts of a URL that may have several.
fn seats(parts: &Locator<'_>, port: u16) -> Result<Vec<Seat>> {
    let seat = |host| host_and_port(host, port).map(|(host, port)| Seat::Tcp(host, port));
    parts.hosts.split(',').map(seat).collect()
}

fn warn_of(parts: &Locator<'_>, secure: bool, seats: &[Seat]) {
    if let (false, Some(Seat::Tcp(host, _))) = (secure, seats.first()) {
        warn_of_plain(parts, host);
    }
}

#[cfg(unix)]
fn of_socket(parts: &Locator<'_>) -> Result<Address> {
    if !parts.hosts.is_empty() || parts.path.is_empty() {
        return Err(refused(
            "names no socket: write three slashes, as in `unix:///run/redis/redis.sock`",
        ));
    }
    let asked = |names: [&str; 2]| names.into_iter().find_map(|name| parts.asked(name));
    let (user, password) = (asked(["username", "user"]), asked(["password", "pass"]));
    let login = match (parts.userinfo, user, password) {
        (userinfo, None, None) => login(userinfo)?,
        (None, user, password) => {
            let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
            login(Some(&format!("{}:{}", plain(user), plain(password))))?
        }
        _ => return Err(refused("says twice who the user is")),
    };
    let login = login.set_db(database(parts, "")?);
    let path = PathBuf::from(format!("/{}", plain_text(parts.path)?));
    Ok(Address { guide: Guide::Url(Seat::Unix(path)), secure: false, login })
}

#[cfg(not(unix))]
fn of_socket(_parts: &Locator<'_>) -> Result<Address> {
    Err(refused("names a Unix socket, which this platform does not have"))
}

/// The number of the database, from the path or from `?db=`.
fn database(parts: &Locator<'_>, path: &str) -> Result<i64> {
    let path = path.trim_end_matches('/');
    let asked = parts.asked("db");
    let text = match (path, asked) {
        ("", None) => return Ok(0),
        ("", Some(asked)) => asked,
        (path, None) => path,
        (path, Some(asked)) if path == asked => path,
        _ => return Err(refused("names two databases")),
    };
    match text.parse::<u32>() {
        Ok(number) => Ok(number.into()),
        Err(_) => Err(refused("has no number as its database, as in `redis://host:6379/0`")),
    }
}

/// User and password as the URL has them: `user:password`, `:password` or `user`.
fn login(userinfo: Option<&str>) -> Result<RedisConnectionInfo> {
    let Some(userinfo) = userinfo else { return Ok(RedisConnectionInfo::default()) };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    if password.is_empty() && !user.is_empty() {
        return Err(refused(
            "has a user without a password; a password alone is written \
             `redis://:password@host`",
        ));
    }
    let url = format!("redis://{}:{}@host", plain(user), plain(password));
    match url.into_connection_info() {
        Ok(info) => Ok(info.redis_settings().clone()),
        Err(_) => Err(refused("has a user or password that is no UTF-8 when decoded")),
    }
}

/// `text` without what would end it where it is put into a URL.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ':' | '/' | '?' | '#' | '@' | '[' | ']' => safe.push_str(&format!("%{:02X}", c as u32)),
            c => safe.push(c),
        }
    }
    safe
}

/// `text` with its `%..` decoded.
fn plain_text(text: &str) -> Result<String> {
    let info = format!("redis://{}:x@host", plain(text)).into_connection_info();
    let decoded = info.ok().and_then(|info| info.redis_settings().username().map(str::to_owned));
    decoded.ok_or_else(|| refused("has a name that is no UTF-8 when decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Address {
        Address::of(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn seat(url: &str) -> String {
        match of(url).guide {
            Guide::Url(seat) => seat.to_string(),
            Guide::Sentinels { .. } | Guide::Cluster(_) => panic!("{url} has several"),
        }
    }

    fn who(login: &RedisConnectionInfo) -> (Option<&str>, Option<&str>, i64) {
        (login.username(), login.password(), login.db())
    }

    #[test]
    fn a_url_says_where_and_who() {
        assert_eq!(seat("redis://h"), "h:6379");
        assert_eq!(seat("redis://[::1]:7/2"), "[::1]:7");
        assert_eq!(seat("unix:///run/a%20b.sock?db=2"), "/run/a b.sock");
        let full = of("rediss://u:p%40%2F%25w@h:1/3");
        assert_eq!(who(&full.login), (Some("u"), Some("p@/%w"), 3));
        assert!(full.secure);
        assert_eq!(who(&of("redis://:p@ss:w@h?db=4").login), (None, Some("p@ss:w"), 4));
        let socket = of("unix:///s.sock?username=u&password=p%40w&db=1");
        assert_eq!(who(&socket.login), (Some("u"), Some("p@w"), 1));
    }

    #[test]
    fn sentinels_have_a_login_of_their_own() {
        let url = "rediss+sentinel://u:p@a:1,b,[::1]:3/my%20master/5?sentinel_password=s%26t";
        let Address { guide, secure, login } = of(url);
        let Guide::Sentinels { seats, name, login: sentinels } = guide else { panic!() };
        let seats: Vec<_> = seats.iter().map(Seat::to_string).collect();
        assert_eq!((seats.join(" "), name.as_str()), ("a:1 b:26379 [::1]:3".into(), "my master"));
        assert_eq!(who(&login), (Some("u"), Some("p"), 5));
        assert_eq!(who(&sentinels), (None, Some("s&t"), 0));
        assert!(secure);
    }

    #[test]
    fn any_nodes_of_a_cluster_will_do() {
        let Address { guide, secure, login } = of("rediss+cluster://u:p@a:1,b,[::1]:3/0");
        let Guide::Cluster(seats) = guide else { panic!() };
        let seats: Vec<_> = seats.iter().map(Seat::to_string).collect();
        assert_eq!(seats.join(" "), "a:1 b:6379 [::1]:3");
        assert_eq!((who(&login), secure), ((Some("u"), Some("p"), 0), true));
    }

    #[test]
    fn what_cannot_be_is_refused_without_a_password() {
        for (url, what) in [
            ("redis://u:canary@", "names no host"),
            ("redis://canary@h", "without a password"),
            ("redis://h/canary", "no number as its database"),
            ("redis://h/1?db=2", "two databases"),
            ("redis://a,b/1", "several hosts"),
            ("redis://h?sentinel_password=canary", "redis+sentinel"),
            ("redis://h?password=canary", "before the host"),
            ("redis+sentinel://a,b", "does not name the master"),
            ("redis+sentinel://a/m?sentinel_username=u", "no sentinel_password"),
            ("unix://h/s.sock", "three slashes"),
            ("redis+cluster://u:canary@a,b/1", "no other than 0"),
            ("redis+cluster://u:canary@a,b?db=2", "no other than 0"),
            ("redis+cluster://u:canary@a,,b", "names no host"),
            ("redis+cluster://a?sentinel_password=canary", "redis+sentinel"),
        ] {
            let Err(error) = Address::of(url) else { panic!("{url} was taken") };
            assert!(error.message().contains(what), "{url}: {error}");
            assert!(!error.message().contains("canary"), "{error}");
        }
    }
}
