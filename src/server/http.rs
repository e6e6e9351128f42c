//! `/metrics`, `/healthz`, `/readyz`; the first only for who shows a token, where tokens are asked for.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{accept::Connection, http_connections, readiness::Health};
use crate::{
    access::{Gate, OidcRefusal, Refusal, token::bearer},
    telemetry,
};

/// The gate before `/metrics`: none where no token is asked for; else it opens with the store.
pub type MetricsGate = Option<Arc<OnceLock<Gate>>>;

/// Serves connections until `stop`. `/healthz` says whether the process does its work at all, `/readyz` whether it can serve; `/readyz?verbose` lists
/// each check. `head` is the time that the head of a request may take.
pub async fn serve(
    connections: mpsc::Receiver<Connection>,
    head: Duration,
    health: Health,
    gate: MetricsGate,
    stop: CancellationToken,
) {
    let beating = health.clone();
    let app = Router::new()
        .route("/metrics", get(move |headers: HeaderMap| metrics(headers, gate.clone())))
        .route("/healthz", get(move || async move { alive(&beating) }))
        .route("/readyz", get(move |uri: Uri| async move { ready(&health, &uri) }));
    http_connections::serve(app, connections, head, stop).await;
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
                    Refusal::Storage(_) | Refusal::Oidc(OidcRefusal::Keys(_)) => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::UNAUTHORIZED,
                };
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"visage\"")];
                return (status, challenge, format!("{refusal}\n")).into_response();
            }
        }
    }
    ([(header::CONTENT_TYPE, telemetry::CONTENT_TYPE)], telemetry::render()).into_response()
}
