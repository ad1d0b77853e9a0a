//! Daemons that a command starts as children of its own, as they are: `bench` and `torture`.
//!
//! It knows nothing of what they are to do, and makes nothing that they lean on. A child ends with whoever started it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::timeout;

const END_WITHIN: Duration = Duration::from_secs(25);

/// Two addresses that are free now.
pub(super) fn free_addresses() -> anyhow::Result<[SocketAddr; 2]> {
    let listen = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Both at once: an address that is given up may be given out again.
    let (one, other) = (listen()?, listen()?);
    Ok([one.local_addr()?, other.local_addr()?])
}

/// Starts a daemon in a folder, with the configuration there, and does not wait for anything.
pub(super) fn serve(folder: &Path, config: &str, args: &[&str], log: File) -> anyhow::Result<Child> {
    let mut daemon = Command::new(std::env::current_exe()?);
    daemon.args(["--config", config, "serve"]).args(args).current_dir(folder);
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    daemon.spawn().context("cannot start the daemon")
}

/// Sends it a signal. One that has ended in between needs none.
pub(super) fn signal(child: &Child, signal: Signal) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        kill_process(id, signal).ok();
    }
}

/// Asks it to end, and waits for that.
pub(super) async fn end(child: &mut Child) -> anyhow::Result<ExitStatus> {
    signal(child, Signal::TERM);
    let ended = timeout(END_WITHIN, child.wait()).await;
    ended.map_err(|_| anyhow::anyhow!("the daemon did not end within {END_WITHIN:?} of SIGTERM"))?.context("cannot wait for the daemon")
}

/// Its metrics, in Prometheus' text form.
pub(super) async fn metrics(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
