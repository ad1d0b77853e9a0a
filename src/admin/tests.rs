use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::AdminState;
use super::Door;
use super::HEADER_TIMEOUT;
use super::readiness::Readiness;
use super::readiness::Reason;
use super::router;

struct Admin {
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

async fn admin() -> Admin {
    admin_with(HEADER_TIMEOUT, None).await
}

#[expect(clippy::disallowed_methods, reason = "the test waits for the task itself")]
async fn admin_with(header_timeout: Duration, tls: Option<super::CurrentTls>) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::default();
    let stop = CancellationToken::new();
    let state = AdminState { readiness: readiness.clone(), metrics: Arc::new(|| "wardroom_rooms 3\n".to_owned()) };
    let server = tokio::spawn(Door { tls, router: router(state), header_timeout, stop: stop.clone() }.serve(listener));
    Admin { address, readiness, stop, server }
}

/// One request by hand, and all that came back.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("cache-control: no-store"), "{head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn readyz_names_the_part_and_the_remedy_and_is_ready_again_after() {
    let admin = admin().await;
    assert_eq!(get(admin.address, "/readyz").await, (200, r#"{"ready":true,"reasons":[]}"#.to_owned()));

    let blocked = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&blocked);
    admin.readiness.register(move || {
        if seen.load(Ordering::SeqCst) {
            vec![Reason::new("outbox", "the broker is blocked", "free memory or disk on the broker")]
        } else {
            Vec::new()
        }
    });
    let (status, body) = get(admin.address, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(body, r#"{"ready":false,"reasons":[{"part":"outbox","what":"the broker is blocked","do":"free memory or disk on the broker"}]}"#);

    blocked.store(false, Ordering::SeqCst);
    assert_eq!(get(admin.address, "/readyz").await.0, 200);
}

#[tokio::test]
async fn livez_is_alive_also_when_not_ready() {
    let admin = admin().await;
    admin.readiness.register(|| vec![Reason::new("store", "cannot be reached", "start the database")]);
    assert_eq!(get(admin.address, "/livez").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let admin = admin().await;
    let answer = ask(admin.address, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("wardroom_rooms 3\n"), "{answer}");
}

#[tokio::test]
async fn other_paths_methods_and_endless_headers_are_refused() {
    let admin = admin().await;
    assert_eq!(get(admin.address, "/rooms").await.0, 404);
    assert!(
        ask(admin.address, "POST /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await.starts_with("HTTP/1.1 405")
    );
    let endless = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}", "a".repeat(64 * 1024));
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it has read all of it, so only the end matters.
    drop(stream.write_all(endless.as_bytes()).await);
    drop(stream.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(get(admin.address, "/livez").await.0, 200);
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_cut_off() {
    let admin = admin_with(Duration::from_millis(50), None).await;
    let mut silent = TcpStream::connect(admin.address).await.unwrap();
    silent.write_all(b"GET /livez HT").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut answer)).await.expect("the server closes first").ok();
}

#[tokio::test]
async fn stopping_does_not_wait_for_idle_peers() {
    let admin = admin().await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    let _half_a_request = TcpStream::connect(admin.address).await.unwrap();
    admin.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), admin.server).await.expect("it stops by itself").unwrap();
}

#[tokio::test]
async fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![issued.cert.der().clone()], key).unwrap();
    let server = Arc::new(server);
    let current: super::CurrentTls = Arc::new(move || Arc::clone(&server));
    let admin = admin_with(Duration::from_secs(5), Some(current)).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(admin.address).await.unwrap();
    let mut stream = client.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));

    let mut plain = TcpStream::connect(admin.address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP"));
}
