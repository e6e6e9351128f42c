//! The threshold that keeps a promise: at most this share of strangers gets a name, however many people are enrolled.
//!
//! In: similarities of probes with people that they are not ([`Comparison`]). Out: a [`Calibration`], which gives the threshold for a
//! false-positive identification rate at any size of the gallery. Pure.
//!
//! The rates that matter lie beyond what a site's own data show, so the upper tail of the similarities is extrapolated: excesses over
//! a high quantile follow a generalised Pareto distribution (Pickands 1975; fitted by probability-weighted moments, Hosking and Wallis
//! 1987). A stranger is compared with everybody, so with `n` people the rate a comparison may have is `1 - (1 - fpir)^(1/n)`. Scores of
//! one probe with several people go up and down together, which makes the promise cautious, never bold.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Share of the comparisons that make up the tail.
const TAIL_SHARE: f64 = 0.05;
/// Most comparisons of the tail. A large site can look much further up than 5 %, and has to: fitted to the whole 5 %, the distribution is a little
/// wrong where one comparison in 20,000 lies, by more than so many data's interval covers (simulated sites of 1000 people named 6 to
/// 8 % instead of 5).
const MOST_EXCESSES: usize = 1000;
/// Least number of comparisons in the tail.
const LEAST_EXCESSES: usize = 30;
/// Least number of different probes; below it nobody can tell a rate.
pub const LEAST_PROBES: usize = 20;
/// Least number of comparisons.
pub const LEAST_COMPARISONS: usize = 400;
/// Shapes outside this range are the noise of few data: similarities have neither heavy tails nor an end just above the largest seen.
const SHAPES: (f64, f64) = (-0.25, 0.25);
/// Resamples for the interval.
const RESAMPLES: u64 = 200;
/// Ends of the interval of the threshold. Resamples vary less than sites do: on simulated sites the 95, 98 and 99 % quantiles kept the
/// promise 91 to 92, 93 to 96 and 96 to 97 times of 100, so 98 % stands for 95 %. Chosen on those sites, not tested on others.
const INTERVAL: (f64, f64) = (0.05, 0.98);

/// A probe and a person who it is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Whose face the probe is; comparisons of one probe person are not independent of each other.
    pub probe: u32,
    /// Similarity to the person's nearest face.
    pub similarity: f32,
}

/// Too little to tell the wanted rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{probes} different people as probes and {comparisons} comparisons are too little to know a threshold; {} and {} are needed: enrol more \
     people, or give a folder of faces of strangers (`visage calibrate --background DIR`)",
    LEAST_PROBES,
    LEAST_COMPARISONS
)]
pub struct TooLittle {
    /// Different probe people.
    pub probes: usize,
    /// Comparisons.
    pub comparisons: usize,
}

/// The upper tail of impostor similarities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// Similarity from which on the tail is described.
    pub from: f64,
    /// Share of comparisons above it.
    pub share: f64,
    /// Scale of the generalised Pareto distribution of the excesses, in similarity.
    pub scale: f64,
    /// Its shape; below 0 there is a largest similarity.
    pub shape: f64,
}

impl Tail {
    /// How many of `n` comparisons make up the tail.
    fn size(n: usize) -> usize {
        ((n as f64 * TAIL_SHARE) as usize).clamp(LEAST_EXCESSES, MOST_EXCESSES).min(n.saturating_sub(1))
    }

    /// Fits the tail of `n` similarities, of which `top` holds the largest, more than [`Tail::size`], in any order, all finite. `None`
    /// when all excesses are the same, or `top` is too small.
    fn fit(top: &mut [f32], n: usize) -> Option<Self> {
        let k = Self::size(n);
        let begin = top.len().checked_sub(k + 1)?;
        let (_, from, tail) = top.select_nth_unstable_by(begin, f32::total_cmp);
        let from = f64::from(*from);
        tail.sort_unstable_by(f32::total_cmp);
        let excesses = tail.iter().map(|s| f64::from(*s) - from);
        // b0 is the mean, b1 weighs each excess by the share of larger ones.
        let (mut b0, mut b1) = (0.0, 0.0);
        for (i, y) in excesses.enumerate() {
            b0 += y;
            b1 += y * (k - 1 - i) as f64 / (k - 1).max(1) as f64;
        }
        (b0, b1) = (b0 / k as f64, b1 / k as f64);
        let spread = b0 - 2.0 * b1;
        if spread.is_nan() || spread <= 0.0 || b1 <= 0.0 {
            return None;
        }
        let shape = (2.0 - b0 / spread).clamp(SHAPES.0, SHAPES.1);
        // With the shape held within its range, the scale that keeps the mean of the excesses.
        let scale = b0 * (1.0 - shape);
        Some(Self { from, share: k as f64 / n as f64, scale, shape })
    }

    /// The similarity that a comparison exceeds with probability `rate`, above 0; never below the tail's begin.
    fn quantile(&self, rate: f64) -> f64 {
        let beyond = (rate / self.share).clamp(f64::MIN_POSITIVE, 1.0);
        let excess = if self.shape.abs() < 1e-6 {
            -self.scale * beyond.ln()
        } else {
            self.scale / self.shape * (beyond.powf(-self.shape) - 1.0)
        };
        self.from + excess
    }
}

/// What the impostor similarities of a site say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The promise: share of strangers that may get a name, above 0 and below 1.
    pub fpir: f64,
    /// Best estimate of the tail.
    pub tail: Tail,
    /// The tail whose threshold was the upper end of the interval: the one to rely on.
    pub cautious: Tail,
    /// The tail whose threshold was the lower end.
    pub bold: Tail,
    /// People who were compared with when it was made.
    pub people: usize,
    /// Different probe people.
    pub probes: usize,
    /// Comparisons.
    pub comparisons: usize,
    /// When it was made.
    pub created: Timestamp,
}

/// A threshold with its interval; similarities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The one to use: the upper end of the interval.
    pub cautious: f32,
    /// Best estimate.
    pub best: f32,
    /// Lower end of the interval.
    pub bold: f32,
}

impl Calibration {
    /// Learns from comparisons with a gallery of `people`; values that are not finite are left out.
    ///
    /// The interval is that of the threshold over resamples of the probe people (bootstrap by cluster: comparisons of one probe go together).
    ///
    /// # Errors
    /// When there is too little to know.
    pub fn learn(fpir: f64, comparisons: &[Comparison], people: usize, created: Timestamp) -> Result<Self, TooLittle> {
        let mut by_probe: std::collections::BTreeMap<u32, Vec<f32>> = std::collections::BTreeMap::new();
        for c in comparisons.iter().filter(|c| c.similarity.is_finite()) {
            by_probe.entry(c.probe).or_default().push(c.similarity);
        }
        let groups: Vec<Vec<f32>> = by_probe.into_values().collect();
        let total = groups.iter().map(Vec::len).sum();
        let too_little = TooLittle { probes: groups.len(), comparisons: total };
        if groups.len() < LEAST_PROBES || total < LEAST_COMPARISONS {
            return Err(too_little);
        }
        let mut all = groups.concat();
        let tail = Tail::fit(&mut all, total).ok_or(too_little)?;
        // A large site has millions of comparisons, 200 times over: resamples are drawn from the highest fifth, which holds the tail of
        // nearly every one; the others are made of all.
        let begin = total.saturating_sub(4 * Tail::size(total));
        let least = if begin == 0 { f32::NEG_INFINITY } else { *all.select_nth_unstable_by(begin, f32::total_cmp).1 };
        let high: Vec<Vec<f32>> = groups.iter().map(|g| g.iter().copied().filter(|s| *s >= least).collect()).collect();
        let rate = rate_of_one(fpir, people);
        let mut resampled: Vec<Tail> = (0..RESAMPLES)
            .filter_map(|seed| {
                let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D);
                let drawn: Vec<usize> = groups.iter().map(|_| dice.below(groups.len())).collect();
                let of = |groups: &[Vec<f32>]| drawn.iter().map(|i| groups[*i].as_slice()).collect::<Vec<_>>().concat();
                let n = drawn.iter().map(|i| groups[*i].len()).sum();
                let mut top = of(&high);
                if top.len() <= Tail::size(n) {
                    top = of(&groups);
                }
                Tail::fit(&mut top, n)
            })
            .collect();
        resampled.sort_by(|a, b| a.quantile(rate).total_cmp(&b.quantile(rate)));
        let at = |q: f64| {
            let place = ((resampled.len().saturating_sub(1)) as f64 * q).round() as usize;
            resampled.get(place).copied().unwrap_or(tail)
        };
        let (bold, cautious) = (at(INTERVAL.0), at(INTERVAL.1));
        // Resamples repeat probes, so their tails may all lie below the estimate; the one to rely on never does.
        let cautious = if cautious.quantile(rate) < tail.quantile(rate) { tail } else { cautious };
        Ok(Self { fpir, tail, cautious, bold, people, probes: groups.len(), comparisons: total, created })
    }

    /// The threshold for a gallery of `people`: higher for more.
    pub fn threshold(&self, people: usize) -> Threshold {
        let rate = rate_of_one(self.fpir, people);
        let of = |tail: &Tail| tail.quantile(rate) as f32;
        Threshold { cautious: of(&self.cautious).max(of(&self.tail)), best: of(&self.tail), bold: of(&self.bold) }
    }
}

/// Rate of one comparison so that `people` of them together keep `fpir`.
fn rate_of_one(fpir: f64, people: usize) -> f64 {
    -((-fpir).ln_1p() / people.max(1) as f64).exp_m1()
}

/// Deterministic draws (splitmix64): the same data give the same interval.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(x ^ (x >> 31)) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(dice: &mut Dice) -> f32 {
        let uniform = |dice: &mut Dice| dice.below(1 << 24) as f32 / (1u32 << 24) as f32;
        (0..12).map(|_| uniform(dice)).sum::<f32>() - 6.0
    }

    /// Probes of `probes` strangers against `people`: similarities N(0.2, 0.07), of which a part is the probe's own.
    fn comparisons(seed: u64, probes: u32, people: usize) -> Vec<Comparison> {
        let mut dice = Dice(seed);
        let mut all = Vec::new();
        for probe in 0..probes {
            let own = normal(&mut dice) * 0.03;
            for _ in 0..people {
                all.push(Comparison { probe, similarity: 0.2 + own + normal(&mut dice) * 0.0632 });
            }
        }
        all
    }

    /// Share of fresh strangers whose best of `people` similarities reaches the threshold.
    fn named(seed: u64, threshold: f32, people: usize) -> f64 {
        let fresh = comparisons(seed, 4000, people);
        let hits = fresh.chunks(people).filter(|all| all.iter().any(|c| c.similarity >= threshold)).count();
        hits as f64 / 4000.0
    }

    #[test]
    fn the_tail_of_a_known_distribution_is_found() {
        // Exponential excesses: shape 0, scale 0.05.
        let mut similarities: Vec<f32> = (1..20_000).map(|i| -0.05 * (i as f32 / 20_000.0).ln()).collect();
        let n = similarities.len();
        let tail = Tail::fit(&mut similarities, n).unwrap();
        let mut top: Vec<f32> = similarities.iter().copied().filter(|s| *s > 0.1).collect();
        assert_eq!(Tail::fit(&mut top, n), Some(tail), "the largest are enough");
        assert_eq!(Tail::fit(&mut top[..500], n), None);
        assert!(tail.shape.abs() < 0.03 && (tail.scale - 0.05).abs() < 0.003, "{tail:?}");
        let exact = -0.05 * (1e-4f64).ln();
        assert!((tail.quantile(1e-4) - exact).abs() < 0.02, "{} is not {exact}", tail.quantile(1e-4));
    }

    #[test]
    fn the_promise_is_kept_on_strangers_that_were_never_seen() {
        let mut kept = 0;
        for round in 0..40 {
            let learned = comparisons(1000 + round, 60, 40);
            let calibration = Calibration::learn(0.01, &learned, 40, Timestamp::UNIX_EPOCH).unwrap();
            let t = calibration.threshold(40);
            assert!(t.bold <= t.best && t.best <= t.cautious && t.cautious - t.bold < 0.2, "{t:?}");
            kept += usize::from(named(9000 + round, t.cautious, 40) <= 0.01);
        }
        assert!(kept >= 36, "the promise was kept {kept} times of 40");
    }

    #[test]
    fn a_larger_gallery_has_a_higher_threshold_and_the_same_rate() {
        let galleries = [10, 30, 300];
        let mut rates = [0.0; 3];
        for seed in 0..10 {
            let learned = comparisons(seed, 100, 30);
            let calibration = Calibration::learn(0.02, &learned, 30, Timestamp::UNIX_EPOCH).unwrap();
            let thresholds: Vec<f32> = galleries.map(|people| calibration.threshold(people).cautious).into();
            assert!(thresholds.is_sorted(), "{thresholds:?}");
            for (i, people) in galleries.into_iter().enumerate() {
                rates[i] += named(700 + seed, thresholds[i], people) / 10.0;
            }
        }
        assert!(rates.iter().all(|rate| *rate <= 0.02), "of 10, 30 and 300 people: {rates:?}");
    }

    #[test]
    fn too_little_is_said_and_broken_values_are_left_out() {
        let few = Calibration::learn(0.001, &comparisons(1, 9, 8), 9, Timestamp::UNIX_EPOCH);
        assert_eq!(few, Err(TooLittle { probes: 9, comparisons: 72 }));
        let same = vec![Comparison { probe: 0, similarity: 0.3 }; 10_000];
        assert!(Calibration::learn(0.001, &same, 10, Timestamp::UNIX_EPOCH).is_err());
        let flat: Vec<Comparison> = (0..10_000).map(|i| Comparison { probe: i % 50, similarity: 0.3 }).collect();
        assert!(Calibration::learn(0.001, &flat, 10, Timestamp::UNIX_EPOCH).is_err());
        let mut broken = comparisons(3, 50, 20);
        broken.extend((0..50).map(|probe| Comparison { probe, similarity: f32::NAN }));
        assert_eq!(
            Calibration::learn(0.001, &broken, 20, Timestamp::UNIX_EPOCH),
            Calibration::learn(0.001, &comparisons(3, 50, 20), 20, Timestamp::UNIX_EPOCH)
        );
    }
}
