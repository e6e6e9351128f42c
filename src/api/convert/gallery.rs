//! The gallery as a whole on the wire.

use super::person::face_name;
use crate::{
    identity::{
        embeddings::Coverage,
        gallery_check::{Finding, FindingKind, Whose},
    },
    ids::ModelId,
    pipeline::reembed::{MovePlan, Step},
    proto::v1,
};

/// Missing faces that are named.
const NAMED: usize = 10_000;

/// How far a model covers a gallery of `faces`.
pub fn coverage(c: &Coverage, faces: u64, in_use: &ModelId) -> v1::ModelCoverage {
    v1::ModelCoverage {
        model: c.model.to_string(),
        people: c.people,
        faces: c.faces,
        complete: c.faces == faces,
        in_use: c.model == *in_use,
    }
}

/// What a move means.
pub fn plan(plan: &MovePlan) -> v1::ReembedPlan {
    let missing = plan.missing.iter().take(NAMED);
    let missing = missing.map(|m| v1::MissingFace { name: face_name(&m.person, &m.face), source: m.source.clone() });
    let remark = |key: &&str| format!("{key} is set for {} and does not count for {}", plan.from, plan.to);
    v1::ReembedPlan {
        from: plan.from.to_string(),
        to: plan.to.to_string(),
        people: plan.people,
        faces: plan.faces,
        embedded: plan.embedded,
        to_embed: plan.to_embed,
        missing: missing.collect(),
        lost_people: plan.lost.iter().map(|p| format!("people/{p}")).collect(),
        negatives_left: plan.negatives_left,
        calibrated: plan.calibrated,
        remarks: plan.settings.iter().map(remark).collect(),
        dropped: plan.dropped,
    }
}

/// A step of a move.
pub fn step(step: Step) -> v1::ReembedGalleryResponse {
    let (stage, done, total) = match step {
        Step::Loading => (v1::ReembedStage::Loading, 0, 0),
        Step::Embedding { done, total } => (v1::ReembedStage::Embedding, done, total),
        Step::Indexing { done, total } => (v1::ReembedStage::Indexing, done, total),
        Step::Switched => (v1::ReembedStage::Switched, 0, 0),
    };
    v1::ReembedGalleryResponse { stage: stage.into(), done, total, plan: None }
}

/// A finding with the advice what to do.
pub fn finding(f: &Finding) -> v1::GalleryFinding {
    use v1::GalleryFindingKind as Kind;
    let (kind, advice) = match f.kind {
        FindingKind::SamePicture => (
            Kind::SamePicture,
            "look whose picture it is, and delete the face of the other person; or both are one person: erase one of them",
        ),
        FindingKind::LookAlikes => (
            Kind::LookAlikes,
            "look at both: one person enrolled as two, or a face in the wrong place, must be deleted; for real look-alikes enrol more and \
             better pictures of both",
        ),
        FindingKind::Outlier => (
            Kind::Outlier,
            "look at both: delete the face if it is somebody else or can't be recognised; keep it if it shows the person at another age or \
             in other dress",
        ),
        FindingKind::Duplicate => (Kind::Duplicate, "delete one of them: it says nothing new"),
        FindingKind::NoFace => (Kind::NoFace, "enrol a picture: nobody is recognised as this person"),
        FindingKind::Poor => (Kind::Poor, "enrol a sharp picture from the front, at least 100 pixels wide"),
    };
    let person = |w: &Whose| format!("people/{}", w.person);
    let face = |w: &Whose| w.face.as_ref().map(|face| face_name(&w.person, face)).unwrap_or_default();
    v1::GalleryFinding {
        kind: kind.into(),
        person: person(&f.one),
        face: face(&f.one),
        other_person: f.other.as_ref().map(person).unwrap_or_default(),
        other_face: f.other.as_ref().map(face).unwrap_or_default(),
        similarity: f.similarity,
        limit: f.limit,
        quality: f.quality,
        advice: advice.into(),
    }
}
