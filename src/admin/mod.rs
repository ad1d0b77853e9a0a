//! The door for operators: `/livez`, `/readyz` and `/metrics` over HTTP/1.1, with TLS when the configuration has a certificate for it.
//!
//! These three need no login and so hold no PHI: readiness says which part is in trouble and what to do about it, metrics are counts. A peer that is
//! slow, idle or talks too much is cut off, so that a probe always gets through.

pub mod orders;
pub mod readiness;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::readiness::Readiness;

/// How long a request may take to arrive, and so how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long open requests may go on once the daemon stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted, which is when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const MAX_CONNECTIONS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_BODY_BYTES: usize = 16 * 1024;

/// What the endpoints show.
#[derive(Clone)]
pub struct AdminState {
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Makes the text of `/metrics`. Called for each scrape, so it is also where gauges are brought up to date; it must not block.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Gives what new connections are taken with; a certificate may be renewed while the door is open.
pub type CurrentTls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// Answers requests until it is told to stop, then lets open ones end for two seconds. Plain HTTP without `tls`.
pub async fn serve(listener: TcpListener, tls: Option<CurrentTls>, state: AdminState, stop: CancellationToken) {
    Door { tls, router: router(state), header_timeout: HEADER_TIMEOUT, stop }.serve(listener).await;
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    tls: Option<CurrentTls>,
    router: Router,
    /// A constant but in tests, which do not want to wait for it.
    header_timeout: Duration,
    stop: CancellationToken,
}

impl Door {
    async fn serve(self, listener: TcpListener) {
        let connections = TaskTracker::new();
        let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let next = async {
                let seat = Arc::clone(&seats).acquire_owned().await;
                (seat, listener.accept().await)
            };
            let Some((seat, accepted)) = self.stop.run_until_cancelled(next).await else { break };
            match accepted {
                Ok((stream, _)) => {
                    let door = self.clone();
                    connections.spawn(async move {
                        door.greet(stream).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin port cannot accept a connection; check the limit of open files");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
    }

    /// One connection, from its handshake to its end.
    async fn greet(self, stream: TcpStream) {
        let Some(tls) = self.tls.as_ref().map(|tls| TlsAcceptor::from(tls())) else { return self.talk(stream).await };
        let handshake = self.stop.run_until_cancelled(tokio::time::timeout(self.header_timeout, tls.accept(stream)));
        match handshake.await {
            Some(Ok(Ok(stream))) => self.talk(stream).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, "an admin connection ended in its handshake"),
            Some(Err(_)) | None => {}
        }
    }

    async fn talk(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).max_buf_size(MAX_HEADER_BYTES);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router)));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an admin connection ended early");
        }
    }
}

fn router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(in_time))
        .with_state(state)
}

/// Gives every answer a time limit, and says that none may be kept.
async fn in_time(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The process is alive when it can say so.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<AdminState>) -> Response {
    let report = state.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(state): State<AdminState>) -> Response {
    metrics::gauge!("wardroom_ready").set(if state.readiness.report().ready { 1.0 } else { 0.0 });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (state.metrics)()).into_response()
}

#[cfg(test)]
mod tests;
