//! One still picture, no camera: detect, identify, verify, embed, enrol.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{appearance::why_unusable, enroll, fleet::FaceAnswer, label};
use crate::{
    face::{Detection, Embedding, EngineInUse, FaceEngine, FaceError, Quality},
    frame::{Picture, annotate, crop, still, still::StillError, still::StillLimits},
    identity::{
        Decision, Gallery, GalleryError, ThresholdSource, Thresholds,
        gallery_check::{self, CheckLimits, Checked},
    },
    ids::{ModelId, PersonId},
    inference::manifest::ModelEntry,
};

pub(super) use super::thresholds::{least, requested, thresholds};
pub use super::{
    enroll::{EnrollSettings, Enrollment, RefusalReason},
    thresholds::IdentitySettings,
};

/// Most pictures that wait or are in work at one time.
const WAITING: usize = 32;
/// Most pictures that are decoded at one time: each may take `limits.picture_pixels` times three bytes and more while it is decoded.
const IN_WORK: usize = 8;

/// People whose best picture is below this quality are told by a check of the gallery.
const POOR: f32 = 0.3;

/// Why a question about a picture could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The gallery is checked already.
    #[error("the gallery is being checked already; wait for the end and try again")]
    Checking,
    /// The picture itself.
    #[error(transparent)]
    Still(#[from] StillError),
    /// No face where one is needed.
    #[error("no face was found; use a picture that shows the face larger and from the front")]
    NoFace,
    /// More faces than the limit.
    #[error("the picture holds {found} faces, the limit is {limit}: crop it or raise limits.faces_per_picture")]
    TooManyFaces {
        /// Faces found.
        found: usize,
        /// Limit.
        limit: usize,
    },
    /// Faces.
    #[error(transparent)]
    Face(#[from] FaceError),
    /// Gallery.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// What is wrong with one of several pictures.
    #[error("{field}: {fault}")]
    One {
        /// Its field in the request, such as `image_a`.
        field: &'static str,
        /// What is wrong with it.
        fault: Box<PictureError>,
    },
}

impl PictureError {
    /// Says which picture is meant; failures that are no picture's fault stay as they are.
    fn of(self, field: &'static str) -> Self {
        match self {
            Self::Still(_) | Self::NoFace | Self::TooManyFaces { .. } => Self::One { field, fault: Box::new(self) },
            Self::Checking | Self::Face(_) | Self::Gallery(_) | Self::One { .. } => self,
        }
    }
}

/// 1:1 answer.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Similarity.
    pub similarity: f32,
    /// Threshold.
    pub threshold: f32,
    /// Whether it is reached.
    pub same: bool,
    /// Probability, 0 to 1.
    pub confidence: f32,
    /// The faces compared (largest of each picture).
    pub faces: [(Detection, Quality); 2],
}

/// Faces found in a picture of `width` x `height` pixels.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Highest score first.
    pub faces: Vec<T>,
}

/// Answers questions about still pictures. Cheap to clone.
#[derive(Clone)]
pub struct PictureDesk {
    pub(super) engine: EngineInUse,
    pub(super) gallery: Gallery,
    pub(super) limits: StillLimits,
    pub(super) faces_limit: usize,
    identity: IdentitySettings,
    pub(super) enroll: EnrollSettings,
    /// Whether pictures of enrolled faces are kept.
    pub(super) keep_crops: bool,
    waiting: Arc<Semaphore>,
    in_work: Arc<Semaphore>,
    checks: Arc<Semaphore>,
}

/// A decoded picture with its place among those in work, which it gives back when it is dropped.
pub(super) struct InWork {
    picture: Picture,
    _places: [OwnedSemaphorePermit; 2],
}

impl std::ops::Deref for InWork {
    type Target = Picture;
    fn deref(&self) -> &Picture {
        &self.picture
    }
}

impl PictureDesk {
    /// A desk over an engine and a gallery.
    pub fn new(
        engine: EngineInUse,
        gallery: Gallery,
        limits: StillLimits,
        faces_limit: usize,
        identity: IdentitySettings,
        enroll: EnrollSettings,
        keep_crops: bool,
    ) -> Self {
        let (waiting, in_work) = (Arc::new(Semaphore::new(WAITING)), Arc::new(Semaphore::new(IN_WORK)));
        Self {
            engine,
            gallery,
            limits,
            faces_limit,
            identity,
            enroll,
            keep_crops,
            waiting,
            in_work,
            checks: Arc::new(Semaphore::new(1)),
        }
    }

    /// Thresholds for 1:N with the embedder in use. `threshold` overrides the least similarity, and says whose it is.
    pub fn thresholds(&self, threshold: Option<(f32, ThresholdSource)>) -> Thresholds {
        self.thresholds_of(&self.engine.now(), threshold)
    }

    /// The same with an engine that was taken before.
    pub(super) fn thresholds_of(&self, engine: &FaceEngine, threshold: Option<(f32, ThresholdSource)>) -> Thresholds {
        thresholds(engine, &self.gallery, &self.identity, threshold)
    }

    /// The networks in use, for others who embed.
    pub fn engine_in_use(&self) -> EngineInUse {
        self.engine.clone()
    }

    /// Whether pictures of enrolled faces are kept.
    pub fn keeps_crops(&self) -> bool {
        self.keep_crops
    }

    /// Looks for faces that may be wrong: the model in use, its number of faces, the `keep` gravest findings. Changes nothing. One at a time, since
    /// every face is compared with every other.
    ///
    /// # Errors
    /// When another check runs, or the gallery fails.
    pub async fn check_gallery(&self, keep: usize) -> Result<(ModelId, usize, Checked), PictureError> {
        let place = self.checks.clone().try_acquire_owned().map_err(|_| PictureError::Checking)?;
        let engine = self.engine.now();
        let model = engine.embedder().id.clone();
        let faces = self.gallery.store().all_faces(&model).await?;
        let faceless = self.gallery.faceless(&faces);
        let limits = CheckLimits {
            duplicate: self.enroll.duplicate_similarity,
            identification: self.thresholds_of(&engine, None).similarity,
            verification: engine.embedder().embedder.as_ref().map_or(1.0, |e| e.verification_threshold),
            quality: POOR,
        };
        let count = faces.len();
        let stop = CancellationToken::new();
        // A caller who goes away ends it; the place is free when it has ended.
        let _gone = stop.clone().drop_guard();
        let work = move || {
            let _place = place;
            gallery_check::check(&faces, &faceless, &limits, keep, &stop)
        };
        let checked = blocking(work).await?;
        Ok((model, count, checked))
    }

    /// Embedder in use.
    pub fn embedder(&self) -> ModelEntry {
        self.engine.now().embedder().clone()
    }

    /// Detector, embedder and, where there is one, liveness model in use.
    pub fn models(&self) -> Vec<ModelEntry> {
        let engine = self.engine.now();
        [engine.detector(), engine.embedder()].into_iter().chain(engine.liveness_model()).cloned().collect()
    }

    /// Finds faces.
    ///
    /// # Errors
    /// When the bytes are no picture within the limits, or a network fails.
    pub async fn detect(
        &self,
        image: Bytes,
        min_score: Option<f32>,
    ) -> Result<Found<(Detection, Quality)>, PictureError> {
        let picture = self.decode(image).await?;
        let faces = self.find(&self.engine.now(), &picture, min_score).await?;
        Ok(Found { width: picture.width(), height: picture.height(), faces })
    }

    /// Finds faces and says who they are; no two faces of a picture get one person. The JPEG is there when `annotate`.
    ///
    /// # Errors
    /// As [`Self::detect`], and when the gallery fails.
    pub async fn identify(
        &self,
        image: Bytes,
        watchlists: &[String],
        threshold: Option<f32>,
        annotate: bool,
    ) -> Result<(Found<FaceAnswer>, Option<Bytes>), PictureError> {
        self.identify_by(image, watchlists, requested(threshold), annotate).await
    }

    /// The same with a threshold of whatever source.
    pub(super) async fn identify_by(
        &self,
        image: Bytes,
        watchlists: &[String],
        threshold: Option<(f32, ThresholdSource)>,
        annotate: bool,
    ) -> Result<(Found<FaceAnswer>, Option<Bytes>), PictureError> {
        let picture = self.decode(image).await?;
        let faces = self.answer(&picture, watchlists, threshold).await?;
        let jpeg = if annotate {
            let (picture, faces) = (picture.clone(), faces.clone());
            Some(blocking(move || drawn(&picture, &faces)).await??)
        } else {
            None
        };
        Ok((Found { width: picture.width(), height: picture.height(), faces }, jpeg))
    }

    /// Everybody in a picture: found, embedded, identified; one person is at most one face. `threshold` overrides the least similarity.
    pub(super) async fn answer(
        &self,
        picture: &Picture,
        watchlists: &[String],
        threshold: Option<(f32, ThresholdSource)>,
    ) -> Result<Vec<FaceAnswer>, PictureError> {
        let engine = self.engine.now();
        let thresholds = &self.thresholds_of(&engine, threshold);
        let found = self.find(&engine, picture, None).await?;
        let least = least(&engine, &self.identity);
        // Faces that are too small or seen from the side get no say in who is who.
        let usable: Vec<Detection> =
            found.iter().filter(|(_, quality)| least.check(quality).is_ok()).map(|(detection, _)| *detection).collect();
        let embeddings = engine.embed(picture, &usable).await?;
        let mut decided = self.gallery.identify_together(&embeddings, watchlists, thresholds).await?.into_iter();
        let answers = found
            .into_iter()
            .filter_map(|(detection, quality)| {
                let (decision, person) = match least.check(&quality) {
                    Ok(()) => decided.next()?,
                    Err(skip) => {
                        let mut decision = Decision::uncompared(why_unusable(&skip), thresholds.similarity);
                        decision.basis.source = thresholds.source;
                        (decision, None)
                    }
                };
                Some(FaceAnswer { detection, quality, decision, person })
            })
            .collect();
        Ok(answers)
    }

    /// 1:1 of the largest faces.
    ///
    /// # Errors
    /// As [`Self::detect`], and when a picture holds no face; [`PictureError::One`] says which, `image_a` or `image_b`.
    pub async fn verify(&self, a: Bytes, b: Bytes, threshold: Option<f32>) -> Result<Verification, PictureError> {
        let engine = self.engine.now();
        let (fa, ea) = self.largest(&engine, a).await.map_err(|e| e.of("image_a"))?;
        let (fb, eb) = self.largest(&engine, b).await.map_err(|e| e.of("image_b"))?;
        let similarity = ea.similarity(&eb).map_err(GalleryError::from)?;
        let spec = engine.embedder().embedder.as_ref();
        let threshold = threshold
            .or(self.identity.of(&engine.embedder().id).verification_threshold)
            .or(spec.map(|s| s.verification_threshold))
            .unwrap_or(1.0);
        let confidence = spec.map_or(0.0, |s| s.calibration.confidence(similarity));
        Ok(Verification { similarity, threshold, same: similarity >= threshold, confidence, faces: [fa, fb] })
    }

    /// Embeddings of all faces.
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub async fn embed(&self, image: Bytes) -> Result<Found<(Detection, Quality, Embedding)>, PictureError> {
        let (engine, picture) = (self.engine.now(), self.decode(image).await?);
        let found = self.find(&engine, &picture, None).await?;
        let detections: Vec<Detection> = found.iter().map(|(d, _)| *d).collect();
        let embeddings = engine.embed(&picture, &detections).await?;
        let faces = found.into_iter().zip(embeddings).map(|((d, q), e)| (d, q, e)).collect();
        Ok(Found { width: picture.width(), height: picture.height(), faces })
    }

    /// Enrols one picture, or refuses it and changes nothing.
    ///
    /// # Errors
    /// When a network or the gallery fails; a picture that can't be used is a refusal, not an error.
    pub async fn enroll(
        &self,
        person: &PersonId,
        image: Bytes,
        source: &str,
        allow_several: bool,
        force: bool,
    ) -> Result<Enrollment, PictureError> {
        enroll::enroll(self, person, image, source, allow_several, force).await
    }

    pub(super) async fn largest(
        &self,
        engine: &FaceEngine,
        image: Bytes,
    ) -> Result<((Detection, Quality), Embedding), PictureError> {
        let picture = self.decode(image).await?;
        let found = self.find(engine, &picture, None).await?;
        let face =
            found.into_iter().max_by(|a, b| a.0.bbox.area().total_cmp(&b.0.bbox.area())).ok_or(PictureError::NoFace)?;
        let embedding = engine.embed(&picture, &[face.0]).await?.into_iter().next().ok_or(PictureError::NoFace)?;
        Ok((face, embedding))
    }

    /// Waits for a place and decodes. Overflow policy: refused as busy, before a byte is decoded.
    pub(super) async fn decode(&self, image: Bytes) -> Result<InWork, PictureError> {
        let waiting = self.waiting.clone().try_acquire_owned().map_err(|_| FaceError::Busy)?;
        let in_work = self.in_work.clone().acquire_owned().await.map_err(|_| FaceError::Stopped)?;
        let limits = self.limits.clone();
        let picture = blocking(move || still::decode(&image, &limits)).await??;
        Ok(InWork { picture, _places: [waiting, in_work] })
    }

    pub(super) async fn find(
        &self,
        engine: &FaceEngine,
        picture: &Picture,
        min_score: Option<f32>,
    ) -> Result<Vec<(Detection, Quality)>, PictureError> {
        let detections = engine.detect_still(picture, min_score).await?;
        if detections.len() > self.faces_limit {
            return Err(PictureError::TooManyFaces { found: detections.len(), limit: self.faces_limit });
        }
        let liveness = engine.liveness(picture, &detections).await?;
        let (engine, picture) = (engine.clone(), picture.clone());
        let faces = detections.into_iter().zip(liveness);
        let measure = move |(d, liveness)| (d, Quality { liveness, ..engine.measure(&picture, &d) });
        blocking(move || faces.map(measure).collect()).await
    }
}

/// The picture with boxes and names, as JPEG.
pub(super) fn drawn(picture: &Picture, faces: &[FaceAnswer]) -> Result<Bytes, StillError> {
    let mut image = crop::to_rgb(picture);
    let marks: Vec<annotate::Mark> = faces
        .iter()
        .map(|f| label::mark(&f.detection, f.person.as_ref().map(|p| p.display_name.as_str()), f.decision.confidence))
        .collect();
    annotate::draw(&mut image, &marks);
    crop::jpeg(&image, label::JPEG_QUALITY).map_err(|e| StillError::NotAPicture(e.to_string()))
}

/// Runs work that would hold up the async threads; a panic in it is an error of the engine, not of the process.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PictureError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| FaceError::Stopped.into())
}
