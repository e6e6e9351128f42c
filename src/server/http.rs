//! `/metrics`, `/healthz`, `/readyz`; the first only for who shows a token, where tokens are asked for.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{accept::Connection, http_connections, readiness::Readiness};
use crate::{
    access::{Gate, Refusal, token::bearer},
    telemetry,
};

/// The gate before `/metrics`: none where no token is asked for; else it opens with the store.
pub type MetricsGate = Option<Arc<OnceLock<Gate>>>;

/// Serves connections until `stop`; from `draining` on `/readyz` says so. `head` is the time that the head of a request may take.
pub async fn serve(
    connections: mpsc::Receiver<Connection>,
    head: Duration,
    readiness: Readiness,
    gate: MetricsGate,
    draining: CancellationToken,
    stop: CancellationToken,
) {
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
    http_connections::serve(app, connections, head, stop).await;
}

async fn metrics(headers: HeaderMap, gate: MetricsGate) -> Response {
    if let Some(gate) = gate {
        let Some(gate) = gate.get() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
        };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        // Every role may look.
        match gate.admit(shown).await {
            Ok(admitted) if admitted.scope.is_everything() => {}
            // Metrics name all cameras.
            Ok(admitted) => {
                telemetry::request_refused("scope");
                let text = format!(
                    "the token {} is for cameras with {} only, and metrics are of all\n",
                    admitted.name, admitted.scope
                );
                return (StatusCode::FORBIDDEN, text).into_response();
            }
            Err(refusal) => {
                telemetry::request_refused("token");
                let status = match refusal {
                    Refusal::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::UNAUTHORIZED,
                };
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"visage\"")];
                return (status, challenge, format!("{refusal}\n")).into_response();
            }
        }
    }
    telemetry::prometheus().map(|p| p.render()).unwrap_or_default().into_response()
}
