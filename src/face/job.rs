//! What a worker thread does with its sessions: detect in a picture or a part of it, embed faces, score their liveness.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Detection, Embedding, FaceError, embedder, liveness,
    refine::{self, Closeup},
    retinaface::RetinaFace,
};
use crate::{
    frame::{BBox, Picture, Point, scale::Part, tensor::Scaler, warp::Warper},
    inference::{
        Input, Network, NetworkError, OrtSession, Output,
        manifest::ModelEntry,
        worker::{Job, Runner},
    },
};

/// What is asked of a worker; an asker that has gone is no error.
pub(super) enum Work {
    Detect {
        size: (u32, u32),
        part: Part,
        min_score: f32,
        reply: oneshot::Sender<Result<Vec<Detection>, FaceError>>,
    },
    Embed {
        detections: Vec<Detection>,
        scale: f32,
        reply: oneshot::Sender<Result<Vec<(Embedding, Detection)>, FaceError>>,
    },
    Liveness {
        detections: Vec<Detection>,
        reply: oneshot::Sender<Result<Vec<f32>, FaceError>>,
    },
}

/// A picture and what is asked about it.
pub(super) struct FaceJob {
    pub(super) picture: Picture,
    pub(super) work: Work,
}

/// What may run together.
#[derive(PartialEq)]
pub(super) enum Shape {
    Detect((u32, u32)),
    Embed,
    Liveness,
}

impl Job for FaceJob {
    type Shape = Shape;
    fn shape(&self) -> Shape {
        match &self.work {
            Work::Detect { size, .. } => Shape::Detect(*size),
            Work::Embed { .. } => Shape::Embed,
            Work::Liveness { .. } => Shape::Liveness,
        }
    }
    fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::Detect { reply, .. } => reply.is_closed(),
            Work::Embed { reply, .. } => reply.is_closed(),
            Work::Liveness { reply, .. } => reply.is_closed(),
        }
    }
}

/// What one worker owns: a session of each network.
pub(super) struct Pair {
    pub(super) detector: OrtSession,
    pub(super) embedder: OrtSession,
    pub(super) liveness: Option<(OrtSession, Arc<ModelEntry>)>,
    pub(super) decoding: RetinaFace,
    pub(super) detector_entry: Arc<ModelEntry>,
    pub(super) embedder_entry: Arc<ModelEntry>,
    pub(super) buffers: Buffers,
}

/// Memory of one worker, used again for each batch.
#[derive(Default)]
pub(super) struct Buffers {
    scaler: Scaler,
    detector: Input,
    closeup: Input,
    embedder: embedder::Memory,
    liveness: Input,
    warper: Warper,
}

impl Pair {
    /// Landmarks of faces that the detector saw small, from close-ups; those that it does not find again keep theirs.
    fn refined(
        &mut self,
        picture: &Picture,
        mut refined: Vec<Detection>,
        scale: f32,
    ) -> Result<Vec<Detection>, NetworkError> {
        let size = (refine::EDGE, refine::EDGE);
        let input = &self.detector_entry.input;
        for detection in &mut refined {
            let Some(closeup) = Closeup::of(detection, scale) else { continue };
            let Buffers { closeup: batch, warper, .. } = &mut self.buffers;
            batch.shape_for(1, size, input.layout);
            batch.pictures().for_each(|place| closeup.fill(warper, picture, &input.recipe(), place));
            let mut found = Vec::new();
            self.detector.run(batch, &mut |outputs| {
                found = self.decoding.decode(outputs, size, 1, refine::MIN_SCORE)?.pop().unwrap_or_default();
                Ok(())
            })?;
            if let Some(landmarks) = closeup.landmarks(&found) {
                detection.landmarks = landmarks;
            }
        }
        Ok(refined)
    }

    /// Embeddings, each with its detection as it was aligned.
    fn embed(
        &mut self,
        picture: &Picture,
        detections: Vec<Detection>,
        scale: f32,
    ) -> Result<Vec<(Embedding, Detection)>, FaceError> {
        let fail = |entry: &ModelEntry, e: NetworkError| FaceError::Model {
            model: entry.id.to_string(),
            message: e.to_string(),
        };
        let refined = self.refined(picture, detections, scale).map_err(|e| fail(&self.detector_entry, e))?;
        let memory = &mut self.buffers.embedder;
        let embeddings = embedder::embed(&mut self.embedder, &self.embedder_entry, picture, &refined, memory);
        let embeddings = embeddings.map_err(|e| fail(&self.embedder_entry, e))?;
        Ok(embeddings.into_iter().zip(refined).collect())
    }

    fn detect(&mut self, size: (u32, u32), jobs: &[(Picture, Part, f32)]) -> Result<Vec<Vec<Detection>>, FaceError> {
        let fail =
            |e: NetworkError| FaceError::Model { model: self.detector_entry.id.to_string(), message: e.to_string() };
        let input = &self.detector_entry.input;
        let (batch, recipe) = (&mut self.buffers.detector, input.recipe());
        batch.shape_for(jobs.len(), size, input.layout);
        for (place, (picture, part, _)) in batch.pictures().zip(jobs) {
            self.buffers.scaler.fill(picture, *part, size, &recipe, place);
        }
        let least = jobs.iter().map(|(_, _, s)| *s).fold(1.0, f32::min);
        let mut found = Vec::new();
        let mut read = |outputs: &[Output<'_>]| {
            found = self.decoding.decode(outputs, size, jobs.len(), least)?;
            Ok(())
        };
        self.detector.run(batch, &mut read).map_err(fail)?;
        Ok(found
            .into_iter()
            .zip(jobs)
            .map(|(faces, (_, part, min_score))| {
                faces.into_iter().filter(|d| d.score > *min_score).map(|d| in_frame(d, size, part)).collect()
            })
            .collect())
    }
}

impl Pair {
    fn liveness(&mut self, picture: &Picture, detections: &[Detection]) -> Result<Vec<f32>, FaceError> {
        // Never asked without a model.
        let Some((session, entry)) = &mut self.liveness else { return Err(FaceError::Stopped) };
        let Buffers { liveness: input, warper, .. } = &mut self.buffers;
        liveness::score(session, entry, picture, detections, (input, warper))
            .map_err(|e| FaceError::Model { model: entry.id.to_string(), message: e.to_string() })
    }
}

/// A detection in pixels of an input of a size as one in pixels of the frame that the input shows a part of.
fn in_frame(d: Detection, size: (u32, u32), part: &Part) -> Detection {
    let (sx, sy) = (part.width as f32 / size.0 as f32, part.height as f32 / size.1 as f32);
    let at = |x: f32, y: f32| Point::new(x * sx + part.x as f32, y * sy + part.y as f32);
    let (a, b) = (at(d.bbox.x1, d.bbox.y1), at(d.bbox.x2, d.bbox.y2));
    Detection { bbox: BBox::new(a.x, a.y, b.x, b.y), score: d.score, landmarks: d.landmarks.map(|p| at(p.x, p.y)) }
}

impl Runner<FaceJob> for Pair {
    fn run(&mut self, batch: Vec<FaceJob>) {
        let mut detect = Vec::new();
        let mut replies = Vec::new();
        let mut shape = (1, 1);
        for job in batch {
            match job.work {
                Work::Detect { size, part, min_score, reply } => {
                    shape = size;
                    detect.push((job.picture, part, min_score));
                    replies.push(reply);
                }
                Work::Embed { detections, scale, reply } => {
                    let answer = self.embed(&job.picture, detections, scale);
                    // An asker that has gone needs no answer.
                    let _ = reply.send(answer);
                }
                Work::Liveness { detections, reply } => {
                    let _ = reply.send(self.liveness(&job.picture, &detections));
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
