//! `/metrics`, `/healthz`, `/readyz`.

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::readiness::Readiness;
use crate::telemetry;

/// Serves until `stop`; from `draining` on `/readyz` says so.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    draining: CancellationToken,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(|| async { telemetry::prometheus().map(|p| p.render()).unwrap_or_default() }))
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
