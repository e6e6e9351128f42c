//! Runs a server until a signal, within the grace period.

use std::time::Duration;

use super::{Server, StartError};
use crate::config::Config;

/// Starts, calls `ready` with the server, serves until SIGTERM or Ctrl-C, drains.
///
/// # Errors
/// When a part does not start, a listener fails, or draining was cut short by a second signal or the end of the grace period.
pub async fn run(config: &Config, ready: impl FnOnce(&Server)) -> Result<(), StartError> {
    let mut server = Server::start(config).await?;
    ready(&server);
    let failed = server.serve_until(signal()).await;
    let grace = Duration::from_secs(config.server.grace_seconds);
    let forced = async {
        tokio::select! {
            () = signal() => "a second signal came",
            () = tokio::time::sleep(grace) => "the grace period was over",
        }
    };
    tokio::select! {
        drained = server.drain() => failed.and(drained),
        why = forced => Err(StartError::Forced(why)),
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
