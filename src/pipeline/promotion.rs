//! A group of unknown faces becomes a person: faces move to the gallery, past events are corrected.
//!
//! Order: refusals first, then the person, the faces, and last the corrections, each in the transaction that takes its face away. So an
//! interrupted promotion leaves the group in place and can be repeated without doubling anything.

use super::{
    appearance::PORTRAIT,
    picture::PictureError,
    unknowns::{Inner, UnknownsError},
};
use crate::{
    event::{EventKind, EventLogError, EventMatch, NamedPerson, NewEvent},
    face::Embedding,
    frame::BBox,
    identity::{Basis, EnrolledFace, FaceCrop, GalleryError, Person, PersonHit, UnknownChange, UnknownFace},
    ids::{EventId, PersonId, UnknownId},
    telemetry, time,
};

/// Faces of a group that are enrolled at most: the best; more would make a person match by sheer number.
const ENROLLED: usize = 8;
/// Events written at once.
const CORRECTED: usize = 64;

/// What an enrolment of a group did.
#[derive(Debug, Clone, PartialEq)]
pub struct Promotion {
    /// Who it is now.
    pub person: PersonId,
    /// Whether the person is new.
    pub created: bool,
    /// Faces enrolled: the best of the group.
    pub faces_enrolled: u32,
    /// Faces of the group, all of which are no unknowns any more.
    pub faces_moved: u32,
    /// Past events that were corrected.
    pub events_corrected: u32,
}

impl Inner {
    pub(super) async fn enrolled(
        &self,
        id: UnknownId,
        person: Person,
        force: bool,
    ) -> Result<Promotion, UnknownsError> {
        let mut board = self.absorbed().await?;
        let faces = board.group(id)?.faces;
        let (chosen, created) = {
            let existing = match self.gallery.store().faces(&person.id).await {
                Ok(faces) => Some(faces),
                Err(GalleryError::PersonNotFound(_)) => None,
                Err(error) => return Err(error.into()),
            };
            let chosen = self.choose(id, &faces, existing.as_deref().unwrap_or_default(), &person.id)?;
            if !force {
                self.nobody_else(id, &chosen, &person.id).await?;
            }
            (chosen, existing.is_none())
        };
        let name = person.id.clone();
        if created {
            self.gallery.create_person(person).await?;
        }
        for face in &chosen {
            // The face moves and keeps its id.
            let seen = face.ended.strftime("%Y-%m-%dT%H:%M:%SZ");
            let enrolled = EnrolledFace {
                id: face.id.clone(),
                person: name.clone(),
                embedding: face.template.clone(),
                quality: face.quality,
                source: format!("unknown {id} at {} {seen}", face.camera),
                created: time::now(),
            };
            let crop = self.crop_of(face).await?;
            self.gallery.add_face(enrolled, crop.as_ref()).await?;
        }
        board.sound = false;
        let events_corrected = self.correct(id, &faces, &name).await?;
        faces.iter().for_each(|f| board.remove(&f.id));
        board.sound = true;
        telemetry::unknown_faces("enrolled", faces.len() as u64);
        telemetry::unknown_faces_kept(board.faces.len());
        Ok(Promotion {
            person: name,
            created,
            faces_enrolled: chosen.len() as u32,
            faces_moved: faces.len() as u32,
            events_corrected,
        })
    }

    /// The face's portrait as the picture to keep; `None` where pictures are not kept or no face can be found in it any more.
    async fn crop_of(&self, face: &UnknownFace) -> Result<Option<FaceCrop>, UnknownsError> {
        if !self.desk.keep_crops {
            return Ok(None);
        }
        let Some(jpeg) = self.store.unknown_pictures(vec![face.id.clone()]).await?.pop().filter(|j| !j.is_empty())
        else {
            return Ok(None);
        };
        let picture = match self.desk.decode(jpeg.clone()).await {
            Ok(picture) => picture,
            Err(PictureError::Still(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let engine = self.desk.engine.now();
        let found = match self.desk.find(&engine, &picture, None).await {
            Ok(found) => found,
            Err(PictureError::TooManyFaces { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The portrait is cut around the face: somebody nearer may be in it, too, but not in its middle.
        let whole = BBox::new(0.0, 0.0, picture.width() as f32, picture.height() as f32);
        let middle = whole.grown(1.0 / PORTRAIT);
        let own = found.into_iter().map(|(d, _)| (d.bbox.iou(&middle), d)).filter(|(overlap, _)| *overlap >= 0.3);
        let own = own.max_by(|a, b| a.0.total_cmp(&b.0));
        Ok(own.map(|(_, detection)| FaceCrop { jpeg, detection }))
    }

    /// The best faces that the person does not have yet.
    fn choose<'f>(
        &self,
        group: UnknownId,
        faces: &'f [UnknownFace],
        existing: &[EnrolledFace],
        person: &PersonId,
    ) -> Result<Vec<&'f UnknownFace>, UnknownsError> {
        let model = self.gallery.model();
        let mut comparable: Vec<&UnknownFace> = faces.iter().filter(|f| f.template.model == model).collect();
        if comparable.is_empty() {
            return Err(UnknownsError::OtherModel { group, model });
        }
        comparable.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let (limit, twice) = (self.desk.enroll.max_faces_per_person, self.desk.enroll.duplicate_similarity);
        let like = |a: &Embedding, b: &Embedding| a.similarity(b).is_ok_and(|s| s >= twice);
        let mut chosen: Vec<&UnknownFace> = Vec::new();
        for face in comparable {
            let known = existing.iter().any(|e| like(&e.embedding, &face.template))
                || chosen.iter().any(|c| like(&c.template, &face.template));
            if known || chosen.len() >= ENROLLED {
                continue;
            }
            if existing.len() + chosen.len() >= limit {
                break;
            }
            chosen.push(face);
        }
        // Nothing new and no place: it would be no enrolment. Nothing new but known already: an interrupted one goes on.
        if chosen.is_empty() && existing.len() >= limit {
            return Err(UnknownsError::TooManyFaces { person: person.clone(), faces: existing.len() });
        }
        Ok(chosen)
    }

    async fn nobody_else(
        &self,
        group: UnknownId,
        faces: &[&UnknownFace],
        person: &PersonId,
    ) -> Result<(), UnknownsError> {
        let threshold = self.desk.thresholds(None).similarity;
        for face in faces {
            let hits = self.gallery.candidates(&face.template, &[]).await?.hits;
            let own = hits.iter().find(|h| h.person == *person).map_or(f32::NEG_INFINITY, |h| h.similarity);
            let other = hits.into_iter().find(|h| h.person != *person && h.similarity >= threshold.max(own));
            if let Some(hit) = other {
                let (person, similarity) = (hit.person, hit.similarity);
                return Err(UnknownsError::LooksLike { group, person, similarity, threshold });
            }
        }
        Ok(())
    }

    /// Corrects what was said about the group's appearances; each face goes in the transaction that writes its correction.
    async fn correct(&self, group: UnknownId, faces: &[UnknownFace], person: &PersonId) -> Result<u32, UnknownsError> {
        let named = self.gallery.person(person).ok_or_else(|| GalleryError::PersonNotFound(person.clone()))?;
        let named = NamedPerson::from(named);
        let (mut corrections, mut silent) = (Vec::new(), Vec::new());
        for face in faces {
            match self.log.get(&face.event).await {
                Ok(said) if said.body.matched.as_ref().is_none_or(|m| m.person.is_none()) => {
                    corrections.push(NewEvent {
                        id: EventId::generate(),
                        kind: EventKind::Corrected,
                        created: time::now(),
                        corrects: Some(said.body.id.clone()),
                        reason: format!("a person enrolled unknown {group}, to which this appearance belonged"),
                        matched: Some(self.figures(face, &named).await?),
                        image: None,
                        unknown: Some(UnknownChange::Moved(face.id.clone())),
                        ..said.body
                    });
                }
                // Said otherwise since, or removed by retention.
                Ok(_) | Err(EventLogError::NotFound(_)) => silent.push(face.id.clone()),
                Err(error) => return Err(error.into()),
            }
        }
        let corrected = corrections.len() as u32;
        while !corrections.is_empty() {
            let rest = corrections.split_off(corrections.len().min(CORRECTED));
            self.log.append(std::mem::replace(&mut corrections, rest)).await?;
        }
        self.store.remove_unknowns(silent).await?;
        Ok(corrected)
    }

    /// The match of a face with the person that it was enrolled as.
    async fn figures(&self, face: &UnknownFace, person: &NamedPerson) -> Result<EventMatch, UnknownsError> {
        let thresholds = self.desk.thresholds(None);
        let hits = match self.gallery.candidates(&face.template, &[]).await {
            Ok(found) => found.hits,
            Err(GalleryError::Incomparable(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let own = hits.iter().find(|h| h.person == person.id);
        let similarity = own.map_or(0.0, |h| h.similarity);
        let second = hits.iter().find(|h| h.person != person.id).map(|h| h.similarity);
        let faces = own.map(PersonHit::near_faces).unwrap_or_default();
        Ok(EventMatch {
            person: Some(person.clone()),
            similarity,
            margin: similarity - second.unwrap_or(-1.0),
            threshold: thresholds.similarity,
            confidence: thresholds.calibration.confidence(similarity),
            basis: Basis { faces, runner_up: second, source: thresholds.source, ..Basis::default() },
            ..EventMatch::default()
        })
    }
}
