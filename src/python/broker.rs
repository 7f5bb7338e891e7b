//! `url=`, `tls=`, `prefix=`, `outbox=`, `claim_idle=` and what else goes with a broker: a bus on
//! one, and the wait for that.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::args::{one_of, seconds_in};
use crate::bus::{Bus, BusSettings, DedupSettings};
use crate::config::schema;
use crate::error::{Error, Kind, Result};
use crate::transport::open::{Options, TlsFiles};
use crate::transport::outbox::{Bounds, Full};
use crate::transport::seen::Window;

/// What was said of the broker.
pub(super) struct Broker<'a, 'py> {
    pub url: Option<&'a str>,
    pub prefix: Option<String>,
    pub outbox: Option<&'a Bound<'py, PyAny>>,
    pub claim_idle: Option<Duration>,
    pub partitions: Option<usize>,
    pub tls: Option<&'a Bound<'py, PyAny>>,
    pub heartbeat: Option<Duration>,
    pub mandatory: Option<bool>,
    /// The time itself stands in the settings of the bus.
    pub connect_timeout_given: bool,
    pub max_retry: Option<u32>,
    pub retry_delay: Option<Duration>,
}

impl Broker<'_, '_> {
    /// As the core takes it; none for a bus in memory. What was said of `dedup` is on unless
    /// somebody says otherwise.
    pub fn options(
        self,
        settings: &BusSettings,
        dedup: Option<Option<DedupSettings>>,
    ) -> PyResult<Option<Options>> {
        let Some(url) = self.url else {
            let said = [
                ("prefix", self.prefix.is_some()),
                ("outbox", self.outbox.is_some()),
                ("claim_idle", self.claim_idle.is_some()),
                ("partitions", self.partitions.is_some()),
                ("tls", self.tls.is_some()),
                ("heartbeat", self.heartbeat.is_some()),
                ("mandatory", self.mandatory.is_some()),
                ("connect_timeout", self.connect_timeout_given),
                ("max_retry", self.max_retry.is_some()),
                ("retry_delay", self.retry_delay.is_some()),
            ];
            return match said.iter().find(|(_, given)| *given) {
                None => Ok(None),
                Some((name, _)) => Err(PyValueError::new_err(format!(
                    "{name}= goes with a broker: give url= too, or leave it out"
                ))),
            };
        };
        let mut options = Options::new(url);
        options.batch = settings.batch_size;
        options.max_payload = settings.max_payload;
        let dedup = dedup.unwrap_or(Some(DedupSettings::default()));
        options.dedup = dedup.map(|dedup| Window { time: dedup.window, count: dedup.size });
        if let Some(prefix) = self.prefix {
            options.prefix = prefix;
        }
        if let Some(idle) = self.claim_idle {
            options.claim_idle = idle;
        }
        options.connect_timeout = settings.connect_timeout;
        options.max_retry = self.max_retry.unwrap_or(options.max_retry);
        options.retry_delay = self.retry_delay.unwrap_or(options.retry_delay);
        options.mandatory = self.mandatory.unwrap_or_default();
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let broker = schema::broker_of(&scheme.to_ascii_lowercase());
        if let Some(partitions) = self.partitions {
            if broker == Some("rabbitmq") {
                return Err(PyValueError::new_err(
                    "partitions= goes with Redis; on RabbitMQ a group with key= has one queue, and \
                     one reader at a time",
                ));
            }
            options.partitions = partitions;
        }
        if let Some(heartbeat) = self.heartbeat {
            if broker == Some("redis") {
                return Err(PyValueError::new_err(
                    "heartbeat= goes with RabbitMQ; a Redis server that is silent is noticed \
                     without it",
                ));
            }
            options.heartbeat = heartbeat;
        }
        if let Some(tls) = self.tls {
            options.tls = files(tls)?;
        }
        if let Some(outbox) = self.outbox {
            options.outbox = bounds(outbox)?;
        }
        Ok(Some(options))
    }
}

/// `outbox={"capacity": 10_000, "overflow": "block", "timeout": 30}`.
fn bounds(given: &Bound<'_, PyAny>) -> PyResult<Bounds> {
    let Ok(given) = given.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "outbox is a dict such as {{\"capacity\": 10_000, \"overflow\": \"block\", \
             \"timeout\": 30}}, got {}",
            given.get_type().name()?
        )));
    };
    let mut bounds = Bounds::default();
    for (name, value) in given.iter() {
        match name.extract::<String>()?.as_str() {
            "capacity" => {
                bounds.most = value.extract().map_err(|_| {
                    PyValueError::new_err(format!("outbox: capacity is a number, got {value}"))
                })?;
            }
            "overflow" => {
                bounds.full = match value.extract::<String>()?.as_str() {
                    "block" => Full::Block,
                    "fail" => Full::Fail,
                    "drop_oldest" => Full::DropOldest,
                    other => {
                        let known = ["block", "fail", "drop_oldest"];
                        return Err(one_of("outbox: overflow", other, &known));
                    }
                };
            }
            "timeout" => bounds.limit = seconds_in("outbox", "timeout", &value)?,
            other => {
                let known = ["capacity", "overflow", "timeout"];
                return Err(one_of("a key of `outbox`", other, &known));
            }
        }
    }
    if bounds.limit.is_zero() {
        return Err(PyValueError::new_err("outbox: timeout must be above zero"));
    }
    Ok(bounds)
}

/// `tls={"ca_file": path, "cert_file": path, "key_file": path}`.
fn files(given: &Bound<'_, PyAny>) -> PyResult<TlsFiles> {
    let Ok(given) = given.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "tls is a dict such as {{\"ca_file\": \"ca.pem\"}}, got {}",
            given.get_type().name()?
        )));
    };
    let mut files = TlsFiles::default();
    for (name, value) in given.iter() {
        let name = name.extract::<String>()?;
        let file = match name.as_str() {
            "ca_file" => &mut files.ca,
            "cert_file" => &mut files.certificate,
            "key_file" => &mut files.key,
            other => {
                let known = ["ca_file", "cert_file", "key_file"];
                return Err(one_of("a key of `tls`", other, &known));
            }
        };
        if value.is_none() {
            continue;
        }
        let path = value.extract::<PathBuf>().map_err(|_| {
            let got = value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            PyTypeError::new_err(format!("tls: {name} is the path of a file, got {got}"))
        })?;
        *file = Some(path);
    }
    Ok(files)
}

/// Waits until the broker answers, and all that was subscribed to is read.
pub(super) async fn ready(bus: Bus, limit: Duration) -> Result<()> {
    let clock = bus.clock().clone();
    let until = clock.now().saturating_add(limit);
    bus.connected(limit).await?;
    let left = until.saturating_since(clock.now());
    match clock.timeout(left, bus.ready()).await {
        Ok(ready) => ready,
        Err(_) => {
            let why = bus.trouble().unwrap_or_else(|| "the broker is slow".into());
            let said = format!("not all subscriptions are read after {limit:?}: {why}");
            Err(Error::new(Kind::Dependency, "ready", said))
        }
    }
}
