//! Fetched weights → ONNX graphs. Deterministic: the same bytes in give the same bytes out, so the result has a hash.

mod face_resnet;
mod graph;
mod mobilefacenet;
mod onnx;
mod python_bytes;
mod tfjs;

use crate::inference::manifest::Convert;

/// Why weights could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the weights are not what the converter expects: {0}")]
pub struct ConvertError(pub String);

/// Files beside the named one that a converter reads, by its path in the package: the first is the named one.
pub fn inputs(convert: Convert, path: &str) -> Vec<String> {
    match convert {
        Convert::FaceApiResnet => vec![path.to_owned(), path.replace(".bin", "-weights_manifest.json")],
        Convert::TfjsMobilefacenet => vec![path.to_owned(), path.replace(".json", ".bin")],
        Convert::None | Convert::PythonBytes | Convert::FacenetPytorch => vec![path.to_owned()],
    }
}

/// Converts files, in the order of [`inputs`], to an ONNX model.
///
/// # Errors
/// When the files are not what the converter expects. PyTorch weights need their exporter (`models/export_facenet.py`).
pub fn convert(convert: Convert, files: &[Vec<u8>]) -> Result<Vec<u8>, ConvertError> {
    let missing = || ConvertError("a file is missing".into());
    let first = files.first().ok_or_else(missing)?;
    match convert {
        Convert::None => Ok(first.clone()),
        Convert::PythonBytes => python_bytes::literal(first),
        Convert::FaceApiResnet => face_resnet::from_face_api(first, files.get(1).ok_or_else(missing)?),
        Convert::TfjsMobilefacenet => mobilefacenet::convert(first, files.get(1).ok_or_else(missing)?),
        Convert::FacenetPytorch => Err(ConvertError(
            "PyTorch weights are exported by `python3 models/export_facenet.py WEIGHTS.pt OUT.onnx`; copy the result into the models folder".into(),
        )),
    }
}
