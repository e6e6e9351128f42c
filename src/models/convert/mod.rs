//! Fetched weights → ONNX graphs. Deterministic: the same bytes in give the same bytes out, so the result has a hash.

mod dlib_dat;
mod face_resnet;
mod graph;
mod mobilefacenet;
mod python_bytes;
mod tfjs;
pub(super) mod tfjs_classifier;

use crate::inference::manifest::Convert;

/// Why weights could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the weights are not what the converter expects: {0}")]
pub struct ConvertError(pub String);

/// Files beside the named one that a converter reads, by its path in the package: the first is the named one.
pub fn inputs(convert: Convert, path: &str) -> Vec<String> {
    match convert {
        Convert::FaceApiResnet => vec![path.to_owned(), path.replace(".bin", "-weights_manifest.json")],
        Convert::TfjsMobilefacenet | Convert::TfjsClassifier => vec![path.to_owned(), path.replace(".json", ".bin")],
        Convert::None | Convert::PythonBytes | Convert::DlibDat | Convert::FacenetPytorch => vec![path.to_owned()],
    }
}

/// Converts files, in the order of [`inputs`], to an ONNX model.
///
/// # Errors
/// When the files are not what the converter expects, or are PyTorch's: those need [`super::export`].
pub fn convert(convert: Convert, files: &[Vec<u8>]) -> Result<Vec<u8>, ConvertError> {
    let missing = || ConvertError("a file is missing".into());
    let first = files.first().ok_or_else(missing)?;
    match convert {
        Convert::None => Ok(first.clone()),
        Convert::PythonBytes => python_bytes::literal(first),
        Convert::FaceApiResnet => face_resnet::from_face_api(first, files.get(1).ok_or_else(missing)?),
        Convert::DlibDat => dlib_dat::from_dat(first),
        Convert::TfjsMobilefacenet => mobilefacenet::convert(first, files.get(1).ok_or_else(missing)?),
        Convert::TfjsClassifier => tfjs_classifier::convert(first, files.get(1).ok_or_else(missing)?),
        Convert::FacenetPytorch => Err(ConvertError("PyTorch weights are exported, not converted".into())),
    }
}

/// A small valid model for tests: `[batch, 3, edge, edge]` → the mean of each channel.
#[cfg(test)]
pub(super) fn channel_means(edge: i64) -> Vec<u8> {
    let mut graph = graph::Graph::new("means", "input", &[3, edge, edge]);
    let mean = graph.op("GlobalAveragePool", &["input"], vec![]);
    let flat = graph.op("Flatten", &[&mean], vec![]);
    graph.finish(&flat, "embedding", 3)
}
