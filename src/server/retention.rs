//! Removes events past their retention, once an hour.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{event::EventLog, time};

const EVERY: Duration = Duration::from_secs(3600);

/// Runs until `stop`; `days` 0 keeps events for ever.
pub async fn run(log: Arc<dyn EventLog>, days: u32, stop: CancellationToken) {
    if days == 0 {
        stop.cancelled().await;
        return;
    }
    loop {
        // Further back than time goes: nothing is that old.
        if let Ok(oldest) = time::now().checked_sub(Duration::from_secs(u64::from(days) * 86_400)) {
            match log.remove_before(oldest).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, days, "events past their retention were removed"),
                Err(error) => tracing::error!(%error, "retention could not remove events; it tries again in an hour"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
