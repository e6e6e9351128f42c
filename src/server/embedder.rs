//! Which embedder is in use, and what it needs: its engine, its index, its thresholds.
//!
//! The data folder decides: people were enrolled with a model, or moved to one (`visage gallery reembed`), and once there are faces the
//! folder keeps which. `models.embedder` counts for a new folder.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;

use super::{StartError, build::blocking};
use crate::{
    config::{Config, types::GalleryBackend},
    face::{FaceEngine, FaceError},
    identity::{EmbeddingStore, GalleryError, VectorIndex, embeddings::Coverage},
    ids::ModelId,
    inference::manifest::{ModelEntry, Role},
    models::{self, ModelError, manifest::Manifest},
    pipeline::{picture::IdentitySettings, reembed::ModelLoader},
    store::{exact::ExactIndex, qdrant::QdrantIndex},
};

/// The embedder of a data folder: the one that the gallery was moved to, else the configured one where it knows faces or nobody does, else
/// the one that knows most faces.
pub fn choose(configured: &ModelId, moved_to: Option<&ModelId>, coverage: &[Coverage]) -> ModelId {
    if let Some(model) = moved_to {
        return model.clone();
    }
    let most = coverage.iter().max_by_key(|c| c.faces);
    match most {
        Some(most) if !coverage.iter().any(|c| c.model == *configured) => most.model.clone(),
        _ => configured.clone(),
    }
}

/// What to say when the data folder uses another embedder than the configuration names.
pub fn overruled(configured: &ModelId, in_use: &ModelId) -> Option<String> {
    (configured != in_use).then(|| {
        format!(
            "models.embedder = {configured} does not count: the faces of this data folder are of {in_use}, which is in use; move them with \
             `visage gallery reembed --model {configured}`, or set models.embedder = \"{in_use}\""
        )
    })
}

/// The embedder of an open data folder; says so when it is not the configured one.
pub(super) async fn in_use(config: &Config, store: &dyn EmbeddingStore) -> Result<ModelId, StartError> {
    let configured: ModelId = config.models.embedder.parse()?;
    let coverage = store.coverage().await?;
    let model = choose(&configured, store.model_in_use().await?.as_ref(), &coverage);
    if !coverage.is_empty() {
        store.settle_model(&model).await?;
    }
    if let Some(text) = overruled(&configured, &model) {
        tracing::warn!("{text}");
    }
    Ok(model)
}

fn manifest(config: &Config) -> Result<Manifest, ModelError> {
    let own = Some(config.models.manifest.as_str()).filter(|m| !m.is_empty()).map(PathBuf::from);
    models::manifest::load(own.as_deref())
}

/// An engine with the configured detector and an embedder; `workers` overrides the configured number. Blocks.
pub(super) fn engine(config: &Config, embedder: &ModelId, workers: Option<usize>) -> Result<FaceEngine, StartError> {
    let manifest = manifest(config)?;
    let dir = models::locate::models_dir(&config.models.dir);
    let detector: ModelId = config.models.detector.parse()?;
    let detector = models::load(&dir, &detector, &manifest)?;
    let embedder = models::load(&dir, embedder, &manifest)?;
    let library = models::locate::runtime_library(&config.inference.runtime_library)?;
    let mut inference = config.inference.clone();
    inference.runtime_library = library.display().to_string();
    inference.workers = workers.unwrap_or(inference.workers);
    let liveness = match config.liveness.model.as_str() {
        "" => None,
        id => Some(models::load(&dir, &id.parse()?, &manifest)?),
    };
    Ok(FaceEngine::start_with(&inference, detector, embedder, liveness)?)
}

/// The index of an embedder in the configured back end.
pub(super) async fn index(config: &Config, embedder: &ModelEntry) -> Result<Arc<dyn VectorIndex>, GalleryError> {
    let Some(spec) = &embedder.embedder else {
        return Err(GalleryError::Storage(format!("model {} is no embedder", embedder.id)));
    };
    Ok(match config.gallery.backend {
        GalleryBackend::Qdrant => {
            Arc::new(QdrantIndex::connect(&config.gallery.qdrant, &embedder.id, spec.size, spec.distance).await?)
        }
        GalleryBackend::Exact => Arc::new(ExactIndex::new(embedder.id.clone(), spec.size, spec.distance)),
    })
}

/// Empties an index that a crash left half-filled or half-emptied: people may have been erased since. Failures are tried again at the next
/// start, and by the next move.
pub(super) async fn empty_index_in_work(config: &Config, store: &dyn EmbeddingStore, in_use: &ModelId) {
    let emptied = async {
        let Some(model) = store.index_in_work().await? else { return Ok(()) };
        if model != *in_use && config.gallery.backend != GalleryBackend::Exact {
            let manifest = manifest(config)?;
            index(config, manifest.entry(&model)?).await?.clear().await?;
            tracing::info!(%model, "the index of another model, left half-done, was emptied");
        }
        Ok(store.set_index_in_work(None).await?)
    };
    if let Err(error) = emptied.await {
        let error: StartError = error;
        tracing::warn!(%error, "the index of another model, left half-done, could not be emptied");
    }
}

/// The configured thresholds, which are meant for the configured model.
pub(super) fn thresholds(config: &Config) -> IdentitySettings {
    IdentitySettings { model: config.models.embedder.parse().ok(), ..config.identity.clone() }
}

/// Loads models for a move.
pub(super) struct Loader(pub(super) Config);

#[async_trait]
impl ModelLoader for Loader {
    async fn engine(&self, model: &ModelId, background: bool) -> Result<FaceEngine, String> {
        let (config, model) = (self.0.clone(), model.clone());
        let started = blocking(move || engine(&config, &model, background.then_some(1))).await;
        started.and_then(|engine| engine).map_err(|error| match error {
            StartError::Face(FaceError::Model { model, message }) => format!("model {model}: {message}"),
            other => other.to_string(),
        })
    }

    fn known(&self, model: &ModelId) -> Result<(), String> {
        let manifest = manifest(&self.0).map_err(|e| e.to_string())?;
        let entry = manifest.entry(model).map_err(|e| e.to_string())?;
        let embeds = entry.role == Role::Embedder;
        embeds
            .then_some(())
            .ok_or_else(|| format!("model {model} is no embedder; `visage models list` shows which are"))
    }

    async fn index(&self, model: &ModelEntry) -> Result<Arc<dyn VectorIndex>, GalleryError> {
        index(&self.0, model).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_decides_and_the_configuration_for_an_empty_one() {
        let id = |text: &str| text.parse::<ModelId>().unwrap();
        let knows = |model: &str, faces| Coverage { model: id(model), people: faces, faces };
        let (dlib, other) = (id("dlib"), id("other"));
        assert_eq!(choose(&other, None, &[]), other, "an empty folder");
        assert_eq!(choose(&other, None, &[knows("dlib", 3)]), dlib, "enrolled with another");
        assert_eq!(choose(&other, None, &[knows("dlib", 3), knows("other", 1)]), other, "both know faces");
        assert_eq!(choose(&other, Some(&dlib), &[knows("dlib", 3), knows("other", 3)]), dlib, "moved");
        assert_eq!(choose(&other, Some(&dlib), &[]), dlib, "moved, and everybody was erased since");
        assert!(overruled(&dlib, &dlib).is_none());
        let told = overruled(&other, &dlib).unwrap();
        assert!(told.contains("visage gallery reembed --model other") && told.contains("does not count"), "{told}");
    }
}
