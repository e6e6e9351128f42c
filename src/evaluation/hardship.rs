//! Is the face quality number worth anything on pictures that are hard? Good portraits, damaged, against good ones.
//!
//! In: for each picture of a person the face as it is and after each [`Damage`]. Each damaged face is compared with every other picture of
//! its person as it is; it is recognised at a threshold fixed beforehand, at a false match rate over all pairs of undamaged faces of different
//! people. Out: for each damage how much is recognised, and how much of the possible gain the quality number brings when the worst are
//! discarded ([`discard::Curve::gain`]), beside the plain features. Pure.

use serde::Serialize;

use super::{
    Face, Scores,
    damage::Damage,
    discard::{self, Judged},
};
use crate::face::Quality;

/// A face after damage.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What was done; `None`: nothing.
    pub damage: Option<Damage>,
    /// The face, unless the detector lost it.
    pub face: Option<Face>,
}

/// What a picture gave: its person and the attempts, undamaged first.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Name of the person.
    pub person: String,
    /// The attempts.
    pub attempts: Vec<Attempt>,
}

impl Tried {
    fn undamaged(&self) -> Option<&Face> {
        self.attempts.iter().find(|a| a.damage.is_none())?.face.as_ref()
    }
}

/// Gains of the quality number and of plain features, 1 ideal, 0 chance; `None` where nothing fails.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gains {
    /// The number.
    pub quality: Option<f64>,
    /// Detector score alone.
    pub score: Option<f64>,
    /// Sharpness alone.
    pub sharpness: Option<f64>,
    /// Frontality alone.
    pub frontality: Option<f64>,
    /// Size alone.
    pub size: Option<f64>,
}

/// What one kind of damage does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name; `none` and `all` besides the kinds.
    pub damage: &'static str,
    /// Faces tried.
    pub faces: usize,
    /// Share of them that the detector found, 0 to 1.
    pub found: f64,
    /// Comparisons of found faces.
    pub comparisons: usize,
    /// Share of them that is recognised, 0 to 1.
    pub recognised: f64,
    /// What discarding the worst brings.
    pub gains: Gains,
}

/// A bin of the quality number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Mean quality of its comparisons, 0 to 1.
    pub quality: f64,
    /// Share of them that is recognised, 0 to 1.
    pub recognised: f64,
    /// Comparisons in it.
    pub count: usize,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hardship {
    /// False match rate that fixed the threshold, 0 to 1.
    pub fmr: f64,
    /// The threshold, a similarity.
    pub threshold: f32,
    /// Undamaged, each kind, all damaged and undamaged together.
    pub rows: Vec<Row>,
    /// Error versus discard over everything.
    pub curve: discard::Curve,
    /// Quality in ten bins, least first, over everything.
    pub bins: Vec<Bin>,
}

/// One comparison of a (damaged) face with an undamaged one of the same person.
struct Comparison {
    damage: Option<Damage>,
    similarity: f32,
    quality: Quality,
}

/// The figures at a false match rate. Empty rows are left out.
pub fn judge(tried: &[Tried], fmr: f64) -> Hardship {
    let plain: Vec<(&str, &Face)> = tried.iter().filter_map(|t| Some((t.person.as_str(), t.undamaged()?))).collect();
    let similarity = |a: &Face, b: &Face| a.embedding.similarity(&b.embedding).unwrap_or(f32::NEG_INFINITY);
    let mut impostor = Vec::new();
    for (i, (person, face)) in plain.iter().enumerate() {
        impostor
            .extend(plain[..i].iter().filter(|(other, _)| other != person).map(|(_, other)| similarity(face, other)));
    }
    let mut comparisons = Vec::new();
    for (i, picture) in tried.iter().enumerate() {
        let others = || tried.iter().enumerate().filter(move |(j, o)| *j != i && o.person == picture.person);
        for attempt in &picture.attempts {
            let Some(face) = &attempt.face else { continue };
            comparisons.extend(others().filter_map(|(_, o)| o.undamaged()).map(|other| Comparison {
                damage: attempt.damage,
                similarity: similarity(face, other),
                quality: face.quality,
            }));
        }
    }
    let scores = Scores::new(comparisons.iter().map(|c| c.similarity).collect(), impostor);
    let threshold = scores.at_far(fmr).threshold;
    let kinds = std::iter::once(None).chain(Damage::ALL.map(Some));
    let mut rows: Vec<Row> = kinds
        .map(|kind| {
            let name = kind.map_or("none", Damage::name);
            row(name, tried, &comparisons, &scores, (fmr, threshold), |damage| damage == kind)
        })
        .filter(|row| row.faces > 0)
        .collect();
    rows.push(row("all", tried, &comparisons, &scores, (fmr, threshold), |_| true));
    let curve = discard::curve(&judged(comparisons.iter(), |q| q.value), &scores, fmr);
    Hardship { fmr, threshold, rows, curve, bins: bins(&comparisons, threshold) }
}

fn judged<'a>(comparisons: impl Iterator<Item = &'a Comparison>, of: impl Fn(&Quality) -> f32) -> Vec<Judged> {
    comparisons.map(|c| Judged { similarity: c.similarity, quality: of(&c.quality) }).collect()
}

fn row(
    name: &'static str,
    tried: &[Tried],
    comparisons: &[Comparison],
    scores: &Scores,
    (fmr, threshold): (f64, f32),
    counts: impl Fn(Option<Damage>) -> bool,
) -> Row {
    let attempts: Vec<&Attempt> = tried.iter().flat_map(|t| &t.attempts).filter(|a| counts(a.damage)).collect();
    let found = attempts.iter().filter(|a| a.face.is_some()).count();
    let own: Vec<&Comparison> = comparisons.iter().filter(|c| counts(c.damage)).collect();
    let recognised = own.iter().filter(|c| c.similarity >= threshold).count();
    let gain = |of: &dyn Fn(&Quality) -> f32| discard::curve(&judged(own.iter().copied(), of), scores, fmr).gain();
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    Row {
        damage: name,
        faces: attempts.len(),
        found: share(found, attempts.len()),
        comparisons: own.len(),
        recognised: share(recognised, own.len()),
        gains: Gains {
            quality: gain(&|q| q.value),
            score: gain(&|q| q.score),
            sharpness: gain(&|q| q.sharpness),
            frontality: gain(&|q| q.frontality),
            size: gain(&|q| q.size_px),
        },
    }
}

fn bins(comparisons: &[Comparison], threshold: f32) -> Vec<Bin> {
    const BINS: usize = 10;
    let mut bins = [(0.0, 0usize, 0usize); BINS];
    for c in comparisons {
        let bin = &mut bins[((c.quality.value * BINS as f32) as usize).min(BINS - 1)];
        bin.0 += f64::from(c.quality.value);
        bin.1 += usize::from(c.similarity >= threshold);
        bin.2 += 1;
    }
    let filled = bins.into_iter().filter(|b| b.2 > 0);
    filled
        .map(|(quality, recognised, count)| Bin {
            quality: quality / count as f64,
            recognised: recognised as f64 / count as f64,
            count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        face::{Detection, Distance, Embedding},
        frame::{BBox, Point},
    };

    /// A face of a person (an axis), turned away from it by degrees.
    fn face(axis: usize, degrees: f32, quality: f32) -> Face {
        let mut values = vec![0.0; 4];
        values[axis] = degrees.to_radians().cos();
        values[3] = degrees.to_radians().sin();
        let embedding = Embedding { model: "toy".parse().unwrap(), distance: Distance::Cosine, values: values.into() };
        let bbox = BBox::new(0.0, 0.0, 10.0, 10.0);
        let detection = Detection { bbox, score: 0.9, landmarks: [Point::default(); 5] };
        Face { detection, quality: Quality { value: quality, score: 0.9, ..Quality::default() }, embedding }
    }

    fn tried(axis: usize) -> Tried {
        let person = format!("p{axis}");
        let plain = Attempt { damage: None, face: Some(face(axis, 5.0, 0.9)) };
        let blurred = Attempt { damage: Some(Damage::Blur), face: Some(face(axis, 175.0, 0.1)) };
        let lost = Attempt { damage: Some(Damage::Small), face: None };
        Tried { person, attempts: vec![plain, blurred, lost] }
    }

    #[test]
    fn damage_is_told_apart_and_a_quality_that_sees_it_gains() {
        let all: Vec<Tried> = [0, 0, 1, 1, 2, 2].map(tried).into();
        let result = judge(&all, 1e-3);
        let names: Vec<&str> = result.rows.iter().map(|r| r.damage).collect();
        assert_eq!(names, ["none", "small", "blur", "all"]);
        let row = |name: &str| result.rows.iter().find(|r| r.damage == name).unwrap();
        assert_eq!((row("none").recognised, row("none").gains.quality), (1.0, None));
        assert_eq!((row("small").found, row("small").comparisons), (0.0, 0));
        assert_eq!((row("blur").recognised, row("blur").faces), (0.0, 6));
        assert_eq!(row("all").recognised, 0.5);
        assert!((row("all").gains.quality.unwrap() - 1.0).abs() < 1e-9, "{result:?}");
        assert!(row("all").gains.score.unwrap() <= 0.0, "one score for all says nothing");
        assert_eq!(result.bins.len(), 2);
        assert!((result.bins[1].quality - 0.9).abs() < 1e-6 && result.bins[1].recognised == 1.0);
    }

    #[test]
    fn nothing_tried_is_no_panic() {
        let result = judge(&[], 1e-3);
        assert_eq!((result.rows.len(), result.bins.len()), (1, 0));
    }
}
