//! Models as files: described by the manifest, fetched, converted to ONNX, verified by hash before they are loaded.
//!
//! In: `models/manifest.toml` (built in, or the user's). Out: a [`LoadedModel`]. Absent on purpose: the runtime that runs them.

pub mod convert;
pub mod export;
pub mod fetch;
pub mod locate;
pub mod manifest;
pub mod pull;

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

pub use crate::inference::manifest::LoadedModel;
use crate::{ids::ModelId, inference::manifest::ModelEntry};
pub use manifest::Manifest;

/// Why a model can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The manifest file.
    #[error("the model manifest {path} can't be used: {message}")]
    Manifest {
        /// Which file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Not in the manifest.
    #[error("there is no model {id} in the manifest; there are {known}")]
    Unknown {
        /// What was asked for.
        id: ModelId,
        /// What there is.
        known: String,
    },
    /// The file is not there.
    #[error("model {id} is missing: {path} does not exist; run `visage models pull {id}`")]
    Missing {
        /// Its id.
        id: ModelId,
        /// Where it should be.
        path: PathBuf,
    },
    /// The file is another one.
    #[error(
        "model {id} is not the file that the manifest describes: {path} has SHA-256 {found}, {wanted} is needed; run `visage models pull {id}`"
    )]
    WrongHash {
        /// Its id.
        id: ModelId,
        /// Where it is.
        path: PathBuf,
        /// SHA-256 of the file.
        found: String,
        /// SHA-256 of the manifest.
        wanted: String,
    },
    /// The runtime library is nowhere.
    #[error("the ONNX Runtime library is missing: looked for {0}; run `make setup`, or set inference.runtime_library")]
    NoRuntime(String),
    /// Every source failed.
    #[error(
        "model {id} could not be fetched:\n  {}\nmend that and run `visage models pull {id}` again, or put the prepared file at {} \
         (docs/models.md)",
        .tried.join("\n  "),
        .path.display()
    )]
    Fetch {
        /// Its id.
        id: ModelId,
        /// Where it should be.
        path: PathBuf,
        /// Each source with what went wrong.
        tried: Vec<String>,
    },
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl ModelError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::File { path: path.to_owned(), source }
    }
}

/// SHA-256 as lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Where a prepared model lies.
pub fn path_of(dir: &Path, entry: &ModelEntry) -> PathBuf {
    dir.join(format!("{}.onnx", entry.id))
}

/// Where the hash of a model lies whose manifest entry has none: written by `pull` when it made the file.
fn pin_of(dir: &Path, entry: &ModelEntry) -> PathBuf {
    dir.join(format!("{}.onnx.sha256", entry.id))
}

/// The hashes that a model's file may have: the manifest's (sources may give other precisions), else the pinned one, else any.
fn accepted(dir: &Path, entry: &ModelEntry) -> Vec<String> {
    if entry.onnx_sha256.is_empty() {
        let pin = fs::read_to_string(pin_of(dir, entry)).map(|text| text.trim().to_owned());
        return pin.into_iter().filter(|hash| !hash.is_empty()).collect();
    }
    let others = entry.sources.iter().filter_map(|source| source.onnx_sha256.clone());
    std::iter::once(entry.onnx_sha256.clone()).chain(others).collect()
}

/// A model of the manifest, its file verified.
///
/// # Errors
/// When the id is unknown, the file is missing, or its hash is not the manifest's. A user's own model without a hash in its entry is
/// taken as it is, unless `pull` made its file: then it must still be that file.
pub fn load(dir: &Path, id: &ModelId, manifest: &Manifest) -> Result<LoadedModel, ModelError> {
    let entry = manifest.entry(id)?.clone();
    let path = path_of(dir, &entry);
    if !path.is_file() {
        return Err(ModelError::Missing { id: id.clone(), path });
    }
    let wanted = accepted(dir, &entry);
    if !wanted.is_empty() {
        let found = sha256(&fs::read(&path).map_err(ModelError::file(&path))?);
        if !wanted.contains(&found) {
            return Err(ModelError::WrongHash { id: id.clone(), path, found, wanted: wanted.join(" or ") });
        }
    }
    Ok(LoadedModel { entry, path })
}

#[cfg(test)]
mod tests;
