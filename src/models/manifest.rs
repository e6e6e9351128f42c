//! `manifest.toml` → checked entries: the built-in one, with a user's file over it.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::ModelError;
use crate::{
    ids::ModelId,
    inference::manifest::{CropRecipe, ModelEntry, Role},
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
    let is_hash = |h: &String| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    if !entry.onnx_sha256.is_empty() && !is_hash(&entry.onnx_sha256) {
        return Err("onnx_sha256 is not 64 lower-case hex digits".into());
    }
    if let Some(bad) = entry.sources.iter().flat_map(|s| &s.sha256).find(|h| !is_hash(h)) {
        return Err(format!("sha256 {bad:?} is not 64 lower-case hex digits"));
    }
    let schemes = ["npm:", "pypi:", "https://", "file:"];
    if let Some(bad) = entry.sources.iter().find(|s| !schemes.iter().any(|p| s.from.starts_with(p))) {
        return Err(format!("source {:?} is none of {schemes:?}", bad.from));
    }
    if !entry.input.mean.iter().chain(&entry.input.scale).all(|v| v.is_finite()) {
        return Err("input.mean and input.scale must be finite".into());
    }
    match (entry.role, &entry.detector, &entry.embedder) {
        (Role::Detector, Some(_), None) => Ok(()),
        (Role::Embedder, None, Some(e)) => {
            let edge = 16..=1024;
            if !edge.contains(&entry.input.width) || !edge.contains(&entry.input.height) {
                return Err("input.width and input.height of an embedder must be 16 to 1024".into());
            }
            if !(1..=4096).contains(&e.size) {
                return Err("embedder.size must be 1 to 4096".into());
            }
            match e.crop {
                CropRecipe::Box { margin } if !(0.0..=entry.input.width as f32 / 2.0).contains(&margin) => {
                    Err("embedder.crop.margin must be 0 to half the input".into())
                }
                _ => Ok(()),
            }
        }
        _ => Err("a detector has a [model.detector] part, an embedder a [model.embedder] part, and not both".into()),
    }
}

impl Manifest {
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
