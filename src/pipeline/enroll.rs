//! Enrolment: a picture becomes a face of the gallery, or is refused with the reason and nothing changes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    conflict::{self, Conflict, ConflictKind, Limits, Own},
    picture::{PictureDesk, PictureError, blocking},
};
use crate::{
    face::{Detection, Embedding, FaceEngine, Quality},
    frame::still::StillError,
    identity::{EnrolledFace, FaceCrop, GalleryError},
    ids::{FaceId, PersonId},
    telemetry, time,
};

/// What a picture must have to be enrolled: section `[enrollment]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnrollSettings {
    /// Least edge of the aligned crop in pixels of the picture; 0 takes the model's smallest usable face.
    pub min_face_px: f32,
    /// Least sharpness, 0 to 1.
    pub min_sharpness: f32,
    /// Least frontality, 0 (profile) to 1 (frontal).
    pub min_frontality: f32,
    /// Least liveness, 0 (off) to 1; needs `liveness.model`. Experimental.
    pub min_liveness: f32,
    /// Whether faces are enrolled for people with a legal basis only.
    pub require_legal_basis: bool,
    /// A face is clearly the largest when its area is this many times that of the next.
    pub largest_ratio: f32,
    /// Faces of one person nearer than this similarity are one picture twice.
    pub duplicate_similarity: f32,
    /// A face is refused when its probability to be of the person, as the model's calibration gives it, is below this and the person has
    /// faces that agree with each other. 0 only tells and never refuses.
    pub outlier_confidence: f32,
    /// Most faces a person may have.
    pub max_faces_per_person: usize,
}

impl Default for EnrollSettings {
    fn default() -> Self {
        Self {
            min_face_px: 0.0,
            min_sharpness: 0.08,
            min_frontality: super::thresholds::MIN_FRONTALITY,
            min_liveness: 0.0,
            require_legal_basis: false,
            largest_ratio: 2.0,
            duplicate_similarity: 0.99,
            outlier_confidence: 0.05,
            max_faces_per_person: 50,
        }
    }
}

/// Why an enrolment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalReason {
    /// The bytes are no picture.
    NotAnImage,
    /// Too many bytes or pixels.
    TooLarge,
    /// No face was found.
    NoFace,
    /// Several faces, and it is not clear which is meant.
    SeveralFaces,
    /// The face is too small to be recognised later.
    TooSmall,
    /// The face is too blurred.
    TooBlurred,
    /// The face is turned too far away.
    TurnedAway,
    /// The face looks like somebody else of the gallery.
    LooksLikeAnotherPerson,
    /// This face is already enrolled.
    Duplicate,
    /// The face does not look like the person's other faces.
    UnlikeOwnFaces,
    /// The person does not exist.
    NoSuchPerson,
    /// The person has as many faces as the limit allows.
    TooManyFaces,
    /// The face does not look living enough.
    NotLive,
}

/// The answer to one enrolment.
#[derive(Debug, Clone)]
pub enum Enrollment {
    /// Enrolled.
    Enrolled {
        /// The face as kept.
        face: EnrolledFace,
        /// Enrolled faces that it disagrees with, which a person should look at.
        conflicts: Vec<Conflict>,
        /// Faces found.
        found: Vec<(Detection, Quality)>,
    },
    /// Refused; nothing changed.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// Why in words, with figures.
        message: String,
        /// Enrolled faces that speak against it, the reason first.
        conflicts: Vec<Conflict>,
        /// Faces found.
        found: Vec<(Detection, Quality)>,
    },
}

struct Refusal {
    reason: RefusalReason,
    message: String,
    conflicts: Vec<Conflict>,
}

fn refusal(reason: RefusalReason, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into(), conflicts: Vec::new() }
}

pub(super) async fn enroll(
    desk: &PictureDesk,
    person: &PersonId,
    image: Bytes,
    source: &str,
    allow_several: bool,
    force: bool,
) -> Result<Enrollment, PictureError> {
    let attempt = || attempt(desk, person, image.clone(), source, allow_several, force);
    let answer = match attempt().await {
        // The gallery moved to another model meanwhile: the picture is embedded by that one.
        Err(PictureError::Gallery(GalleryError::Incomparable(_))) => attempt().await?,
        answer => answer?,
    };
    telemetry::enrolment(match answer {
        Enrollment::Enrolled { .. } => "enrolled",
        Enrollment::Refused { .. } => "refused",
    });
    Ok(answer)
}

async fn attempt(
    desk: &PictureDesk,
    person: &PersonId,
    image: Bytes,
    source: &str,
    allow_several: bool,
    force: bool,
) -> Result<Enrollment, PictureError> {
    let refused =
        |r: Refusal, found| Enrollment::Refused { reason: r.reason, message: r.message, conflicts: r.conflicts, found };
    let engine = desk.engine.now();
    let picture = match desk.decode(image).await {
        Ok(picture) => picture,
        Err(PictureError::Still(error)) => {
            let reason = match error {
                StillError::TooManyBytes { .. } | StillError::TooManyPixels { .. } => RefusalReason::TooLarge,
                StillError::NotAPicture(_) => RefusalReason::NotAnImage,
            };
            return Ok(refused(refusal(reason, error.to_string()), Vec::new()));
        }
        Err(error) => return Err(error),
    };
    let existing = match desk.gallery.store().faces(person).await {
        Ok(faces) => faces,
        Err(error @ GalleryError::PersonNotFound(_)) => {
            return Ok(refused(refusal(RefusalReason::NoSuchPerson, error.to_string()), Vec::new()));
        }
        Err(error) => return Err(error.into()),
    };
    let found = desk.find(&engine, &picture, None).await?;
    let (detection, quality) = match choose(&found, allow_several, &desk.enroll) {
        Ok(face) => face,
        Err(r) => return Ok(refused(r, found)),
    };
    if let Err(r) = good_enough(&engine, &desk.enroll, &quality, existing.len()) {
        return Ok(refused(r, found));
    }
    // The landmarks that it was aligned by are kept with the picture, for other models.
    let Some((embedding, detection)) = engine.embed_refined(&picture, &[detection]).await?.into_iter().next() else {
        return Ok(refused(refusal(RefusalReason::NoFace, "the face could not be embedded"), found));
    };
    let mut conflicts = against(desk, &engine, person, &embedding, &existing).await?;
    if force {
        conflicts.iter_mut().for_each(|c| c.refuses = false);
    }
    if let Some(sure) = conflicts.first().filter(|c| c.refuses) {
        let (reason, message) = (reason_of(sure.kind), words(desk, sure, &existing));
        return Ok(refused(Refusal { reason, message, conflicts }, found));
    }
    let crop = match desk.keep_crops {
        true => {
            let picture = picture.clone();
            Some(blocking(move || FaceCrop::cut(&picture, &detection)).await??)
        }
        false => None,
    };
    let face = EnrolledFace {
        id: FaceId::generate(),
        person: person.clone(),
        embedding,
        quality: quality.value,
        source: source.chars().take(255).collect(),
        created: time::now(),
    };
    desk.gallery.add_face(face.clone(), crop.as_ref()).await?;
    Ok(Enrollment::Enrolled { face, conflicts, found })
}

/// The face that is meant: the only one, or the clearly largest when that was asked for.
fn choose(
    found: &[(Detection, Quality)],
    allow_several: bool,
    settings: &EnrollSettings,
) -> Result<(Detection, Quality), Refusal> {
    let mut by_area: Vec<&(Detection, Quality)> = found.iter().collect();
    by_area.sort_by(|a, b| b.0.bbox.area().total_cmp(&a.0.bbox.area()));
    match by_area[..] {
        [] => Err(refusal(
            RefusalReason::NoFace,
            "no face was found; use a picture that shows it larger and from the front",
        )),
        [only] => Ok(*only),
        [first, second, ..] => {
            let ratio = first.0.bbox.area() / second.0.bbox.area().max(1.0);
            if !allow_several {
                let text = "faces were found; crop the picture to one, or allow several to take the largest";
                Err(refusal(RefusalReason::SeveralFaces, format!("{} {text}", by_area.len())))
            } else if ratio < settings.largest_ratio {
                let text = format!(
                    "{} faces were found and the largest is only {ratio:.1} times the next ({:.1} needed); crop the picture",
                    by_area.len(),
                    settings.largest_ratio
                );
                Err(refusal(RefusalReason::SeveralFaces, text))
            } else {
                Ok(*first)
            }
        }
    }
}

fn good_enough(engine: &FaceEngine, s: &EnrollSettings, quality: &Quality, faces: usize) -> Result<(), Refusal> {
    let model_min = engine.embedder().embedder.as_ref().map_or(0.0, |e| e.min_face_px);
    let min_px = if s.min_face_px > 0.0 { s.min_face_px } else { model_min };
    if quality.size_px < min_px {
        let text = format!("the face is {:.0} px wide after alignment, {min_px:.0} px are needed", quality.size_px);
        return Err(refusal(RefusalReason::TooSmall, text));
    }
    if quality.sharpness < s.min_sharpness {
        let text =
            format!("the face is too blurred: sharpness {:.2}, {:.2} is needed", quality.sharpness, s.min_sharpness);
        return Err(refusal(RefusalReason::TooBlurred, text));
    }
    if quality.frontality < s.min_frontality {
        let text =
            format!("the face is turned away: frontality {:.2}, {:.2} is needed", quality.frontality, s.min_frontality);
        return Err(refusal(RefusalReason::TurnedAway, text));
    }
    // Checked at the start: where a least liveness is set, a model scores it.
    let liveness = quality.liveness.unwrap_or(0.0);
    if s.min_liveness > 0.0 && liveness < s.min_liveness {
        let text = format!(
            "the face looks like a picture or screen: liveness {liveness:.2}, enrollment.min_liveness asks for {:.2}; use a photo of the \
             person, or lower it",
            s.min_liveness
        );
        return Err(refusal(RefusalReason::NotLive, text));
    }
    if faces >= s.max_faces_per_person {
        let text = format!("the person has {faces} faces, the limit is {}; delete one first", s.max_faces_per_person);
        return Err(refusal(RefusalReason::TooManyFaces, text));
    }
    Ok(())
}

/// Enrolled faces that speak against a new one.
async fn against(
    desk: &PictureDesk,
    engine: &FaceEngine,
    person: &PersonId,
    embedding: &Embedding,
    existing: &[EnrolledFace],
) -> Result<Vec<Conflict>, PictureError> {
    let thresholds = desk.thresholds_of(engine, None);
    let limits = Limits {
        duplicate: desk.enroll.duplicate_similarity,
        identification: thresholds.similarity,
        verification: engine.embedder().embedder.as_ref().map_or(1.0, |e| e.verification_threshold),
        calibration: thresholds.calibration,
        outlier_confidence: desk.enroll.outlier_confidence,
    };
    // Faces of another model can't be compared and speak neither for nor against it.
    let own = |face: &EnrolledFace| {
        let others = existing.iter().filter(|other| other.id != face.id);
        let mate = others.filter_map(|other| other.embedding.similarity(&face.embedding).ok()).reduce(f32::max);
        let similarity = face.embedding.similarity(embedding).ok()?;
        Some(Own { face: face.id.clone(), similarity, mate })
    };
    let own: Vec<Own> = existing.iter().filter_map(own).collect();
    let others = desk.gallery.candidates(embedding, &[]).await?.hits;
    Ok(conflict::conflicts(person, &own, &others, &limits))
}

fn reason_of(kind: ConflictKind) -> RefusalReason {
    match kind {
        ConflictKind::Duplicate => RefusalReason::Duplicate,
        ConflictKind::LooksLikeAnotherPerson => RefusalReason::LooksLikeAnotherPerson,
        ConflictKind::UnlikeOwnFaces => RefusalReason::UnlikeOwnFaces,
    }
}

/// A refusal in words, with the figures.
fn words(desk: &PictureDesk, c: &Conflict, existing: &[EnrolledFace]) -> String {
    let source = existing.iter().find(|f| f.id == c.face).map_or("", |f| f.source.as_str());
    match c.kind {
        ConflictKind::Duplicate => {
            format!("this face is enrolled already as {} ({source}), similarity {:.3}", c.face, c.similarity)
        }
        ConflictKind::LooksLikeAnotherPerson => {
            let name = desk.gallery.person(&c.person).map_or_else(|| c.person.to_string(), |p| p.display_name);
            format!(
                "this face looks like {name} (similarity {:.2}, threshold {:.2}); force it if it is right",
                c.similarity, c.limit
            )
        }
        ConflictKind::UnlikeOwnFaces => format!(
            "this face is unlike the other faces of {}: the nearest is {} ({source}) with similarity {:.2}, {:.2} is usual; \
             force it if it is right",
            c.person, c.face, c.similarity, c.limit
        ),
    }
}
