//! Ports implemented: SQLite for cameras, people and events, or NATS JetStream for several processes; exact search in memory and Qdrant for
//! face vectors.
//!
//! Back ends point inwards: no other room knows one of these.

#[cfg(test)]
mod conformance;
pub mod exact;
#[cfg(test)]
mod move_tests;
pub mod nats;
pub mod qdrant;
#[cfg(test)]
mod qdrant_fake;
pub mod sqlite;

use std::path::PathBuf;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder can't be made or written.
    #[error("the data folder {path} can't be used: {source}; check its permissions or choose another with --data-dir")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another server runs on it.
    #[error("the data folder {0} is in use by another visage server; stop that one or choose another with --data-dir")]
    InUse(PathBuf),
    /// Data of a newer version.
    #[error(
        "the data in {path} is of version {found}, this program knows up to {known}: use a newer visage, or restore the backup made before the upgrade"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// The NATS servers.
    #[error("the cluster's state can't be used: {0}")]
    Cluster(String),
    /// What is sealed can't be read.
    #[error("the data folder's key: {0}")]
    Key(#[source] crate::vault::VaultError),
    /// The disk takes or gives nothing.
    #[error("the database {path} can't be used: {message}")]
    Disk {
        /// Which file.
        path: PathBuf,
        /// The cause, and what to do.
        message: String,
    },
    /// The database is damaged or fails.
    #[error(
        "the database {path} can't be opened: {message}; restore a backup (`visage backup restore`), or move the file away to start anew"
    )]
    Database {
        /// Which file.
        path: PathBuf,
        /// The cause.
        message: String,
    },
}
