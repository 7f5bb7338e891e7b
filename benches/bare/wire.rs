//! A socket, and what came over it.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A connection with a buffer of what was not looked at yet.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    from: usize,
}

impl Wire {
    pub fn connect(address: &str) -> Wire {
        let stream = TcpStream::connect(address).expect("nobody listens there");
        stream.set_nodelay(true).expect("a socket");
        Wire { stream, buffer: Vec::with_capacity(1 << 20), from: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server is gone");
    }

    /// What came and was not taken.
    pub fn there(&self) -> &[u8] {
        &self.buffer[self.from..]
    }

    /// So much of it was looked at.
    pub fn take(&mut self, count: usize) {
        self.from += count;
        if self.from == self.buffer.len() {
            self.buffer.clear();
            self.from = 0;
        }
    }

    /// Waits for more.
    pub fn more(&mut self) {
        if self.from > 1 << 19 {
            self.buffer.drain(..self.from);
            self.from = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled + (1 << 17), 0);
        let came = self.stream.read(&mut self.buffer[filled..]).expect("the server is gone");
        assert!(came > 0, "the server has closed the connection");
        self.buffer.truncate(filled + came);
    }
}
