//! What went wrong between this node and the NATS servers, and how long anything may take.

use std::{fmt::Display, time::Duration};

use crate::{
    camera::CameraStoreError, event::EventLogError, identity::GalleryError, store::sqlite::CommandError,
    vault::VaultError,
};

/// Longest time for one call of the servers.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Fault {
    /// Somebody else was faster.
    #[error("it was changed by somebody else meanwhile")]
    Conflict,
    /// The servers don't answer, or the own replica is behind; it passes.
    #[error("{0}")]
    Unavailable(String),
    /// It does not pass by itself.
    #[error("{0}")]
    Failed(String),
}

impl Fault {
    pub(super) fn unavailable(what: &str, why: impl Display) -> Self {
        Self::Unavailable(format!(
            "the cluster's servers don't answer ({what}: {why}); see whether NATS runs and is reachable"
        ))
    }
}

impl From<CommandError> for Fault {
    fn from(error: CommandError) -> Self {
        error.of_the_disk().map_or_else(|| Self::Failed(error.to_string()), Self::Unavailable)
    }
}

impl From<VaultError> for Fault {
    fn from(error: VaultError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Fault> for EventLogError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(why) => Self::Unavailable(why),
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<Fault> for CameraStoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(why) => Self::Unavailable(why),
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<Fault> for GalleryError {
    fn from(fault: Fault) -> Self {
        match fault {
            // As a disk that takes nothing: the store is away for a while.
            Fault::Unavailable(why) => Self::Disk(why),
            other => Self::Storage(other.to_string()),
        }
    }
}

/// Waits for an answer, but never longer than [`LIMIT`]. Every error is taken for one that passes.
pub(super) async fn within<T, E: Display>(what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, Fault> {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Fault::unavailable(what, error)),
        Err(_) => Err(Fault::unavailable(what, format!("no answer within {} s", LIMIT.as_secs()))),
    }
}
