//! Certificates of listeners, read again when their files change, without a restart.
//!
//! Files are compared by what they hold, so that a link which is turned to another folder is noticed too. What cannot be used changes nothing: the
//! certificate in use stays in use, and that is a line in the log, a metric and a reason in `/readyz` until the files are right again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::readiness::Readiness;
use crate::admin::readiness::Reason;
use crate::mllp::tls::ServerTls;
use crate::mllp::tls::ServerTlsFiles;
use crate::time::Clock;
use crate::time::Timestamp;

const LOOK_EVERY: Duration = Duration::from_secs(3);

/// A listener's certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Which listener: `feed main`, `admin`.
    pub(super) listener: String,
    pub(super) tls: Arc<ServerTls>,
}

/// What is wrong now, by listener.
type Troubles = Arc<Mutex<BTreeMap<String, String>>>;

/// Watches until it is told to stop.
pub(super) async fn watch(watched: Vec<Certificate>, readiness: Readiness, clock: Arc<impl Clock>, stop: CancellationToken) {
    if watched.is_empty() {
        return;
    }
    let troubles = Troubles::default();
    register(&readiness, Arc::clone(&troubles));
    // The first look reads them again in any case: they may have changed since the listener read them.
    let mut known: Vec<Option<Contents>> = vec![None; watched.len()];
    loop {
        for (one, known) in watched.iter().zip(&mut known) {
            let now = contents(one.tls.files()).await;
            if known.as_ref() != Some(&now) {
                let is_first = known.replace(now).is_none();
                reload(one, &troubles, is_first);
            }
            tell_of_its_end(one, clock.now());
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

fn register(readiness: &Readiness, troubles: Troubles) {
    readiness.register(move || {
        let troubles = troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = |(listener, what): (&String, &String)| {
            Reason::new(
                "tls",
                format!("the new certificate of {listener} cannot be used, the one before stays in use: {what}"),
                "put certificate and key right; they are read again by themselves",
            )
        };
        troubles.iter().map(reason).collect()
    });
}

fn reload(one: &Certificate, troubles: &Troubles, is_first: bool) {
    let Certificate { listener, tls } = one;
    let mut troubles = troubles.lock().unwrap_or_else(PoisonError::into_inner);
    match tls.reload() {
        Ok(()) if is_first => {}
        Ok(()) => {
            troubles.remove(listener);
            metrics::counter!("wardroom_tls_reloads_total", "outcome" => "loaded").increment(1);
            tracing::info!(%listener, "the certificate was read again; new connections are taken with it");
        }
        Err(error) => {
            metrics::counter!("wardroom_tls_reloads_total", "outcome" => "refused").increment(1);
            tracing::error!(%listener, %error, "the changed certificate cannot be used; the one before stays in use");
            troubles.insert(listener.clone(), error.to_string());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a few decades")]
fn tell_of_its_end(one: &Certificate, now: Timestamp) {
    let Some(ends) = one.tls.expires_at() else { return };
    let seconds = (ends.as_micros() - now.as_micros()) / 1_000_000;
    metrics::gauge!("wardroom_tls_certificate_seconds", "listener" => one.listener.clone()).set(seconds as f64);
}

/// A hash of what the files hold; none while one of them cannot be read.
type Contents = Option<Vec<u8>>;

/// All the files in one; none while one of them cannot be read. Only a hash of the key is kept.
async fn contents(files: &ServerTlsFiles) -> Contents {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let paths: [Option<&Path>; 3] = [Some(&files.certificate), Some(&files.key), files.client_ca.as_deref()];
    for path in paths.into_iter().flatten() {
        let bytes = tokio::fs::read(path).await.ok()?;
        context.update(&bytes.len().to_be_bytes());
        context.update(&bytes);
    }
    Some(context.finish().as_ref().to_vec())
}
