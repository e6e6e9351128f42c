//! Enrolment: a picture becomes a face of the gallery, or is refused with the reason and nothing changes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::picture::{PictureDesk, PictureError};
use crate::{
    face::{Detection, Embedding, Quality},
    frame::still::StillError,
    identity::{EnrolledFace, GalleryError},
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
    /// A face is clearly the largest when its area is this many times that of the next.
    pub largest_ratio: f32,
    /// Faces of one person nearer than this similarity are one picture twice.
    pub duplicate_similarity: f32,
    /// Most faces a person may have.
    pub max_faces_per_person: usize,
}

impl Default for EnrollSettings {
    fn default() -> Self {
        Self {
            min_face_px: 0.0,
            min_sharpness: 0.08,
            min_frontality: 0.12,
            largest_ratio: 2.0,
            duplicate_similarity: 0.99,
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
    /// The person does not exist.
    NoSuchPerson,
    /// The person has as many faces as the limit allows.
    TooManyFaces,
}

/// The answer to one enrolment.
#[derive(Debug, Clone)]
pub enum Enrollment {
    /// Enrolled.
    Enrolled {
        /// The face as kept.
        face: EnrolledFace,
        /// Faces found.
        found: Vec<(Detection, Quality)>,
    },
    /// Refused; nothing changed.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// Why in words, with figures.
        message: String,
        /// Who it looks like, when that is the reason.
        similar: Option<PersonId>,
        /// Faces found.
        found: Vec<(Detection, Quality)>,
    },
}

struct Refusal {
    reason: RefusalReason,
    message: String,
    similar: Option<PersonId>,
}

fn refusal(reason: RefusalReason, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into(), similar: None }
}

pub(super) async fn enroll(
    desk: &PictureDesk,
    person: &PersonId,
    image: Bytes,
    source: &str,
    allow_several: bool,
    force: bool,
) -> Result<Enrollment, PictureError> {
    let answer = attempt(desk, person, image, source, allow_several, force).await?;
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
        |r: Refusal, found| Enrollment::Refused { reason: r.reason, message: r.message, similar: r.similar, found };
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
    let found = desk.find(&picture, None).await?;
    let (detection, quality) = match choose(&found, allow_several, &desk.enroll) {
        Ok(face) => face,
        Err(r) => return Ok(refused(r, found)),
    };
    if let Err(r) = good_enough(desk, &quality, existing.len()) {
        return Ok(refused(r, found));
    }
    let Some(embedding) = desk.engine.embed(&picture, &[detection]).await?.into_iter().next() else {
        return Ok(refused(refusal(RefusalReason::NoFace, "the face could not be embedded"), found));
    };
    if !force {
        if let Err(r) = duplicate(&embedding, &existing, &desk.enroll) {
            return Ok(refused(r, found));
        }
        if let Some(r) = somebody_else(desk, person, &embedding).await? {
            return Ok(refused(r, found));
        }
    }
    let face = EnrolledFace {
        id: FaceId::generate(),
        person: person.clone(),
        embedding,
        quality: quality.value,
        source: source.chars().take(255).collect(),
        created: time::now(),
    };
    desk.gallery.add_face(face.clone()).await?;
    Ok(Enrollment::Enrolled { face, found })
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

fn good_enough(desk: &PictureDesk, quality: &Quality, faces: usize) -> Result<(), Refusal> {
    let s = &desk.enroll;
    let model_min = desk.engine.embedder().embedder.as_ref().map_or(0.0, |e| e.min_face_px);
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
    if faces >= s.max_faces_per_person {
        let text = format!("the person has {faces} faces, the limit is {}; delete one first", s.max_faces_per_person);
        return Err(refusal(RefusalReason::TooManyFaces, text));
    }
    Ok(())
}

fn duplicate(embedding: &Embedding, existing: &[EnrolledFace], settings: &EnrollSettings) -> Result<(), Refusal> {
    for face in existing {
        // Faces of another model can't be compared and so are no duplicates.
        let Ok(similarity) = embedding.similarity(&face.embedding) else { continue };
        if similarity >= settings.duplicate_similarity {
            let text =
                format!("this face is enrolled already as {} ({}), similarity {similarity:.3}", face.id, face.source);
            return Err(refusal(RefusalReason::Duplicate, text));
        }
    }
    Ok(())
}

async fn somebody_else(
    desk: &PictureDesk,
    person: &PersonId,
    embedding: &Embedding,
) -> Result<Option<Refusal>, PictureError> {
    let threshold = desk.thresholds(None).similarity;
    let hits = desk.gallery.candidates(embedding, &[]).await?.hits;
    let own = hits.iter().find(|h| &h.person == person).map_or(f32::NEG_INFINITY, |h| h.similarity);
    let other = hits.iter().find(|h| &h.person != person && h.similarity >= threshold && h.similarity > own);
    Ok(other.map(|hit| {
        let name = desk.gallery.person(&hit.person).map_or_else(|| hit.person.to_string(), |p| p.display_name);
        Refusal {
            reason: RefusalReason::LooksLikeAnotherPerson,
            message: format!(
                "this face looks like {name} (similarity {:.2}, threshold {threshold:.2}); force it if it is right",
                hit.similarity
            ),
            similar: Some(hit.person.clone()),
        }
    }))
}
