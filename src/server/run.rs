//! Runs a server until a signal, within the grace period.

use std::time::Duration;

use super::{Server, StartError};
use crate::config::Config;

/// Starts, calls `ready` with the server, serves until SIGTERM or Ctrl-C, drains. A second signal, or the end of the grace
/// period, ends at once.
///
/// # Errors
/// When a part does not start or a listener fails.
pub async fn run(config: &Config, ready: impl FnOnce(&Server)) -> Result<(), StartError> {
    let server = Server::start(config).await?;
    ready(&server);
    let grace = Duration::from_secs(config.server.grace_seconds);
    let (draining_tx, draining) = tokio::sync::oneshot::channel::<()>();
    let stopping = server.stopped(async move {
        signal().await;
        // The receiver waits below for as long as this future lives.
        let _ = draining_tx.send(());
    });
    tokio::select! {
        result = stopping => result,
        () = async {
            if draining.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::select! {
                () = signal() => tracing::warn!("second signal: ending at once"),
                () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over: ending at once"),
            }
        } => Ok(()),
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn signal() {
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => {
            tracing::error!(%error, "SIGTERM can't be watched; only Ctrl-C ends the server");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
