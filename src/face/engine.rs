//! The door to faces: owns the worker threads that run the detector and the embedder.
//!
//! Each worker owns a session of both networks, so detection and embedding share the cores by plan. Callers bound what they ask: a
//! camera asks for one thing at a time, still pictures wait for a place before they are decoded.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Detection, Embedding, Quality, embedder, quality, retinaface::RetinaFace};
use crate::{
    frame::{BBox, Picture, Point, scale},
    inference::{
        InferenceSettings, Network, NetworkError, OrtSession, Provider, environment,
        manifest::{DetectorDecoding, LoadedModel, ModelEntry},
        worker::{BatchRule, Job, Refused, Runner, Workers},
    },
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

enum Work {
    Detect { size: (u32, u32), min_score: f32, reply: oneshot::Sender<Result<Vec<Detection>, FaceError>> },
    Embed { detections: Vec<Detection>, reply: oneshot::Sender<Result<Vec<Embedding>, FaceError>> },
}

struct FaceJob {
    picture: Picture,
    work: Work,
}

#[derive(PartialEq)]
enum Shape {
    Detect((u32, u32)),
    Embed,
}

impl Job for FaceJob {
    type Shape = Shape;
    fn shape(&self) -> Shape {
        match &self.work {
            Work::Detect { size, .. } => Shape::Detect(*size),
            Work::Embed { .. } => Shape::Embed,
        }
    }
    fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::Detect { reply, .. } => reply.is_closed(),
            Work::Embed { reply, .. } => reply.is_closed(),
        }
    }
}

struct Pair {
    detector: OrtSession,
    embedder: OrtSession,
    decoding: RetinaFace,
    detector_entry: Arc<ModelEntry>,
    embedder_entry: Arc<ModelEntry>,
}

impl Pair {
    fn detect(&mut self, size: (u32, u32), jobs: &[(Picture, f32)]) -> Result<Vec<Vec<Detection>>, FaceError> {
        let fail =
            |e: NetworkError| FaceError::Model { model: self.detector_entry.id.to_string(), message: e.to_string() };
        let input = &self.detector_entry.input;
        let mut batch = embedder::tensor(jobs.len(), size, input.layout);
        for (i, (picture, _)) in jobs.iter().enumerate() {
            let rgb = scale::rgb_at(picture, size.0, size.1);
            let pixels: Vec<f32> = rgb.as_raw().iter().map(|v| f32::from(*v)).collect();
            embedder::fill(&mut batch, i, &pixels, size, input);
        }
        let least = jobs.iter().map(|(_, s)| *s).fold(1.0, f32::min);
        let outputs = self.detector.run(&batch).map_err(fail)?;
        let found = self.decoding.decode(&outputs, size, jobs.len(), least).map_err(fail)?;
        Ok(found
            .into_iter()
            .zip(jobs)
            .map(|(faces, (picture, min_score))| {
                let (sx, sy) = (picture.width() as f32 / size.0 as f32, picture.height() as f32 / size.1 as f32);
                faces.into_iter().filter(|d| d.score > *min_score).map(|d| in_frame(d, sx, sy)).collect()
            })
            .collect())
    }
}

/// A detection in input pixels as one in frame pixels.
fn in_frame(d: Detection, sx: f32, sy: f32) -> Detection {
    let b = d.bbox;
    Detection {
        bbox: BBox::new(b.x1 * sx, b.y1 * sy, b.x2 * sx, b.y2 * sy),
        score: d.score,
        landmarks: d.landmarks.map(|p| Point::new(p.x * sx, p.y * sy)),
    }
}

impl Runner<FaceJob> for Pair {
    fn run(&mut self, batch: Vec<FaceJob>) {
        let mut detect = Vec::new();
        let mut replies = Vec::new();
        let mut shape = (1, 1);
        for job in batch {
            match job.work {
                Work::Detect { size, min_score, reply } => {
                    shape = size;
                    detect.push((job.picture, min_score));
                    replies.push(reply);
                }
                Work::Embed { detections, reply } => {
                    let model = self.embedder_entry.id.to_string();
                    let answer = embedder::embed(&mut self.embedder, &self.embedder_entry, &job.picture, &detections)
                        .map_err(|e| FaceError::Model { model, message: e.to_string() });
                    // An asker that has gone needs no answer.
                    let _ = reply.send(answer);
                }
            }
        }
        if detect.is_empty() {
            return;
        }
        match self.detect(shape, &detect) {
            Ok(found) => replies.into_iter().zip(found).for_each(|(reply, faces)| {
                let _ = reply.send(Ok(faces));
            }),
            Err(error) => replies.into_iter().for_each(|reply| {
                let _ = reply.send(Err(error.clone()));
            }),
        }
    }
}

struct Inner {
    workers: Workers<FaceJob>,
    detector: Arc<ModelEntry>,
    embedder: Arc<ModelEntry>,
    settings: InferenceSettings,
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
        let environment =
            environment(Path::new(&settings.runtime_library)).map_err(|e| FaceError::Runtime(e.to_string()))?;
        let wrong = |model: &LoadedModel, role: &str| FaceError::Model {
            model: model.entry.id.to_string(),
            message: format!("it is no {role}; name another in [models]"),
        };
        let Some(DetectorDecoding::Retinaface { strides, sizes, variances, nms_iou }) = detector.entry.detector.clone()
        else {
            return Err(wrong(&detector, "detector"));
        };
        if embedder.entry.embedder.is_none() {
            return Err(wrong(&embedder, "embedder"));
        }
        let settings = planned(settings);
        let (detector_entry, embedder_entry) = (Arc::new(detector.entry), Arc::new(embedder.entry));
        let load = |path: &Path, entry: &ModelEntry| {
            OrtSession::load(&environment, path, &settings).map_err(|e| match e {
                NetworkError::Provider(text) => FaceError::Runtime(text),
                other => FaceError::Model { model: entry.id.to_string(), message: other.to_string() },
            })
        };
        let mut pairs = Vec::with_capacity(settings.workers);
        for _ in 0..settings.workers {
            pairs.push(Pair {
                detector: load(&detector.path, &detector_entry)?,
                embedder: load(&embedder.path, &embedder_entry)?,
                decoding: RetinaFace { strides: strides.clone(), sizes: sizes.clone(), variances, nms_iou },
                detector_entry: detector_entry.clone(),
                embedder_entry: embedder_entry.clone(),
            });
        }
        let rule = BatchRule {
            max: settings.max_batch,
            wait: Duration::from_millis(settings.batch_wait_ms),
            capacity: CAPACITY,
        };
        let workers = Workers::start("inference", pairs, rule).map_err(|e| FaceError::Runtime(e.to_string()))?;
        let (detector, embedder) = (detector_entry, embedder_entry);
        Ok(Self(Arc::new(Inner { workers, detector, embedder, settings })))
    }

    /// Faces of a picture in its own pixels, highest score first. `min_score` overrides the setting.
    ///
    /// # Errors
    /// When the network fails, too many requests wait, or the engine stops.
    pub async fn detect(&self, picture: &Picture, min_score: Option<f32>) -> Result<Vec<Detection>, FaceError> {
        let size = scale::fitted(picture.width(), picture.height(), self.0.settings.detector_size);
        let min_score = min_score.unwrap_or(self.0.settings.min_score);
        let (reply, answer) = oneshot::channel();
        self.submit(picture, Work::Detect { size, min_score, reply })?;
        answer.await.unwrap_or_else(|_| Err(self.failed(&self.0.detector)))
    }

    /// One embedding for each detection, in order; nothing for none.
    ///
    /// # Errors
    /// When the network fails, a face can't be aligned, or the engine stops.
    pub async fn embed(&self, picture: &Picture, detections: &[Detection]) -> Result<Vec<Embedding>, FaceError> {
        if detections.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        self.submit(picture, Work::Embed { detections: detections.to_vec(), reply })?;
        answer.await.unwrap_or_else(|_| Err(self.failed(&self.0.embedder)))
    }

    /// Quality of a detection for recognition; reads pixels of the face only, on the caller's thread.
    pub fn measure(&self, picture: &Picture, detection: &Detection) -> Quality {
        quality::measure(picture, detection)
    }

    /// The detector's description.
    pub fn detector(&self) -> &ModelEntry {
        &self.0.detector
    }

    /// The embedder's description; its `embedder` part is always there.
    pub fn embedder(&self) -> &ModelEntry {
        &self.0.embedder
    }

    /// `cpu` or `cuda`.
    pub fn provider(&self) -> &'static str {
        match self.0.settings.provider {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
        }
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

/// Zeros replaced by the plan: on a CPU one single-threaded session a core without batches, on CUDA one session with batches.
fn planned(settings: &InferenceSettings) -> InferenceSettings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (workers, batch) = match settings.provider {
        Provider::Cpu => (cores.min(8), 1),
        Provider::Cuda => (1, 8),
    };
    let or = |value: usize, plan: usize| if value == 0 { plan } else { value };
    InferenceSettings {
        workers: or(settings.workers, workers),
        intra_threads: or(settings.intra_threads, 1),
        max_batch: or(settings.max_batch, batch),
        ..settings.clone()
    }
}
