//! Error versus discard: is the face quality number worth anything?
//!
//! The worst comparisons by quality are left out, and the false non-match rate of the rest is looked at: it must fall, and
//! faster than by chance. The quality of a comparison is the worse of its two faces'; the threshold is fixed beforehand, at a false match
//! rate over all comparisons. Source: Grother and Tabassi, "Performance of Biometric Quality Measures", IEEE TPAMI 29(4), 2007.

use serde::Serialize;

use super::{Scores, gallery};

/// A genuine comparison with its quality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Similarity.
    pub similarity: f32,
    /// Quality of the worse face, 0 to 1.
    pub quality: f32,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Share of genuine comparisons left out, 0 to 1.
    pub discarded: f64,
    /// False non-match rate of the others, 0 to 1.
    pub fnmr: f64,
    /// Least quality among the others.
    pub least_quality: f32,
    /// The rate if exactly the failing comparisons had been left out: no quality number can do better.
    pub ideal: f64,
}

/// The curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// False match rate that fixed the threshold, 0 to 1.
    pub fmr: f64,
    /// The threshold, a similarity.
    pub threshold: f32,
    /// Points at 0 %, 5 %, … of comparisons left out.
    pub points: Vec<Point>,
}

/// Steps of the curve: 0 to 50 % in steps of 5.
const STEPS: usize = 11;
const STEP: f64 = 0.05;

/// The curve at a false match rate (0 to 1) over all comparisons. Comparisons that could not be made have no quality and are left out
/// before. Empty without genuine comparisons.
pub fn curve(genuine: &[Judged], scores: &Scores, fmr: f64) -> Curve {
    let threshold = scores.at_far(fmr).threshold;
    let mut order: Vec<Judged> = genuine.iter().copied().filter(|j| j.similarity > f32::NEG_INFINITY).collect();
    // Equal qualities in any order would make the curve depend on file names: the similarity decides, the failing last.
    order.sort_by(|a, b| a.quality.total_cmp(&b.quality).then(b.similarity.total_cmp(&a.similarity)));
    let failing = |part: &[Judged]| part.iter().filter(|j| j.similarity < threshold).count();
    let all = failing(&order);
    let points = (0..STEPS).filter_map(|i| {
        let discarded = i as f64 * STEP;
        let out = (discarded * order.len() as f64).round() as usize;
        let rest = order.get(out..).filter(|rest| !rest.is_empty())?;
        let rate = |failing: usize| failing as f64 / rest.len() as f64;
        Some(Point {
            discarded,
            fnmr: rate(failing(rest)),
            least_quality: rest[0].quality,
            ideal: rate(all.saturating_sub(out)),
        })
    });
    Curve { fmr, threshold, points: points.collect() }
}

impl Curve {
    /// How much of the possible gain the quality number brings, over the curve: 1 is ideal, 0 is chance, below 0 is worse than chance.
    /// `None` when nothing fails: then there is nothing to gain.
    pub fn gain(&self) -> Option<f64> {
        let first = self.points.first()?.fnmr;
        let (mut gained, mut possible) = (0.0, 0.0);
        for point in &self.points[1..] {
            gained += first - point.fnmr;
            possible += first - point.ideal;
        }
        (possible > 0.0).then(|| gained / possible)
    }
}

/// The same question of an identification: mated searches as genuine comparisons.
pub fn of_searches(result: &gallery::LeaveOneOut, quality: &[f32]) -> Vec<Judged> {
    let judged = |(i, search): (usize, &gallery::Search)| {
        let own = search.own?;
        let both = quality.get(i)?.min(*quality.get(own.face)?);
        Some(Judged { similarity: own.similarity, quality: both })
    };
    result.searches.iter().enumerate().filter_map(judged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(quality_of: impl Fn(usize, bool) -> f32) -> Curve {
        let judged: Vec<Judged> = (0..100)
            .map(|i| {
                let fails = i % 10 == 0;
                Judged { similarity: if fails { 0.2 } else { 0.8 }, quality: quality_of(i, fails) }
            })
            .collect();
        let scores = Scores::new(judged.iter().map(|j| j.similarity).collect(), vec![0.4; 1000]);
        curve(&judged, &scores, 1e-3)
    }

    #[test]
    fn a_perfect_quality_is_ideal_and_a_useless_one_gains_nothing() {
        let perfect = set(|_, fails| if fails { 0.1 } else { 0.9 });
        assert_eq!(perfect.points.len(), 11);
        assert!((perfect.points[0].fnmr - 0.1).abs() < 1e-9);
        assert!((perfect.points[1].fnmr - 5.0 / 95.0).abs() < 1e-9 && perfect.points[2].fnmr == 0.0);
        assert!((perfect.gain().unwrap() - 1.0).abs() < 1e-9);
        let useless = set(|i, _| (i * 37 % 100) as f32 / 100.0);
        assert!(useless.gain().unwrap().abs() < 0.25, "{useless:?}");
        let harmful = set(|_, fails| if fails { 0.9 } else { 0.1 });
        assert!(harmful.gain().unwrap() < -0.3, "{harmful:?}");
    }

    #[test]
    fn without_errors_there_is_nothing_to_gain() {
        let scores = Scores::new(vec![0.9], vec![0.1]);
        let fine = [Judged { similarity: 0.9, quality: 0.5 }];
        assert_eq!(curve(&fine, &scores, 1e-3).gain(), None);
        assert!(curve(&[], &scores, 1e-3).points.is_empty());
        assert_eq!(curve(&[], &scores, 1e-3).gain(), None);
    }
}
