//! Fetch, convert, verify, put into place: an interrupted pull leaves nothing half-written under a model's name.

use std::{fs, io::Write, path::Path};

use super::{Manifest, ModelError, convert, fetch, load, path_of, sha256};
use crate::ids::ModelId;

/// What became of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// It was there with the right hash.
    Present,
    /// It was fetched and prepared.
    Fetched,
}

/// Makes sure that a model is in `dir`, trying its sources in order. `progress` gets what is done, bytes so far and in all.
///
/// # Errors
/// When every source fails (each is named with its reason), or the folder can't be written.
pub fn pull(
    dir: &Path,
    id: &ModelId,
    manifest: &Manifest,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Pulled, ModelError> {
    if load(dir, id, manifest).is_ok() {
        return Ok(Pulled::Present);
    }
    let entry = manifest.entry(id)?;
    let path = path_of(dir, entry);
    fs::create_dir_all(dir).map_err(ModelError::file(dir))?;
    let mut tried = Vec::new();
    for source in &entry.sources {
        let converter = source.convert.unwrap_or(entry.convert);
        progress(&source.from, 0, 0);
        let fetched = fetch::fetch(source, &|p| convert::inputs(converter, p), &mut |done, total| {
            progress(&source.from, done, total);
        });
        let outcome = fetched.and_then(|files| {
            let onnx = convert::convert(converter, &files).map_err(|e| e.to_string())?;
            let found = sha256(&onnx);
            if entry.onnx_sha256.is_empty() || entry.onnx_sha256 == found {
                Ok(onnx)
            } else {
                Err(format!("the prepared graph has SHA-256 {found}, {} is needed", entry.onnx_sha256))
            }
        });
        match outcome {
            Ok(onnx) => {
                let mut part = tempfile::NamedTempFile::new_in(dir).map_err(ModelError::file(dir))?;
                part.write_all(&onnx).and_then(|()| part.as_file().sync_all()).map_err(ModelError::file(&path))?;
                part.persist(&path).map_err(|e| ModelError::File { path: path.clone(), source: e.error })?;
                return Ok(Pulled::Fetched);
            }
            Err(why) => tried.push(format!("{}: {why}", source.from)),
        }
    }
    Err(ModelError::Fetch { id: id.clone(), tried })
}
