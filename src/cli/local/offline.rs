//! `visage identify --offline`: the models run in this process against a data directory.

use std::path::Path;

use async_trait::async_trait;

use crate::{
    api::convert,
    cli::{error::Failure, remote::identify::Identify},
    config,
    proto::v1::{IdentifyFacesRequest, IdentifyFacesResponse, ImageSize},
    server::build::Recognition,
};

/// Models and gallery, loaded once for all pictures of a call.
pub struct Recognizer(Recognition);

impl Recognizer {
    /// Loads the models and the gallery of a data directory; no server may run on it.
    ///
    /// # Errors
    /// When the directory does not exist, is in use, or a model is missing.
    pub async fn open(data_dir: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            data_dir.is_dir(),
            "data directory {} does not exist; give it with --data-dir",
            data_dir.display()
        );
        let flags = [("server.data_dir", config::load::Flag::Text(data_dir.display().to_string()))];
        let loaded = config::load(None, &flags)?;
        Ok(Self(Recognition::open(&loaded.config).await?))
    }
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
