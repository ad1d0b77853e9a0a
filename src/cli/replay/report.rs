//! What `replay` tells: a line for each message, and the whole in numbers.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use super::EXIT_FOUND;
use super::EXIT_UNREACHABLE;
use super::answer::Acknowledgement;
use super::answer::Header;
use crate::cli::messages::InputMessage;
use crate::cli::messages::LeftOut;
use crate::cli::words::counted;
use crate::mllp::client::ClientError;

/// How a message fared.
pub(super) enum Verdict {
    /// All acknowledgements say AA or CA.
    Accepted { code: String },
    /// The message said that it wants no answer, or is one itself.
    NotAsked { why: &'static str },
    /// An acknowledgement says anything else.
    Refused { code: String, error: Option<String> },
    /// An acknowledgement names another message.
    WrongId { code: String },
    /// The answer holds no MSA.
    Unreadable,
    /// There was no answer.
    Unanswered,
}

impl Verdict {
    /// The worst of the acknowledgements counts.
    pub(super) fn of(acknowledgements: Vec<Acknowledgement>, headers: &[Header]) -> Self {
        let is_answer = headers.iter().any(|header| header.is_acknowledgement);
        let why = if is_answer { "an acknowledgement itself: nobody answers it" } else { "wants no answer" };
        let mut accepted = Self::NotAsked { why };
        for Acknowledgement { code, control_id, error } in acknowledgements {
            if !matches!(code.as_str(), "AA" | "CA") {
                return Self::Refused { code, error };
            }
            if !headers.iter().any(|header| header.control_id == control_id) {
                return Self::WrongId { code };
            }
            accepted = Self::Accepted { code };
        }
        accepted
    }
}

/// What is told of one message.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    #[serde(skip)]
    position: usize,
    path: String,
    index: usize,
    accepted: bool,
    /// MSA-1; null without a readable answer.
    code: Option<String>,
    /// Why it is not accepted, in words.
    error: Option<String>,
    /// Why there is no answer though nothing went wrong.
    #[serde(skip)]
    unasked: Option<&'static str>,
    /// From the last attempt to send it to its answer.
    ms: Option<f64>,
    attempts: u32,
}

impl Outcome {
    pub(super) fn new(position: usize, message: &InputMessage, verdict: Verdict, took: Duration, attempts: u32) -> Self {
        let is_answered = !matches!(verdict, Verdict::NotAsked { .. } | Verdict::Unanswered);
        let unasked = if let Verdict::NotAsked { why } = &verdict { Some(*why) } else { None };
        let (accepted, code, error) = match verdict {
            Verdict::Accepted { code } => (true, Some(code), None),
            Verdict::NotAsked { .. } => (true, None, None),
            Verdict::Refused { code, error } => (false, Some(code), error),
            Verdict::WrongId { code } => (false, Some(code), Some("the answer names another message".to_owned())),
            Verdict::Unreadable => (false, None, Some("the answer is no acknowledgement".to_owned())),
            Verdict::Unanswered => (false, None, Some("no answer".to_owned())),
        };
        let ms = is_answered.then(|| milliseconds(took));
        Self { position, path: message.path.display().to_string(), index: message.index, accepted, code, error, unasked, ms, attempts }
    }

    /// Whether the message was taken.
    pub(super) const fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Whether a receiver answered, or was not to.
    fn is_settled(&self) -> bool {
        self.accepted || self.ms.is_some()
    }

    /// `path#index  AA  1.2 ms`.
    pub(super) fn print(&self, out: &mut impl Write, coloured: bool) -> io::Result<()> {
        let code = self.code.as_deref().unwrap_or("--");
        let code = match (coloured, self.accepted) {
            (false, _) => code.to_owned(),
            (true, true) => format!("\x1b[32m{code}\x1b[0m"),
            (true, false) => format!("\x1b[31m{code}\x1b[0m"),
        };
        write!(out, "{}#{}  {code}", self.path, self.index)?;
        if let Some(ms) = self.ms {
            write!(out, "  {ms:.1} ms")?;
        }
        if let Some(words) = self.error.as_deref().or(self.unasked) {
            write!(out, "  {words}")?;
        }
        if self.attempts > 1 {
            write!(out, "  ({} attempts)", self.attempts)?;
        }
        writeln!(out)
    }
}

/// How long answers took, in milliseconds.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    /// By nearest rank. `None` when nothing was answered.
    fn of(outcomes: &[Outcome]) -> Option<Self> {
        let mut all: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.ms).collect();
        all.sort_by(f64::total_cmp);
        let rank = |percent: usize| all.get((all.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { p50: rank(50)?, p90: rank(90)?, p99: rank(99)?, max: rank(100)? })
    }
}

/// The whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    to: String,
    messages: Vec<Outcome>,
    summary: Summary,
    /// Why the run was given up.
    #[serde(skip)]
    pub(super) failure: Option<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    read: usize,
    accepted: usize,
    refused: usize,
    unanswered: usize,
    /// Not tried, because the run was given up.
    not_sent: usize,
    /// Frames of the input that begin and do not end.
    torn: u64,
    codes: BTreeMap<String, usize>,
    seconds: f64,
    per_second: f64,
    latency_ms: Option<Latency>,
    failure: Option<String>,
}

impl Report {
    pub(super) fn new(to: String, n_messages: usize, mut outcomes: Vec<Outcome>, took: Duration, failure: Option<ClientError>) -> Self {
        outcomes.sort_by_key(|outcome| outcome.position);
        let mut codes = BTreeMap::new();
        for code in outcomes.iter().filter_map(|outcome| outcome.code.clone()) {
            *codes.entry(code).or_default() += 1;
        }
        let failure = failure.map(|error| format!("{:#}", anyhow::Error::from(error)));
        let accepted = outcomes.iter().filter(|outcome| outcome.accepted).count();
        let unanswered = outcomes.iter().filter(|outcome| !outcome.is_settled()).count();
        let seconds = took.as_secs_f64();
        let answered = count(outcomes.len() - unanswered);
        let summary = Summary {
            read: n_messages,
            accepted,
            refused: outcomes.len() - accepted - unanswered,
            unanswered,
            not_sent: n_messages.saturating_sub(outcomes.len()),
            torn: 0,
            codes,
            seconds,
            per_second: if seconds > 0.0 { answered / seconds } else { 0.0 },
            latency_ms: Latency::of(&outcomes),
            failure: failure.clone(),
        };
        Self { to, messages: outcomes, summary, failure }
    }

    /// Counts what the input held no whole message of.
    pub(super) fn without(mut self, left_out: &[LeftOut]) -> Self {
        self.summary.torn = left_out.iter().map(|left_out| left_out.n_torn).sum();
        self
    }

    /// What the run amounts to.
    pub(super) const fn exit_code(&self) -> u8 {
        if self.failure.is_some() {
            EXIT_UNREACHABLE
        } else if self.summary.refused > 0 || self.summary.torn > 0 {
            EXIT_FOUND
        } else {
            0
        }
    }

    pub(super) fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    pub(super) fn print_summary(&self, out: &mut impl Write) -> io::Result<()> {
        let it = &self.summary;
        write!(out, "\n{}: {} accepted, {} refused", counted(it.read, "message"), it.accepted, it.refused)?;
        if it.unanswered > 0 {
            write!(out, ", {} unanswered", it.unanswered)?;
        }
        if it.not_sent > 0 {
            write!(out, ", {} not sent", it.not_sent)?;
        }
        if it.torn > 0 {
            write!(out, ", {} torn and left out", it.torn)?;
        }
        let codes: Vec<String> = it.codes.iter().map(|(code, n)| format!("{code} {n}")).collect();
        if !codes.is_empty() {
            write!(out, " ({})", codes.join(", "))?;
        }
        writeln!(out, "\n{:.1} s, {:.0} messages a second", it.seconds, it.per_second)?;
        if let Some(latency) = &it.latency_ms {
            let Latency { p50, p90, p99, max } = latency;
            writeln!(out, "answered within: half {p50:.1} ms, 90 % {p90:.1} ms, 99 % {p99:.1} ms, all {max:.1} ms")?;
        }
        Ok(())
    }
}

fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a count of messages is far below 2^52")]
fn count(n: usize) -> f64 {
    n as f64
}
