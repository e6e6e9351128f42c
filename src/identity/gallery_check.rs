//! What may be wrong in a gallery: one picture for two people, look-alikes, faces unlike their person's others, poor pictures.
//!
//! In: enrolled faces of one model and from where on a similarity means something. Out: [`Finding`]s, gravest first. Every face is
//! compared with every other, so a very large gallery is looked at in part. Pure.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::EnrolledFace;
use crate::ids::{FaceId, PersonId};

/// Faces that are compared at most: 50 million pairs.
const MOST: usize = 10_000;

/// From where on a value makes a finding.
#[derive(Debug, Clone, Copy)]
pub struct CheckLimits {
    /// One picture twice.
    pub duplicate: f32,
    /// Faces of two people nearer than this are as alike as those of one.
    pub identification: f32,
    /// Faces of one person further apart than this are unlike each other.
    pub verification: f32,
    /// Best quality of a person's faces below which all are poor.
    pub quality: f32,
}

/// What may be wrong; the order is that of gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// One picture is enrolled for two people.
    SamePicture,
    /// Faces of two people are as alike as those of one.
    LookAlikes,
    /// A face is unlike the person's other faces.
    Outlier,
    /// One picture is enrolled twice for one person.
    Duplicate,
    /// A person has no face of the model in use.
    NoFace,
    /// The person has poor pictures only; the face is the best of them.
    Poor,
}

/// A face, with its person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The person.
    pub person: PersonId,
    /// The face; `None` for a person without.
    pub face: Option<FaceId>,
}

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The face.
    pub one: Whose,
    /// The face that it is compared with: for outliers the nearest of the person's others.
    pub other: Option<Whose>,
    /// Similarity of both; 0 without another.
    pub similarity: f32,
    /// The value that makes it a finding.
    pub limit: f32,
    /// Quality of the face; 0 without one.
    pub quality: f32,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checked {
    /// The gravest: by kind, then by how far beyond the limit.
    pub findings: Vec<Finding>,
    /// Findings in all.
    pub total: usize,
    /// Faces that were compared.
    pub compared: usize,
}

/// The gravest findings so far: thousands of copies of one picture are millions of findings.
struct Gravest {
    keep: usize,
    total: usize,
    found: Vec<Finding>,
}

impl Gravest {
    fn add(&mut self, found: impl IntoIterator<Item = Finding>) {
        for finding in found {
            self.total += 1;
            self.found.push(finding);
            if self.found.len() >= 2 * self.keep.max(1) {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        let beyond = |f: &Finding| match f.kind {
            FindingKind::Poor => f.limit - f.quality,
            _ => (f.similarity - f.limit).abs(),
        };
        self.found.sort_by(|a, b| a.kind.cmp(&b.kind).then(beyond(b).total_cmp(&beyond(a))));
        self.found.truncate(self.keep);
    }
}

/// Looks at a gallery: `faces` of one model, in any order, and `faceless` people. At most `keep` findings are told, the gravest. Ends early, with
/// what it has, when `stop` is cancelled: nobody waits for it then.
pub fn check(
    faces: &[EnrolledFace],
    faceless: &[PersonId],
    limits: &CheckLimits,
    keep: usize,
    stop: &CancellationToken,
) -> Checked {
    let mut people: BTreeMap<&PersonId, Vec<&EnrolledFace>> = BTreeMap::new();
    faces.iter().for_each(|f| people.entry(&f.person).or_default().push(f));
    // Whole people, evenly over all.
    let step = faces.len().div_ceil(MOST).max(1);
    let people: Vec<Vec<&EnrolledFace>> = people.into_values().step_by(step).collect();
    let mut gravest = Gravest { keep, total: 0, found: Vec::new() };
    for (i, own) in people.iter().enumerate().take_while(|_| !stop.is_cancelled()) {
        gravest.add(within(own, limits));
        gravest.add(people[i + 1..].iter().filter_map(|others| between(own, others, limits)));
    }
    gravest.add(faceless.iter().map(|person| Finding {
        kind: FindingKind::NoFace,
        one: Whose { person: person.clone(), face: None },
        other: None,
        similarity: 0.0,
        limit: 0.0,
        quality: 0.0,
    }));
    gravest.cut();
    Checked { findings: gravest.found, total: gravest.total, compared: people.iter().map(Vec::len).sum() }
}

fn whose(face: &EnrolledFace) -> Whose {
    Whose { person: face.person.clone(), face: Some(face.id.clone()) }
}

fn finding(kind: FindingKind, one: &EnrolledFace, other: Option<(&EnrolledFace, f32)>, limit: f32) -> Finding {
    Finding {
        kind,
        one: whose(one),
        other: other.map(|(face, _)| whose(face)),
        similarity: other.map_or(0.0, |(_, similarity)| similarity),
        limit,
        quality: one.quality,
    }
}

/// The faces of one person.
fn within(own: &[&EnrolledFace], limits: &CheckLimits) -> Vec<Finding> {
    let mut found = Vec::new();
    let similarity = |a: &EnrolledFace, b: &EnrolledFace| a.embedding.similarity(&b.embedding).ok();
    for (i, face) in own.iter().enumerate() {
        let others = own.iter().filter(|o| o.id != face.id);
        let nearest = others.filter_map(|o| Some((*o, similarity(face, o)?))).max_by(|a, b| a.1.total_cmp(&b.1));
        // Two faces that disagree are one finding: nobody knows which of them is wrong.
        if let Some((other, s)) = nearest.filter(|(_, s)| *s < limits.verification && (own.len() > 2 || i == 0)) {
            found.push(finding(FindingKind::Outlier, face, Some((other, s)), limits.verification));
        }
        for other in &own[i + 1..] {
            if let Some(s) = similarity(face, other).filter(|s| *s >= limits.duplicate) {
                found.push(finding(FindingKind::Duplicate, other, Some((face, s)), limits.duplicate));
            }
        }
    }
    let best = own.iter().max_by(|a, b| a.quality.total_cmp(&b.quality));
    if let Some(best) = best.filter(|best| best.quality < limits.quality) {
        found.push(finding(FindingKind::Poor, best, None, limits.quality));
    }
    found
}

/// Two people: the nearest pair of their faces.
fn between(own: &[&EnrolledFace], others: &[&EnrolledFace], limits: &CheckLimits) -> Option<Finding> {
    let pairs = own.iter().flat_map(|a| others.iter().map(move |b| (*a, *b)));
    let compared = pairs.filter_map(|(a, b)| Some((a, b, a.embedding.similarity(&b.embedding).ok()?)));
    let (a, b, s) = compared.max_by(|x, y| x.2.total_cmp(&y.2))?;
    if s >= limits.duplicate {
        Some(finding(FindingKind::SamePicture, a, Some((b, s)), limits.duplicate))
    } else if s >= limits.identification {
        Some(finding(FindingKind::LookAlikes, a, Some((b, s)), limits.identification))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        face::{Distance, Embedding},
        time::Timestamp,
    };

    fn face(id: &str, person: &str, degrees: f32, quality: f32) -> EnrolledFace {
        let (y, x) = degrees.to_radians().sin_cos();
        EnrolledFace {
            id: id.parse().unwrap(),
            person: person.parse().unwrap(),
            embedding: Embedding {
                model: "m".parse().unwrap(),
                distance: Distance::Cosine,
                values: [x, y].as_slice().into(),
            },
            quality,
            source: String::new(),
            created: Timestamp::UNIX_EPOCH,
        }
    }

    /// Two pictures are alike up to 60 degrees and one picture up to 5.
    const LIMITS: CheckLimits = CheckLimits { duplicate: 0.996, identification: 0.5, verification: 0.5, quality: 0.3 };

    fn told(faces: &[EnrolledFace], faceless: &[&str]) -> Vec<(FindingKind, String, String)> {
        let faceless: Vec<PersonId> = faceless.iter().map(|p| p.parse().unwrap()).collect();
        let name = |w: &Whose| w.face.as_ref().map_or_else(|| w.person.to_string(), ToString::to_string);
        check(faces, &faceless, &LIMITS, 100, &CancellationToken::new())
            .findings
            .iter()
            .map(|f| (f.kind, name(&f.one), f.other.as_ref().map(name).unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_sound_gallery_has_no_findings() {
        let faces = [face("a1", "anna", 0.0, 0.9), face("a2", "anna", 20.0, 0.2), face("b1", "berta", 100.0, 0.8)];
        assert!(told(&faces, &[]).is_empty());
        assert_eq!(check(&faces, &[], &LIMITS, 100, &CancellationToken::new()).compared, 3);
    }

    #[test]
    fn everything_that_may_be_wrong_is_told_gravest_first() {
        let faces = [
            face("a1", "anna", 0.0, 0.9),
            face("a2", "anna", 10.0, 0.9),
            face("a3", "anna", 170.0, 0.9),
            face("b1", "berta", 1.0, 0.9),
            face("c1", "carla", 215.0, 0.2),
            face("c2", "carla", 214.0, 0.1),
        ];
        use FindingKind::*;
        let pair = |kind, a: &str, b: &str| (kind, a.to_owned(), b.to_owned());
        let wanted = [
            pair(SamePicture, "a1", "b1"),
            pair(LookAlikes, "a3", "c2"),
            pair(Outlier, "a3", "a2"),
            pair(Duplicate, "c2", "c1"),
            pair(NoFace, "dora", ""),
            pair(Poor, "c1", ""),
        ];
        assert_eq!(told(&faces, &["dora"]), wanted);
    }

    #[test]
    fn two_faces_that_disagree_are_one_finding() {
        let faces = [face("a1", "anna", 0.0, 0.9), face("a2", "anna", 90.0, 0.9)];
        assert_eq!(told(&faces, &[]), [(FindingKind::Outlier, "a1".into(), "a2".into())]);
    }

    #[test]
    fn only_the_gravest_are_kept_and_all_are_counted() {
        // One picture for forty people, and two look-alikes.
        let mut faces: Vec<EnrolledFace> =
            (0..40).map(|i| face(&format!("f{i}"), &format!("p{i}"), 0.0, 0.9)).collect();
        faces.push(face("x", "x", 40.0, 0.9));
        let found = check(&faces, &[], &LIMITS, 5, &CancellationToken::new());
        assert_eq!((found.total, found.findings.len()), (40 * 39 / 2 + 40, 5));
        assert!(found.findings.iter().all(|f| f.kind == FindingKind::SamePicture));
        let stopped = CancellationToken::new();
        stopped.cancel();
        assert_eq!(check(&faces, &[], &LIMITS, 5, &stopped).total, 0);
    }
}
