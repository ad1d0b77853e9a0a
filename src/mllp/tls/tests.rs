use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::date_time_ymd;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ClientTls;
use super::ClientTlsFiles;
use super::HandshakeFault;
use super::ServerTls;
use super::ServerTlsFiles;
use super::TlsError;
use crate::ids::FeedName;
use crate::mllp::client::ClientError;
use crate::mllp::client::ClientOptions;
use crate::mllp::client::Endpoint;
use crate::mllp::client::MllpClient;
use crate::mllp::codec::Frame;
use crate::mllp::listener::ListenerOptions;
use crate::mllp::listener::serve;
use crate::mllp::session::Answer;
use crate::mllp::session::Answerer;
use crate::mllp::session::PeerInfo;
use crate::mllp::stats::ListenerStats;

/// An authority that writes PEM files into a folder of its own.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for `name` and its key.
    fn issue(&self, name: &str, last_year: i32) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let paths = (self.folder.path().join(format!("{name}.pem")), self.folder.path().join(format!("{name}.key")));
        fs::write(&paths.0, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    fn server_files(&self, client_ca: Option<PathBuf>) -> ServerTlsFiles {
        let (certificate, key) = self.issue("ward.example", 2099);
        ServerTlsFiles { certificate, key, client_ca }
    }
}

/// Answers with the name on the peer's certificate.
struct WhoAreYou;

impl Answerer for WhoAreYou {
    async fn answer(&self, peer: &PeerInfo, _: Frame) -> Answer {
        assert_eq!(peer.certificate_subject.is_some(), !peer.certificate_names.is_empty());
        Answer::Frames(vec![Bytes::from(peer.certificate_names.first().map_or("nobody", String::as_str).to_owned())])
    }
}

struct Served {
    endpoint: Endpoint,
    stats: Arc<ListenerStats>,
    tls: Arc<ServerTls>,
}

async fn served(files: ServerTlsFiles) -> Served {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    let tls = Arc::new(ServerTls::load(files).unwrap());
    let options = ListenerOptions { tls: Some(Arc::clone(&tls)), ..ListenerOptions::new(FeedName::from("main")) };
    let (stats, tracker) = (Arc::clone(&options.stats), TaskTracker::new());
    tracker.spawn(serve(listener, options, Arc::new(WhoAreYou), CancellationToken::new(), tracker.clone()));
    Served { endpoint, stats, tls }
}

impl Served {
    async fn ask(&self, ca: PathBuf, identity: Option<(PathBuf, PathBuf)>, name: &str) -> Result<Bytes, ClientError> {
        let files = ClientTlsFiles { ca: Some(ca), identity, name: Some(name.to_owned()) };
        let options = ClientOptions { tls: Some(ClientTls::load(&files)?), ..ClientOptions::default() };
        let mut client = MllpClient::connect(&self.endpoint, &options).await?;
        client.send(b"MSH|").await?;
        client.receive().await
    }
}

fn fault(result: &Result<Bytes, ClientError>) -> HandshakeFault {
    let Err(ClientError::Handshake { fault, .. } | ClientError::RefusedByTls { fault }) = result else { panic!("no TLS fault: {result:?}") };
    fault.kind()
}

/// What somebody reads who could not send.
fn told(result: Result<Bytes, ClientError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn both_sides_show_their_certificates() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let served = served(authority.server_files(Some(clients.ca()))).await;
    let answer = served.ask(authority.ca(), Some(clients.issue("engine.example", 2099)), "ward.example").await;
    assert_eq!(answer.unwrap(), "engine.example");
}

#[tokio::test]
async fn a_client_without_certificate_is_served_when_none_is_required() {
    let authority = Authority::new();
    let served = served(authority.server_files(None)).await;
    assert_eq!(served.ask(authority.ca(), None, "ward.example").await.unwrap(), "nobody");
}

#[tokio::test]
async fn a_client_without_the_required_certificate_is_told_so() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let served = served(authority.server_files(Some(clients.ca()))).await;
    let answer = served.ask(authority.ca(), None, "ward.example").await;
    assert_eq!(fault(&answer), HandshakeFault::NoCertificate);
    assert_eq!(served.stats.n_failed_handshakes(), 1);
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_or_of_the_past_is_refused() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let served = served(authority.server_files(Some(clients.ca()))).await;
    let foreign = served.ask(authority.ca(), Some(authority.issue("engine.example", 2099)), "ward.example").await;
    assert_eq!(fault(&foreign), HandshakeFault::PeerDistrustsUs);
    let old = served.ask(authority.ca(), Some(clients.issue("old.example", 2001)), "ward.example").await;
    assert_eq!(fault(&old), HandshakeFault::PeerDistrustsUs);
}

#[tokio::test]
async fn a_client_checks_the_server() {
    let (authority, other) = (Authority::new(), Authority::new());
    let served = served(authority.server_files(None)).await;
    assert_eq!(fault(&served.ask(other.ca(), None, "ward.example").await), HandshakeFault::UnknownIssuer);
    assert_eq!(fault(&served.ask(authority.ca(), None, "elsewhere.example").await), HandshakeFault::WrongName);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let (authority, renewed) = (Authority::new(), Authority::new());
    let files = authority.server_files(None);
    let served = served(files.clone()).await;
    let before = served.tls.expires_at();
    served.ask(authority.ca(), None, "ward.example").await.unwrap();

    fs::write(&files.key, "nonsense").unwrap();
    assert!(matches!(served.tls.reload(), Err(TlsError::NoKey { .. })));
    served.ask(authority.ca(), None, "ward.example").await.unwrap();

    let (certificate, key) = renewed.issue("ward.example", 2098);
    fs::copy(certificate, &files.certificate).unwrap();
    fs::copy(key, &files.key).unwrap();
    served.tls.reload().unwrap();
    served.ask(renewed.ca(), None, "ward.example").await.unwrap();
    assert!(served.tls.expires_at() < before);
}

#[tokio::test]
async fn a_plain_sender_is_turned_away_by_a_tls_listener() {
    let authority = Authority::new();
    let served = served(authority.server_files(None)).await;
    let mut stream = TcpStream::connect((served.endpoint.host.as_str(), served.endpoint.port)).await.unwrap();
    stream.write_all(b"\x0bMSH|^~\\&|\x1c\r").await.unwrap();
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).await.unwrap();
    assert_eq!(alert.first(), Some(&0x15), "a TLS alert");
    assert_eq!(served.stats.n_failed_handshakes(), 1);
}

#[tokio::test]
async fn a_tls_sender_meets_a_plain_listener_and_is_not_kept_waiting() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    let tracker = TaskTracker::new();
    let options = ListenerOptions::new(FeedName::from("main"));
    tracker.spawn(serve(listener, options, Arc::new(WhoAreYou), CancellationToken::new(), tracker.clone()));
    let authority = Authority::new();
    let tls = ClientTls::load(&ClientTlsFiles { ca: Some(authority.ca()), ..ClientTlsFiles::default() }).unwrap();
    let connected = MllpClient::connect(&endpoint, &ClientOptions { tls: Some(tls), ..ClientOptions::default() }).await;
    let told = connected.unwrap_err().to_string();
    assert!(
        told.starts_with("TLS handshake with 127.0.0.1:") && told.contains("closed the connection in the middle of it\nhint: it may not speak TLS"),
        "{told}"
    );
}

#[tokio::test]
async fn a_client_is_told_what_is_wrong_with_the_server_and_what_to_do() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let reached = served(authority.server_files(None)).await;
    let told_of = async |ca, name: &str| told(reached.ask(ca, None, name).await).split_once("failed: ").unwrap().1.to_owned();
    assert_eq!(
        told_of(clients.ca(), "ward.example").await,
        "the server's certificate is signed by no authority that is trusted here\n\
         hint: name the authority's file with `--tls-ca`, and have the server send its whole chain"
    );
    assert_eq!(
        told_of(authority.ca(), "elsewhere.example").await,
        "the server's certificate bears another name: `ward.example`, not `elsewhere.example`\n\
         hint: connect by a name that it bears, or say which with `--tls-name`"
    );
    let (certificate, key) = authority.issue("old.example", 2001);
    let expired = served(ServerTlsFiles { certificate, key, client_ca: None }).await;
    let text = told(expired.ask(authority.ca(), None, "old.example").await);
    assert!(text.contains("has expired: it ended at 2001-01-01T00:00:00Z\nhint: have it renewed"), "{text}");

    let strict = served(authority.server_files(Some(clients.ca()))).await;
    let text = told(strict.ask(authority.ca(), None, "ward.example").await);
    assert!(text.contains("the server requires a client certificate\nhint: show one that it trusts with `--tls-certificate`"), "{text}");
    let text = told(strict.ask(authority.ca(), Some(authority.issue("engine.example", 2099)), "ward.example").await);
    assert!(text.contains("the server does not accept our certificate\nhint: "), "{text}");
}

#[tokio::test]
async fn a_plain_client_is_told_that_the_server_speaks_tls() {
    let authority = Authority::new();
    let served = served(authority.server_files(None)).await;
    let mut client = MllpClient::connect(&served.endpoint, &ClientOptions::default()).await.unwrap();
    client.send(b"MSH|").await.unwrap();
    assert!(matches!(client.receive().await, Err(ClientError::PeerSpeaksTls)));
}

#[tokio::test]
async fn a_server_that_waits_for_plain_frames_is_said_to_have_let_the_handshake_wait() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    let authority = Authority::new();
    let tls = Some(ClientTls::load(&ClientTlsFiles { ca: Some(authority.ca()), ..ClientTlsFiles::default() }).unwrap());
    let options = ClientOptions { tls, connect_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    // The kernel takes the connection, and nobody reads from it.
    let told = MllpClient::connect(&endpoint, &options).await.unwrap_err().to_string();
    assert!(told.contains("did not finish it in time\nhint: it may be waiting for a plain connection"), "{told}");
    drop(listener);
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("ward.example", 2099);
    let (_, other_key) = authority.issue("other.example", 2099);
    let load = |certificate: &Path, key: &Path| {
        let files = ServerTlsFiles { certificate: certificate.to_owned(), key: key.to_owned(), client_ca: None };
        ServerTls::load(files).map(|_| ()).unwrap_err()
    };
    assert!(matches!(load(Path::new("/nonexistent.pem"), &key), TlsError::Read { .. }));
    assert!(matches!(load(&key, &key), TlsError::NoCertificate { .. }));
    assert!(matches!(load(&certificate, &certificate), TlsError::NoKey { .. }));
    assert!(matches!(load(&certificate, &other_key), TlsError::Pair { .. }));
}
