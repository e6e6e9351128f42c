//! `/metrics`, `/healthz`, `/readyz`; the first only for who shows a token, where tokens are asked for.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{readiness::Health, tls};
use crate::{
    access::{Gate, Refusal, token::bearer},
    telemetry,
};

/// The gate before `/metrics`: none where no token is asked for; else it opens with the store.
pub type MetricsGate = Option<Arc<OnceLock<Gate>>>;

/// Connections after their handshake as a listener.
pub struct TlsListener {
    /// Its address.
    pub addr: SocketAddr,
    /// What comes.
    pub connections: mpsc::Receiver<tls::Connection>,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // Nothing comes any more; the server ends by its stop.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

/// Serves until `stop`. `/healthz` says whether the process does its work at all, `/readyz` whether it can serve; `/readyz?verbose` lists
/// each check.
///
/// # Errors
/// When the listener fails.
pub async fn serve<L: Listener<Addr = SocketAddr>>(
    listener: L,
    health: Health,
    gate: MetricsGate,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let beating = health.clone();
    let app = Router::new()
        .route("/metrics", get(move |headers: HeaderMap| metrics(headers, gate.clone())))
        .route("/healthz", get(move || async move { alive(&beating) }))
        .route("/readyz", get(move |uri: Uri| async move { ready(&health, &uri) }));
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn alive(health: &Health) -> (StatusCode, String) {
    match health.stuck() {
        None => (StatusCode::OK, "alive\n".into()),
        Some(age) => {
            let text = format!("stuck: the runtime has done nothing of its own for {} s\n", age.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

fn ready(health: &Health, uri: &Uri) -> (StatusCode, String) {
    let verbose = uri.query().is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
    let (ready, text) = health.ready(verbose);
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

async fn metrics(headers: HeaderMap, gate: MetricsGate) -> Response {
    if let Some(gate) = gate {
        let Some(gate) = gate.get() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
        };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        // Every role may look.
        if let Err(refusal) = gate.admit(shown).await {
            telemetry::request_refused("token");
            let status = match refusal {
                Refusal::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::UNAUTHORIZED,
            };
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"visage\"")];
            return (status, challenge, format!("{refusal}\n")).into_response();
        }
    }
    ([(header::CONTENT_TYPE, telemetry::CONTENT_TYPE)], telemetry::render()).into_response()
}
