//! Models and settings for a measurement.

use std::path::{Path, PathBuf};

use crate::{
    cli::{error::Failure, local::configured},
    config::Config,
    face::FaceEngine,
    ids::ModelId,
    inference::{
        InferenceSettings, Tiling,
        manifest::{LoadedModel, ModelEntry},
    },
    models::{self, Manifest, locate, manifest},
};

/// Most runs that are asked for at once.
const MOST_ASKING: usize = 16;

/// Options of the commands that run networks.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Pictures or faces that run together [default: 1].
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: usize,
    /// Runs that are asked for at once: 1 is one camera on a quiet server, more keep the queue filled as a busy one's is.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub asking: usize,
    /// Threads inside one run of a network.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// How long to measure, seconds.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Size of the decoded picture [default: 1920x1080, or the file's own].
    #[arg(long, value_name = "WxH", value_parser = super::scene::size)]
    pub frame: Option<(u32, u32)>,
    /// Use this picture instead of a made one.
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// Embedder [default: models.embedder].
    #[arg(long, value_name = "ID")]
    pub embedder: Option<ModelId>,
    /// The server's configuration file (TOML): sections `[models]` and `[inference]` count.
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
}

impl Common {
    /// Refuses what can't be measured.
    ///
    /// # Errors
    /// With the range that is possible.
    pub fn check(&self, most: usize) -> Result<(), Failure> {
        let faults = [
            ((1..=most).contains(&self.batch), format!("--batch: give 1 to {most}")),
            ((1..=MOST_ASKING).contains(&self.asking), format!("--asking: give 1 to {MOST_ASKING}")),
            ((1..=256).contains(&self.threads), "--threads: give 1 to 256".into()),
            (self.seconds > 0.0 && self.seconds <= 3600.0, "--seconds: give a time above 0, at most 3600".into()),
        ];
        match faults.into_iter().find(|(fine, _)| !fine) {
            Some((_, text)) => Err(Failure::usage(text)),
            None => Ok(()),
        }
    }

    /// The pictures of a batch: made ones differ, a file is one picture shown several times.
    ///
    /// # Errors
    /// When the file is no picture.
    pub async fn pictures(&self) -> Result<Vec<crate::frame::Picture>, Failure> {
        if let Some(path) = &self.picture {
            return Ok(vec![super::scene::from_file(path, self.frame).await?; self.batch]);
        }
        let size = self.frame.unwrap_or((1920, 1080));
        Ok((0..self.batch as u64).map(|seed| super::scene::made(size, seed)).collect())
    }
}

/// Configuration and models.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    manifest: Manifest,
    embedder: ModelId,
}

impl Setup {
    /// Reads configuration and manifest.
    ///
    /// # Errors
    /// When one of them is faulty.
    pub fn open(config: Option<&Path>, embedder: Option<&ModelId>) -> Result<Self, Failure> {
        let config = configured::load(config, &[]).map_err(anyhow::Error::from)?;
        let user = Some(&config.models.manifest).filter(|path| !path.is_empty());
        let manifest = manifest::load(user.map(Path::new)).map_err(anyhow::Error::from)?;
        let embedder = match embedder {
            Some(id) => id.clone(),
            None => config.models.embedder.parse().map_err(anyhow::Error::from)?,
        };
        Ok(Self { config, manifest, embedder })
    }

    /// What the manifest says of the embedder.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn embedder_entry(&self) -> Result<&ModelEntry, Failure> {
        Ok(self.manifest.entry(&self.embedder).map_err(anyhow::Error::from)?)
    }

    /// The settings of one worker that runs whole batches, beside a bare session with the same threads.
    ///
    /// # Errors
    /// When there is no runtime library.
    pub fn inference(&self, common: &Common) -> Result<InferenceSettings, Failure> {
        let mut inference = self.config.inference.clone();
        let library = locate::runtime_library(&inference.runtime_library).map_err(anyhow::Error::from)?;
        inference.runtime_library = library.display().to_string();
        (inference.workers, inference.intra_threads, inference.max_batch) = (1, common.threads, common.batch);
        // All requests of a batch are handed over at once; the wait only keeps a batch from being cut in the middle of that.
        inference.batch_wait_ms = if common.batch > 1 { 1000 } else { 0 };
        inference.tiling = Tiling::Off;
        Ok(inference)
    }

    /// The detector and the embedder.
    ///
    /// # Errors
    /// When one is missing; says what to run.
    pub fn models(&self) -> Result<(LoadedModel, LoadedModel), Failure> {
        let dir = locate::models_dir(&self.config.models.dir);
        let detector: ModelId = self.config.models.detector.parse().map_err(anyhow::Error::from)?;
        let load = |id: &ModelId| models::load(&dir, id, &self.manifest).map_err(anyhow::Error::from);
        Ok((load(&detector)?, load(&self.embedder)?))
    }

    /// The engine that serves.
    ///
    /// # Errors
    /// When a model or the runtime is missing; says what to run.
    pub async fn engine(
        inference: InferenceSettings,
        detector: LoadedModel,
        embedder: LoadedModel,
    ) -> Result<FaceEngine, Failure> {
        let start = tokio::task::spawn_blocking(move || FaceEngine::start(&inference, detector, embedder)).await;
        let engine = start.map_err(|e| Failure::new("loading the models was interrupted").because(&e))?;
        Ok(engine.map_err(anyhow::Error::from)?)
    }
}
