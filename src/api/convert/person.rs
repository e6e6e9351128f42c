//! People and enrolled faces on the wire.

use std::collections::BTreeMap;

use super::{excerpt, from_time, time};
use crate::{
    identity::{
        EnrolledFace, Person,
        alike::Neighbour,
        person::{ErasureReceipt, LegalGround, Terms},
    },
    ids::{FaceId, PersonId},
    pipeline::{
        conflict::{Conflict, ConflictKind},
        picture::RefusalReason,
    },
    proto::v1,
    time::Timestamp,
};

/// A person with its number of faces and whom it looks like.
pub fn to_wire(person: &Person, faces: u32, alike: &[Neighbour]) -> v1::Person {
    v1::Person {
        name: format!("people/{}", person.id),
        display_name: person.display_name.clone(),
        external_id: person.external_id.clone(),
        labels: person.labels.clone().into_iter().collect(),
        watchlists: person.watchlists.clone(),
        face_count: faces,
        create_time: Some(time(person.created)),
        etag: person.revision.to_string(),
        threshold_offset: person.threshold_offset,
        legal_basis: legal_basis(&person.terms),
        expire_time: person.terms.expires.map(time),
        looks_like: alike
            .iter()
            .map(|n| v1::AlikePerson { person: format!("people/{}", n.person), similarity: n.similarity })
            .collect(),
    }
}

fn legal_basis(terms: &Terms) -> Option<v1::LegalBasis> {
    let ground = match terms.ground {
        None => v1::LegalGround::Unspecified,
        Some(LegalGround::Consent) => v1::LegalGround::Consent,
        Some(LegalGround::Contract) => v1::LegalGround::Contract,
        Some(LegalGround::LegalObligation) => v1::LegalGround::LegalObligation,
        Some(LegalGround::VitalInterest) => v1::LegalGround::VitalInterest,
        Some(LegalGround::PublicTask) => v1::LegalGround::PublicTask,
        Some(LegalGround::LegitimateInterest) => v1::LegalGround::LegitimateInterest,
    };
    let said = terms.ground.is_some() || !terms.reference.is_empty() || terms.given.is_some();
    said.then(|| v1::LegalBasis {
        ground: ground.into(),
        reference: terms.reference.clone(),
        give_time: terms.given.map(time),
    })
}

/// Takes a legal basis in; faults are (field, what to do).
fn take_legal_basis(terms: &mut Terms, wire: Option<v1::LegalBasis>) -> Result<(), Vec<(String, String)>> {
    let fault = |field: &str, text: &str| vec![(format!("person.legal_basis.{field}"), text.to_owned())];
    let wire = wire.unwrap_or_default();
    terms.ground = match v1::LegalGround::try_from(wire.ground) {
        Ok(v1::LegalGround::Unspecified) => None,
        Ok(v1::LegalGround::Consent) => Some(LegalGround::Consent),
        Ok(v1::LegalGround::Contract) => Some(LegalGround::Contract),
        Ok(v1::LegalGround::LegalObligation) => Some(LegalGround::LegalObligation),
        Ok(v1::LegalGround::VitalInterest) => Some(LegalGround::VitalInterest),
        Ok(v1::LegalGround::PublicTask) => Some(LegalGround::PublicTask),
        Ok(v1::LegalGround::LegitimateInterest) => Some(LegalGround::LegitimateInterest),
        Err(_) => return Err(fault("ground", "is none that this server knows")),
    };
    terms.reference = wire.reference;
    terms.given = wire
        .give_time
        .as_ref()
        .map(from_time)
        .map_or(Ok(None), |at| at.map(Some).ok_or_else(|| fault("give_time", "is out of range")))?;
    Ok(())
}

fn take_expiry(terms: &mut Terms, wire: Option<prost_types::Timestamp>) -> Result<(), Vec<(String, String)>> {
    let fault = || vec![("person.expire_time".to_owned(), "is out of range".to_owned())];
    terms.expires = wire.as_ref().map(|at| from_time(at).ok_or_else(fault)).transpose()?;
    Ok(())
}

/// A new person; faults are (field, what to do).
///
/// # Errors
/// Every fault at once.
pub fn from_wire(id: PersonId, wire: v1::Person, now: Timestamp) -> Result<Person, Vec<(String, String)>> {
    let display_name = if wire.display_name.is_empty() { id.to_string() } else { wire.display_name };
    let mut terms = Terms::default();
    take_legal_basis(&mut terms, wire.legal_basis)?;
    take_expiry(&mut terms, wire.expire_time)?;
    let person = Person {
        id,
        display_name,
        terms,
        external_id: wire.external_id,
        labels: wire.labels.into_iter().collect::<BTreeMap<_, _>>(),
        watchlists: wire.watchlists,
        threshold_offset: wire.threshold_offset,
        created: now,
        revision: 1,
    };
    check(&person)?;
    Ok(person)
}

/// Largest offset of a threshold, either way.
const MOST_OFFSET: f32 = 0.3;
/// Fields that can be changed.
const FIELDS: [&str; 7] =
    ["display_name", "external_id", "labels", "watchlists", "threshold_offset", "legal_basis", "expire_time"];

/// Checks what types can't exclude.
///
/// # Errors
/// Every fault at once.
pub fn check(person: &Person) -> Result<(), Vec<(String, String)>> {
    let mut faults = Vec::new();
    let mut need = |ok: bool, field: &str, text: &str| {
        if !ok {
            faults.push((format!("person.{field}"), text.to_owned()));
        }
    };
    need((1..=200).contains(&person.display_name.len()), "display_name", "give 1 to 200 bytes");
    need(!person.display_name.chars().any(char::is_control), "display_name", "must not hold control characters");
    need(person.external_id.len() <= 200, "external_id", "is longer than 200 bytes");
    let label = |(k, v): (&String, &String)| !k.is_empty() && k.len() <= 63 && v.len() <= 255;
    need(
        person.labels.len() <= 64 && person.labels.iter().all(label),
        "labels",
        "at most 64, keys of 1 to 63 bytes, values of at most 255",
    );
    let list = |w: &String| !w.is_empty() && w.len() <= 63;
    need(
        person.watchlists.len() <= 64 && person.watchlists.iter().all(list),
        "watchlists",
        "at most 64, each of 1 to 63 bytes",
    );
    need(person.terms.reference.len() <= 200, "legal_basis.reference", "is longer than 200 bytes");
    need(
        person.threshold_offset.abs() <= MOST_OFFSET,
        "threshold_offset",
        "is added to the threshold and no threshold itself; give -0.3 to 0.3, such as 0.05 for stricter",
    );
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Applies the fields of `wire` that the mask names, or all that are set without a mask.
///
/// # Errors
/// Unknown paths and faulty values.
pub fn apply(person: &mut Person, wire: v1::Person, paths: &[String]) -> Result<(), Vec<(String, String)>> {
    let all = paths.is_empty();
    let has = |path: &str| paths.iter().any(|p| p == path);
    if let Some(bad) = paths.iter().find(|p| !FIELDS.contains(&p.as_str())) {
        let text = format!("{:?} is no field that can be changed; there are {}", excerpt(bad), FIELDS.join(", "));
        return Err(vec![("update_mask".into(), text)]);
    }
    if has("display_name") || (all && !wire.display_name.is_empty()) {
        person.display_name = wire.display_name;
    }
    if has("external_id") || (all && !wire.external_id.is_empty()) {
        person.external_id = wire.external_id;
    }
    if has("labels") || (all && !wire.labels.is_empty()) {
        person.labels = wire.labels.into_iter().collect();
    }
    if has("watchlists") || (all && !wire.watchlists.is_empty()) {
        person.watchlists = wire.watchlists;
    }
    if has("threshold_offset") || (all && wire.threshold_offset != 0.0) {
        person.threshold_offset = wire.threshold_offset;
    }
    if has("legal_basis") || (all && wire.legal_basis.is_some()) {
        take_legal_basis(&mut person.terms, wire.legal_basis)?;
    }
    if has("expire_time") || (all && wire.expire_time.is_some()) {
        take_expiry(&mut person.terms, wire.expire_time)?;
    }
    check(person)
}

/// An enrolled face.
pub fn face(face: &EnrolledFace) -> v1::Face {
    v1::Face {
        name: face_name(&face.person, &face.id),
        model: face.embedding.model.to_string(),
        quality: face.quality,
        source: face.source.clone(),
        create_time: Some(time(face.created)),
    }
}

/// A receipt.
pub fn receipt(receipt: &ErasureReceipt) -> v1::ErasureReceipt {
    v1::ErasureReceipt {
        id: receipt.id.clone(),
        person: format!("people/{}", receipt.person),
        erase_time: Some(time(receipt.erased)),
        faces_removed: receipt.faces_removed,
        events_anonymised: receipt.events_anonymised,
        pictures_removed: receipt.pictures_removed,
        face_images_removed: receipt.crops_removed,
    }
}

/// A refusal.
pub fn refusal(reason: RefusalReason) -> v1::RefusalReason {
    match reason {
        RefusalReason::NotAnImage => v1::RefusalReason::NotAnImage,
        RefusalReason::TooLarge => v1::RefusalReason::TooLarge,
        RefusalReason::NoFace => v1::RefusalReason::NoFace,
        RefusalReason::SeveralFaces => v1::RefusalReason::SeveralFaces,
        RefusalReason::TooSmall => v1::RefusalReason::TooSmall,
        RefusalReason::TooBlurred => v1::RefusalReason::TooBlurred,
        RefusalReason::TurnedAway => v1::RefusalReason::TurnedAway,
        RefusalReason::LooksLikeAnotherPerson => v1::RefusalReason::LooksLikeAnotherPerson,
        RefusalReason::Duplicate => v1::RefusalReason::Duplicate,
        RefusalReason::NoSuchPerson => v1::RefusalReason::NoSuchPerson,
        RefusalReason::TooManyFaces => v1::RefusalReason::TooManyFaces,
        RefusalReason::UnlikeOwnFaces => v1::RefusalReason::UnlikeOwnFaces,
        RefusalReason::NotLive => v1::RefusalReason::NotLive,
    }
}

/// An enrolled face that speaks against a new one.
pub fn conflict(conflict: &Conflict) -> v1::Conflict {
    let kind = match conflict.kind {
        ConflictKind::Duplicate => v1::ConflictKind::Duplicate,
        ConflictKind::LooksLikeAnotherPerson => v1::ConflictKind::LooksLikeAnotherPerson,
        ConflictKind::UnlikeOwnFaces => v1::ConflictKind::UnlikeOwnFaces,
    };
    v1::Conflict {
        kind: kind.into(),
        face: face_name(&conflict.person, &conflict.face),
        similarity: conflict.similarity,
        limit: conflict.limit,
        refuses: conflict.refuses,
    }
}

/// Resource name of a face.
pub fn face_name(person: &PersonId, face: &FaceId) -> String {
    format!("people/{person}/faces/{face}")
}
