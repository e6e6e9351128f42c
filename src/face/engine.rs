//! The door to faces: owns the worker threads that run the detector and the embedder.
//!
//! Each worker owns a session of both networks, so detection and embedding share the cores by plan. Callers bound what they ask: a
//! camera asks for one thing at a time, still pictures wait for a place before they are decoded.

use std::{path::Path, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;

use super::{
    Detection, Embedding, Quality, alignment,
    job::{Buffers, FaceJob, Pair, Work},
    quality,
    retinaface::{self, RetinaFace},
    search::Window,
    tiling,
};
use crate::{
    frame::{
        Picture,
        scale::{self, Part},
    },
    inference::{
        Environment, GraphSource, InferenceSettings, NetworkError, OrtSession, Plan, Provider, Tiling, environment,
        manifest::{CropRecipe, LoadedModel, ModelEntry},
        plan,
        provider::{self, Chosen},
        trial,
        worker::{BatchRule, Refused, Workers},
    },
    telemetry,
};

/// Most requests that wait in all; beyond it they are refused.
const CAPACITY: usize = 20_000;

/// Why faces could not be found or embedded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FaceError {
    /// A network could not be loaded or run.
    #[error("model {model}: {message}")]
    Model {
        /// Its id.
        model: String,
        /// What the runtime said, with the next step.
        message: String,
    },
    /// The runtime library or execution provider is missing.
    #[error("{0}")]
    Runtime(String),
    /// Too many pictures wait; try again.
    #[error("too many pictures are waiting; try again in a moment")]
    Busy,
    /// The engine is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}

struct Inner {
    workers: Workers<FaceJob>,
    detector: Arc<ModelEntry>,
    embedder: Arc<ModelEntry>,
    liveness: Option<Arc<ModelEntry>>,
    settings: InferenceSettings,
    plan: Plan,
    chosen: Chosen,
    detector_graph: GraphSource,
}

/// Runs the detector and the embedder. Cheap to clone.
#[derive(Clone)]
pub struct FaceEngine(Arc<Inner>);

impl FaceEngine {
    /// Loads both networks, one session of each for every worker, and starts the workers. Blocks.
    ///
    /// # Errors
    /// When the runtime library or provider is missing, a graph can't be loaded, or a model has the wrong role.
    pub fn start(
        settings: &InferenceSettings,
        detector: LoadedModel,
        embedder: LoadedModel,
    ) -> Result<Self, FaceError> {
        Self::start_with(settings, detector, embedder, None)
    }

    /// As [`Self::start`], with a liveness model beside them.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        settings: &InferenceSettings,
        detector: LoadedModel,
        embedder: LoadedModel,
        liveness: Option<LoadedModel>,
    ) -> Result<Self, FaceError> {
        let environment =
            environment(Path::new(&settings.runtime_library)).map_err(|e| FaceError::Runtime(e.to_string()))?;
        let wrong = |model: &LoadedModel, role: &str| FaceError::Model {
            model: model.entry.id.to_string(),
            message: format!("it is no {role}; name another in [models]"),
        };
        if let Some(model) = liveness.as_ref().filter(|model| model.entry.liveness.is_none()) {
            let (model, message) = (model.entry.id.to_string(), "it is no liveness model; name another in [liveness]");
            return Err(FaceError::Model { model, message: message.into() });
        }
        let Some(decoding) = RetinaFace::of(&detector.entry) else { return Err(wrong(&detector, "detector")) };
        if embedder.entry.embedder.is_none() {
            return Err(wrong(&embedder, "embedder"));
        }
        let Planned { settings, plan, chosen, graph } = planned(&environment, settings, &detector, &decoding)?;
        let (detector_entry, embedder_entry) = (Arc::new(detector.entry), Arc::new(embedder.entry));
        let load = |graph: &GraphSource, entry: &ModelEntry| {
            OrtSession::load(&environment, graph, &settings).map_err(|e| refused(entry, e))
        };
        let liveness = liveness.map(|model| (GraphSource::from(model.path.as_path()), Arc::new(model.entry)));
        let embedder = GraphSource::from(embedder.path.as_path());
        let mut pairs = Vec::with_capacity(settings.workers);
        for _ in 0..settings.workers {
            pairs.push(Pair {
                detector: load(&graph, &detector_entry)?,
                embedder: load(&embedder, &embedder_entry)?,
                liveness: match &liveness {
                    Some((graph, entry)) => Some((load(graph, entry)?, entry.clone())),
                    None => None,
                },
                decoding: decoding.clone(),
                detector_entry: detector_entry.clone(),
                embedder_entry: embedder_entry.clone(),
                buffers: Buffers::default(),
            });
        }
        let rule = BatchRule {
            max: settings.max_batch,
            wait: Duration::from_millis(settings.batch_wait_ms),
            capacity: CAPACITY,
        };
        let workers = Workers::start("inference", pairs, rule).map_err(|e| FaceError::Runtime(e.to_string()))?;
        let (detector, embedder) = (detector_entry, embedder_entry);
        let liveness = liveness.map(|(_, entry)| entry);
        Ok(Self(Arc::new(Inner {
            workers,
            detector,
            embedder,
            liveness,
            settings,
            plan,
            chosen,
            detector_graph: graph,
        })))
    }

    /// Faces of a camera frame in its own pixels, highest score first. `min_score` overrides the setting. Tiles are looked at where the
    /// setting says so for cameras.
    ///
    /// # Errors
    /// When the network fails, too many requests wait, or the engine stops.
    pub async fn detect(&self, picture: &Picture, min_score: Option<f32>) -> Result<Vec<Detection>, FaceError> {
        self.detect_in(picture, min_score, self.0.settings.tiling == Tiling::All).await
    }

    /// Faces of a window of a camera frame, as [`FaceEngine::detect`].
    ///
    /// # Errors
    /// As for whole frames.
    pub async fn detect_within(
        &self,
        picture: &Picture,
        window: Window,
        min_score: Option<f32>,
    ) -> Result<Vec<Detection>, FaceError> {
        self.ask(picture, window, min_score.unwrap_or(self.0.settings.min_score)).await
    }

    /// Longer side of the detector's input where parts of camera frames may be searched ([`super::search`]); `None` where all are searched as a
    /// whole: on a graphics card frames of one size run together.
    pub fn searches_parts(&self) -> Option<u32> {
        let settings = &self.0.settings;
        let may = settings.search_parts && settings.tiling != Tiling::All && self.0.chosen.provider == Provider::Cpu;
        may.then_some(settings.detector_size)
    }

    /// Faces of a still picture, as [`FaceEngine::detect`]; tiles are looked at unless the setting is [`Tiling::Off`].
    ///
    /// # Errors
    /// As for camera frames.
    pub async fn detect_still(&self, picture: &Picture, min_score: Option<f32>) -> Result<Vec<Detection>, FaceError> {
        self.detect_in(picture, min_score, self.0.settings.tiling != Tiling::Off).await
    }

    /// Faces of a picture with a longer side of the detector's input other than the setting, without tiles.
    ///
    /// # Errors
    /// As for camera frames.
    pub async fn detect_at(&self, picture: &Picture, side: u32, min_score: f32) -> Result<Vec<Detection>, FaceError> {
        self.detect_part(picture, Part::whole(picture), side, min_score).await
    }

    async fn detect_in(
        &self,
        picture: &Picture,
        min_score: Option<f32>,
        tiled: bool,
    ) -> Result<Vec<Detection>, FaceError> {
        let (width, height) = (picture.width(), picture.height());
        let min_score = min_score.unwrap_or(self.0.settings.min_score);
        let side = self.0.settings.detector_size;
        let smallest = self.0.embedder.embedder.as_ref().map_or(0.0, |e| e.min_face_px);
        let whole = self.detect_part(picture, Part::whole(picture), side, min_score).await?;
        let parts = if tiled { tiling::tiles(width, height, side, smallest) } else { Vec::new() };
        if parts.is_empty() {
            return Ok(whole);
        }
        let one = |part: Part| async move { Ok((part, self.detect_part(picture, part, side, min_score).await?)) };
        // No more at once than there are workers: the tiles of one picture must not stand before everybody else's.
        let found: Result<Vec<_>, FaceError> =
            stream::iter(parts).map(one).buffered(self.workers()).try_collect().await;
        Ok(tiling::merged(whole, found?, width, height))
    }

    /// The faces of a part of a picture, in the picture's pixels.
    async fn detect_part(
        &self,
        picture: &Picture,
        part: Part,
        side: u32,
        min_score: f32,
    ) -> Result<Vec<Detection>, FaceError> {
        let size = scale::fitted(part.width, part.height, side);
        self.ask(picture, Window { part, size }, min_score).await
    }

    async fn ask(&self, picture: &Picture, window: Window, min_score: f32) -> Result<Vec<Detection>, FaceError> {
        let Window { part, size } = window;
        let (reply, answer) = oneshot::channel();
        self.submit(picture, Work::Detect { size, part, min_score, reply })?;
        answer.await.unwrap_or_else(|_| Err(self.failed(&self.0.detector)))
    }

    /// One embedding for each detection, in order; nothing for none. Landmarks of faces that the detector saw small are found again in a
    /// close-up first ([`super::refine`]).
    ///
    /// # Errors
    /// When the network fails, a face can't be aligned, or the engine stops.
    pub async fn embed(&self, picture: &Picture, detections: &[Detection]) -> Result<Vec<Embedding>, FaceError> {
        Ok(self.embed_refined(picture, detections).await?.into_iter().map(|(embedding, _)| embedding).collect())
    }

    /// As [`FaceEngine::embed`], each embedding with its detection as it was aligned: with the landmarks of the close-up, where there was one.
    ///
    /// # Errors
    /// As [`FaceEngine::embed`].
    pub async fn embed_refined(
        &self,
        picture: &Picture,
        detections: &[Detection],
    ) -> Result<Vec<(Embedding, Detection)>, FaceError> {
        if detections.is_empty() {
            return Ok(Vec::new());
        }
        let (width, height) = (picture.width(), picture.height());
        let input = scale::fitted(width, height, self.0.settings.detector_size);
        let scale = input.0 as f32 / width.max(1) as f32;
        let (reply, answer) = oneshot::channel();
        self.submit(picture, Work::Embed { detections: detections.to_vec(), scale, reply })?;
        answer.await.unwrap_or_else(|_| Err(self.failed(&self.0.embedder)))
    }

    /// Liveness of each detection, in order, 0 (picture, screen) to 1 (living); `None` for each where no model for it is in use. See
    /// [`super::liveness`].
    ///
    /// # Errors
    /// When the network fails, too many requests wait, or the engine stops.
    pub async fn liveness(&self, picture: &Picture, detections: &[Detection]) -> Result<Vec<Option<f32>>, FaceError> {
        let Some(entry) = self.0.liveness.as_ref().filter(|_| !detections.is_empty()) else {
            return Ok(vec![None; detections.len()]);
        };
        let (reply, answer) = oneshot::channel();
        self.submit(picture, Work::Liveness { detections: detections.to_vec(), reply })?;
        let scores = answer.await.unwrap_or_else(|_| Err(self.failed(entry)))?;
        Ok(scores.into_iter().map(Some).collect())
    }

    /// The liveness model's description, where one is in use.
    pub fn liveness_model(&self) -> Option<&ModelEntry> {
        self.0.liveness.as_deref()
    }

    /// Whether the landmarks of a face allow the alignment that the embedder asks for.
    pub fn can_align(&self, detection: &Detection) -> bool {
        self.0.embedder.embedder.as_ref().is_some_and(|spec| match &spec.crop {
            CropRecipe::Landmarks { template } => {
                alignment::similarity(&detection.landmarks, &alignment::template(template)).is_some()
            }
            CropRecipe::Box { .. } => true,
        })
    }

    /// Quality of a detection for recognition; reads pixels of the face only, on the caller's thread.
    pub fn measure(&self, picture: &Picture, detection: &Detection) -> Quality {
        quality::measure(picture, detection)
    }

    /// The detector's description.
    pub fn detector(&self) -> &ModelEntry {
        &self.0.detector
    }

    /// The graph that detects: the model's file, or what [`retinaface::graph`] made of it.
    pub fn detector_graph(&self) -> &GraphSource {
        &self.0.detector_graph
    }

    /// The embedder's description; its `embedder` part is always there.
    pub fn embedder(&self) -> &ModelEntry {
        &self.0.embedder
    }

    /// The execution provider in use: `cpu`, `cuda` or `tensorrt`.
    pub fn provider(&self) -> &'static str {
        self.0.chosen.provider.name()
    }

    /// Why the provider is not the better one that `auto` tried; else empty.
    pub fn provider_fallback(&self) -> &str {
        &self.0.chosen.fallback
    }

    /// How the networks are run, and why so.
    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// Threads that own sessions.
    pub fn workers(&self) -> usize {
        self.0.workers.count()
    }

    /// Version of ONNX Runtime.
    pub fn runtime_version(&self) -> String {
        crate::inference::runtime_version()
    }

    /// Whether nobody else holds this engine: no other clone is left that could ask it something.
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Stops the workers and waits for them; later calls answer [`FaceError::Stopped`].
    pub async fn shutdown(&self) {
        let inner = self.0.clone();
        if tokio::task::spawn_blocking(move || inner.workers.stop()).await.is_err() {
            tracing::error!("the inference threads could not be awaited");
        }
    }

    fn submit(&self, picture: &Picture, work: Work) -> Result<(), FaceError> {
        let job = FaceJob { picture: picture.clone(), work };
        self.0.workers.submit(job).map_err(|refused| match refused {
            Refused::Full => FaceError::Busy,
            Refused::Stopped => FaceError::Stopped,
        })
    }

    fn failed(&self, entry: &ModelEntry) -> FaceError {
        if self.0.workers.is_stopped() {
            return FaceError::Stopped;
        }
        FaceError::Model { model: entry.id.to_string(), message: "the worker failed; see the log".into() }
    }
}

/// What a start decides before sessions are loaded: settings without zeros, why so, the provider, and the graph that detects.
struct Planned {
    settings: InferenceSettings,
    plan: Plan,
    chosen: Chosen,
    graph: GraphSource,
}

/// The provider chosen, and zeros replaced by the plan: what the settings leave open is tried out for a moment.
fn planned(
    environment: &Environment,
    settings: &InferenceSettings,
    detector: &LoadedModel,
    decoding: &RetinaFace,
) -> Result<Planned, FaceError> {
    let on = |provider| InferenceSettings { provider, ..settings.clone() };
    let file = GraphSource::from(detector.path.as_path());
    let attempt = |provider| OrtSession::load(environment, &file, &on(provider)).map(drop);
    let chosen = provider::choose(settings.provider, attempt).map_err(|e| refused(&detector.entry, e))?;
    if !chosen.fallback.is_empty() {
        tracing::warn!(reason = %chosen.fallback, "the networks run on the CPU, although inference.provider is \"auto\"");
    }
    telemetry::inference_provider(chosen.provider.name(), !chosen.fallback.is_empty());
    let settings = on(chosen.provider);
    let graph = retinaface::graph(environment, file, &settings, decoding, &detector.entry.input);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ways = plan::ways(&settings, chosen.provider, cores);
    let layout = detector.entry.input.layout;
    let trials = if ways.is_empty() {
        Vec::new()
    } else {
        trial::tried(environment, &graph, layout, &settings, &ways).map_err(|e| refused(&detector.entry, e))?
    };
    let plan = plan::decide(&settings, chosen.provider, cores, trials);
    tracing::info!(
        provider = chosen.provider.name(),
        workers = plan.workers,
        intra_threads = plan.intra_threads,
        max_batch = plan.max_batch,
        batch_wait_ms = plan.batch_wait_ms,
        reason = %plan.reason,
        "how the networks are run"
    );
    let settings = InferenceSettings {
        workers: plan.workers,
        intra_threads: plan.intra_threads,
        max_batch: plan.max_batch,
        ..settings
    };
    Ok(Planned { settings, plan, chosen, graph })
}

/// Why a network could not be loaded, for whoever starts the engine.
fn refused(entry: &ModelEntry, error: NetworkError) -> FaceError {
    match error {
        NetworkError::Provider(text) => FaceError::Runtime(text),
        other => FaceError::Model { model: entry.id.to_string(), message: other.to_string() },
    }
}
