//! `wardroom replay`: sends messages over MLLP and reports every answer.
//!
//! Messages of one file stay on one connection and in order; with several connections, files are spread over them. A message without an answer is
//! sent again, so it may arrive twice: that is what a sender does, and what a receiver has to bear. Standard output is the report; no part of a
//! message is in it but what the answers say.

use std::collections::VecDeque;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::messages::Input;
use super::messages::InputMessage;
use super::messages::LeftOut;
use super::messages::NO_MESSAGE;
use super::messages::read_messages;
use crate::cli::console::OutputError;
use crate::mllp::client::ClientError;
use crate::mllp::client::ClientOptions;
use crate::mllp::client::Endpoint;
use crate::mllp::client::MllpClient;
use crate::mllp::tls::ClientTls;
use crate::mllp::tls::ClientTlsFiles;
use crate::mllp::tls::TlsError;

use answer::Acknowledgement;
use answer::Header;
use answer::headers;
use answer::read_acknowledgements;
use answer::with_fresh_ids;
use report::Outcome;
use report::Report;
use report::Verdict;

mod answer;
mod report;

const EXIT_FOUND: u8 = 1;
const EXIT_USAGE: u8 = 64;
const EXIT_UNREACHABLE: u8 = 69;

/// Send messages over MLLP and report every answer.
#[derive(clap::Args, Debug)]
pub struct ReplayArgs {
    /// Files or directories of messages; `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Where to send them
    #[arg(long, value_name = "HOST:PORT")]
    pub to: Endpoint,
    /// Give every message a new control id (MSH-10)
    ///
    /// What a message says is known again all the same: under a new id it changes no room either.
    #[arg(long)]
    pub fresh_ids: bool,
    /// How to send them.
    #[command(flatten)]
    pub sending: SendingArgs,
}

/// How messages are sent.
#[derive(clap::Args, Clone, Debug)]
pub struct SendingArgs {
    /// Speak TLS
    #[arg(long)]
    pub tls: bool,
    /// Trust the authorities in this PEM file instead of those of the system
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub tls_ca: Option<PathBuf>,
    /// Show this certificate (a PEM chain) when the server asks
    #[arg(long, value_name = "FILE", requires = "tls", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// The name that the server's certificate must bear, when it is not HOST
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub tls_name: Option<String>,
    /// Send at most N messages a second, over all connections
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// Send over N connections; the messages of one file stay on one of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// Send a message that was not answered N times again
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub retries: u32,
    /// Wait this many seconds for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate: f64 = text.parse().map_err(|_| "expected a number")?;
    if (0.001..=1e6).contains(&rate) { Ok(rate) } else { Err("expected a number from 0.001 to 1000000") }
}

/// Sends, reports, and says how it went: 0 all accepted, 1 some refused, 64 wrong usage, 69 unreachable.
///
/// # Errors
/// When the report cannot be written.
pub async fn run(args: &ReplayArgs, json: bool) -> anyhow::Result<ExitCode> {
    match prepare(args) {
        Ok((plan, Input { messages, left_out })) => perform(&plan, messages, left_out, json, Telling::All).await,
        Err(error) => wrong_usage(&error),
    }
}

/// Sends messages that were not read from files, and reports those that were not accepted.
///
/// # Errors
/// When the report cannot be written.
pub(super) async fn send(to: &Endpoint, sending: &SendingArgs, messages: Vec<InputMessage>, json: bool) -> anyhow::Result<ExitCode> {
    match Plan::new(to, sending) {
        Ok(plan) => perform(&plan, messages, Vec::new(), json, Telling::NotAccepted).await,
        Err(error) => wrong_usage(&error.into()),
    }
}

/// Whether an answer accepts this message.
pub(super) fn acknowledgement(answer: &[u8], message: &[u8]) -> bool {
    matches!(Verdict::of(read_acknowledgements(answer), &headers(message)), Verdict::Accepted { .. })
}

/// Of which messages something is told while they are sent.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Telling {
    All,
    NotAccepted,
}

fn wrong_usage(error: &anyhow::Error) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "error: {error:#}").context("cannot write to standard error")?;
    Ok(ExitCode::from(EXIT_USAGE))
}

fn unless_nobody_reads(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

async fn perform(plan: &Plan, messages: Vec<InputMessage>, left_out: Vec<LeftOut>, json: bool, telling: Telling) -> anyhow::Result<ExitCode> {
    let coloured = io::stdout().is_terminal();
    let progress = progress_bar(messages.len());
    let report = send_all(plan, messages, |outcome| {
        progress.inc(1);
        if json || (telling == Telling::NotAccepted && outcome.is_accepted()) {
            return Ok(());
        }
        // Who reads no further wants the rest sent all the same.
        progress.suspend(|| unless_nobody_reads(outcome.print(&mut io::stdout().lock(), coloured)))
    })
    .await;
    progress.finish_and_clear();
    let report = report.map_err(OutputError::from)?.without(&left_out);
    let mut out = io::stdout().lock();
    let written = if json { report.print_json(&mut out) } else { report.print_summary(&mut out) };
    unless_nobody_reads(written).map_err(OutputError::from)?;
    for left_out in left_out {
        writeln!(io::stderr(), "{left_out}").context("cannot write to standard error")?;
    }
    if let Some(failure) = &report.failure {
        writeln!(io::stderr(), "error: {failure}").context("cannot write to standard error")?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

fn progress_bar(n_messages: usize) -> ProgressBar {
    // Draws on standard error, and only when that is a terminal.
    let bar = ProgressBar::new(n_messages as u64);
    match ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec} eta {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What holds for the whole run.
struct Plan {
    endpoint: Endpoint,
    client: ClientOptions,
    connections: u16,
    rate: Option<f64>,
    retries: u32,
    fresh_ids: bool,
}

impl Plan {
    fn new(to: &Endpoint, sending: &SendingArgs) -> Result<Self, TlsError> {
        let tls = if sending.tls {
            let identity = sending.tls_certificate.clone().zip(sending.tls_key.clone());
            Some(ClientTls::load(&ClientTlsFiles { ca: sending.tls_ca.clone(), identity, name: sending.tls_name.clone() })?)
        } else {
            None
        };
        let client = ClientOptions { tls, answer_timeout: Duration::from_secs(sending.timeout), ..ClientOptions::default() };
        let SendingArgs { connections, rate, retries, .. } = *sending;
        Ok(Self { endpoint: to.clone(), client, connections, rate, retries, fresh_ids: false })
    }
}

fn prepare(args: &ReplayArgs) -> anyhow::Result<(Plan, Input)> {
    let plan = Plan::new(&args.to, &args.sending)?;
    let input = read_messages(&args.paths)?;
    if input.messages.is_empty() {
        let left_out: Vec<String> = input.left_out.iter().map(ToString::to_string).chain([NO_MESSAGE.to_owned()]).collect();
        anyhow::bail!("{}", left_out.join("\n"));
    }
    Ok((Plan { fresh_ids: args.fresh_ids, ..plan }, input))
}

/// Sends everything; `tell` hears of each message when it is done.
async fn send_all(plan: &Plan, messages: Vec<InputMessage>, tell: impl Fn(&Outcome) -> io::Result<()> + Send + Sync) -> io::Result<Report> {
    let n_messages = messages.len();
    let run = Run {
        plan,
        files: Mutex::new(by_file(messages)),
        pace: plan.rate.map(|rate| Mutex::new(Pace { interval: Duration::from_secs_f64(1.0 / rate), next: Instant::now() })),
        stop: CancellationToken::new(),
        outcomes: Mutex::new(Vec::with_capacity(n_messages)),
        tell,
    };
    let began = Instant::now();
    let ends = join_all((0..plan.connections).map(|_| run.connection())).await;
    let mut failure = None;
    for end in ends {
        match end {
            Ok(()) => {}
            Err(Stopped::Client(error)) => failure = failure.or(Some(error)),
            Err(Stopped::Output(error)) => return Err(error),
        }
    }
    let outcomes = run.outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report::new(plan.endpoint.to_string(), n_messages, outcomes, began.elapsed(), failure))
}

/// The messages of each file together, in the order in which they came.
fn by_file(messages: Vec<InputMessage>) -> VecDeque<Vec<(usize, InputMessage)>> {
    let mut files: VecDeque<Vec<(usize, InputMessage)>> = VecDeque::new();
    for (position, message) in messages.into_iter().enumerate() {
        match files.back_mut() {
            Some(file) if message.index > 1 => file.push((position, message)),
            Some(_) | None => files.push_back(vec![(position, message)]),
        }
    }
    files
}

/// Why a connection stopped before all was sent.
enum Stopped {
    Client(ClientError),
    Output(io::Error),
}

struct Run<'a, T> {
    plan: &'a Plan,
    files: Mutex<VecDeque<Vec<(usize, InputMessage)>>>,
    pace: Option<Mutex<Pace>>,
    /// Cancelled when one connection gives up: the others end after the message they are at.
    stop: CancellationToken,
    outcomes: Mutex<Vec<Outcome>>,
    tell: T,
}

impl<T: Fn(&Outcome) -> io::Result<()> + Send + Sync> Run<'_, T> {
    async fn connection(&self) -> Result<(), Stopped> {
        let mut line = Line { client: None, earlier_ids: Vec::new() };
        let sent = self.send_files(&mut line).await;
        if sent.is_err() {
            self.stop.cancel();
        }
        sent
    }

    async fn send_files(&self, line: &mut Line) -> Result<(), Stopped> {
        while let Some(file) = self.next_file() {
            for (position, message) in file {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                self.send(line, position, &message).await?;
            }
        }
        Ok(())
    }

    fn next_file(&self) -> Option<Vec<(usize, InputMessage)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    async fn send(&self, line: &mut Line, position: usize, message: &InputMessage) -> Result<(), Stopped> {
        let payload = if self.plan.fresh_ids { with_fresh_ids(&message.bytes, fresh_id) } else { message.bytes.to_vec() };
        let headers = headers(&payload);
        let mut n_attempts = 0;
        loop {
            n_attempts += 1;
            self.wait_for_turn().await;
            let began = Instant::now();
            let tried = line.exchange(self.plan, &payload, &headers).await;
            let (verdict, failure) = match tried {
                Ok(verdict) => (verdict, None),
                Err(error) if n_attempts > self.plan.retries || !is_worth_a_retry(&error) => (Verdict::Unanswered, Some(error)),
                Err(error) => {
                    tracing::info!(message = %message, n_attempts, %error, "not answered, sending it again");
                    line.client = None;
                    sleep(backoff(n_attempts)).await;
                    continue;
                }
            };
            let outcome = Outcome::new(position, message, verdict, began.elapsed(), n_attempts);
            (self.tell)(&outcome).map_err(Stopped::Output)?;
            self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
            return failure.map_or(Ok(()), |error| Err(Stopped::Client(error)));
        }
    }

    async fn wait_for_turn(&self) {
        if let Some(pace) = &self.pace {
            let turn = pace.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
            sleep_until(turn).await;
        }
    }
}

fn fresh_id() -> String {
    // MSH-10 holds twenty characters (HL7 v2.5.1 §2.14.9.10).
    Uuid::new_v4().simple().to_string().to_ascii_uppercase().chars().take(20).collect()
}

/// Whether the same might go better a moment later.
const fn is_worth_a_retry(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. }
        | ClientError::ConnectTimeout { .. }
        | ClientError::Closed
        | ClientError::Timeout { .. }
        | ClientError::Codec(_) => true,
        ClientError::PeerSpeaksTls
        | ClientError::Handshake { .. }
        | ClientError::RefusedByTls { .. }
        | ClientError::Tls(_)
        | ClientError::Refused { .. } => false,
    }
}

fn backoff(n_attempts: u32) -> Duration {
    Duration::from_millis(100 << n_attempts.min(6)).min(Duration::from_secs(5))
}

/// When the next message may go.
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    /// Takes the next turn. Who fell behind catches up, but not on more than a second.
    fn take(&mut self, now: Instant) -> Instant {
        let earliest = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let turn = self.next.max(earliest);
        self.next = turn + self.interval;
        turn
    }
}

/// One connection, made when it is needed.
struct Line {
    client: Option<MllpClient>,
    /// The control ids of the message before: a second, application-level answer to it may still come.
    earlier_ids: Vec<Vec<u8>>,
}

impl Line {
    /// Sends a payload and waits for the answers to all messages in it.
    async fn exchange(&mut self, plan: &Plan, payload: &[u8], headers: &[Header]) -> Result<Verdict, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(MllpClient::connect(&plan.endpoint, &plan.client).await?),
        };
        client.send(payload).await?;
        let n_asked = if headers.is_empty() { 1 } else { headers.iter().filter(|header| header.is_answered()).count() };
        let mut acknowledgements: Vec<Acknowledgement> = Vec::new();
        while acknowledgements.len() < n_asked {
            let answer = client.receive().await?;
            let found = read_acknowledgements(&answer);
            if found.is_empty() {
                return Ok(Verdict::Unreadable);
            }
            let is_late =
                found.iter().all(|it| self.earlier_ids.contains(&it.control_id) && !headers.iter().any(|header| header.control_id == it.control_id));
            if !is_late {
                acknowledgements.extend(found);
            }
        }
        self.earlier_ids = headers.iter().map(|header| header.control_id.clone()).collect();
        Ok(Verdict::of(acknowledgements, headers))
    }
}

#[cfg(test)]
mod tests;
