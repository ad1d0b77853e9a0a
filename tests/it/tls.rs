//! TLS as an operator meets it: a certificate that is renewed while the daemon runs, and a broker of a private authority.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::rabbit::Rabbit;

const SOON: Duration = Duration::from_secs(30);

/// Writes a certificate for 127.0.0.1 that signs itself, and its key.
fn certify(certificate: &Path, key: &Path) -> CertificateDer<'static> {
    let pair = KeyPair::generate().unwrap();
    let issued = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&pair).unwrap();
    fs::write(certificate, issued.pem()).unwrap();
    fs::write(key, pair.serialize_pem()).unwrap();
    issued.der().clone()
}

/// Whether a new connection is met with this certificate.
async fn is_met_with(address: SocketAddr, certificate: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider())).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(address).await.unwrap();
    connector.connect(ServerName::from(address.ip()), stream).await.is_ok()
}

async fn reasons(daemon: &Daemon, part: &str) -> Vec<Value> {
    let (_, body) = daemon.get("/readyz").await;
    let report: Value = serde_json::from_str(&body).unwrap();
    report["reasons"].as_array().unwrap().iter().filter(|reason| reason["part"] == part).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_meets_new_connections_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let old = certify(&at("server.pem"), &at("server.key"));
    let config = format!("[[feeds]]\n[feeds.tls]\ncertificate = \"{0}/server.pem\"\nkey = \"{0}/server.key\"\n", folder.path().display());
    let daemon = Daemon::start(&config).await;
    assert!(is_met_with(daemon.mllp, &old).await);

    fs::write(at("server.pem"), "nonsense").unwrap();
    let reasons_now =
        eventually("the broken certificate is a reason", SOON, async || Some(reasons(&daemon, "tls").await).filter(|all| !all.is_empty()));
    let reason = reasons_now.await;
    assert!(reason[0]["what"].as_str().unwrap().contains("feed main"), "{reason:?}");
    daemon.says("the changed certificate cannot be used; the one before stays in use").await;
    assert!(is_met_with(daemon.mllp, &old).await, "the certificate before stays in use");
    let (_, metrics) = daemon.get("/metrics").await;
    assert!(metrics.contains("wardroom_tls_reloads_total{outcome=\"refused\"} 1"), "{metrics}");

    let new = certify(&at("server.pem"), &at("server.key"));
    eventually("the new certificate is met", SOON, async || is_met_with(daemon.mllp, &new).await.then_some(())).await;
    assert!(!is_met_with(daemon.mllp, &old).await);
    eventually("nothing is wrong any more", SOON, async || reasons(&daemon, "tls").await.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_of_the_configuration_is_believed_by_daemon_and_check() {
    let Some(rabbit) = Rabbit::start("the_authority_of_the_configuration_is_believed_by_daemon_and_check").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, rabbit.ca_pem()).unwrap();
    let config = |ca: &str| format!("[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"{}\"\nca = \"{ca}\"\n", rabbit.tls_url("127.0.0.1"));
    let daemon = Daemon::start(&config(&ca.display().to_string())).await;
    let check = |daemon: &Daemon| {
        let Output { status, stdout, .. } = program(&daemon.dir).arg("check").output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap())
    };
    let (code, table) = check(&daemon);
    assert_eq!(code, 0, "{table}");
    assert!(table.contains("lets us in"), "{table}");
    assert_eq!(Peer::connect(daemon.mllp).await.ask(Plain::new("T1", "A01", 530_001, "4N", 0).text()).await, "AA T1");
    eventually("the event is confirmed", SOON, async || {
        let (_, metrics) = daemon.get("/metrics").await;
        metrics.contains("wardroom_publish_confirms_total 1").then_some(())
    })
    .await;

    let distrusting = Daemon::start(&config("")).await;
    let (code, table) = check(&distrusting);
    assert_eq!(code, 69, "{table}");
    eventually("an unknown authority is a reason", SOON, async || (!reasons(&distrusting, "publish").await.is_empty()).then_some(())).await;
}
