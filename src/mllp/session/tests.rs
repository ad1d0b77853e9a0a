use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::io::duplex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::advance;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Answer;
use super::Answerer;
use super::Ended;
use super::Frame;
use super::PeerInfo;
use super::Session;
use super::SessionOptions;
use crate::ids::FeedName;
use crate::mllp::stats::ListenerStats;
use crate::mllp::wire::Wire;

/// Answers each message with itself after `ack:`; `silent`, `close` and `twice` do what they say. Each answer needs a permit.
struct Echo {
    permits: Semaphore,
    begun: Semaphore,
    seen: Mutex<Vec<Frame>>,
}

impl Answerer for Echo {
    async fn answer(&self, _: &PeerInfo, frame: Frame) -> Answer {
        self.begun.add_permits(1);
        self.permits.acquire().await.unwrap().forget();
        self.seen.lock().unwrap().push(frame.clone());
        match frame {
            Frame::Refused { .. } => Answer::Frames(vec![Bytes::from_static(b"refused")]),
            Frame::Message(payload) if payload == "silent" => Answer::Silent,
            Frame::Message(payload) if payload == "close" => Answer::Close,
            Frame::Message(payload) if payload == "twice" => Answer::Frames(vec![payload.clone(), payload]),
            Frame::Message(payload) => Answer::Frames(vec![[&b"ack:"[..], &payload].concat().into()]),
        }
    }
}

/// Nothing tells from outside of a pipe that its other end was dropped.
impl Wire for DuplexStream {
    async fn peer_closed(&self) {
        std::future::pending::<()>().await;
    }
}

/// A session on one end of a pipe.
struct Served {
    peer: DuplexStream,
    echo: Arc<Echo>,
    stats: Arc<ListenerStats>,
    shutdown: CancellationToken,
    session: JoinHandle<(u64, Ended)>,
}

impl Served {
    fn new(options: SessionOptions, n_permits: usize) -> Self {
        Self::with_pipe(options, n_permits, 4096)
    }

    fn with_pipe(options: SessionOptions, n_permits: usize, n_bytes: usize) -> Self {
        let (peer, stream) = duplex(n_bytes);
        let echo = Arc::new(Echo { permits: Semaphore::new(n_permits), begun: Semaphore::new(0), seen: Mutex::default() });
        let stats = Arc::new(ListenerStats::default());
        let shutdown = CancellationToken::new();
        let session = TaskTracker::new().spawn({
            let (echo, stats, shutdown) = (Arc::clone(&echo), Arc::clone(&stats), shutdown.clone());
            async move {
                let peer =
                    PeerInfo { connection: 1, address: "192.0.2.1:4000".parse().unwrap(), certificate_subject: None, certificate_names: Vec::new() };
                Session {
                    stream,
                    feed: &FeedName::from("main"),
                    peer: &peer,
                    options: &options,
                    answerer: &*echo,
                    stats: &stats,
                    peer_left: &|| {},
                    shutdown: &shutdown,
                }
                .run()
                .await
            }
        });
        Self { peer, echo, stats, shutdown, session }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.peer.write_all(bytes).await.unwrap();
    }

    async fn expect(&mut self, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        self.peer.read_exact(&mut read).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(bytes));
    }

    /// Reads to the end, closes, and says why the session ended.
    async fn end(mut self) -> (Vec<u8>, u64, Ended) {
        let mut rest = Vec::new();
        self.peer.read_to_end(&mut rest).await.unwrap();
        drop(self.peer);
        let (n_frames, ended) = self.session.await.unwrap();
        (rest, n_frames, ended)
    }
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_of_the_messages() {
    let mut served = Served::new(SessionOptions::default(), 9);
    served.send(b"\x0bone\x1c\r\x0bsilent\x1c\r\x0b\x1c\r\x0btwice\x1c\r\x0bthr").await;
    served.expect(b"\x0back:one\x1c\r\x0btwice\x1c\r\x0btwice\x1c\r").await;
    served.send(b"ee\x1c\r").await;
    served.expect(b"\x0back:three\x1c\r").await;
    served.peer.shutdown().await.unwrap();
    assert_eq!(served.stats.n_heartbeats(), 1);
    let (rest, n_frames, ended) = served.end().await;
    assert!(rest.is_empty() && n_frames == 4 && matches!(ended, Ended::PeerClosed), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn one_message_is_in_flight_at_a_time() {
    let mut served = Served::new(SessionOptions::default(), 0);
    served.send(b"\x0bone\x1c\r\x0btwo\x1c\r").await;
    served.echo.begun.acquire().await.unwrap().forget();
    advance(Duration::from_hours(1)).await;
    assert_eq!(served.echo.begun.available_permits(), 0);
    served.echo.permits.add_permits(2);
    served.expect(b"\x0back:one\x1c\r\x0back:two\x1c\r").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_carriage_return_is_waited_for_and_then_forgiven() {
    let mut served = Served::new(SessionOptions::default(), 9);
    let began = Instant::now();
    served.send(b"\x0bone\x1c").await;
    served.expect(b"\x0back:one\x1c\r").await;
    assert!(began.elapsed() >= SessionOptions::default().trailer_wait);
    served.send(b"\r\x0btwo\x1c\r").await;
    served.expect(b"\x0back:two\x1c\r").await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_lacks_only_its_carriage_return_is_not_given_up_for_being_late() {
    let mut served = Served::new(SessionOptions::default(), 9);
    served.send(b"\x0bone").await;
    advance(Duration::from_millis(29_900)).await;
    served.send(b"\x1c").await;
    served.expect(b"\x0back:one\x1c\r").await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_for_ever_unless_told_otherwise() {
    let mut served = Served::new(SessionOptions::default(), 9);
    served.send(b"\x0bone\x1c\r").await;
    served.expect(b"\x0back:one\x1c\r").await;
    advance(Duration::from_hours(24)).await;
    served.send(b"\x0btwo\x1c\r").await;
    served.expect(b"\x0back:two\x1c\r").await;

    let served = Served::new(SessionOptions { idle_timeout: Some(Duration::from_mins(1)), ..SessionOptions::default() }, 9);
    assert!(matches!(served.end().await, (_, 0, Ended::Idle(_))));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_trickles_in_is_given_up_however_often_a_byte_comes() {
    let mut served = Served::new(SessionOptions::default(), 9);
    let began = Instant::now();
    served.send(b"\x0bMSH").await;
    for _ in 0..20 {
        advance(Duration::from_secs(1)).await;
        served.send(b"x").await;
    }
    assert_eq!(served.stats.n_unfinished(), 1);
    assert!(served.stats.oldest_unfinished().unwrap() >= Duration::from_secs(19));
    assert!((20..=24).contains(&served.stats.n_unfinished_bytes()), "{}", served.stats.n_unfinished_bytes());
    let stats = Arc::clone(&served.stats);
    assert!(matches!(served.end().await, (_, 0, Ended::FrameTimeout(_))));
    assert!(began.elapsed() < Duration::from_secs(32), "{:?}", began.elapsed());
    assert_eq!((stats.n_unfinished(), stats.oldest_unfinished(), stats.n_unfinished_bytes()), (0, None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_too_long_is_answered_and_the_connection_goes_on() {
    let mut served = Served::new(SessionOptions { max_frame_bytes: 10, ..SessionOptions::default() }, 9);
    served.send(b"\x0b01234567890\x1c\r\x0bnext\x1c\r").await;
    served.expect(b"\x0brefused\x1c\r\x0back:next\x1c\r").await;
    assert!(matches!(&served.echo.seen.lock().unwrap()[0], Frame::Refused { prefix, .. } if prefix == "01234567890"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_committed_closes_the_connection_without_an_answer() {
    let mut served = Served::new(SessionOptions::default(), 9);
    served.send(b"\x0bone\x1c\r\x0bclose\x1c\r\x0btwo\x1c\r").await;
    let (rest, n_frames, ended) = served.end().await;
    assert_eq!(rest, b"\x0back:one\x1c\r");
    assert!(n_frames == 2 && matches!(ended, Ended::AnswererClosed), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_an_idle_connection_at_once() {
    let mut served = Served::new(SessionOptions::default(), 9);
    served.send(b"\x0bone\x1c\r\x0bhalf").await;
    served.expect(b"\x0back:one\x1c\r").await;
    let began = Instant::now();
    served.shutdown.cancel();
    assert!(matches!(served.end().await, (_, 1, Ended::Shutdown)));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_answer_of_a_message_in_flight() {
    let mut served = Served::new(SessionOptions::default(), 0);
    served.send(b"\x0bone\x1c\r\x0btwo\x1c\r").await;
    served.echo.begun.acquire().await.unwrap().forget();
    served.shutdown.cancel();
    served.echo.permits.add_permits(2);
    let (rest, n_frames, ended) = served.end().await;
    assert_eq!(rest, b"\x0back:one\x1c\r");
    assert!(n_frames == 1 && matches!(ended, Ended::Shutdown), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stays_connected_cannot_hold_up_shutdown() {
    let served = Served::new(SessionOptions::default(), 9);
    served.shutdown.cancel();
    let Served { peer, session, .. } = served;
    assert!(matches!(session.await.unwrap(), (0, Ended::Shutdown)));
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_its_answers_is_given_up() {
    let mut served = Served::with_pipe(SessionOptions::default(), 9, 16);
    served.send(b"\x0b0123456789\x1c\r").await;
    served.echo.begun.acquire().await.unwrap().forget();
    let (_, ended) = served.session.await.unwrap();
    assert!(matches!(ended, Ended::WriteTimeout(_)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_no_matter_and_half_a_frame_is() {
    let served = Served::new(SessionOptions::default(), 9);
    drop(served.peer);
    let (_, ended) = served.session.await.unwrap();
    assert!(!ended.is_worth_a_warning(), "{ended:?}");

    let mut served = Served::new(SessionOptions::default(), 9);
    served.send(b"\x0bhalf").await;
    drop(served.peer);
    let (_, ended) = served.session.await.unwrap();
    assert!(matches!(ended, Ended::PeerClosedInside), "{ended:?}");
    assert_eq!(served.stats.n_abandoned_frames(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_frame_of_a_peer_that_stops_sending_is_answered() {
    let mut served = Served::new(SessionOptions::default(), 9);
    served.send(b"\x0bone\x1c").await;
    served.peer.shutdown().await.unwrap();
    let (rest, n_frames, ended) = served.end().await;
    assert_eq!(rest, b"\x0back:one\x1c\r");
    assert!(n_frames == 1 && matches!(ended, Ended::PeerClosed), "{ended:?}");
}
