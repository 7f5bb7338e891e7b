//! A real Redis server for tests: on a port of its own, started and killed by them.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A server, which ends with this value.
pub struct Server {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
}

impl Server {
    /// Starts one that syncs each write to its file, as a trader would have it.
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// Starts one with further options.
    pub fn with(options: &[&str]) -> Server {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let folder = TempDir::new().expect("a folder");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Server { child: None, folder, port, options };
        server.launch();
        server
    }

    /// Starts it again where it was killed; resolves when it takes connections.
    pub fn launch(&mut self) {
        let port = self.port.to_string();
        let mut child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server starts; `apt-get install redis-server` brings it");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.any(|line| line.expect("text").contains("Ready to accept connections"));
        assert!(ready, "redis-server ended before it was ready");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
    }

    /// Ends it at once, in the middle of whatever it does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it was running");
            child.wait().expect("it ends");
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// A connection for what the test itself asks or does.
    pub fn ask(&self) -> redis::Connection {
        redis::Client::open(self.url()).expect("a URL").get_connection().expect("it runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
