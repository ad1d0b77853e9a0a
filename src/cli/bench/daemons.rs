//! The daemons of a bench: processes of their own, as they are, on one store.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::Instant;

use super::backend;
use crate::cli::child;
use crate::cli::child::free_addresses;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::master_key::MasterKey;

/// Ticks of the clock that `/proc` counts processor time in: 100 on every Linux.
const TICKS: f64 = 100.0;
const START_TIMEOUT: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(2);
pub(super) const N_UNITS: u32 = 8;
const N_DOCTORS: u32 = 40;

/// Where the daemons live, and what they lean on.
#[derive(Debug)]
pub(super) struct House {
    pub(super) folder: PathBuf,
    url: SecretString,
    amqp: Option<SecretString>,
    n_daemons: u16,
}

/// Daemons that run.
pub(super) struct Daemons {
    all: Vec<Daemon>,
    /// From the start of the first until the last one listened.
    pub(super) started_in: Duration,
}

struct Daemon {
    child: Child,
    feed: SocketAddr,
    admin: SocketAddr,
}

/// What processes have used since they started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) cpu_seconds: f64,
    pub(super) peak_kib: f64,
    pub(super) resident_kib: f64,
    pub(super) written_bytes: f64,
}

impl House {
    /// Furnishes a folder for daemons; without a store they have SQLite, without a broker JSON Lines.
    pub(super) fn furnish(
        folder: &Path,
        team: u32,
        store: Option<&SecretString>,
        amqp: Option<&SecretString>,
        n_daemons: u16,
    ) -> anyhow::Result<Self> {
        std::fs::write(folder.join("staff.csv"), staff(team))?;
        std::fs::write(folder.join("units.csv"), units())?;
        MasterKey::load_or_create(&folder.join("wardroom.key")).context("cannot make a key")?;
        let url = store.cloned().unwrap_or_else(|| format!("sqlite:{}", folder.join("wardroom.db").display()).into());
        Ok(Self { folder: folder.to_owned(), url, amqp: amqp.cloned(), n_daemons })
    }

    /// Starts the daemons and waits until they listen.
    pub(super) async fn start(&self) -> anyhow::Result<Daemons> {
        let begun = Instant::now();
        let mut all = Vec::new();
        for number in 0..self.n_daemons {
            all.push(self.start_one(number)?);
        }
        for (number, daemon) in all.iter().enumerate() {
            while TcpStream::connect(daemon.feed).await.is_err() {
                if begun.elapsed() > START_TIMEOUT {
                    let log = std::fs::read_to_string(self.folder.join(format!("log.{number}"))).unwrap_or_default();
                    anyhow::bail!("the daemon did not start: {log}");
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(Daemons { all, started_in: begun.elapsed() })
    }

    fn start_one(&self, number: u16) -> anyhow::Result<Daemon> {
        let [feed, admin] = free_addresses()?;
        let file = format!("wardroom.{number}.toml");
        std::fs::write(self.folder.join(&file), self.configuration(feed, admin, number))?;
        let child = child::serve(&self.folder, &file, &[], std::fs::File::create(self.folder.join(format!("log.{number}")))?)?;
        Ok(Daemon { child, feed, admin })
    }

    /// The store, with a daemon on it or without.
    pub(super) async fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open_read_only(self.options(0)?).await?)
    }

    /// The store, for whoever puts something into it while no daemon runs.
    pub(super) async fn own_store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(self.options(1)?).await?)
    }

    fn options(&self, daemon: u16) -> anyhow::Result<StoreOptions> {
        let master_key = MasterKey::load(&self.folder.join("wardroom.key"))?;
        Ok(StoreOptions { url: self.url.clone(), master_key, readers: 1, daemon })
    }

    /// How many events were published as JSON Lines.
    pub(super) fn n_lines(&self) -> anyhow::Result<u64> {
        let mut n_lines = 0;
        for number in 0..self.n_daemons {
            let file = self.folder.join(format!("events.{number}.jsonl"));
            let bytes = if file.exists() { std::fs::read(file)? } else { Vec::new() };
            n_lines += bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        }
        Ok(n_lines)
    }

    fn configuration(&self, feed: SocketAddr, admin: SocketAddr, number: u16) -> String {
        let publish = match &self.amqp {
            None => format!("to = \"jsonl\"\njsonl.path = \"events.{number}.jsonl\"\n"),
            Some(url) => {
                format!("to = \"amqp\"\n[publish.amqp]\nurl = \"{}\"\nexchange = \"{}\"\nqueue = \"\"\n", url.expose_secret(), backend::NAME)
            }
        };
        format!(
            "[store]\nurl = \"{}\"\nkey = \"file:wardroom.key\"\n\n[[feeds]]\nname = \"main\"\nlisten = \"{feed}\"\nfacility = \"GHH\"\nauthority = \
             \"GHH\"\ntime_zone = \"UTC\"\nmax_connections = 2048\nmax_connections_per_address = 2048\n\n\
             [directory]\nstaff = \"staff.csv\"\nunits = \"units.csv\"\n\n[rooms]\nmass_guard = false\n\n\
             [admin]\nlisten = \"{admin}\"\n\n[publish]\n{publish}",
            self.url.expose_secret()
        )
    }
}

impl Daemons {
    /// Where they listen.
    pub(super) fn feeds(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|daemon| daemon.feed).collect()
    }

    /// The sum of a metric over all of them.
    pub(super) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for daemon in &self.all {
            let text = child::metrics(daemon.admin).await?;
            let value = |line: &str| line.strip_prefix(name)?.split_whitespace().last()?.parse::<f64>().ok();
            sum += text.lines().find_map(value).unwrap_or_default();
        }
        Ok(sum)
    }

    /// What all of them have used.
    pub(super) fn used(&self) -> anyhow::Result<Used> {
        let mut sum = Used::default();
        for daemon in &self.all {
            let used = daemon.used()?;
            sum.cpu_seconds += used.cpu_seconds;
            sum.peak_kib += used.peak_kib;
            sum.resident_kib += used.resident_kib;
            sum.written_bytes += used.written_bytes;
        }
        Ok(sum)
    }

    /// Asks them to end, and waits for it: what is measured of a program is written when it ends.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        for mut daemon in self.all {
            let status = child::end(&mut daemon.child).await?;
            anyhow::ensure!(status.success(), "the daemon did not end in good order: {status}");
        }
        Ok(())
    }
}

impl Daemon {
    fn used(&self) -> anyhow::Result<Used> {
        let folder = PathBuf::from(format!("/proc/{}", self.child.id().context("the daemon has ended")?));
        let (stat, status) = (std::fs::read_to_string(folder.join("stat"))?, std::fs::read_to_string(folder.join("status"))?);
        let io = std::fs::read_to_string(folder.join("io"))?;
        let after = |text: &str, name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or_default()
        };
        // The fields behind the name in brackets, which may hold blanks; the times are the 14th and 15th of all.
        let times: f64 =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(Used {
            cpu_seconds: times / TICKS,
            peak_kib: after(&status, "VmHWM:"),
            resident_kib: after(&status, "VmRSS:"),
            written_bytes: after(&io, "write_bytes:"),
        })
    }
}

fn staff(team: u32) -> String {
    let doctors = (0..N_DOCTORS).map(|doctor| format!("doctor.{doctor:03},Doctor {doctor},GHH/EI:D{doctor:03},,true\n"));
    let nurses = (0..N_UNITS).flat_map(|unit| {
        (0..team).map(move |nurse| format!("nurse.{unit:02}.{nurse:03},Nurse {nurse},GHH/EI:N{unit:02}{nurse:03},nurse.{unit:02},true\n"))
    });
    ["user,name,ids,groups,active\n".to_owned()].into_iter().chain(doctors).chain(nurses).collect()
}

fn units() -> String {
    let units = (0..N_UNITS).map(|unit| format!("GHH,U{unit:02},nurse.{unit:02},Unit {unit},\n"));
    ["facility,point_of_care,group,name,flags\n".to_owned()].into_iter().chain(units).collect()
}
