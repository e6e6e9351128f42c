//! `visage identify --offline`: the models run in this process against a data directory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::configured;
use crate::{
    api::convert,
    cli::{error::Failure, output::Io, remote::identify::Identify},
    config::{Config, types::GalleryBackend},
    models::manifest,
    proto::v1::{IdentifyFacesRequest, IdentifyFacesResponse, ImageSize},
    server::build::Recognition,
};

/// Models and gallery, loaded once for all pictures of a call.
pub struct Recognizer(Recognition);

impl Recognizer {
    /// Loads the models and the gallery that a server with this configuration file would use; no server may run on the data directory.
    /// Faces are searched in memory whatever the configuration says: nothing here may change a vector server. What the user should know
    /// of the gallery is said on stderr.
    ///
    /// # Errors
    /// When the configuration is faulty, the directory does not exist or is in use, or a model is missing.
    pub async fn open(config: Option<&Path>, data_dir: Option<&Path>, io: &mut Io<'_>) -> anyhow::Result<Self> {
        let flags: Vec<_> = data_dir.map(|dir| ("server.data_dir", configured::path(dir))).into_iter().collect();
        let mut config = configured::load(config, &flags)?;
        let dir = &config.server.data_dir;
        anyhow::ensure!(dir.is_dir(), "data directory {} does not exist; give it with --data-dir", dir.display());
        if std::mem::take(&mut config.gallery.backend) != GalleryBackend::Exact {
            io.remark(
                "note: --offline searches the faces of the data directory in memory; the vector server is not asked",
            )?;
        }
        let recognition = Recognition::open(&config).await?;
        // Look-alikes and classifier as the server would have them.
        recognition.gallery.catch_up(&CancellationToken::new()).await?;
        if let Some(warning) = foreign(&config, &recognition).await? {
            io.remark(warning)?;
        }
        Ok(Self(recognition))
    }
}

/// A warning when people are enrolled, and none of them with the model in use: then nobody can be named.
async fn foreign(config: &Config, recognition: &Recognition) -> anyhow::Result<Option<String>> {
    let (store, own) = (recognition.store.gallery(), recognition.gallery.model());
    let (_, faces) = store.counts().await?;
    if faces == 0 || !store.all_faces(&own).await?.is_empty() {
        return Ok(None);
    }
    let user = Some(&config.models.manifest).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut others = Vec::new();
    for entry in manifest::load(user.as_deref()).context("the models of the gallery are unknown")?.entries() {
        if !store.all_faces(&entry.id).await?.is_empty() {
            others.push(entry.id.to_string());
        }
    }
    let others = if others.is_empty() { "other models".to_owned() } else { others.join(", ") };
    Ok(Some(format!(
        "warning: nobody can be named: the {faces} faces of the gallery were enrolled with {others}, and {own} is in use; \
         move them with `visage gallery reembed`, or enrol again"
    )))
}

#[async_trait]
impl Identify for Recognizer {
    async fn identify(&mut self, request: IdentifyFacesRequest) -> Result<IdentifyFacesResponse, Failure> {
        let answer =
            self.0.desk.identify(request.image, &request.watchlists, request.threshold, request.annotate).await;
        let (found, jpeg) = answer.map_err(|e| Failure::new(e.to_string()))?;
        Ok(IdentifyFacesResponse {
            size: Some(ImageSize { width: found.width, height: found.height }),
            faces: found.faces.iter().map(convert::face::identified).collect(),
            annotated_jpeg: jpeg.unwrap_or_default(),
        })
    }
}
