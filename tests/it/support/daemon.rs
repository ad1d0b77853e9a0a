//! The daemon itself, run as its users run it: the program, a configuration in a folder of its own, free ports, signals.
//!
//! What a test writes into its configuration is laid over [`BASE`]. A `[[feeds]]` table without a key has it from the base's feed, so that a test
//! names only what it is about.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "helpers of tests")]

use std::collections::HashMap;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::eventually;

/// Long enough for a debug build on a machine that has other things to do.
const SOON: Duration = Duration::from_mins(1);

/// What a test's configuration is laid over.
const BASE: &str = r#"
[store]
url = "sqlite:wardroom.db"

[publish.jsonl]
path = "events.jsonl"

[admin]
listen = "127.0.0.1:0"

[directory]
staff = "staff.csv"
units = "units.csv"

[[feeds]]
name = "main"
listen = "127.0.0.1:0"
facility = "GHH"
time_zone = "America/New_York"
authority = "GHH"
"#;

/// A wardroom that runs, and ends with the test.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Where its first feed listens.
    pub(crate) mllp: SocketAddr,
    /// Where health and metrics are.
    pub(crate) admin: SocketAddr,
    /// Its configuration, store and events.
    pub(crate) dir: TempDir,
    feeds: HashMap<String, SocketAddr>,
    environment: Vec<(&'static str, &'static str)>,
    /// How far its clock is ahead, in milliseconds.
    pub(crate) clock_skew: i64,
    process: Option<Process>,
    log: Arc<Mutex<Vec<String>>>,
}

/// A process and whoever reads what it says.
#[derive(Debug)]
struct Process {
    child: Child,
    reader: JoinHandle<()>,
}

impl Daemon {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// Starts one with more in its environment.
    pub(crate) async fn start_with(config: &str, environment: &[(&'static str, &'static str)]) -> Self {
        let mut daemon = Self::down(config, environment);
        daemon.up().await;
        daemon
    }

    /// One that is to end before it is ready.
    pub(crate) fn begin(config: &str) -> Self {
        let mut daemon = Self::down(config, &[]);
        daemon.spawn();
        daemon
    }

    fn down(config: &str, environment: &[(&'static str, &'static str)]) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let dir = house(config);
        Self {
            mllp: nowhere,
            admin: nowhere,
            dir,
            feeds: HashMap::new(),
            environment: environment.to_vec(),
            clock_skew: 0,
            process: None,
            log: Arc::default(),
        }
    }

    /// Starts it, again in the same folder, and waits until it is ready. Its ports are others than before.
    pub(crate) async fn up(&mut self) {
        let n_before = self.log.lock().unwrap().len();
        self.spawn();
        let process = self.process.as_mut().unwrap();
        let log = &self.log;
        let started = eventually("the daemon is ready", SOON, async || {
            let lines: Vec<Value> = log.lock().unwrap()[n_before..].iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let is_ready = lines.iter().any(|line| line["message"] == "wardroom is ready");
            let ended = process.child.try_wait().unwrap();
            assert!(is_ready || ended.is_none(), "the daemon ended with {ended:?}: {:#?}", log.lock().unwrap());
            is_ready.then_some(lines)
        });
        let lines = started.await;
        let address = |line: &Value, field: &str| line[field].as_str().and_then(|address| address.parse().ok());
        self.admin = lines.iter().find_map(|line| address(line, "admin")).unwrap();
        self.feeds = lines.iter().filter_map(|line| Some((line["feed"].as_str()?.to_owned(), address(line, "address")?))).collect();
        self.mllp = lines.iter().find_map(|line| address(line, "address")).unwrap();
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "the daemon runs already");
        let skew = format!("--clock-skew={}", self.clock_skew);
        let mut child = serve(&self.dir).arg(skew).envs(self.environment.iter().copied()).spawn().unwrap();
        let (stderr, log) = (child.stderr.take().unwrap(), Arc::clone(&self.log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                log.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        self.process = Some(Process { child, reader });
    }

    /// Where a feed listens.
    pub(crate) fn feed(&self, name: &str) -> SocketAddr {
        self.feeds[name]
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill9(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Ends it as a power cut would, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.kill9();
        self.up().await;
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.process.as_mut().unwrap().child;
        eventually("the daemon ends", SOON, async || child.try_wait().unwrap()).await;
        self.wait()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        let status = process.child.wait().unwrap();
        process.reader.join().unwrap();
        status
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything it has said on standard error, over all its lives.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log that holds this.
    pub(crate) async fn says(&self, what: &str) {
        eventually(what, SOON, async || self.log.lock().unwrap().iter().any(|line| line.contains(what)).then_some(())).await;
    }

    /// The lines of its events file that are whole.
    pub(crate) fn event_lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("events.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        text[..whole].lines().map(str::to_owned).collect()
    }

    /// The events it has published.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.event_lines().iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Waits until the last word on the room of this visit is as it should be, and gives that event.
    pub(crate) async fn room_is(&self, visit: &str, what: &str, is: impl Fn(&Value) -> bool + Sync) -> Value {
        let look = async || {
            let last = self.events().into_iter().rfind(|event| event["data"]["room"]["visit"]["id"]["value"] == visit)?;
            is(&last["data"]["room"]).then_some(last)
        };
        eventually(&format!("the room of {visit} is {what}"), SOON, look).await
    }

    /// The status and the body that an address of the admin listener gives.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: wardroom\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.child.kill());
            drop(process.child.wait());
        }
    }
}

/// A folder with a configuration, and with the staff and units of the fixtures.
pub(crate) fn house(config: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut whole: toml::Table = BASE.parse().unwrap();
    lay_over(&mut whole, config.parse().unwrap());
    fs::write(dir.path().join("wardroom.toml"), toml::to_string(&whole).unwrap()).unwrap();
    for file in ["staff.csv", "units.csv"] {
        fs::copy(format!("{}/fixtures/journeys/{file}", env!("CARGO_MANIFEST_DIR")), dir.path().join(file)).unwrap();
    }
    dir
}

fn lay_over(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (Some(toml::Value::Array(below)), toml::Value::Array(above)) if key == "feeds" => {
                let base = below.remove(0);
                for feed in above {
                    let mut whole = base.clone();
                    lay_over(whole.as_table_mut().unwrap(), feed.try_into().unwrap());
                    below.push(whole);
                }
            }
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

fn serve(dir: &TempDir) -> Command {
    let mut command = program(dir);
    command.arg("serve").stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The program, to be run in a folder.
pub(crate) fn program(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardroom"));
    command.env_remove("RUST_LOG").env_remove("WARDROOM_LOG").stdin(Stdio::null()).current_dir(dir.path());
    command
}

/// Starts a daemon that is to end by itself: its exit code and what it said.
pub(crate) fn refuses_to_start(dir: &TempDir) -> (i32, String) {
    let Output { status, stderr, .. } = serve(dir).spawn().unwrap().wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}
