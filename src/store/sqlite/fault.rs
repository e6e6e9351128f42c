//! What the database's errors mean for whoever asked: the disk's faults pass, others don't.

use std::path::Path;

use rusqlite::ErrorCode;

use super::CommandError;
use crate::store::StoreError;

/// What a fault of the disk is and what to do; `None` for any other error.
pub(super) fn of_the_disk(error: &rusqlite::Error) -> Option<String> {
    let rusqlite::Error::SqliteFailure(code, _) = error else { return None };
    Some(match code.code {
        ErrorCode::DiskFull => "the disk of the data folder is full; make room there".to_owned(),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            "the data folder can't be written any more; see whether its file system became read-only, and its permissions".to_owned()
        }
        ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::FileLockingProtocolFailed => {
            format!("the disk of the data folder fails ({error}); see the system's log")
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "the database is held by another program for too long; see who works on the data folder".to_owned()
        }
        ErrorCode::OutOfMemory => "the database got no memory".to_owned(),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            format!("the database is damaged ({error}); stop the server and restore a backup (`visage backup restore`)")
        }
        _ => return None,
    })
}

impl CommandError {
    /// What a fault of the disk is and what to do; `None` for any other error.
    pub(in crate::store) fn of_the_disk(&self) -> Option<String> {
        match self {
            Self::Sql(error) => of_the_disk(error),
            Self::Disk(message) => Some(message.clone()),
            _ => None,
        }
    }
}

/// An error of opening a database.
pub(super) fn opening(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |error| {
        let code = error.sqlite_error_code();
        let damaged = matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
        match of_the_disk(&error).filter(|_| !damaged) {
            Some(message) => StoreError::Disk { path: path.clone(), message },
            None => StoreError::Database { path: path.clone(), message: error.to_string() },
        }
    }
}

/// The same for work that was done while it was opened.
pub(super) fn opening_work(path: &Path) -> impl Fn(CommandError) -> StoreError {
    let path = path.to_owned();
    move |error| match error {
        CommandError::Sql(error) => opening(&path)(error),
        CommandError::Disk(message) => StoreError::Disk { path: path.clone(), message },
        other => StoreError::Database { path: path.clone(), message: other.to_string() },
    }
}
