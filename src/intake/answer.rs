//! From a frame to its answer: take apart, read, wait for the commit, acknowledge (HL7 v2.5.1 §2.9).
//!
//! It never answers before the commit and never after the feed's time-out: then the connection is closed, the sender sends again, and the message is
//! found to be there already.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tracing::Instrument as _;

use crate::adt::profile::Profile;
use crate::hl7::ack;
use crate::hl7::ack::AckCode;
use crate::hl7::ack::AckHeader;
use crate::hl7::ack::AckMode;
use crate::hl7::ack::ErrDetail;
use crate::hl7::ack::Outcome;
use crate::hl7::ack::Severity;
use crate::hl7::ack::master_file::MasterFile;
use crate::hl7::batch;
use crate::ids::IdSource;
use crate::intake::Verdict;
use crate::intake::daemon::Intake;
use crate::intake::gate::Gate;
use crate::intake::look_ups::LookUps;
use crate::intake::pulse::Pulse;
use crate::intake::read::Arrived;
use crate::intake::read::ReadMessage;
use crate::intake::read::read;
use crate::intake::trace;
use crate::mllp::codec::Frame;
use crate::mllp::session::Answer;
use crate::mllp::session::Answerer;
use crate::mllp::session::PeerInfo;
use crate::store::rows::Disposition;
use crate::time::Clock;
use crate::time::Timestamp;

/// Who says it sends: the connection, and MSH-3.1 and MSH-4.1 of the message.
#[derive(Clone, Copy, Debug)]
pub struct SenderClaim<'a> {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The names in its client certificate.
    pub certificate_names: &'a [String],
    /// MSH-3.1 and MSH-4.1.
    pub application: &'a str,
    /// MSH-4.1.
    pub facility: &'a str,
}

/// Decides whether a sender is one of those that the feed takes.
pub type Permits = Arc<dyn Fn(&SenderClaim<'_>) -> bool + Send + Sync>;

/// A feed as the intake sees it.
#[derive(Clone)]
pub struct Feed {
    /// How its messages are read.
    pub profile: Profile,
    /// When it is answered.
    pub ack_mode: AckMode,
    /// Whether an AA to a message that waits in quarantine carries a warning.
    pub warns_quarantined: bool,
    /// Whether each of several messages in a frame is answered in a frame of its own.
    pub answers_each: bool,
    /// How long an answer may wait for the commit.
    pub commit_timeout: Duration,
    /// Who may send; absent is everybody who can connect.
    pub permits: Option<Permits>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("name", &self.profile.name).finish_non_exhaustive()
    }
}

/// Answers the frames of one feed.
#[derive(Debug)]
pub struct FeedAnswerer<C> {
    feed: Arc<Feed>,
    intake: Intake,
    ids: Arc<IdSource>,
    look_ups: LookUps,
    clock: Arc<C>,
    pulse: Arc<Pulse>,
    gate: Arc<Gate>,
}

impl<C: Clock> FeedAnswerer<C> {
    pub(crate) fn new(feed: Arc<Feed>, intake: Intake, ids: Arc<IdSource>, look_ups: LookUps, clock: Arc<C>) -> Self {
        Self { feed, intake, ids, look_ups, clock, pulse: Arc::default(), gate: Arc::default() }
    }

    /// Takes nothing while this is shut.
    pub(crate) fn behind(self, gate: Arc<Gate>) -> Self {
        Self { gate, ..self }
    }

    /// The pulse of the feed.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    fn arrived(&self) -> Arrived {
        let at = self.clock.now();
        Arrived { journal: crate::ids::JournalId(self.ids.next(at)), at, is_retry: false }
    }

    /// A frame that was too long: its message was not kept, which its sender must know.
    fn refused(&self, prefix: &[u8]) -> Answer {
        let header = AckHeader::recover_prefix(prefix);
        let outcome = if header.control_id().is_some() { Outcome::Error } else { Outcome::Reject };
        metrics::counter!("wardroom_frames_refused_total", "feed" => self.feed.profile.name.as_str().to_owned(), "reason" => "too_long").increment(1);
        tracing::warn!(feed = %self.feed.profile.name, n_prefix_bytes = prefix.len(), "a frame over the feed's `max_frame` was refused");
        let error = ErrDetail { code: 207, location: None, severity: Severity::E };
        let arrived = self.arrived();
        match ack::answers(&header, self.feed.ack_mode, outcome) {
            Some(code) => Answer::Frames(vec![ack::build(&header, code, Some(&error), arrived.at, &arrived.journal.to_string())]),
            None => Answer::Silent,
        }
    }

    fn is_permitted(&self, peer: &PeerInfo, message: &[u8]) -> bool {
        self.feed.permits.as_ref().is_none_or(|permits| {
            let decoded = crate::hl7::charset::decode(message, None);
            let Ok(message) = crate::hl7::message::Message::of(&decoded) else { return false };
            let header = message.header();
            permits(&SenderClaim {
                address: peer.address,
                certificate_names: &peer.certificate_names,
                application: &header.field(3).text(),
                facility: &header.field(4).text(),
            })
        })
    }

    async fn take(&self, peer: &PeerInfo, frame: Bytes) -> Answer {
        if self.gate.is_shut() {
            return Answer::Close;
        }
        let deadline = Instant::now() + self.feed.commit_timeout;
        let batch = batch::split(&frame);
        let span = tracing::Span::current();
        span.record("n_messages", batch.messages.len());
        let traceparent = trace::traceparent(&span);
        let mut read_messages: Vec<ReadMessage> = Vec::with_capacity(batch.messages.len());
        for message in &batch.messages {
            if !self.is_permitted(peer, message) {
                tracing::warn!(
                    feed = %self.feed.profile.name, connection = peer.connection, address = %peer.address,
                    "a message from a sender that the feed's `senders` do not name was refused, and its connection closed"
                );
                return Answer::Close;
            }
            let mut read = read(frame.slice_ref(message), &self.feed.profile, self.arrived(), &self.look_ups);
            read.incoming.traceparent.clone_from(&traceparent);
            let recorded = read.reading.as_ref().map(|reading| reading.recorded_at);
            self.pulse.beat(read.incoming.received_at, recorded);
            if read.is_ack {
                metrics::counter!("wardroom_inbound_acks_total", "feed" => self.feed.profile.name.as_str().to_owned()).increment(1);
            } else {
                read_messages.push(read);
            }
        }
        if read_messages.is_empty() {
            // Whoever sends a batch waits for its answer, also where nothing is in it. A batch of acknowledgements is answered no more than each of them.
            let empty = batch.wrapped.as_ref().filter(|_| batch.messages.is_empty() && self.feed.ack_mode != AckMode::None);
            return empty.map_or(Answer::Silent, |wrapper| Answer::Frames(vec![self.wrap(Some(wrapper), &[])]));
        }
        let mut answers: Vec<Answering> = Vec::with_capacity(read_messages.len());
        // Waiting for a place in the queue counts too: behind a store that stalls it may take longer than the commit.
        let kept = async {
            let mut receipts = Vec::with_capacity(read_messages.len());
            for read in read_messages {
                let id = read.incoming.journal.to_string();
                let warns = self.feed.warns_quarantined;
                answers.push(Answering { header: read.header, outcome: read.outcome, error: read.error, master_file: read.master_file, warns, id });
                receipts.push(self.intake.submit(read.incoming).await?);
            }
            for (receipt, answer) in receipts.into_iter().zip(&mut answers) {
                answer.hear(&receipt.await.ok()?);
            }
            Some(())
        };
        match timeout_at(deadline, kept).await {
            // A process that was stopped meanwhile finds the commit done and its time over: the sender may have sent again already.
            Ok(Some(())) if Instant::now() <= deadline => {
                self.gate.was_in_time();
                self.build(&answers, batch.wrapped.as_ref(), self.clock.now())
            }
            Ok(None) => Answer::Close,
            Ok(Some(())) | Err(_) => {
                self.gate.was_late();
                tracing::error!(
                    feed = %self.feed.profile.name, connection = peer.connection, timeout = ?self.feed.commit_timeout,
                    "the store did not commit in time; the connection is closed without an answer, so that the sender sends again"
                );
                Answer::Close
            }
        }
    }

    fn wrap(&self, wrapper: Option<&batch::Wrapper>, payloads: &[Bytes]) -> Bytes {
        let id = self.arrived().journal.to_string();
        batch::wrap_answers(wrapper, payloads, self.clock.now(), &id)
    }

    fn build(&self, answers: &[Answering], wrapper: Option<&batch::Wrapper>, now: Timestamp) -> Answer {
        let mut payloads: Vec<Bytes> = Vec::with_capacity(answers.len());
        for answer in answers {
            if let Some(code) = ack::answers(&answer.header, self.feed.ack_mode, answer.outcome) {
                metrics::counter!("wardroom_acks_total", "code" => code.as_str()).increment(1);
                payloads.push(answer.build(code, now));
            }
        }
        let together = wrapper.is_some() || (answers.len() > 1 && !self.feed.answers_each);
        if payloads.is_empty() {
            Answer::Silent
        } else if together {
            Answer::Frames(vec![self.wrap(wrapper, &payloads)])
        } else {
            Answer::Frames(payloads)
        }
    }
}

/// What one answer is made from, once its message is kept.
pub(crate) struct Answering {
    pub(crate) header: AckHeader,
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<ErrDetail>,
    pub(crate) master_file: Option<MasterFile>,
    /// Whether its sender is warned when the message waits.
    pub(crate) warns: bool,
    pub(crate) id: String,
}

impl Answering {
    /// What became of the message: records of one that waits were not taken.
    pub(crate) fn hear(&mut self, verdict: &Verdict) {
        if verdict.disposition == Disposition::Quarantined {
            self.master_file.iter_mut().for_each(MasterFile::refuse_all);
            if self.warns && self.outcome == Outcome::Accept {
                self.error = Some(ErrDetail { code: 207, location: None, severity: Severity::W });
            }
        }
    }

    /// The application answer to a master file is an MFK; every other is an ACK.
    pub(crate) fn build(&self, code: AckCode, now: Timestamp) -> Bytes {
        // A commit answer says that the message is kept, which is no cause for a warning.
        let error = self.error.as_ref().filter(|error| error.severity != Severity::W || code == AckCode::AA);
        match (&self.master_file, code) {
            (Some(file), AckCode::AA | AckCode::AE | AckCode::AR) => ack::master_file::build(&self.header, file, code, error, now, &self.id),
            (_, _) => ack::build(&self.header, code, error, now, &self.id),
        }
    }
}

impl<C: Clock> Answerer for FeedAnswerer<C> {
    async fn answer(&self, peer: &PeerInfo, frame: Frame) -> Answer {
        let begun = Instant::now();
        let answer = match frame {
            Frame::Message(bytes) => {
                let span = trace::frame_span(self.feed.profile.name.as_str(), peer.connection);
                self.take(peer, bytes).instrument(span).await
            }
            Frame::Refused { prefix, .. } => self.refused(&prefix),
        };
        let elapsed = Instant::now().duration_since(begun);
        metrics::histogram!("wardroom_ack_seconds").record(elapsed.as_secs_f64());
        answer
    }
}
