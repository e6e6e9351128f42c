//! `/metrics`, `/healthz`, `/readyz`; the first only for who shows a token, where tokens are asked for.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{readiness::Readiness, tls};
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

/// Serves until `stop`; from `draining` on `/readyz` says so.
///
/// # Errors
/// When the listener fails.
pub async fn serve<L: Listener<Addr = SocketAddr>>(
    listener: L,
    readiness: Readiness,
    gate: MetricsGate,
    draining: CancellationToken,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(move |headers: HeaderMap| metrics(headers, gate.clone())))
        .route("/healthz", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(move || {
                let (readiness, draining) = (readiness.clone(), draining.clone());
                async move {
                    if draining.is_cancelled() {
                        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
                    } else if readiness.is_ready() {
                        (StatusCode::OK, "ready\n")
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
                    }
                }
            }),
        );
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
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
    telemetry::prometheus().map(|p| p.render()).unwrap_or_default().into_response()
}
