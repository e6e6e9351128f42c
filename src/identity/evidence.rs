//! The looks of one track fused into one template.
//!
//! In: embedded crops ([`Look`]) one by one. Out: the template (quality-weighted mean of the looks that agree), their number,
//! and the suspicion that the track went over to another face.
//!
//! Decisions rest on the template, never on the best of the looks: the maximum of many looks at a stranger rises with every
//! look, so the longer a stranger stays the likelier he gets a name. The mean converges instead.

use serde::{Deserialize, Serialize};

use crate::{
    face::{Distance, Embedding},
    time::Timestamp,
};

/// How looks are fused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvidenceSettings {
    /// A look is doubted when its similarity to the template is below the identification threshold by more than this. Looks of
    /// one track are alike (same light, same camera), so a look that would not even pass as the same person by far is not one.
    pub outlier_slack: f32,
    /// So many doubted looks in a row that agree with each other mean: another face now.
    pub switch_looks: u32,
    /// Looks kept at most; the poorest goes.
    pub max_looks: u32,
}

impl Default for EvidenceSettings {
    fn default() -> Self {
        Self { outlier_slack: 0.12, switch_looks: 3, max_looks: 32 }
    }
}

/// One embedded crop.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Capture time of its frame.
    pub at: Timestamp,
    /// Its embedding.
    pub embedding: Embedding,
    /// Its quality, 0 to 1; its weight in the template.
    pub quality: f32,
}

/// What became of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is part of the template.
    Agrees,
    /// It is unlike the others and left out for now.
    Doubted,
    /// So many doubted looks agree that the track shows another face now: cut it ([`Evidence::split`]).
    Switched,
    /// It is of another model or holds values that are not finite; it is dropped.
    Refused,
}

/// How much the looks that a template fuses differ: the mean squared distance from their mean, each look weighing its quality. The default is
/// a single picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    value: f64,
    distance: Distance,
}

impl Default for Spread {
    fn default() -> Self {
        Self { value: 0.0, distance: Distance::Cosine }
    }
}

impl Spread {
    /// The threshold for the template that stands for `threshold` of a single picture: at it the looks reach `threshold` on average.
    ///
    /// A mean of looks that differ lies nearer to *everybody* than the looks themselves: with spread v (mean squared distance of the looks
    /// from their mean m) it is `d^2 - v` instead of `d^2` from any other point, and a mean of unit vectors, made unit again, gains
    /// `1 / |m|` in cosine, where `|m|^2 = 1 - v`. Thresholds are learned from single pictures, so v has to be given back, or strangers who are
    /// seen from many sides are named more often than promised. Looks that are all the same change nothing. Never below `threshold`.
    pub fn raised(&self, threshold: f32) -> f32 {
        let threshold64 = f64::from(threshold);
        let raised = match self.distance {
            Distance::Cosine => threshold64.max(0.0) / (1.0 - self.value).max(0.01).sqrt(),
            Distance::Euclidean => 1.0 - ((1.0 - threshold64).powi(2) - self.value).max(0.0).sqrt(),
        };
        threshold.max(raised as f32)
    }
}

/// The looks of one track.
#[derive(Debug, Clone)]
pub struct Evidence {
    settings: EvidenceSettings,
    /// Least similarity of a look to the template.
    least: f32,
    looks: Vec<Look>,
    /// Looks in a row that disagree with `looks` and agree with each other.
    doubted: Vec<Look>,
}

impl Evidence {
    /// No looks yet; `threshold` is the model's identification threshold (a similarity).
    pub fn new(settings: EvidenceSettings, threshold: f32) -> Self {
        let least = threshold - settings.outlier_slack;
        Self { settings, least, looks: Vec::new(), doubted: Vec::new() }
    }

    /// Takes a look in.
    pub fn add(&mut self, look: Look) -> Taken {
        if !look.embedding.values.iter().all(|v| v.is_finite()) {
            return Taken::Refused;
        }
        match agreement(&self.looks, &look) {
            None => return Taken::Refused,
            Some(similarity) if similarity >= self.least => {
                self.doubted.clear();
                self.keep(look);
                return Taken::Agrees;
            }
            Some(_) => {}
        }
        // Doubted looks count only together: one that fits none of the faces starts the suspicion anew.
        if agreement(&self.doubted, &look).is_none_or(|similarity| similarity < self.least) {
            self.doubted.clear();
        }
        self.doubted.push(look);
        let (old, new) = (self.looks.len(), self.doubted.len());
        // Two against a single first look: that one was the outlier, not the face that changed.
        if new >= 2 && old == 1 {
            self.looks = std::mem::take(&mut self.doubted);
            return Taken::Agrees;
        }
        if new >= self.settings.switch_looks.max(2) as usize { Taken::Switched } else { Taken::Doubted }
    }

    /// Cuts after [`Taken::Switched`]: the looks of the new face go, those of the old one stay.
    pub fn split(&mut self) -> Self {
        let looks = std::mem::take(&mut self.doubted);
        Self { settings: self.settings.clone(), least: self.least, looks, doubted: Vec::new() }
    }

    /// Takes the other's doubted looks in and gives it its own: both tracks took each other's face, and the looks are now with the face
    /// that they show.
    pub fn exchange(&mut self, other: &mut Self) {
        let (mine, theirs) = (std::mem::take(&mut self.doubted), std::mem::take(&mut other.doubted));
        theirs.into_iter().for_each(|look| self.keep(look));
        mine.into_iter().for_each(|look| other.keep(look));
    }

    /// The quality-weighted mean of the looks in doubt; `None` without any.
    pub fn doubted(&self) -> Option<Embedding> {
        mean(&self.doubted)
    }

    /// Whether the last look was doubted.
    pub fn is_doubted(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// The quality-weighted mean of the looks that agree; `None` without looks.
    pub fn template(&self) -> Option<Embedding> {
        mean(&self.looks)
    }

    /// How much the looks in the template differ; none without looks.
    pub fn spread(&self) -> Spread {
        let Some(first) = self.looks.first().map(|l| &l.embedding) else { return Spread::default() };
        let (mut sum, mut squares, mut total) = (vec![0f64; first.values.len()], 0f64, 0f64);
        for look in &self.looks {
            let w = f64::from(weight(look));
            total += w;
            for (s, v) in sum.iter_mut().zip(look.embedding.values.iter()) {
                *s += w * f64::from(*v);
                squares += w * f64::from(*v).powi(2);
            }
        }
        let mean2 = sum.iter().map(|s| (s / total).powi(2)).sum::<f64>();
        Spread { value: (squares / total - mean2).max(0.0), distance: first.distance }
    }

    /// The looks in the template.
    pub fn all(&self) -> &[Look] {
        &self.looks
    }

    /// Number of looks in the template.
    pub fn looks(&self) -> u32 {
        self.looks.len() as u32
    }

    /// Capture time of the first look in the template.
    pub fn began(&self) -> Option<Timestamp> {
        self.looks.iter().map(|l| l.at).min()
    }

    fn keep(&mut self, look: Look) {
        self.looks.push(look);
        if self.looks.len() > self.settings.max_looks.max(1) as usize {
            let poorest =
                (0..self.looks.len()).min_by(|&a, &b| weight(&self.looks[a]).total_cmp(&weight(&self.looks[b])));
            poorest.map(|i| self.looks.remove(i));
        }
    }
}

/// Similarity of a look to the mean of others; infinite without others, `None` when they can't be compared.
fn agreement(others: &[Look], look: &Look) -> Option<f32> {
    if others.is_empty() {
        return Some(f32::INFINITY);
    }
    mean(others)?.similarity(&look.embedding).ok()
}

fn mean(looks: &[Look]) -> Option<Embedding> {
    let weighted: Vec<(&Embedding, f32)> = looks.iter().map(|l| (&l.embedding, weight(l))).collect();
    Embedding::weighted_mean(&weighted)
}

/// Quality as weight; never zero, so that a track of poor looks still has a template.
fn weight(look: &Look) -> f32 {
    if look.quality.is_finite() { look.quality.clamp(0.05, 1.0) } else { 0.05 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(degrees: f32, quality: f32) -> Look {
        let (y, x) = degrees.to_radians().sin_cos();
        let embedding =
            Embedding { model: "m".parse().unwrap(), distance: Distance::Cosine, values: [x, y].as_slice().into() };
        Look { at: Timestamp::UNIX_EPOCH, embedding, quality }
    }

    /// Looks within about 68 degrees of the template agree (cosine 0.38).
    fn evidence() -> Evidence {
        Evidence::new(EvidenceSettings::default(), 0.5)
    }

    fn degrees(e: &Evidence) -> f32 {
        let t = e.template().unwrap();
        t.values[1].atan2(t.values[0]).to_degrees()
    }

    #[test]
    fn better_looks_count_more() {
        let mut e = evidence();
        assert_eq!((e.template(), e.looks()), (None, 0));
        e.add(look(0.0, 0.9));
        e.add(look(30.0, 0.3));
        assert!((5.0..12.0).contains(&degrees(&e)), "{}", degrees(&e));
    }

    #[test]
    fn at_the_raised_threshold_the_looks_reach_the_threshold_on_average() {
        for distance in [Distance::Cosine, Distance::Euclidean] {
            let mut e = evidence();
            for (d, quality) in [(-20.0, 0.5), (10.0, 0.9), (25.0, 0.3)] {
                let mut look = look(d, quality);
                look.embedding.distance = distance;
                e.add(look);
            }
            // A stranger for whom the weighted mean of cosines, or of squared distances, is just at the threshold.
            let mut stranger = look(70.0, 1.0).embedding;
            stranger.distance = distance;
            let weighted = |of: &dyn Fn(f32) -> f32| {
                let sum: f32 = e.all().iter().map(|l| l.quality * of(l.embedding.similarity(&stranger).unwrap())).sum();
                sum / 1.7
            };
            let threshold = match distance {
                Distance::Cosine => weighted(&|s| s),
                Distance::Euclidean => 1.0 - weighted(&|s| (1.0 - s).powi(2)).sqrt(),
            };
            let similarity = e.template().unwrap().similarity(&stranger).unwrap();
            assert!((e.spread().raised(threshold) - similarity).abs() < 1e-4, "{distance:?}");
            assert!(similarity > threshold + 0.01);
        }
        let mut same = evidence();
        for _ in 0..3 {
            same.add(look(5.0, 0.5));
        }
        assert!((same.spread().raised(0.4) - 0.4).abs() < 1e-5);
        assert_eq!(evidence().spread().raised(0.4), 0.4);
    }

    #[test]
    fn one_look_that_is_unlike_the_others_is_left_out() {
        let mut e = evidence();
        let taken: Vec<Taken> = [0.0, 5.0, 100.0, -5.0].map(|d| e.add(look(d, 0.5))).into();
        assert_eq!(taken, [Taken::Agrees, Taken::Agrees, Taken::Doubted, Taken::Agrees]);
        assert_eq!(e.looks(), 3);
        assert!(degrees(&e).abs() < 1.0);
    }

    #[test]
    fn a_bad_first_look_gives_way_to_two_that_agree() {
        let mut e = evidence();
        let taken: Vec<Taken> = [120.0, 0.0, 4.0].map(|d| e.add(look(d, 0.5))).into();
        assert_eq!(taken, [Taken::Agrees, Taken::Doubted, Taken::Agrees]);
        assert_eq!(e.looks(), 2);
        assert!((degrees(&e) - 2.0).abs() < 0.1);
    }

    #[test]
    fn a_track_that_goes_over_to_another_face_is_noticed() {
        let mut e = evidence();
        let taken: Vec<Taken> = [0.0, 2.0, 1.0, 90.0, 92.0, 91.0].map(|d| e.add(look(d, 0.5))).into();
        assert_eq!(taken[3..], [Taken::Doubted, Taken::Doubted, Taken::Switched]);
        let new = e.split();
        assert_eq!((e.looks(), new.looks(), e.is_doubted()), (3, 3, false));
        assert!((degrees(&e) - 1.0).abs() < 0.1 && (degrees(&new) - 91.0).abs() < 0.1);
    }

    #[test]
    fn looks_of_two_who_changed_places_go_to_the_right_one() {
        let (mut a, mut b) = (evidence(), evidence());
        for d in [0.0, 2.0, 90.0, 91.0] {
            a.add(look(d, 0.5));
        }
        for d in [90.0, 91.0, 1.0] {
            b.add(look(d, 0.5));
        }
        assert!(a.doubted().is_some() && b.doubted().is_some());
        a.exchange(&mut b);
        assert_eq!((a.looks(), b.looks(), a.is_doubted(), b.is_doubted()), (3, 4, false, false));
        assert!((degrees(&a) - 1.0).abs() < 0.2 && (degrees(&b) - 90.5).abs() < 0.2);
        assert_eq!(a.doubted(), None);
    }

    #[test]
    fn looks_that_disagree_with_everything_never_add_up() {
        let mut e = evidence();
        let taken: Vec<Taken> = [0.0, 1.0, 100.0, -120.0, 100.0, -120.0].map(|d| e.add(look(d, 0.5))).into();
        assert_eq!(taken[2..], [Taken::Doubted; 4]);
    }

    #[test]
    fn other_models_and_broken_values_are_refused() {
        let mut e = evidence();
        e.add(look(0.0, f32::NAN));
        let mut other = look(0.0, 0.5);
        other.embedding.model = "n".parse().unwrap();
        assert_eq!(e.add(other), Taken::Refused);
        assert_eq!(e.add(look(f32::NAN, 0.5)), Taken::Refused);
        assert_eq!(e.looks(), 1);
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_best() {
        let mut e = Evidence::new(EvidenceSettings { max_looks: 4, ..EvidenceSettings::default() }, 0.5);
        for i in 0..100 {
            e.add(look(0.0, i as f32 / 100.0));
        }
        assert_eq!(e.looks(), 4);
        assert!(e.looks.iter().all(|l| l.quality >= 0.9));
    }
}
