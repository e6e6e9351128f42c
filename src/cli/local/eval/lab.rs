//! Models for an evaluation, and pictures through them with a progress bar.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{error::Failure, local::configured, output::Io},
    config::Config,
    evaluation::{
        Found,
        faces::{self, Choice, Face, Unreadable},
        hardship::Tried,
        people::Sample,
    },
    face::FaceEngine,
    ids::ModelId,
    inference::{
        Tiling,
        manifest::{EmbedderSpec, Role},
    },
    models::{self, Manifest, locate, manifest},
};

/// Options of all evaluations.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Common {
    /// Embedder to evaluate; repeat it, or separate ids by commas, to see several beside each other [default: models.embedder].
    #[arg(long = "embedder", value_name = "ID", value_delimiter = ',')]
    pub embedders: Vec<ModelId>,
    /// Longer side of the detector's input in pixels, or `original`; nothing is enlarged, and no tiles are looked at [default:
    /// inference.detector_size, and inference.tiling].
    #[arg(long, value_name = "PX", value_parser = size)]
    pub size: Option<u32>,
    /// Least detector score of a face, 0 to 1 [default: inference.min_score].
    #[arg(long, value_name = "SCORE", value_parser = share)]
    pub min_score: Option<f32>,
    /// Average each embedding with that of the mirror image.
    #[arg(long, value_name = "HOW", default_value = "default")]
    pub mirror: Mirror,
    /// Draw the curves: FILE.svg or FILE.png.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// The server's configuration file (TOML): sections `[models]` and `[inference]` count.
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Whether the mirror image is embedded, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mirror {
    /// As the model's manifest entry says.
    #[default]
    Default,
    /// Yes, at twice the cost.
    On,
    /// No.
    Off,
}

/// Which face of a picture counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// The largest.
    Largest,
    /// The large one near the middle.
    Central,
}

impl From<Which> for Choice {
    fn from(which: Which) -> Self {
        match which {
            Which::Largest => Self::Largest,
            Which::Central => Self::Central,
        }
    }
}

/// Pixels of an edge, or `original`.
pub fn size(text: &str) -> Result<u32, String> {
    if text == "original" {
        return Ok(u32::MAX);
    }
    let size = text.parse().ok().filter(|size| (64..=8192).contains(size));
    size.ok_or_else(|| "give pixels from 64 to 8192, or `original`".into())
}

/// A number from 0 to 1.
pub fn share(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|v| (0.0..=1.0).contains(v)).ok_or_else(|| "give a number from 0 to 1".into())
}

/// Where models come from and how they are run.
pub struct Lab {
    config: Config,
    manifest: Manifest,
    embedders: Vec<ModelId>,
    mirror: Mirror,
}

impl Lab {
    /// Reads configuration and manifest, and checks that every embedder that was asked for is one.
    ///
    /// # Errors
    /// When one of them is faulty, or a plot's ending says nothing.
    pub fn open(common: &Common) -> Result<Self, Failure> {
        if let Some(plot) = &common.plot {
            crate::evaluation::plot::check(plot)?;
        }
        let mut config = configured::load(common.config.as_deref(), &[]).map_err(anyhow::Error::from)?;
        if let Some(size) = common.size {
            config.inference.detector_size = size;
            // Tiles would look at a finer scale than the one asked for.
            config.inference.tiling = Tiling::Off;
        }
        if let Some(score) = common.min_score {
            config.inference.min_score = score;
        }
        let user = Some(&config.models.manifest).filter(|path| !path.is_empty());
        let manifest = manifest::load(user.map(Path::new)).map_err(anyhow::Error::from)?;
        let mut embedders = common.embedders.clone();
        if embedders.is_empty() {
            embedders.push(config.models.embedder.parse().map_err(anyhow::Error::from)?);
        }
        let mut seen = std::collections::BTreeSet::new();
        embedders.retain(|id| seen.insert(id.clone()));
        for id in &embedders {
            let entry = manifest.entry(id).map_err(anyhow::Error::from)?;
            if entry.role != Role::Embedder {
                return Err(Failure::usage(format!("model {id} is no embedder"))
                    .hint("`visage models list` shows which models are"));
            }
        }
        Ok(Self { config, manifest, embedders, mirror: common.mirror })
    }

    /// The detector at one size: no tiles, whatever the configuration says.
    pub fn untiled(mut self) -> Self {
        self.config.inference.tiling = Tiling::Off;
        self
    }

    /// The embedders to evaluate, in the order asked for.
    pub fn embedders(&self) -> &[ModelId] {
        &self.embedders
    }

    /// The configuration with the command line's changes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every embedder of the manifest.
    pub fn known_embedders(&self) -> impl Iterator<Item = &ModelId> {
        self.manifest.entries().filter(|e| e.role == Role::Embedder).map(|e| &e.id)
    }

    /// What the manifest says of an embedder, the mirror as asked for.
    ///
    /// # Errors
    /// When the model is none.
    pub fn spec(&self, id: &ModelId) -> Result<EmbedderSpec, Failure> {
        let entry = self.manifest.entry(id).map_err(anyhow::Error::from)?;
        let mut spec = entry.embedder.clone().ok_or_else(|| Failure::new(format!("model {id} is no embedder")))?;
        spec.mirror = self.mirrored(spec.mirror);
        Ok(spec)
    }

    fn mirrored(&self, default: bool) -> bool {
        match self.mirror {
            Mirror::Default => default,
            Mirror::On => true,
            Mirror::Off => false,
        }
    }

    /// Starts the engine that serves, with the detector of the configuration and this embedder.
    ///
    /// # Errors
    /// When a model or the runtime is missing; says what to run.
    pub async fn engine(&self, embedder: &ModelId) -> Result<FaceEngine, Failure> {
        self.start(embedder, None).await
    }

    /// As [`Self::engine`], with the first embedder and a liveness model.
    ///
    /// # Errors
    /// As [`Self::engine`], and when the model is none for liveness.
    pub async fn liveness_engine(&self, liveness: &ModelId) -> Result<FaceEngine, Failure> {
        let embedder = self.embedders.first().ok_or_else(|| Failure::new("no embedder is configured"))?;
        self.start(embedder, Some(liveness)).await
    }

    async fn start(&self, embedder: &ModelId, liveness: Option<&ModelId>) -> Result<FaceEngine, Failure> {
        let dir = locate::models_dir(&self.config.models.dir);
        let detector: ModelId = self.config.models.detector.parse().map_err(anyhow::Error::from)?;
        let mut inference = self.config.inference.clone();
        let library = locate::runtime_library(&inference.runtime_library).map_err(anyhow::Error::from)?;
        inference.runtime_library = library.display().to_string();
        let detector = models::load(&dir, &detector, &self.manifest).map_err(anyhow::Error::from)?;
        let mut embedder = models::load(&dir, embedder, &self.manifest).map_err(anyhow::Error::from)?;
        let liveness = liveness.map(|id| models::load(&dir, id, &self.manifest)).transpose();
        let liveness = liveness.map_err(anyhow::Error::from)?;
        if let Some(spec) = &mut embedder.entry.embedder {
            spec.mirror = self.mirrored(spec.mirror);
        }
        let start = move || FaceEngine::start_with(&inference, detector, embedder, liveness);
        let engine = tokio::task::spawn_blocking(start).await;
        let engine = engine.map_err(|e| Failure::new("loading the models was interrupted").because(&e))?;
        Ok(engine.map_err(anyhow::Error::from)?)
    }
}

/// A progress bar on stderr, if that is a terminal.
pub fn bar(io: &Io<'_>, what: &str, total: usize) -> ProgressBar {
    if !io.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    let template = "{msg:24} {bar:30} {pos}/{len} pictures, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// [`faces::embed`] with a progress bar.
///
/// # Errors
/// When the engine fails.
pub async fn embed(engine: &FaceEngine, files: &[PathBuf], choice: Choice, io: &Io<'_>) -> Result<Vec<Found>, Failure> {
    let bar = bar(io, engine.embedder().id.as_str(), files.len());
    let found = faces::embed(engine, files, choice, &|| bar.inc(1)).await;
    bar.finish_and_clear();
    Ok(found?)
}

/// [`faces::embed_every`] with a progress bar.
///
/// # Errors
/// When the engine fails.
pub async fn embed_every(
    engine: &FaceEngine,
    files: &[PathBuf],
    what: &str,
    io: &Io<'_>,
) -> Result<Vec<Result<Vec<Face>, Unreadable>>, Failure> {
    let bar = bar(io, what, files.len());
    let found = faces::embed_every(engine, files, &|| bar.inc(1)).await;
    bar.finish_and_clear();
    Ok(found?)
}

/// [`faces::embed_damaged`] with a progress bar.
///
/// # Errors
/// When the engine fails.
pub async fn embed_damaged(
    engine: &FaceEngine,
    samples: &[Sample],
    io: &Io<'_>,
) -> Result<(Vec<Tried>, Vec<Unreadable>), Failure> {
    let bar = bar(io, engine.embedder().id.as_str(), samples.len());
    let tried = faces::embed_damaged(engine, samples, &|| bar.inc(1)).await;
    bar.finish_and_clear();
    Ok(tried?)
}

/// [`faces::detect_at`] with a progress bar.
///
/// # Errors
/// When the engine fails.
pub async fn detect_at(
    engine: &FaceEngine,
    files: &[PathBuf],
    truth: u32,
    sides: &[u32],
    io: &Io<'_>,
) -> Result<Vec<Option<faces::AtSizes>>, Failure> {
    let bar = bar(io, engine.detector().id.as_str(), files.len());
    let found = faces::detect_at(engine, files, truth, sides, &|| bar.inc(1)).await;
    bar.finish_and_clear();
    Ok(found?)
}

/// [`faces::detect`] with a progress bar.
///
/// # Errors
/// When the engine fails.
pub async fn detect(
    engine: &FaceEngine,
    files: &[PathBuf],
    min_score: f32,
    io: &Io<'_>,
) -> Result<Vec<Option<Vec<crate::face::Detection>>>, Failure> {
    let bar = bar(io, engine.detector().id.as_str(), files.len());
    let found = faces::detect(engine, files, min_score, &|| bar.inc(1)).await;
    bar.finish_and_clear();
    Ok(found?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares() {
        assert_eq!((size("640"), size("original")), (Ok(640), Ok(u32::MAX)));
        assert!(size("0").is_err() && size("big").is_err() && size("9000").is_err());
        assert_eq!(share("0.5"), Ok(0.5));
        assert!(share("1.5").is_err() && share("NaN").is_err());
    }

    #[test]
    fn a_size_asked_for_is_the_size_that_runs() {
        let tiling = |common: &Common| Lab::open(common).unwrap().config().inference.tiling;
        assert_eq!(tiling(&Common::default()), Tiling::Stills);
        assert_eq!(tiling(&Common { size: Some(320), ..Common::default() }), Tiling::Off);
        assert_eq!(Lab::open(&Common::default()).unwrap().untiled().config().inference.tiling, Tiling::Off);
    }

    #[test]
    fn a_detector_is_no_embedder_and_an_unknown_model_is_named() {
        let common = |id: &str| Common { embedders: vec![id.parse().unwrap()], ..Common::default() };
        let message = |id: &str| Lab::open(&common(id)).err().unwrap().message;
        assert!(message("retinaface-mnet025").contains("no embedder"));
        assert!(message("nonsense").contains("there is no model nonsense"));
        let twice =
            Common { embedders: vec!["mobilefacenet".parse().unwrap(); 2], mirror: Mirror::On, ..Common::default() };
        let lab = Lab::open(&twice).unwrap();
        assert_eq!(lab.embedders().len(), 1);
        assert!(lab.spec(&lab.embedders()[0]).unwrap().mirror);
        let plot = Common { plot: Some("x.pdf".into()), ..Common::default() };
        assert!(Lab::open(&plot).err().unwrap().message.contains(".svg"));
    }
}
