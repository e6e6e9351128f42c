//! Verification accuracy by cross-validation, as LFW's View 2 asks: the threshold is chosen on all folds but one, and judged on that one.
//!
//! Source: Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", UMass Amherst 07-49, 2007, section IV. Accuracy is the mean of the shares
//! of genuine and impostor comparisons decided rightly; on LFW's folds, which hold as many of both, that is the plain share of right
//! answers.

use serde::Serialize;

use super::EvaluationError;

/// One comparison with its fold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Similarity; minus infinity when a face was not found.
    pub similarity: f32,
    /// Whether both pictures show one person.
    pub same: bool,
    /// Fold, counted from 0.
    pub fold: usize,
}

/// What one fold gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fold {
    /// Threshold chosen on the others, a similarity.
    pub threshold: f32,
    /// Accuracy on this one, 0 to 1.
    pub accuracy: f64,
}

/// The cross-validated result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accuracy {
    /// Mean over the folds, 0 to 1.
    pub mean: f64,
    /// Standard error of the mean: the folds' standard deviation over the root of their number.
    pub standard_error: f64,
    /// Mean of the thresholds, a similarity.
    pub threshold: f32,
    /// Each fold.
    pub folds: Vec<Fold>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    genuine: usize,
    impostor: usize,
}

impl Count {
    fn add(&mut self, same: bool) {
        if same { self.genuine += 1 } else { self.impostor += 1 }
    }

    fn without(self, other: Self) -> Self {
        Self { genuine: self.genuine - other.genuine, impostor: self.impostor - other.impostor }
    }

    /// Accuracy when `self` are accepted of `all`; a kind that is missing counts for nothing.
    fn accuracy(self, all: Self) -> f64 {
        let right_same = self.genuine as f64 / all.genuine.max(1) as f64;
        let right_different = 1.0 - self.impostor as f64 / all.impostor.max(1) as f64;
        match (all.genuine, all.impostor) {
            (0, _) => right_different,
            (_, 0) => right_same,
            _ => (right_same + right_different) / 2.0,
        }
    }
}

/// The best threshold so far for one fold's training data: the middle of the best stretch of the sweep.
#[derive(Clone, Copy)]
struct Best {
    accuracy: f64,
    high: f32,
    low: f32,
    open: bool,
}

/// Cross-validates. Folds without any comparison are left out.
///
/// # Errors
/// When fewer than two folds hold comparisons, or the folds together hold one kind only.
pub fn cross_validate(pairs: &[Scored]) -> Result<Accuracy, EvaluationError> {
    let folds = pairs.iter().map(|p| p.fold + 1).max().unwrap_or(0);
    let mut all = vec![Count::default(); folds];
    let mut total = Count::default();
    for pair in pairs {
        all[pair.fold].add(pair.same);
        total.add(pair.same);
    }
    let used: Vec<usize> = (0..folds).filter(|f| all[*f].genuine + all[*f].impostor > 0).collect();
    if used.len() < 2 || total.genuine == 0 || total.impostor == 0 {
        return Err(EvaluationError::TooLittle(format!(
            "{} pairs of one person and {} of different people in {} folds are too little for cross-validation: both kinds and two folds \
             are needed; add pictures or pairs",
            total.genuine,
            total.impostor,
            used.len()
        )));
    }
    let chosen = choose(pairs, &all, total);
    let mut result: Vec<Fold> = Vec::with_capacity(used.len());
    for fold in used {
        let threshold = chosen[fold];
        let mut accepted = Count::default();
        for pair in pairs.iter().filter(|p| p.fold == fold && p.similarity >= threshold) {
            accepted.add(pair.same);
        }
        result.push(Fold { threshold, accuracy: accepted.accuracy(all[fold]) });
    }
    let n = result.len() as f64;
    let mean = result.iter().map(|f| f.accuracy).sum::<f64>() / n;
    let variance = result.iter().map(|f| (f.accuracy - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let threshold = (result.iter().map(|f| f64::from(f.threshold)).sum::<f64>() / n) as f32;
    Ok(Accuracy { mean, standard_error: (variance / n).sqrt(), threshold, folds: result })
}

/// For each fold the threshold that is best on the others: one sweep from the highest similarity down, all folds at once.
fn choose(pairs: &[Scored], all: &[Count], total: Count) -> Vec<f32> {
    let mut order: Vec<&Scored> = pairs.iter().filter(|p| p.similarity > f32::NEG_INFINITY).collect();
    order.sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity));
    let top = order.first().map_or(0.0, |p| super::scores::just_above(p.similarity));
    let nothing = |fold: usize| Count::default().accuracy(total.without(all[fold]));
    let mut best: Vec<Best> =
        (0..all.len()).map(|f| Best { accuracy: nothing(f), high: top, low: top, open: true }).collect();
    let (mut accepted, mut by_fold) = (Count::default(), vec![Count::default(); all.len()]);
    for (i, pair) in order.iter().enumerate() {
        accepted.add(pair.same);
        by_fold[pair.fold].add(pair.same);
        let next = order.get(i + 1).map(|p| p.similarity);
        if next == Some(pair.similarity) {
            continue;
        }
        let threshold = next.map_or(pair.similarity, |n| n + (pair.similarity - n) / 2.0);
        for (fold, best) in best.iter_mut().enumerate() {
            let accuracy = accepted.without(by_fold[fold]).accuracy(total.without(all[fold]));
            if accuracy > best.accuracy + 1e-12 {
                *best = Best { accuracy, high: threshold, low: threshold, open: true };
            } else if accuracy < best.accuracy - 1e-12 {
                best.open = false;
            } else if best.open {
                best.low = threshold;
            }
        }
    }
    best.iter().map(|b| b.low + (b.high - b.low) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten folds; genuine at 0.7 to 0.79, impostors at 0.2 to 0.29, and in fold 3 one of each on the wrong side.
    fn set() -> Vec<Scored> {
        let mut pairs = Vec::new();
        for fold in 0..10 {
            for i in 0..10 {
                let wrong = fold == 3 && i == 0;
                let near = if wrong { 0.25 } else { 0.7 + i as f32 / 100.0 };
                let far = if wrong { 0.75 } else { 0.2 + i as f32 / 100.0 };
                pairs.push(Scored { similarity: near, same: true, fold });
                pairs.push(Scored { similarity: far, same: false, fold });
            }
        }
        pairs
    }

    #[test]
    fn accuracy_and_its_standard_error_are_as_computed_by_hand() {
        let result = cross_validate(&set()).unwrap();
        // Nine folds with 1.0 and one with 0.9: mean 0.99, deviation 0.0316, over root 10.
        assert!((result.mean - 0.99).abs() < 1e-9, "{result:?}");
        assert!((result.standard_error - 0.01).abs() < 1e-9, "{result:?}");
        assert_eq!(result.folds.len(), 10);
        assert!(result.threshold > 0.29 && result.threshold <= 0.7, "{}", result.threshold);
    }

    #[test]
    fn the_threshold_of_a_fold_never_sees_that_fold() {
        // Fold 0 would like 0.1, the other fold says 0.5.
        let pair = |similarity, same, fold| Scored { similarity, same, fold };
        let pairs =
            [pair(0.15, true, 0), pair(0.05, false, 0), pair(0.9, true, 1), pair(0.8, true, 1), pair(0.2, false, 1)];
        let result = cross_validate(&pairs).unwrap();
        assert!((result.folds[0].threshold - 0.5).abs() < 1e-6, "{result:?}");
        assert_eq!(result.folds[0].accuracy, 0.5);
        assert!((result.folds[1].threshold - 0.1).abs() < 1e-6);
        assert_eq!(result.folds[1].accuracy, 0.5);
    }

    #[test]
    fn comparisons_that_could_not_be_made_count_as_different() {
        let mut pairs = set();
        pairs[0].similarity = f32::NEG_INFINITY;
        pairs[1].similarity = f32::NEG_INFINITY;
        let result = cross_validate(&pairs).unwrap();
        assert!((result.folds[0].accuracy - 0.95).abs() < 1e-9, "{result:?}");
        assert!(result.folds.iter().all(|f| f.threshold.is_finite()));
        pairs.iter_mut().for_each(|p| p.similarity = f32::NEG_INFINITY);
        assert_eq!(cross_validate(&pairs).unwrap().mean, 0.5);
    }

    #[test]
    fn too_little_says_what_is_missing() {
        for pairs in [vec![], vec![Scored { similarity: 0.5, same: true, fold: 0 }; 3]] {
            assert!(cross_validate(&pairs).unwrap_err().to_string().contains("too little"));
        }
    }

    #[test]
    fn unequal_numbers_of_both_kinds_weigh_the_same() {
        let mut pairs = Vec::new();
        for fold in 0..2 {
            pairs.push(Scored { similarity: 0.1, same: true, fold });
            pairs.push(Scored { similarity: 0.9, same: true, fold });
            pairs.extend([Scored { similarity: 0.2, same: false, fold }; 98]);
        }
        // Refusing everything would be 98 % right if pairs were simply counted.
        assert!((cross_validate(&pairs).unwrap().mean - 0.75).abs() < 1e-9);
    }
}
