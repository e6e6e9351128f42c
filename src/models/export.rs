//! FaceNet's export: upstream's PyTorch weights → ONNX, by `models/export_facenet.py` in a Python that has PyTorch.
//!
//! The script and the hash of the network's code are compiled in, so an installed binary needs no repository. Absent on purpose:
//! installing PyTorch, which is the user's decision.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::fetch::{self, FetchError, Progress};
use crate::inference::manifest::Source;

const SCRIPT: &str = include_str!("../../models/export_facenet.py");
/// Where the network's code comes from; only this file of the package is read, and its downloader is never called.
const MODULE: &str = "pypi:facenet-pytorch==2.6.0/facenet_pytorch/models/inception_resnet_v1.py";
const MODULE_SHA256: &str = "ed9ad5168bb45da68850a4e84667eb665226068a95ec9fdd03fb554850d7b749";
const PACKAGE_SHA256: &str = "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca";
/// Names another interpreter.
const PYTHON: &str = "VISAGE_PYTHON";

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No interpreter with PyTorch.
    #[error(
        "PyTorch is needed to turn these weights into ONNX, and none of {tried} has it; install it \
         (`apt-get install python3-torch` on Debian, or `pip install torch`), or name an interpreter that has it in {PYTHON}"
    )]
    NoTorch {
        /// The interpreters that were asked.
        tried: String,
    },
    /// The network's code.
    #[error("the network's code could not be fetched ({MODULE}): {0}")]
    Module(#[from] FetchError),
    /// The script failed.
    #[error("models/export_facenet.py failed: {0}")]
    Script(String),
    /// A temporary file.
    #[error("a temporary file can't be used: {0}")]
    File(#[from] std::io::Error),
}

/// A Python that has PyTorch: `VISAGE_PYTHON` alone if it is set, else `python3` of the path, else Debian's.
///
/// # Errors
/// When there is none; say so before the weights, 107 MB, are fetched.
pub fn python() -> Result<PathBuf, ExportError> {
    let named = std::env::var_os(PYTHON).filter(|name| !name.is_empty()).map(PathBuf::from);
    let candidates = named.map_or_else(|| vec!["python3".into(), "/usr/bin/python3".into()], |name| vec![name]);
    first_with_torch(&candidates)
}

fn first_with_torch(candidates: &[PathBuf]) -> Result<PathBuf, ExportError> {
    let has = |python: &&PathBuf| {
        Command::new(python).args(["-c", "import torch"]).output().is_ok_and(|output| output.status.success())
    };
    candidates.iter().find(has).cloned().ok_or_else(|| ExportError::NoTorch {
        tried: candidates.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

/// Exports weights (the bytes of upstream's `.pt` file) to ONNX.
///
/// # Errors
/// When the network's code can't be fetched, or the script refuses the weights.
pub fn facenet(python: &Path, weights: &[u8], parts: &Path, progress: Progress<'_>) -> Result<Vec<u8>, ExportError> {
    let source = Source {
        from: MODULE.into(),
        sha256: vec![MODULE_SHA256.into()],
        package_sha256: Some(PACKAGE_SHA256.into()),
        convert: None,
        onnx_sha256: None,
    };
    let module = fetch::fetch(&source, &|path| vec![path.to_owned()], parts, progress)?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("inception_resnet_v1.py"), module.concat())?;
    fs::write(at("export_facenet.py"), SCRIPT)?;
    fs::write(at("weights.pt"), weights)?;
    let output = Command::new(python)
        .arg(at("export_facenet.py"))
        .arg("--module")
        .arg(at("inception_resnet_v1.py"))
        .arg("--weights")
        .arg(at("weights.pt"))
        .arg("--out")
        .arg(at("out.onnx"))
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        return Err(ExportError::Script(last.to_owned()));
    }
    Ok(fs::read(at("out.onnx"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_pytorch_the_error_says_how_to_get_it() {
        let error = first_with_torch(&["/bin/false".into(), "/no/such/python".into()]).unwrap_err().to_string();
        for word in ["/bin/false, /no/such/python", "apt-get install python3-torch", "VISAGE_PYTHON"] {
            assert!(error.contains(word), "{word} is not in: {error}");
        }
    }
}
