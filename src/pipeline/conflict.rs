//! What speaks against an enrolment: the face is there already, looks like somebody else, or is unlike the person's other faces.
//!
//! In: similarities of a new face. Out: [`Conflict`]s, each with the enrolled face it is with, surest first. Pure.
//!
//! Sure ones refuse the picture: it is the same picture, it is nearer to somebody else than to the person it is meant for, or it is
//! almost certainly not the person that two agreeing faces show. The others are told, and the face is enrolled: a first face has nothing to
//! agree with, two faces that disagree don't say which is wrong, and twins exist.

use crate::{
    identity::PersonHit,
    ids::{FaceId, PersonId},
    inference::manifest::Calibration,
};

/// What is wrong between two faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// One picture twice.
    Duplicate,
    /// The face looks like somebody else of the gallery.
    LooksLikeAnotherPerson,
    /// The face does not look like the other faces of the person.
    UnlikeOwnFaces,
}

/// A new face against an enrolled one.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// What is wrong.
    pub kind: ConflictKind,
    /// The enrolled face.
    pub face: FaceId,
    /// Whose face it is.
    pub person: PersonId,
    /// Similarity of the two faces.
    pub similarity: f32,
    /// The similarity that would have been needed, or must not be reached.
    pub limit: f32,
    /// Whether it is sure enough to refuse the picture.
    pub refuses: bool,
}

/// From where on a similarity speaks against an enrolment.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One picture twice.
    pub duplicate: f32,
    /// The identification threshold in force.
    pub identification: f32,
    /// The model's verification threshold: two pictures of one person reach it nearly always.
    pub verification: f32,
    /// Similarity to probability.
    pub calibration: Calibration,
    /// A face whose probability to be the person's is below this is refused where the person's faces agree.
    pub outlier_confidence: f32,
}

/// Similarity of a new face to one of the person's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// The face.
    pub face: FaceId,
    /// Similarity to the new face.
    pub similarity: f32,
    /// Similarity to the nearest other face of the person; `None` for an only one.
    pub mate: Option<f32>,
}

/// What speaks against a face of `person`: `own` are its faces, `others` the nearest people.
pub fn conflicts(person: &PersonId, own: &[Own], others: &[PersonHit], limits: &Limits) -> Vec<Conflict> {
    let mut found = Vec::new();
    let nearest = own.iter().max_by(|a, b| a.similarity.total_cmp(&b.similarity));
    let near = nearest.map_or(f32::NEG_INFINITY, |o| o.similarity);
    let conflict = |kind, face: &FaceId, person: &PersonId, similarity, limit, refuses| Conflict {
        kind,
        face: face.clone(),
        person: person.clone(),
        similarity,
        limit,
        refuses,
    };
    if let Some(o) = nearest.filter(|o| o.similarity >= limits.duplicate) {
        found.push(conflict(ConflictKind::Duplicate, &o.face, person, o.similarity, limits.duplicate, true));
    }
    let others = others.iter().filter(|h| h.person != *person);
    if let Some(other) = others.max_by(|a, b| a.similarity.total_cmp(&b.similarity)) {
        let (nearer, reached) = (other.similarity > near, other.similarity >= limits.identification);
        let doubtful = nearer && nearest.is_some() && other.similarity >= limits.verification;
        if reached || doubtful {
            let (kind, refuses) = (ConflictKind::LooksLikeAnotherPerson, nearer && reached);
            found.push(conflict(kind, &other.face, &other.person, other.similarity, limits.identification, refuses));
        }
    }
    if let Some(o) = nearest.filter(|o| o.similarity < limits.verification) {
        let agreeing = own.iter().filter(|o| o.mate.is_some_and(|mate| mate >= limits.verification)).count();
        let sure = limits.calibration.confidence(o.similarity) < limits.outlier_confidence;
        let (kind, refuses) = (ConflictKind::UnlikeOwnFaces, agreeing >= 2 && sure);
        found.push(conflict(kind, &o.face, person, o.similarity, limits.verification, refuses));
    }
    found.sort_by_key(|c| !c.refuses);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            duplicate: 0.99,
            identification: 0.5,
            verification: 0.4,
            calibration: Calibration { midpoint: 0.4, slope: 40.0 },
            outlier_confidence: 0.05,
        }
    }

    fn own(similarity: f32, mate: Option<f32>) -> Own {
        Own { face: "own".parse().unwrap(), similarity, mate }
    }

    fn hit(person: &str, similarity: f32) -> PersonHit {
        PersonHit {
            person: person.parse().unwrap(),
            face: format!("of-{person}").parse().unwrap(),
            similarity,
            more: Vec::new(),
        }
    }

    fn judged(own: &[Own], others: &[PersonHit]) -> Vec<(ConflictKind, String, bool)> {
        let found = conflicts(&"anna".parse().unwrap(), own, others, &limits());
        found.into_iter().map(|c| (c.kind, c.face.to_string(), c.refuses)).collect()
    }

    #[test]
    fn a_good_face_has_no_conflict() {
        assert!(judged(&[], &[hit("berta", 0.45)]).is_empty());
        assert!(judged(&[own(0.7, None)], &[hit("anna", 0.7), hit("berta", 0.3)]).is_empty());
    }

    #[test]
    fn the_same_picture_and_somebody_else_are_refused() {
        assert_eq!(judged(&[own(0.995, None)], &[]), [(ConflictKind::Duplicate, "own".into(), true)]);
        let other = (ConflictKind::LooksLikeAnotherPerson, "of-berta".to_owned(), true);
        assert_eq!(judged(&[], &[hit("berta", 0.6)]), std::slice::from_ref(&other));
        assert_eq!(judged(&[own(0.45, None)], &[hit("berta", 0.6)]), [other]);
    }

    #[test]
    fn doubts_are_told_and_do_not_refuse() {
        let told = (ConflictKind::LooksLikeAnotherPerson, "of-berta".to_owned(), false);
        assert_eq!(judged(&[own(0.7, None)], &[hit("berta", 0.6)]), std::slice::from_ref(&told), "a twin");
        assert_eq!(judged(&[own(0.42, None)], &[hit("berta", 0.45)]), [told]);
    }

    #[test]
    fn an_outlier_is_refused_only_against_faces_that_agree() {
        let unlike = |refuses| [(ConflictKind::UnlikeOwnFaces, "own".to_owned(), refuses)];
        assert_eq!(judged(&[own(0.1, Some(0.7)), own(0.05, Some(0.7))], &[]), unlike(true));
        assert_eq!(judged(&[own(0.39, Some(0.7)), own(0.05, Some(0.7))], &[]), unlike(false), "not sure enough");
        assert_eq!(judged(&[own(0.1, None)], &[]), unlike(false), "one against one");
        assert_eq!(judged(&[own(0.1, Some(0.2)), own(0.0, Some(0.2))], &[]), unlike(false), "they don't agree either");
    }
}
