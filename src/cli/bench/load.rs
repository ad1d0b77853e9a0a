//! The load: connections that each keep one message in flight, over visits that walk A01 A08 A02 A08 A03.
//!
//! Messages are made as they are sent, 850 bytes give or take a few, each with numbers and stamps of its own. It speaks MLLP itself, with as little of
//! everything as that takes, since it runs on the machine that it measures.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::time::Clock as _;
use crate::time::SystemClock;
use crate::time::Timestamp;

/// What a visit walks through.
const WALK: [&str; 5] = ["A01", "A08", "A02", "A08", "A03"];
/// How long a receiver that had a turn before is loaded before its next one counts.
const WARM_AGAIN: Duration = Duration::from_millis(500);
/// How long nobody is loaded between turns: what one receiver still does is no matter of the next.
const REST: Duration = Duration::from_millis(250);

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
    /// For how long it counts, all turns together.
    pub(super) measured: Duration,
    /// In how many turns. Where there are several receivers, each of them waits while another has its turn.
    pub(super) n_turns: u32,
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

impl Load {
    /// How long messages are sent to each receiver.
    pub(super) fn lasts(&self) -> Duration {
        (0..self.n_turns).map(|turn| self.warm_up_of(turn)).sum::<Duration>() + self.measured
    }

    /// What was warm before is so again soon.
    fn warm_up_of(&self, turn: u32) -> Duration {
        if turn == 0 { self.warm_up } else { self.warm_up.min(WARM_AGAIN) }
    }
}

impl Fared {
    fn add(&mut self, other: Self) {
        self.n_accepted += other.n_accepted;
        self.n_failed += other.n_failed;
        self.n_sent += other.n_sent;
        self.n_bytes += other.n_bytes;
        self.latencies_us.extend(other.latencies_us);
    }

    /// The latency that this share of the messages did not exceed.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a list")]
        let at = (self.latencies_us.len().saturating_sub(1) as f64 * share).round() as usize;
        self.latencies_us.get(at).map_or(0.0, |us| f64::from(*us) / 1000.0)
    }
}

/// Sends until the time is over, to each receiver in its turns, and says how each of them fared. Blocks: it has a thread of its own.
///
/// A receiver may listen in several places; connections go to those one after another.
pub(super) fn run(load: Load, receivers: &[&[SocketAddr]]) -> anyhow::Result<Vec<Fared>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let turns = turns(load, receivers.len());
        let all = receivers.iter().zip(&turns).map(async |(places, turns)| {
            let connections = (0..load.n_connections).zip(places.iter().cycle()).map(|(n, to)| connection(n, load, *to, turns));
            let mut all = Fared::default();
            for fared in join_all(connections).await {
                all.add(fared?);
            }
            all.latencies_us.sort_unstable();
            Ok(all)
        });
        join_all(all).await.into_iter().collect()
    })
}

/// Loads one receiver.
pub(super) async fn one(load: Load, places: Vec<SocketAddr>) -> anyhow::Result<Fared> {
    let fared = tokio::task::spawn_blocking(move || run(load, &[&places])).await??;
    fared.into_iter().next().context("nobody was loaded")
}

/// When one receiver is loaded.
#[derive(Clone, Copy, Debug)]
struct Turn {
    begins: Instant,
    counts_from: Instant,
    ends: Instant,
}

/// The turns of each receiver. They change places again and again: a machine that is slower for a while is so for all of them.
fn turns(load: Load, n_receivers: usize) -> Vec<Vec<Turn>> {
    let mut of_each = vec![Vec::new(); n_receivers];
    let mut begins = Instant::now();
    for number in 0..load.n_turns {
        for turns in &mut of_each {
            let counts_from = begins + load.warm_up_of(number);
            let ends = counts_from + load.measured / load.n_turns;
            turns.push(Turn { begins, counts_from, ends });
            begins = ends + REST;
        }
    }
    of_each
}

async fn connection(number: u16, load: Load, to: SocketAddr, turns: &[Turn]) -> anyhow::Result<Fared> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut visits = Visits::new(number, load);
    let mut fared = Fared::default();
    let mut answer: Vec<u8> = Vec::with_capacity(1024);
    let gap = load.rate.map(|rate| Duration::from_secs(1) * u32::from(load.n_connections) / rate);
    for turn in turns {
        tokio::time::sleep_until(turn.begins).await;
        // Those that are paced do not all send at once.
        let mut due = Instant::now() + gap.unwrap_or_default() * u32::from(number) / u32::from(load.n_connections.max(1));
        loop {
            if let Some(gap) = gap {
                tokio::time::sleep_until(due).await;
                due = (due + gap).max(Instant::now());
            }
            let sent_at = Instant::now();
            if sent_at >= turn.ends {
                break;
            }
            let message = visits.next();
            fared.n_sent += 1;
            fared.n_bytes += message.len() as u64 - 3;
            stream.write_all(message.as_bytes()).await?;
            answer.clear();
            while !answer.ends_with(b"\x1c\r") {
                anyhow::ensure!(stream.read_buf(&mut answer).await? > 0, "the receiver closed a connection without an answer");
            }
            if !accepts(&answer, &visits.control) {
                fared.n_failed += 1;
            } else if sent_at >= turn.counts_from {
                fared.n_accepted += 1;
                fared.latencies_us.push(u32::try_from(sent_at.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
        }
    }
    Ok(fared)
}

/// Whether an answer accepts the message with this control id.
fn accepts(answer: &[u8], control: &str) -> bool {
    const ACCEPTS: &[u8] = b"\rMSA|AA|";
    let at = memchr::memmem::find(answer, ACCEPTS).map(|at| at + ACCEPTS.len());
    at.and_then(|at| answer.get(at..)).is_some_and(|rest| rest.starts_with(control.as_bytes()))
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
    stamp: Stamp,
    control: String,
    message: String,
}

/// The present as HL7 writes it. Only what changes from one message to the next is written for each.
#[derive(Debug, Default)]
struct Stamp {
    minute: Option<i64>,
    text: String,
}

impl Stamp {
    fn renew(&mut self, now: Timestamp) -> &str {
        const MINUTE: i64 = 60_000;
        let ms = now.as_micros().div_euclid(1000);
        let minute = Some(ms.div_euclid(MINUTE));
        if self.minute != minute {
            self.minute = minute;
            self.text = now.to_jiff().strftime("%Y%m%d%H%M").to_string();
        }
        self.text.truncate("202611010800".len());
        let ms = ms.rem_euclid(MINUTE);
        // Writing into a string cannot fail.
        let _written = write!(self.text, "{:02}.{:03}+0000", ms / 1000, ms % 1000);
        &self.text
    }
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
            stamp: Stamp::default(),
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
        let now = self.stamp.renew(SystemClock.now());
        // The house counts its admissions, whichever connection tells of them.
        let id = format!("{}{:09}", self.series, visit * u32::from(self.n_connections) + u32::from(self.connection));
        let unit = (visit + u32::from(step >= 2)) % self.n_units;
        let bed = visit % 30 + 1;
        let discharged = if trigger == "A03" { now } else { "" };
        self.control.clear();
        self.message.clear();
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

    use tokio::time::Instant;

    use super::Load;
    use super::REST;
    use super::Stamp;
    use super::Visits;
    use super::WARM_AGAIN;
    use super::accepts;
    use super::turns;
    use crate::time::Timestamp;

    #[test]
    fn messages_have_the_size_of_the_load() {
        let load =
            Load { n_connections: 1, n_visits: 2, n_units: 8, warm_up: Duration::ZERO, measured: Duration::ZERO, n_turns: 1, rate: None, series: 0 };
        let mut visits = Visits::new(7, load);
        for _ in 0..20 {
            let size = visits.next().len();
            assert!((830..=900).contains(&size), "{size}");
        }
    }

    #[test]
    fn receivers_have_as_much_time_each_and_never_at_once() {
        let warm_up = Duration::from_secs(2);
        let load = Load { n_connections: 1, n_visits: 2, n_units: 8, warm_up, measured: Duration::from_secs(6), n_turns: 3, rate: None, series: 0 };
        let of_each = turns(load, 2);
        let mut all: Vec<_> = of_each.iter().flatten().copied().collect();
        all.sort_unstable_by_key(|turn| turn.begins);
        assert!(all.windows(2).all(|pair| matches!(pair, [one, next] if next.begins == one.ends + REST)));
        for turns in &of_each {
            let sum = |from: fn(&super::Turn) -> Instant| turns.iter().map(|turn| turn.ends - from(turn)).sum::<Duration>();
            assert_eq!(sum(|turn| turn.counts_from), load.measured);
            assert_eq!(sum(|turn| turn.begins), load.lasts());
        }
        assert_eq!(load.lasts(), load.measured + warm_up + WARM_AGAIN * 2);
    }

    #[test]
    fn stamps_are_what_strftime_writes() {
        let mut stamp = Stamp::default();
        for us in [0, 59_999_999, 60_000_000, 1_793_520_000_123_456, 1_793_520_059_999_999, 1_793_520_060_000_000] {
            let now = Timestamp::from_micros(us);
            assert_eq!(stamp.renew(now), now.to_jiff().strftime("%Y%m%d%H%M%S%.3f+0000").to_string());
        }
    }

    #[test]
    fn only_an_answer_to_the_message_itself_accepts_it() {
        let answer = b"\x0bMSH|^~\\&|W|GHH\rMSA|AA|W000100000007\r\x1c\r";
        assert!(accepts(answer, "W000100000007"));
        assert!(!accepts(answer, "W000100000008") && !accepts(b"MSH|\rMSA|AE|W000100000007\r", "W000100000007") && !accepts(b"", "W"));
    }
}
