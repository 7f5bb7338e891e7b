//! The URL of a broker, in its parts.
//!
//! The `url` crate takes one host, and where a password is not encoded it reads a part of that as
//! a host, a port or a database, without a word.

use std::net::Ipv6Addr;

use crate::error::{Error, Kind, Result, did_you_mean};

/// The parts of `scheme://user:password@host:port,host:port/path?query`, as they are written.
#[cfg_attr(not(feature = "redis"), allow(dead_code))] // RabbitMQ has no forms of its URL
pub(super) struct Locator<'a> {
    pub scheme: String,
    pub userinfo: Option<&'a str>,
    pub hosts: &'a str,
    /// Without the slash before it.
    pub path: &'a str,
    pub query: Vec<(&'a str, &'a str)>,
}

/// Says once per bus that what a URL holds goes over a network as it is.
pub(super) fn warn_of_plain(parts: &Locator<'_>, host: &str) {
    let here = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !here && parts.userinfo.is_some() {
        tracing::warn!(
            target: "tiebeam::transport",
            "the password for {host} and all events go there in plain text; with TLS the URL \
             begins with `rediss://` or `amqps://`"
        );
    }
}

/// The error for a URL. It never shows what could be a part of a password.
pub(super) fn refused(said: impl Into<String>) -> Error {
    Error::new(Kind::Configuration, "connect", format!("the URL of the broker {}", said.into()))
}

impl<'a> Locator<'a> {
    /// The parts of `url`; the names in its query are among `known`.
    ///
    /// # Errors
    /// `Kind::Configuration` for what is no such URL.
    pub fn of(url: &'a str, known: &[&str]) -> Result<Locator<'a>> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(refused("has no `://`"));
        };
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if tail.contains('@') || fragment.is_some_and(|fragment| fragment.contains('@')) {
            return Err(refused(
                "has an `@` behind the host: in a user or password, `/` is written `%2F`, `?` \
                 `%3F`, `#` `%23`, `@` `%40` and `%` `%25`",
            ));
        }
        match fragment {
            None => {}
            Some("insecure") => {
                return Err(refused(
                    "ends in `#insecure`, and certificates are always verified: to trust a server \
                     of your own, give its CA as ca_file of tls",
                ));
            }
            Some(_) => return Err(refused("has a `#`, which means nothing here")),
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (userinfo, hosts) = match authority.rsplit_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(unknown(name, known));
            }
            pairs.push((name, value));
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        Ok(Locator { scheme: scheme.to_ascii_lowercase(), userinfo, hosts, path, query: pairs })
    }

    /// The value of a name in the query.
    #[cfg(feature = "redis")]
    pub fn asked(&self, name: &str) -> Option<&'a str> {
        self.query.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// The only host, and its port.
    ///
    /// # Errors
    /// As in [`Locator::of`].
    pub fn host(&self, port: u16) -> Result<(String, u16)> {
        if self.hosts.contains(',') {
            return Err(refused("names several hosts, and can have one"));
        }
        host_and_port(self.hosts, port)
    }
}

/// The error for a URL of another broker than the one that is in use.
pub fn elsewhere() -> Error {
    refused(
        "leads to another broker than the one in use: user, password and certificates change \
         while it runs, all else when it starts anew",
    )
}

fn unknown(name: &str, known: &[&str]) -> Error {
    let lower = name.to_ascii_lowercase();
    if ["ssl", "tls", "cert", "cafile", "keyfile", "verify"].iter().any(|w| lower.contains(w)) {
        return refused(format!(
            "has a parameter `{name}`: what concerns TLS is said by tls, with ca_file, cert_file \
             and key_file"
        ));
    }
    let hint = did_you_mean(name, known.iter().copied())
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    refused(format!("has an unknown parameter `{name}`{hint}"))
}

/// A host and its port, as in `name:1`, `10.0.0.1` or `[::1]:1`.
///
/// # Errors
/// As in [`Locator::of`].
pub(super) fn host_and_port(text: &str, default: u16) -> Result<(String, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return Err(refused("has a `[` and no `]`"));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(refused("has no IPv6 address between `[` and `]`"));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(refused("has no `:` between `]` and the port")),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(refused("has several `:` in its host: IPv6 is written `[::1]:6379`"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err(refused("names no host"));
    }
    match port {
        None => Ok((host.to_owned(), default)),
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host.to_owned(), port)),
            _ => Err(refused("has no number from 1 to 65535 as its port")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> Locator<'_> {
        Locator::of(url, &["db"]).expect("a URL")
    }

    fn said(url: &str) -> String {
        let refused = Locator::of(url, &["db"]).and_then(|parts| parts.host(1).map(|_| ()));
        refused.expect_err("refused").message().to_owned()
    }

    #[test]
    fn a_url_falls_into_its_parts() {
        let url = parts("Redis://u:p@ss:word@[::1]:7/3?db=4");
        assert_eq!((url.scheme.as_str(), url.userinfo), ("redis", Some("u:p@ss:word")));
        assert_eq!(url.host(1).expect("one"), ("::1".to_owned(), 7));
        assert_eq!((url.path, url.asked("db"), url.asked("x")), ("3", Some("4"), None));
        assert_eq!(parts("redis://h").host(9).expect("one"), ("h".to_owned(), 9));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_password() {
        for (url, what) in [
            ("redis://u:canary/1@h:6379/0", "%2F"),
            ("redis://u:canary#1@h:6379/0", "%23"),
            ("redis://u:canary?1@h", "%3F"),
            ("rediss://u:canary@h#insecure", "always verified"),
            ("redis://u:canary", "port"),
            ("redis://:canary@", "names no host"),
            ("redis://u:canary@::1", "[::1]:6379"),
            ("redis://h?password=canary", "unknown parameter `password`"),
            ("redis://h?bd=1", "did you mean `db`?"),
            ("rediss://h?ssl_ca_certs=canary", "ca_file"),
            ("redis://a,b", "several hosts"),
        ] {
            let said = said(url);
            assert!(said.contains(what), "{url}: {said}");
            assert!(!said.contains("canary"), "{said}");
        }
    }
}
