//! Removes what is past its retention: events, their pictures, unknown faces once an hour; people whose time is over every minute.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    api::KeptFor,
    event::{EventLog, EventLogError},
    identity::Gallery,
    pipeline::unknowns::Unknowns,
    time::{self, Timestamp},
};

const EVERY: Duration = Duration::from_secs(60);
/// Rounds from one look at events and unknown faces to the next.
const HOURLY: u32 = 60;

/// What is removed, and after how long.
pub struct Retention {
    /// The event log.
    pub log: Arc<dyn EventLog>,
    /// How long events and their pictures are kept.
    pub kept: KeptFor,
    /// Faces that nobody knew; they know themselves how long they are kept.
    pub unknowns: Unknowns,
    /// People.
    pub gallery: Gallery,
}

impl Retention {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        for round in 0_u32.. {
            let now = time::now();
            erase_expired(&self.gallery, now).await;
            if round.is_multiple_of(HOURLY) {
                remove_events(&*self.log, self.kept, now).await;
                if let Err(error) = self.unknowns.keep_house(now).await {
                    tracing::error!(%error, "retention could not look after unknown faces; it tries again in an hour");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}

/// Erases people whose time is over.
async fn erase_expired(gallery: &Gallery, now: Timestamp) {
    match gallery.erase_expired(now).await {
        Ok(receipts) => receipts.iter().for_each(|receipt| {
            tracing::info!(receipt = %receipt.id, "a person whose time was over was erased");
        }),
        Err(error) => {
            tracing::error!(%error, "a person whose time is over could not be erased; it is tried again in a minute")
        }
    }
}

/// Removes events and pictures past their retention.
async fn remove_events(log: &dyn EventLog, kept: KeptFor, now: Timestamp) {
    // Further back than time goes: nothing is that old.
    let oldest = |days: u32| now.checked_sub(Duration::from_secs(u64::from(days) * 86_400)).ok().filter(|_| days > 0);
    let told = |what: &str, removed: Result<u64, EventLogError>| match removed {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "{what} past their retention were removed"),
        Err(error) => tracing::error!(%error, "retention could not remove {what}; it tries again in an hour"),
    };
    if let Some(oldest) = oldest(kept.events) {
        told("events", log.remove_before(oldest).await);
    }
    if let Some(oldest) = oldest(kept.pictures) {
        told("pictures of events", log.remove_pictures_before(oldest).await);
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
