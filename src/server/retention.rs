//! Removes events and unknown faces past their retention, and groups unknown faces anew, once an hour.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    event::EventLog,
    pipeline::unknowns::Unknowns,
    time::{self, Timestamp},
};

const EVERY: Duration = Duration::from_secs(3600);

/// Runs until `stop`; `days` 0 keeps events for ever.
pub async fn run(log: Arc<dyn EventLog>, days: u32, unknowns: Unknowns, stop: CancellationToken) {
    loop {
        let now = time::now();
        remove_events(&*log, days, now).await;
        if let Err(error) = unknowns.keep_house(now).await {
            tracing::error!(%error, "retention could not look after unknown faces; it tries again in an hour");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn remove_events(log: &dyn EventLog, days: u32, now: Timestamp) {
    // Further back than time goes: nothing is that old.
    let oldest = now.checked_sub(Duration::from_secs(u64::from(days) * 86_400));
    let (true, Ok(oldest)) = (days > 0, oldest) else { return };
    match log.remove_before(oldest).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, days, "events past their retention were removed"),
        Err(error) => tracing::error!(%error, "retention could not remove events; it tries again in an hour"),
    }
}
