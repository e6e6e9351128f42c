//! Fetch, convert, verify, put into place: an interrupted pull leaves nothing half-written under a model's name.

use std::{fs, io::Write, path::Path};

use super::{
    Manifest, ModelError, convert,
    export::{self, ExportError},
    fetch::{self, FetchError},
    load, path_of, pin_of, sha256,
};
use crate::{
    ids::ModelId,
    inference::manifest::{Convert, ModelEntry, Source},
    whole_file::WholeFile,
};

/// What became of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// It was there with the right hash.
    Present,
    /// It was fetched and prepared.
    Fetched,
}

/// Why one source gave no model.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Convert(#[from] convert::ConvertError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("the prepared graph has SHA-256 {found}, {wanted} is needed")]
    Hash { found: String, wanted: String },
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
    fs::create_dir_all(dir).map_err(ModelError::file(dir))?;
    let mut tried = Vec::new();
    for source in &entry.sources {
        progress(&source.from, 0, 0);
        match prepare(entry, source, dir, progress) {
            Ok(onnx) => {
                // Without a hash in the manifest, the file that was just made is the one to expect from now on.
                let pin = pin_of(dir, entry);
                if entry.onnx_sha256.is_empty() {
                    place(&pin, format!("{}\n", sha256(&onnx)).as_bytes())?;
                } else if pin.exists() {
                    fs::remove_file(&pin).map_err(ModelError::file(&pin))?;
                }
                place(&path_of(dir, entry), &onnx)?;
                return Ok(Pulled::Fetched);
            }
            Err(fault) => tried.push(format!("{}: {fault}", source.from)),
        }
    }
    if tried.is_empty() {
        tried.push("the manifest names no source: put the file there yourself".into());
    }
    Err(ModelError::Fetch { id: id.clone(), path: path_of(dir, entry), tried })
}

fn prepare(
    entry: &ModelEntry,
    source: &Source,
    dir: &Path,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Vec<u8>, Fault> {
    let converter = source.convert.unwrap_or(entry.convert);
    let python = if converter == Convert::FacenetPytorch { Some(export::python()?) } else { None };
    let mut bytes = |done, total| progress(&source.from, done, total);
    let files = fetch::fetch(source, &|path| convert::inputs(converter, path), dir, &mut bytes)?;
    let onnx = match python {
        Some(python) => {
            progress("exporting with PyTorch", 0, 0);
            export::facenet(&python, &files.concat(), dir, &mut |_, _| {})?
        }
        None => convert::convert(converter, &files)?,
    };
    let wanted = source.onnx_sha256.as_ref().unwrap_or(&entry.onnx_sha256);
    let found = sha256(&onnx);
    if wanted.is_empty() || *wanted == found { Ok(onnx) } else { Err(Fault::Hash { found, wanted: wanted.clone() }) }
}

/// Writes a file whole. Readable for everybody: the server may run as another user.
fn place(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let written = WholeFile::create(path).and_then(WholeFile::readable_by_all).and_then(|mut file| {
        file.write_all(bytes)?;
        file.finish()
    });
    written.map_err(ModelError::file(path))
}
