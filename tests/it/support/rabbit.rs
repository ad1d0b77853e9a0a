//! A private RabbitMQ: free ports, a directory of its own, ended by process id.
//!
//! It starts the server's own scripts directly, not the wrapper that changes to the user `rabbitmq`, so that it works as any user. Nothing of the
//! machine is touched: cookie, data, logs and the port mapper are all in the directory.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::sync::MutexGuard;

use super::eventually;

/// Where Debian and Ubuntu put the scripts, and where the generic archive does.
const HOMES: &[&str] = &["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];

/// Brokers are heavy: the tests that need one take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const START_WITHIN: Duration = Duration::from_secs(90);

/// A RabbitMQ that ends with the test.
pub(crate) struct Rabbit {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    tls_port: u16,
    ca_pem: String,
    settings: Vec<(&'static str, String)>,
    epmd: Child,
    server: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Rabbit {
    /// Starts a broker. `None` when none is installed, which fails where tests must not be skipped (`CI` is set).
    pub(crate) async fn start(test: &str) -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "a test's switch, no configuration")]
        let ci = std::env::var("CI").is_ok_and(|value| !value.is_empty());
        let Some(bin) = HOMES.iter().map(PathBuf::from).find(|home| home.join("rabbitmq-server").exists()) else {
            assert!(!ci, "RabbitMQ is not installed: `apt-get install rabbitmq-server`");
            println!("skipped {test}: RabbitMQ is not installed");
            return None;
        };
        let turn = ONE_AT_A_TIME.lock().await;
        let dir = tempfile::tempdir().unwrap();
        for folder in ["mnesia", "log", "home", "gen"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let [port, tls_port, epmd_port, dist_port] = free_ports();
        let at = |name: &str| dir.path().join(name).display().to_string();
        // The disk limit is far below what any machine has left, so that only the alarms that a test asks for go off.
        let ca_pem = certify(dir.path());
        let conf = [
            format!("listeners.tcp.1 = 127.0.0.1:{port}"),
            format!("listeners.ssl.1 = 127.0.0.1:{tls_port}"),
            format!("ssl_options.cacertfile = {}", at("ca.pem")),
            format!("ssl_options.certfile = {}", at("server.pem")),
            format!("ssl_options.keyfile = {}", at("server.key")),
            "vm_memory_high_watermark.absolute = 1GB".to_owned(),
            "disk_free_limit.absolute = 10MB".to_owned(),
        ];
        fs::write(at("rabbitmq.conf"), conf.join("\n") + "\n").unwrap();
        fs::write(at("enabled_plugins"), "[].").unwrap();
        write_secret(&dir.path().join("home/.erlang.cookie"), &uuid::Uuid::new_v4().simple().to_string()).unwrap();
        let settings = vec![
            ("HOME", at("home")),
            ("ERL_EPMD_PORT", epmd_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", format!("wardroom{port}@localhost")),
            ("RABBITMQ_DIST_PORT", dist_port.to_string()),
            ("RABBITMQ_MNESIA_BASE", at("mnesia")),
            ("RABBITMQ_LOG_BASE", at("log")),
            ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_GENERATED_CONFIG_DIR", at("gen")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
            ("RABBITMQ_PID_FILE", at("pid")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ];
        // The port mapper would otherwise be started by the node, in the background, and outlive it.
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut rabbit = Self { dir, bin, port, tls_port, ca_pem, settings, epmd, server: None, _turn: turn };
        rabbit.up().await;
        Some(rabbit)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The port at which it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens for TLS; its certificate is for 127.0.0.1.
    pub(crate) fn tls_url(&self, host: &str) -> String {
        format!("amqps://guest:guest@{host}:{}/%2f", self.tls_port)
    }

    /// The authority that issued its certificate.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Starts the server, anew after [`Rabbit::down`] with the same ports and data, and waits until it takes connections.
    pub(crate) async fn up(&mut self) {
        let log = fs::File::create(self.dir.path().join("log/stdout")).unwrap();
        let mut server = self.command("rabbitmq-server").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let up = eventually("RabbitMQ starts", START_WITHIN, async || {
            assert!(server.try_wait().unwrap().is_none(), "RabbitMQ ended: {}", self.said());
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok().then_some(())
        });
        up.await;
        self.server = Some(server);
    }

    /// Ends the server in good order; what is durable stays.
    pub(crate) fn down(&mut self) {
        self.signal("-TERM");
    }

    /// Ends the server as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.signal("-KILL");
    }

    fn signal(&mut self, signal: &str) {
        // The script is the parent of the Erlang machine, which wrote its own process id.
        if let Some(mut server) = self.server.take() {
            if let Ok(pid) = fs::read_to_string(self.dir.path().join("pid")) {
                drop(Command::new("kill").args([signal, pid.trim()]).status());
            }
            drop(server.wait());
        }
    }

    /// Runs `rabbitmqctl`.
    pub(crate) fn ctl(&self, args: &[&str]) {
        let output = self.command("rabbitmqctl").args(args).output().unwrap();
        assert!(output.status.success(), "rabbitmqctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A line for a shell that stops the broker and starts it again, with the connections and without the machine below it.
    pub(crate) fn restart_line(&self) -> String {
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        let ctl = format!("cd '{}' && env {} '{}'", self.dir.path().display(), settings.join(" "), self.bin.join("rabbitmqctl").display());
        format!("{ctl} stop_app && {ctl} start_app")
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(self.bin.join(script));
        command.envs(self.settings.iter().map(|(name, value)| (*name, value))).stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("log/stdout")).unwrap_or_default()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.down();
        drop(self.epmd.kill());
        drop(self.epmd.wait());
    }
}

/// Writes an authority and a certificate for 127.0.0.1 into the folder; gives the authority's.
fn certify(folder: &Path) -> String {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    let authority_key = KeyPair::generate().unwrap();
    let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    fs::write(folder.join("ca.pem"), &ca_pem).unwrap();
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    ca_pem
}

/// Ports that nobody listens on now; all are held at once, so that they differ.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o400))
}
