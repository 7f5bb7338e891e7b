//! A real RabbitMQ broker for tests: on ports of its own, started and killed by them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use lapin::{Channel, Connection, ConnectionProperties};
use tempfile::TempDir;

/// A broker, which ends with this value, or with the process of the tests.
pub struct Server {
    running: Option<Running>,
    folder: TempDir,
    port: u16,
    /// Erlang's daemon of names, which is ours alone, and where it listens.
    daemon: Child,
    names: u16,
    distribution: u16,
}

struct Running {
    child: Child,
    guard: Child,
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("bound").port()
}

/// Where Debian has the script itself: the one in the path drops the environment.
fn script() -> String {
    let packaged = "/usr/lib/rabbitmq/bin/rabbitmq-server";
    let named = std::env::var("RABBITMQ_SERVER").ok();
    let found = Path::new(packaged).exists().then(|| packaged.to_owned());
    named.or(found).unwrap_or_else(|| "rabbitmq-server".into())
}

/// The one broker for tests that leave it alone; each has a prefix of its own. It ends with the
/// process.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::start)
}

impl Server {
    /// Starts one.
    pub fn start() -> Server {
        let folder = TempDir::new().expect("a folder");
        let (port, names, distribution) = (free_port(), free_port(), free_port());
        let daemon = Command::new("epmd")
            .args(["-address", "127.0.0.1", "-port", &names.to_string()])
            .process_group(0)
            .spawn()
            .expect("epmd starts; it comes with Erlang");
        let mut server = Server { running: None, folder, port, daemon, names, distribution };
        server.launch();
        server
    }

    /// Starts it again where it was killed; resolves when it takes connections.
    pub fn launch(&mut self) {
        let folder = self.folder.path();
        let cookie = folder.join(".erlang.cookie");
        if !cookie.exists() {
            fs::write(&cookie, "tiebeam").expect("written");
            fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).expect("set");
            fs::write(folder.join("plugins"), "[].").expect("written");
            let config = format!(
                "listeners.tcp.1 = 127.0.0.1:{}\nlog.file = false\nlog.console = true\n\
                 log.console.level = warning\n",
                self.port
            );
            fs::write(folder.join("rabbitmq.conf"), config).expect("written");
        }
        let mut child = Command::new(script())
            .env("HOME", folder)
            .env("RABBITMQ_NODENAME", format!("tiebeam{}@localhost", self.port))
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("ERL_EPMD_PORT", self.names.to_string())
            .env("ERL_CRASH_DUMP", folder.join("erl_crash.dump"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("rabbitmq-server starts; `apt-get install rabbitmq-server` brings it");
        let guard = guard(child.id(), self.daemon.id(), folder);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("completed with")));
        assert!(ready, "rabbitmq-server ended before it was ready");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        self.running = Some(Running { child, guard });
    }

    /// Ends it at once, in the middle of whatever it does.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            signal("KILL", running.child.id());
            running.child.wait().expect("it ends");
            running.guard.kill().expect("it was running");
            running.guard.wait().expect("it ends");
        }
    }

    /// Has it stand still, as a machine that is out of memory does.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Has it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        signal(name, self.running.as_ref().expect("it runs").child.id());
    }

    /// Whether the broker would find a quorum queue again if it were killed now: for the first
    /// seconds, version 3.10 has its name in memory only.
    pub fn keeps(&self, queue: &str) -> bool {
        let node = format!("tiebeam{}@localhost", self.port);
        let names = self.folder.path().join("mnesia").join(&node).join("quorum").join(&node);
        let names = fs::read(names.join("names.dets")).unwrap_or_default();
        names.windows(queue.len()).any(|text| text == queue.as_bytes())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// A channel for what the test itself asks or does, and its connection.
    pub async fn ask(&self) -> (Connection, Channel) {
        let url = self.url();
        let connected = Connection::connect(&url, ConnectionProperties::default());
        let connection = connected.await.expect("it runs");
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }

    /// Has the broker's own tool do something.
    pub fn control(&self, arguments: &[&str]) {
        let tool = script().replace("rabbitmq-server", "rabbitmqctl");
        let done = Command::new(tool)
            .env("HOME", self.folder.path())
            .env("RABBITMQ_NODENAME", format!("tiebeam{}@localhost", self.port))
            .env("ERL_EPMD_PORT", self.names.to_string())
            .args(arguments)
            .stdout(Stdio::null())
            .status()
            .expect("rabbitmqctl runs");
        assert!(done.success(), "rabbitmqctl {arguments:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        self.daemon.kill().expect("it was running");
        self.daemon.wait().expect("it ends");
    }
}

/// Sends a signal to the broker and all that it started.
fn signal(name: &str, group: u32) {
    let sent =
        Command::new("kill").args([&format!("-{name}"), "--", &format!("-{group}")]).status();
    assert!(sent.expect("kill runs").success());
}

/// Ends the broker, and the daemon of names, with the process of the tests: however that ends, the
/// pipe to it is closed.
fn guard(group: u32, daemon: u32, folder: &Path) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg("read _; kill -KILL -$1 $2; rm -rf \"$3\"")
        .args(["guard", &group.to_string(), &daemon.to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh runs")
}
