//! A connection can be ended from outside, whatever its thread waits for.
//!
//! lapin runs a connection on a thread of its own, which ends when the broker answers, or the
//! socket does. A broker that is hung does neither: without this, each try to connect to it would
//! leave a thread and a socket behind.

use std::net::Shutdown;

use parking_lot::Mutex;
use tokio::net::TcpStream;

/// Holds on to the socket of one connection.
#[derive(Default)]
pub(super) struct Cord(Mutex<State>);

#[derive(Default)]
struct State {
    cut: bool,
    socket: Option<std::net::TcpStream>,
}

impl Cord {
    /// Ties a socket to it.
    ///
    /// # Errors
    /// Where it is cut already, or there are no descriptors left.
    pub fn tie(&self, socket: &TcpStream) -> std::io::Result<()> {
        let second = duplicate(socket)?;
        let mut state = self.0.lock();
        if state.cut {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        state.socket = second;
        Ok(())
    }

    /// Ends the connection, now or as soon as it is made.
    pub fn cut(&self) {
        let mut state = self.0.lock();
        state.cut = true;
        if let Some(socket) = state.socket.take() {
            let _ = socket.shutdown(Shutdown::Both); // it may have ended already
        }
    }
}

#[cfg(unix)]
fn duplicate(socket: &TcpStream) -> std::io::Result<Option<std::net::TcpStream>> {
    use std::os::fd::AsFd;
    Ok(Some(socket.as_fd().try_clone_to_owned()?.into()))
}

#[cfg(windows)]
fn duplicate(socket: &TcpStream) -> std::io::Result<Option<std::net::TcpStream>> {
    use std::os::windows::io::AsSocket;
    Ok(Some(socket.as_socket().try_clone_to_owned()?.into()))
}

#[cfg(not(any(unix, windows)))]
fn duplicate(_socket: &TcpStream) -> std::io::Result<Option<std::net::TcpStream>> {
    Ok(None)
}
