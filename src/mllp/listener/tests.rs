use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ListenerOptions;
use super::pause_after;
use super::serve;
use crate::ids::FeedName;
use crate::mllp::client::ClientError;
use crate::mllp::client::ClientOptions;
use crate::mllp::client::Endpoint;
use crate::mllp::client::MllpClient;
use crate::mllp::codec::Frame;
use crate::mllp::session::Answer;
use crate::mllp::session::Answerer;
use crate::mllp::session::PeerInfo;
use crate::mllp::stats::ListenerStats;

/// Answers `ack` to all; waits for a permit when the message is `wait`.
#[derive(Default)]
struct Acknowledge {
    waiting: Notify,
    permits: Option<Semaphore>,
}

impl Answerer for Acknowledge {
    async fn answer(&self, _: &PeerInfo, frame: Frame) -> Answer {
        if let (Some(permits), Frame::Message(_)) = (&self.permits, frame) {
            self.waiting.notify_one();
            permits.acquire().await.unwrap().forget();
        }
        Answer::Frames(vec![Bytes::from_static(b"ack")])
    }
}

struct Served {
    endpoint: Endpoint,
    answerer: Arc<Acknowledge>,
    stats: Arc<ListenerStats>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Served {
    async fn new(options: ListenerOptions, answerer: Acknowledge) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (answerer, stats, shutdown, tracker) = (Arc::new(answerer), Arc::clone(&options.stats), CancellationToken::new(), TaskTracker::new());
        tracker.spawn(serve(listener, options, Arc::clone(&answerer), shutdown.clone(), tracker.clone()));
        Self { endpoint, answerer, stats, shutdown, tracker }
    }

    async fn connect(&self) -> MllpClient {
        MllpClient::connect(&self.endpoint, &ClientOptions::default()).await.unwrap()
    }

    /// Waits for the listener and all its sessions to end, which they must do soon.
    async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        timeout(Duration::from_secs(15), self.tracker.wait()).await.unwrap();
        assert_eq!(self.stats.n_connections(), 0);
    }
}

fn options() -> ListenerOptions {
    ListenerOptions::new(FeedName::from("main"))
}

#[tokio::test]
async fn messages_are_answered_over_a_socket() {
    let served = Served::new(options(), Acknowledge::default()).await;
    let mut client = served.connect().await;
    for _ in 0..3 {
        client.send(b"MSH|").await.unwrap();
        assert_eq!(client.receive().await.unwrap(), "ack");
    }
    assert_eq!((served.stats.n_connections(), served.stats.n_accepted(), served.stats.n_frames()), (1, 1, 3));
    served.stop().await;
}

#[tokio::test]
async fn more_connections_than_allowed_from_one_address_are_refused() {
    let served = Served::new(ListenerOptions { max_connections_per_address: 1, ..options() }, Acknowledge::default()).await;
    let mut first = served.connect().await;
    first.send(b"MSH|").await.unwrap();
    first.receive().await.unwrap();
    let second = async {
        let mut second = served.connect().await;
        second.send(b"MSH|").await?;
        second.receive().await
    };
    second.await.unwrap_err();
    assert_eq!(served.stats.n_refused(), 1);
    first.send(b"MSH|").await.unwrap();
    first.receive().await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn who_gave_up_on_an_answer_and_closed_is_let_in_again_at_once() {
    let options = ListenerOptions { max_connections_per_address: 1, ..options() };
    let served = Served::new(options, Acknowledge { permits: Some(Semaphore::new(0)), ..Acknowledge::default() }).await;
    for ahead in [b"".as_slice(), b"\x0bMSH|sent ahead\x1c\r"] {
        let mut first = TcpStream::connect((served.endpoint.host.as_str(), served.endpoint.port)).await.unwrap();
        first.write_all(&[b"\x0bMSH|\x1c\r", ahead].concat()).await.unwrap();
        served.answerer.waiting.notified().await;
        drop(first);
    }
    let mut last = served.connect().await;
    last.send(b"MSH|").await.unwrap();
    served.answerer.waiting.notified().await;
    assert_eq!((served.stats.n_connections(), served.stats.n_refused()), (3, 0));
    served.answerer.permits.as_ref().unwrap().add_permits(9);
    assert_eq!(last.receive().await.unwrap(), "ack");
    served.stop().await;
}

#[tokio::test]
async fn a_closed_connection_gives_its_place_back() {
    let served = Served::new(ListenerOptions { max_connections: 1, ..options() }, Acknowledge::default()).await;
    for _ in 0..3 {
        let mut stream = TcpStream::connect((served.endpoint.host.as_str(), served.endpoint.port)).await.unwrap();
        stream.write_all(b"\x0bMSH|\x1c\r").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"\x0back\x1c\r");
        while served.stats.n_connections() > 0 {
            tokio::task::yield_now().await;
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn shutdown_answers_what_is_in_flight_and_refuses_what_is_new() {
    let served = Served::new(options(), Acknowledge { permits: Some(Semaphore::new(0)), ..Acknowledge::default() }).await;
    let (mut busy, mut idle) = (served.connect().await, served.connect().await);
    busy.send(b"MSH|one").await.unwrap();
    busy.send(b"MSH|two").await.unwrap();
    served.answerer.waiting.notified().await;
    served.shutdown.cancel();
    assert!(matches!(idle.receive().await, Err(ClientError::Closed)));
    served.answerer.permits.as_ref().unwrap().add_permits(2);
    assert_eq!(busy.receive().await.unwrap(), "ack");
    assert!(matches!(busy.receive().await, Err(ClientError::Closed)));
    let (endpoint, options) = (served.endpoint.clone(), ClientOptions::default());
    drop((busy, idle));
    served.stop().await;
    assert!(matches!(MllpClient::connect(&endpoint, &options).await, Err(ClientError::Connect { .. })));
}

#[test]
fn running_out_of_descriptors_is_waited_out_and_a_peer_that_left_is_not() {
    let exhausted = io::Error::from_raw_os_error(24);
    let pauses: Vec<_> = [1, 2, 6, 7, 1000].map(|n| pause_after(&exhausted, n).as_millis()).into();
    assert_eq!(pauses, [20, 40, 640, 1000, 1000]);
    assert_eq!(pause_after(&io::Error::from(io::ErrorKind::ConnectionAborted), 9), Duration::ZERO);
}
