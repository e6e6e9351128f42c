//! Similarities of genuine and impostor comparisons, and the rates that follow: ROC, AUC, EER, TAR at FAR.
//!
//! Names follow ISO/IEC 19795-1: FMR (false match rate, here also FAR) is the share of impostor comparisons at or above a threshold, TAR (one
//! minus FNMR) the share of genuine ones. A comparison is accepted when its similarity is at least the threshold.

use serde::Serialize;

/// Similarities, sorted, highest first. What is no number counts as minus infinity: never accepted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    genuine: Vec<f32>,
    impostor: Vec<f32>,
}

/// An operating point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Similarity from which on comparisons are accepted.
    pub threshold: f32,
    /// Share of impostor comparisons accepted, 0 to 1.
    pub far: f64,
    /// Share of genuine comparisons accepted, 0 to 1.
    pub tar: f64,
}

fn sorted(mut values: Vec<f32>) -> Vec<f32> {
    values.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = f32::NEG_INFINITY);
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    values
}

/// How many of `values` (highest first) are at least `threshold`.
fn reaching(values: &[f32], threshold: f32) -> usize {
    values.partition_point(|v| *v >= threshold)
}

fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// The least threshold that refuses `score`; for minus infinity the least finite one.
pub fn just_above(score: f32) -> f32 {
    if score == f32::NEG_INFINITY { f32::MIN } else { score.next_up() }
}

impl Scores {
    /// Scores of comparisons of one person with itself, and of different people.
    pub fn new(genuine: Vec<f32>, impostor: Vec<f32>) -> Self {
        Self { genuine: sorted(genuine), impostor: sorted(impostor) }
    }

    /// Genuine similarities, highest first.
    pub fn genuine(&self) -> &[f32] {
        &self.genuine
    }

    /// Impostor similarities, highest first.
    pub fn impostor(&self) -> &[f32] {
        &self.impostor
    }

    /// Whether both kinds are there: without, no rate means anything.
    pub fn is_usable(&self) -> bool {
        !self.genuine.is_empty() && !self.impostor.is_empty()
    }

    /// Both rates at a threshold.
    pub fn at(&self, threshold: f32) -> Point {
        Point {
            threshold,
            far: share(reaching(&self.impostor, threshold), self.impostor.len()),
            tar: share(reaching(&self.genuine, threshold), self.genuine.len()),
        }
    }

    /// The operating point with the lowest threshold whose false accepts are at most `far` (0 to 1) of the impostor comparisons.
    /// With fewer than 1/`far` of them none is accepted, which says less than it seems to; see [`Scores::supports`].
    pub fn at_far(&self, far: f64) -> Point {
        let allowed = (far * self.impostor.len() as f64 + 1e-9).floor() as usize;
        let threshold = self.impostor.get(allowed).map_or(f32::MIN, |first_refused| just_above(*first_refused));
        self.at(threshold)
    }

    /// Whether there are enough impostor comparisons for one of them to be the rate `far`.
    pub fn supports(&self, far: f64) -> bool {
        self.impostor.len() as f64 * far >= 1.0 - 1e-9
    }

    /// Area under the ROC curve: the chance that a genuine comparison scores higher than an impostor one, equal scores counting half
    /// (Hanley and McNeil, 1982). 0 to 1; 0.5 when one kind is missing.
    pub fn auc(&self) -> f64 {
        if !self.is_usable() {
            return 0.5;
        }
        let mut above = 0.0;
        for score in &self.impostor {
            let higher = self.genuine.partition_point(|g| g > score);
            let equal = self.genuine[higher..].partition_point(|g| g >= score);
            above += higher as f64 + equal as f64 / 2.0;
        }
        above / (self.genuine.len() as f64 * self.impostor.len() as f64)
    }

    /// Equal error rate: where FAR and one minus TAR meet on the ROC curve, straight lines between its points. 0 to 1.
    pub fn eer(&self) -> f64 {
        let mut before = Point { threshold: f32::INFINITY, far: 0.0, tar: 0.0 };
        let (mut i, mut j) = (0, 0);
        while i < self.genuine.len() || j < self.impostor.len() {
            let next = |values: &[f32], at: usize| values.get(at).copied().unwrap_or(f32::NEG_INFINITY);
            let threshold = next(&self.genuine, i).max(next(&self.impostor, j));
            if threshold == f32::NEG_INFINITY {
                break;
            }
            (i, j) = (reaching(&self.genuine, threshold), reaching(&self.impostor, threshold));
            let point = self.at(threshold);
            // The curve crosses the line FAR = 1 - TAR between the two points.
            let (was, is) = (1.0 - before.tar - before.far, 1.0 - point.tar - point.far);
            if is <= 0.0 {
                let way = if was > is { was / (was - is) } else { 0.0 };
                return before.far + way * (point.far - before.far);
            }
            before = point;
        }
        // Comparisons that could not be made are never accepted: the curve ends before the line.
        1.0 - before.tar
    }

    /// The ROC curve at false accept rates evenly spaced on a log scale from 1/impostors (or 1e-6) to 1, at most `points`.
    pub fn roc(&self, points: usize) -> Vec<Point> {
        let least = (1.0 / self.impostor.len().max(1) as f64).clamp(1e-6, 0.5);
        let step = |i: usize| least.powf(1.0 - i as f64 / points.saturating_sub(1).max(1) as f64);
        (0..points).map(|i| self.at_far(step(i))).collect()
    }
}

/// 95 % interval of a rate seen as `part` of `of` (Wilson, 1927); 0 to 1 when there were none.
pub fn wilson(part: usize, of: usize) -> (f64, f64) {
    wilson_of(share(part, of), of)
}

/// The same of a rate (0 to 1) that rests on `of` independent trials.
pub fn wilson_of(p: f64, of: usize) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, z) = (of as f64, 1.959_964);
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// Counts of scores in bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Left edge of the first bin.
    pub from: f32,
    /// Width of a bin.
    pub width: f32,
    /// Scores in each bin; the last one holds its right edge too.
    pub counts: Vec<usize>,
}

impl Histogram {
    /// Finite scores in `bins` bins from `from` to `to`; what lies beyond is counted in the outermost.
    pub fn of(scores: &[f32], from: f32, to: f32, bins: usize) -> Self {
        let bins = bins.max(1);
        let width = ((to - from) / bins as f32).max(f32::MIN_POSITIVE);
        let mut counts = vec![0; bins];
        for score in scores.iter().filter(|s| s.is_finite()) {
            counts[(((score - from) / width).max(0.0) as usize).min(bins - 1)] += 1;
        }
        Self { from, width, counts }
    }
}

/// The least and the greatest finite score of several sets, a little apart; 0 to 1 when there are none.
pub fn range<'a>(sets: impl IntoIterator<Item = &'a [f32]>) -> (f32, f32) {
    let finite = sets.into_iter().flatten().copied().filter(|s| s.is_finite());
    let (low, high) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), s| (a.min(s), b.max(s)));
    if low > high { (0.0, 1.0) } else { (low, high.max(low + 1e-3)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_count_equal_scores_as_accepted() {
        let s = Scores::new(vec![0.9, 0.8, 0.4, f32::NAN], vec![0.5, 0.3, 0.2, 0.1]);
        assert_eq!((s.at(0.4).tar, s.at(0.4).far), (0.75, 0.25));
        assert_eq!((s.at_far(0.25).tar, s.at_far(0.25).far), (0.75, 0.25));
        let strict = s.at_far(0.1);
        assert_eq!((strict.tar, strict.far), (0.5, 0.0));
        assert!(strict.threshold > 0.5 && strict.threshold < 0.5001);
        assert!(s.supports(0.25) && !s.supports(0.1));
        assert_eq!(s.at_far(1.0).tar, 0.75, "a comparison that could not be made is never accepted");
    }

    #[test]
    fn separated_scores_are_perfect_and_mixed_ones_a_coin() {
        let perfect = Scores::new(vec![0.9, 0.8], vec![0.1, 0.2]);
        assert_eq!((perfect.auc(), perfect.eer()), (1.0, 0.0));
        let coin = Scores::new(vec![0.1, 0.2, 0.3, 0.4], vec![0.1, 0.2, 0.3, 0.4]);
        assert!((coin.auc() - 0.5).abs() < 1e-12 && (coin.eer() - 0.5).abs() < 1e-12);
        let wrong = Scores::new(vec![0.1], vec![0.9]);
        assert_eq!((wrong.auc(), wrong.eer()), (0.0, 1.0));
    }

    #[test]
    fn the_equal_error_rate_of_normal_scores_is_as_computed() {
        // Two unit normals 2 apart: EER is the normal tail beyond 1, 0.158655. Quantiles instead of random numbers.
        let normal = |shift: f64| {
            (0..20_000).map(|i| (quantile((f64::from(i) + 0.5) / 20_000.0) + shift) as f32).collect::<Vec<_>>()
        };
        let s = Scores::new(normal(2.0), normal(0.0));
        assert!((s.eer() - 0.158_655).abs() < 2e-4, "{}", s.eer());
        // AUC is the normal distribution at 2 over root 2.
        assert!((s.auc() - 0.921_350).abs() < 2e-4, "{}", s.auc());
        assert!((s.at_far(0.01).tar - 0.371_8).abs() < 2e-3, "{:?}", s.at_far(0.01));
    }

    /// Inverse of the standard normal distribution by bisection of its series.
    fn quantile(p: f64) -> f64 {
        let cdf = |x: f64| {
            let (mut term, mut sum, mut k) = (x, x, 1.0);
            while term.abs() > 1e-15 {
                term *= x * x / (2.0 * k + 1.0);
                sum += term;
                k += 1.0;
            }
            0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
        };
        let (mut low, mut high) = (-6.0, 6.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if cdf(middle) < p { low = middle } else { high = middle }
        }
        low
    }

    #[test]
    fn nothing_to_compare_is_no_panic() {
        let s = Scores::default();
        assert!(!s.is_usable() && s.auc() == 0.5 && s.eer() == 1.0);
        assert_eq!(s.roc(5).len(), 5);
        assert_eq!(s.at_far(0.1).tar, 0.0);
        assert_eq!(range([&[][..]]), (0.0, 1.0));
        let lost = Scores::new(vec![f32::NEG_INFINITY; 3], vec![f32::NEG_INFINITY; 3]);
        assert_eq!((lost.at_far(1.0).tar, lost.eer()), (0.0, 1.0));
    }

    #[test]
    fn wilson_is_as_published() {
        let (low, high) = wilson(0, 10);
        assert!(low == 0.0 && (high - 0.2775).abs() < 1e-3, "{low} {high}");
        let (low, high) = wilson(5, 10);
        assert!((low - 0.2366).abs() < 1e-3 && (high - 0.7634).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn histograms_keep_everything_finite() {
        let h = Histogram::of(&[-1.0, 0.0, 0.49, 0.5, 1.0, 7.0, f32::NEG_INFINITY], 0.0, 1.0, 2);
        assert_eq!(h.counts, [3, 3]);
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_in_order(g in proptest::collection::vec(-5i8..5, 1..20), i in proptest::collection::vec(-5i8..5, 1..20)) {
            let mut wins = 0.0;
            for a in &g { for b in &i { wins += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 }; } }
            let real = |v: &[i8]| v.iter().map(|v| f32::from(*v)).collect::<Vec<_>>();
            let s = Scores::new(real(&g), real(&i));
            prop_assert!((s.auc() - wins / (g.len() * i.len()) as f64).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&s.eer()));
            let roc = s.roc(20);
            prop_assert!(roc.windows(2).all(|w| w[0].tar <= w[1].tar && w[0].far <= w[1].far));
        }
    }
}
