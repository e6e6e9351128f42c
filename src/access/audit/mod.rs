//! Who did what: an append-only log of files in the data folder, each line chained to the one before it.
//!
//! In: calls that change something, that read faces, or that were refused. Out: lines of JSON under `audit/`, verified by anybody who can
//! compute SHA-256. Ids of resources are recorded, never pictures, names of people or secrets.
//! Absent on purpose: a guard against whoever may write the folder; they can make a chain anew.

pub mod check;
pub mod ledger;
pub mod record;
mod segments;
pub mod trail;
pub mod writer;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use check::{Broken, Verified};
pub use ledger::Ledger;
pub use record::{Entry, Record};
pub use trail::{Kind, Trail};
pub use writer::Audit;

/// The folder of the log in the data folder.
pub const FOLDER: &str = "audit";

/// What happens to calls that can't be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They are refused: nothing happens that nobody can trace.
    #[default]
    Refuse,
    /// They are answered, an error is logged, and what could not be recorded is counted.
    Warn,
}

/// Section `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Days that records are kept; 0 keeps them for ever.
    pub retention_days: u32,
    /// What happens to calls that can't be recorded.
    pub on_failure: OnFailure,
    /// Whether calls that read faces are recorded, too; changes always are.
    pub reads: bool,
    /// Bytes after which another file is begun.
    pub file_bytes: u64,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { retention_days: 365, on_failure: OnFailure::Refuse, reads: true, file_bytes: 16 << 20 }
    }
}

/// Why the log can't be written or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The disk.
    #[error("the audit log {path} can't be used: {message}; make room there, or mend the folder")]
    File {
        /// File or folder.
        path: PathBuf,
        /// The cause.
        message: String,
    },
    /// The last record is not one: the log was changed, and nothing can be chained to it.
    #[error(
        "the audit log is damaged in {path}: {message}; `visage audit verify` tells where, and a new log begins when the folder is moved away"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The writer ended.
    #[error("the audit log is closed; the server is ending")]
    Closed,
}

impl AuditError {
    /// A failure about a file.
    pub(super) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, message: error.to_string() }
    }
}
