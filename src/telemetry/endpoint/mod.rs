//! Probes and metrics by HTTP.
//!
//! | file | idea |
//! | --- | --- |
//! | `pages` | what is answered to which request |
//! | `places` | how many connections there are at once, and which has to go |
//!
//! It runs on a thread of its own, which never enters Python: it answers while a handler holds
//! the interpreter, and that is when somebody asks. What it tells is what is known already; no
//! check is run for it.

mod pages;
mod places;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use self::places::{Place, Places};
use crate::clock::Clock;
use crate::config::HttpSettings;
use crate::error::{Error, Kind, Result};
use crate::registry::{Monitor, WeakMonitor};

/// How long one connection may take, from the first byte of the request to the last of the
/// answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Most bytes of a request line with its headers.
const MOST_HEAD: usize = 16 * 1024;

/// Most headers.
const MOST_HEADERS: usize = 64;

/// How many connections the system holds for us until we take them.
const BACKLOG: u32 = 1024;

/// The wait after a connection could not be taken: there may be no descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

/// Probes and metrics as long as this lives.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when the address cannot be had, with what to do about it.
    pub fn open(settings: &HttpSettings, monitor: &Monitor) -> Result<Endpoint> {
        let wanted = settings.address();
        let failed = |what: &str, error: &std::io::Error| {
            let message = format!("health.http: cannot {what} {wanted}: {}", advice(error));
            Error::new(Kind::Configuration, "start", message).with("path", "health.http")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| failed("serve", &error))?;
        let listener = {
            let _entered = runtime.enter();
            listen(wanted).map_err(|error| failed("listen on", &error))?
        };
        let address = listener.local_addr().map_err(|error| failed("listen on", &error))?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                target: "tiebeam::health",
                "health.http.host: {} can be reached from elsewhere: whoever does is told the \
                 system's health and metrics without being asked who it is",
                address.ip()
            );
        }
        let end = CancellationToken::new();
        let clock = monitor.registry().bus().clock().clone();
        let (monitor, ended) = (monitor.downgrade(), end.clone());
        let serve = move || {
            runtime.block_on(ended.run_until_cancelled(accept(listener, monitor, clock)));
        };
        let thread = std::thread::Builder::new()
            .name("tiebeam-endpoint".into())
            .spawn(serve)
            .map_err(|error| failed("serve", &error))?;
        tracing::info!(target: "tiebeam::health", "probes and metrics are at http://{address}");
        Ok(Endpoint { address, end, thread: Some(thread) })
    }

    /// The URL that paths are appended to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it; the port is free after that. Whoever calls this keeps the system meanwhile.
    pub fn close(mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // It waits for nobody: what is under way is cut off.
            let _ = thread.join();
        }
    }
}

impl Drop for Endpoint {
    /// Without waiting: the thread may be just about to drop the last of a system, and that may
    /// wait for whoever drops this.
    fn drop(&mut self) {
        self.end.cancel();
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart finds its old connections in the way otherwise.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn advice(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    match error.kind() {
        AddrInUse => "another socket has that port; choose another `health.http.port`, or 0 for \
                      any that is free"
            .into(),
        AddrNotAvailable => "this machine has no such address; choose another \
                             `health.http.host`, such as 127.0.0.1"
            .into(),
        PermissionDenied => {
            "this user may not have that port; choose a `health.http.port` above 1023".into()
        }
        _ => error.to_string(),
    }
}

async fn accept(listener: TcpListener, monitor: WeakMonitor, clock: Clock) {
    let places = Places::new(clock.clone());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = places.take().await;
                tokio::spawn(serve(stream, place, monitor.clone(), clock.clone()));
            }
            Err(error) => {
                tracing::warn!(target: "tiebeam::health", "no connection was taken: {error}");
                clock.sleep(PAUSE).await;
            }
        }
    }
}

/// One request, and its answer.
async fn serve(stream: TcpStream, place: Arc<Place>, monitor: WeakMonitor, clock: Clock) {
    let answer = service_fn(|request| {
        place.has_asked();
        let answer = pages::answer(&request, &monitor);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false) // so that one limit of time holds for all of it
        .half_close(true)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEAD)
        .header_read_timeout(None) // the one of the whole connection
        .serve_connection(TokioIo::new(stream), answer);
    let limited = clock.timeout(LIMIT, connection);
    match place.until_it_has_to_go(limited).await {
        Some(Ok(Err(error))) => {
            tracing::debug!(target: "tiebeam::health", "a connection failed: {error}");
        }
        Some(Err(elapsed)) => {
            tracing::debug!(target: "tiebeam::health", "a connection was too slow: {elapsed}");
        }
        Some(Ok(Ok(()))) | None => {}
    }
}
