//! The load: connections that each keep one message in flight, over visits that walk A01 A08 A02 A08 A03.
//!
//! Messages are made as they are sent, 850 bytes give or take a few, each with numbers and stamps of its own. It speaks MLLP itself, with as little of
//! everything as that takes, since it runs on the machine that it measures.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::time::Clock as _;
use crate::time::SystemClock;

/// What a visit walks through.
const WALK: [&str; 5] = ["A01", "A08", "A02", "A08", "A03"];

/// What the load is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// How many connections, each with one message in flight.
    pub(super) n_connections: u16,
    /// How many visits each connection has open at a time.
    pub(super) n_visits: u32,
    /// How many units there are to lie in.
    pub(super) n_units: u32,
    /// For how long messages are sent before anything counts.
    pub(super) warm_up: Duration,
    /// For how long it counts.
    pub(super) measured: Duration,
    /// How many messages a second are sent at the most, on all connections together.
    pub(super) rate: Option<u32>,
    /// Loads of one store have numbers of their own, so that they speak of other patients.
    pub(super) series: u8,
}

/// How the load fared.
#[derive(Clone, Debug, Default)]
pub(super) struct Fared {
    /// Answers AA within the time that counts.
    pub(super) n_accepted: u64,
    /// Anything else, at any time.
    pub(super) n_failed: u64,
    /// Messages sent in all, those of the warm-up too.
    pub(super) n_sent: u64,
    /// Bytes of the payloads sent in all.
    pub(super) n_bytes: u64,
    /// From the first byte of a message to the last of its answer, in microseconds, sorted.
    pub(super) latencies_us: Vec<u32>,
}

impl Fared {
    /// The latency that this share of the messages did not exceed.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a list")]
        let at = (self.latencies_us.len().saturating_sub(1) as f64 * share).round() as usize;
        self.latencies_us.get(at).map_or(0.0, |us| f64::from(*us) / 1000.0)
    }
}

/// Sends until the time is over. Blocks: it has a thread of its own.
///
/// The connections go to the receivers in turn.
pub(super) fn run(load: Load, to: &[SocketAddr]) -> anyhow::Result<Fared> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let span = Span { counts_from: begun + load.warm_up, ends: begun + load.warm_up + load.measured };
        let connections = (0..load.n_connections).zip(to.iter().cycle()).map(|(n, to)| connection(n, load, *to, span));
        let mut all = Fared::default();
        for fared in join_all(connections).await {
            let fared = fared?;
            all.n_accepted += fared.n_accepted;
            all.n_failed += fared.n_failed;
            all.n_sent += fared.n_sent;
            all.n_bytes += fared.n_bytes;
            all.latencies_us.extend(fared.latencies_us);
        }
        all.latencies_us.sort_unstable();
        Ok(all)
    })
}

#[derive(Clone, Copy)]
struct Span {
    counts_from: Instant,
    ends: Instant,
}

async fn connection(number: u16, load: Load, to: SocketAddr, span: Span) -> anyhow::Result<Fared> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut visits = Visits::new(number, load);
    let mut fared = Fared::default();
    let mut answer: Vec<u8> = Vec::with_capacity(1024);
    let gap = load.rate.map(|rate| Duration::from_secs(1) * u32::from(load.n_connections) / rate);
    // Those that are paced do not all send at once.
    let mut due = Instant::now() + gap.unwrap_or_default() * u32::from(number) / u32::from(load.n_connections.max(1));
    loop {
        if let Some(gap) = gap {
            tokio::time::sleep_until(due).await;
            due = (due + gap).max(Instant::now());
        }
        let sent_at = Instant::now();
        if sent_at >= span.ends {
            return Ok(fared);
        }
        let message = visits.next();
        fared.n_sent += 1;
        fared.n_bytes += message.len() as u64 - 3;
        stream.write_all(message.as_bytes()).await?;
        answer.clear();
        while !answer.ends_with(b"\x1c\r") {
            anyhow::ensure!(stream.read_buf(&mut answer).await? > 0, "the receiver closed a connection without an answer");
        }
        let control = format!("\rMSA|AA|{}", visits.control);
        if !answer.windows(control.len()).any(|window| window == control.as_bytes()) {
            fared.n_failed += 1;
        } else if sent_at >= span.counts_from {
            fared.n_accepted += 1;
            fared.latencies_us.push(u32::try_from(sent_at.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
}

/// The visits of one connection.
pub(super) struct Visits {
    series: u8,
    connection: u16,
    n_connections: u16,
    n_units: u32,
    /// Of each open visit its number and the next step.
    open: Vec<(u32, usize)>,
    turn: usize,
    next_visit: u32,
    n_messages: u32,
    control: String,
    message: String,
}

impl Visits {
    pub(super) fn new(connection: u16, load: Load) -> Self {
        Self {
            series: load.series,
            connection,
            n_connections: load.n_connections.max(1),
            n_units: load.n_units.max(2),
            open: (0..load.n_visits.max(1)).map(|n| (n, 0)).collect(),
            turn: 0,
            next_visit: load.n_visits.max(1),
            n_messages: 0,
            control: String::new(),
            message: String::with_capacity(1024),
        }
    }

    /// The next message, in its frame.
    pub(super) fn next(&mut self) -> &str {
        self.n_messages += 1;
        self.turn = (self.turn + 1) % self.open.len();
        let Some((visit, step)) = self.open.get_mut(self.turn) else { return "" };
        let (number, at) = (*visit, *step);
        *step += 1;
        if *step == WALK.len() {
            (*visit, *step) = (self.next_visit, 0);
            self.next_visit += 1;
        }
        self.write(number, at);
        &self.message
    }

    fn write(&mut self, visit: u32, step: usize) {
        let trigger = WALK.get(step).copied().unwrap_or("A08");
        let now = SystemClock.now().to_jiff().strftime("%Y%m%d%H%M%S%.3f+0000").to_string();
        // The house counts its admissions, whichever connection tells of them.
        let id = format!("{}{:09}", self.series, visit * u32::from(self.n_connections) + u32::from(self.connection));
        let unit = (visit + u32::from(step >= 2)) % self.n_units;
        let bed = visit % 30 + 1;
        let discharged = if trigger == "A03" { now.as_str() } else { "" };
        self.control.clear();
        self.message.clear();
        // Writing into a string cannot fail.
        let _written = write!(self.control, "W{}{:03}{:08}", self.series, self.connection, self.n_messages);
        let _written = write!(
            self.message,
            "\x0bMSH|^~\\&|EMR|GHH|WARDROOM|GHH|{now}||ADT^{trigger}^ADT_A01|{control}|P|2.5.1||||||UNICODE UTF-8\r\
             EVN|{trigger}|{now}||||{now}\r\
             PID|1||{id}^^^GHH^MR~9{id}^^^GHH^PI||HALLORAN^BRIDA^RUTH^^^^L||19630918|F||2106-3|12 Quay Street^^Portvale^NY^10999^USA^H||\
             ^PRN^PH^^^555^5550142|^WPN^PH^^^555^5550143|ENG|M|CHR|A{id}^^^GHH^AN|||||||N\r\
             PD1|||PORTVALE CLINIC^^10077|1200013005^NOVAK^CILKA^^^^^^NPI^L^^^NPI\r\
             NK1|1|HALLORAN^PADDY^^^^^L|SPO^Spouse^HL70063|12 Quay Street^^Portvale^NY^10999^USA^H|^PRN^PH^^^555^5550142\r\
             PV1|1|I|U{unit:02}^{bed:02}^A^GHH^^N^MAIN|E|||D{attending:03}^Garcia^Luis^^^^^^GHH^L^^^EI|D{referring:03}^Osei^Kofi^^^^^^GHH^L^^^EI|\
             D{consulting:03}^Patel^Chitra^^^^^^GHH^L^^^EI|MED||||1|A0||D{attending:03}^Garcia^Luis^^^^^^GHH^L^^^EI|I|V{id}^^^GHH^VN|\
             SELF||||||||||||||||||||||||20261101080000+0000|{discharged}\r\
             PV2||PRIVATE|R07.4^Chest pain^I10||||||||3\r\x1c\r",
            control = self.control,
            attending = visit % 40,
            referring = (visit + 7) % 40,
            consulting = (visit + 13) % 40,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Load;
    use super::Visits;

    #[test]
    fn messages_have_the_size_of_the_load() {
        let load = Load { n_connections: 1, n_visits: 2, n_units: 8, warm_up: Duration::ZERO, measured: Duration::ZERO, rate: None, series: 0 };
        let mut visits = Visits::new(7, load);
        for _ in 0..20 {
            let size = visits.next().len();
            assert!((830..=900).contains(&size), "{size}");
        }
    }
}
