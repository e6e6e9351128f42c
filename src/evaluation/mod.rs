//! The papers' protocols on our faces: how often are we right, and how often wrongly sure?
//!
//! In: pictures of people ([`people`], [`pairs`]), embedded by the engine that serves ([`faces`]). Out: rates at thresholds
//! ([`scores`], [`folds`], [`gallery`], [`open_set`], [`routes`], [`groups`], [`discard`], [`hardship`], [`reliability`],
//! [`presentation`]), the detector's
//! average precision ([`widerface`], [`sizes`]), and pictures a person can look at ([`plot`], [`contact_sheet`]). Everything but [`faces`] is pure: values in,
//! values out. Absent on purpose: the command line, servers, databases, and pictures of its own.
//!
//! A *similarity* is that of [`crate::face::Embedding::similarity`]: higher is closer, comparable within a model only. A comparison that could
//! not be made, because no face was found, has the similarity minus infinity: it is always decided "different people", as NIST's FRTE counts
//! a failure to acquire.

pub mod contact_sheet;
pub mod damage;
pub mod discard;
pub mod faces;
pub mod folds;
pub mod gallery;
pub mod groups;
pub mod hardship;
pub mod open_set;
pub mod pairs;
pub mod people;
pub mod plot;
pub mod presentation;
pub mod probes;
pub mod promise;
pub mod reliability;
pub mod routes;
pub mod scores;
pub mod sizes;
pub mod tracking;
pub mod widerface;

pub use faces::{Face, Found};
pub use scores::Scores;

use std::path::{Path, PathBuf};

/// Why something can't be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// A file or folder can't be read.
    #[error("{path} can't be read: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line of a text file is not as its format asks.
    #[error("{path}, line {line}: {message}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what is expected.
        message: String,
    },
    /// There is not enough to evaluate.
    #[error("{0}")]
    TooLittle(String),
    /// A plot or contact sheet can't be drawn.
    #[error("the picture can't be drawn: {0}")]
    Drawing(String),
    /// The engine failed.
    #[error(transparent)]
    Face(#[from] crate::face::FaceError),
}

impl EvaluationError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::File { path: path.to_owned(), source }
    }
}

/// Most bytes of a text file that is read: WIDER FACE's ground truth has 1.5 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// A text file of a protocol, size checked before reading; bytes that are no UTF-8 become replacement characters.
pub(crate) fn read_text(path: &Path) -> Result<String, EvaluationError> {
    let size = std::fs::metadata(path).map_err(EvaluationError::file(path))?.len();
    if size > MAX_TEXT_BYTES {
        return Err(EvaluationError::TooLittle(format!(
            "{} has {size} bytes and is no list of this protocol (at most {MAX_TEXT_BYTES}); name another file",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(EvaluationError::file(path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
