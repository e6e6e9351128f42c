//! Reliability of `confidence`: of the comparisons that are said to be genuine with 80 %, are 80 % genuine?
//!
//! Genuine and impostor comparisons weigh the same in sum, as where the calibration was fitted: their numbers in a data set say nothing of
//! a door. Source: DeGroot and Fienberg, 1983; expected calibration error as in Guo et al., "On Calibration of Modern Neural Networks", 2017.

use serde::Serialize;

use super::Scores;
use crate::inference::manifest::Calibration;

/// A bin of the diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Mean confidence of its comparisons, 0 to 1.
    pub confidence: f64,
    /// Share of them that is genuine, 0 to 1, both kinds weighing the same.
    pub genuine: f64,
    /// Share of the whole weight in it, 0 to 1.
    pub weight: f64,
    /// Comparisons in it.
    pub count: usize,
}

/// The diagram.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Bins that hold comparisons, least confident first.
    pub bins: Vec<Bin>,
    /// Expected calibration error: the mean distance of `confidence` and `genuine`, weighted; 0 is perfect.
    pub ece: f64,
}

const BINS: usize = 10;

/// The diagram of a calibration in ten bins of equal width. Comparisons that could not be made have no confidence.
pub fn diagram(scores: &Scores, calibration: &Calibration) -> Reliability {
    let mut bins = [(0.0, 0.0, 0.0, 0usize); BINS];
    for (values, genuine) in [(scores.genuine(), true), (scores.impostor(), false)] {
        let made = values.partition_point(|s| *s > f32::NEG_INFINITY);
        let weight = 0.5 / made.max(1) as f64;
        for similarity in &values[..made] {
            let confidence = f64::from(calibration.confidence(*similarity));
            let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
            bin.0 += weight * confidence;
            bin.1 += if genuine { weight } else { 0.0 };
            bin.2 += weight;
            bin.3 += 1;
        }
    }
    let total: f64 = bins.iter().map(|b| b.2).sum::<f64>().max(f64::MIN_POSITIVE);
    let bins: Vec<Bin> = bins
        .into_iter()
        .filter(|b| b.3 > 0)
        .map(|(confidence, genuine, weight, count)| Bin {
            confidence: confidence / weight,
            genuine: genuine / weight,
            weight: weight / total,
            count,
        })
        .collect();
    let ece = bins.iter().map(|b| b.weight * (b.confidence - b.genuine).abs()).sum();
    Reliability { bins, ece }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores whose log odds are exactly `slope * (s - midpoint)`: densities of a logistic pair.
    fn calibrated() -> (Scores, Calibration) {
        let calibration = Calibration { midpoint: 0.4, slope: 20.0 };
        let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
        for i in 0..200 {
            let s = i as f32 / 200.0 * 0.8;
            let p = calibration.confidence(s);
            genuine.extend(vec![s; (p * 1000.0).round() as usize]);
            impostor.extend(vec![s; ((1.0 - p) * 1000.0).round() as usize]);
        }
        (Scores::new(genuine, impostor), calibration)
    }

    #[test]
    fn a_true_calibration_lies_on_the_diagonal_and_a_boastful_one_does_not() {
        let (scores, calibration) = calibrated();
        let good = diagram(&scores, &calibration);
        assert!(good.ece < 0.01 && good.bins.len() == 10, "{good:?}");
        let boastful = diagram(&scores, &Calibration { midpoint: 0.3, ..calibration });
        assert!(boastful.ece > 0.05, "{}", boastful.ece);
        assert!((good.bins.iter().map(|b| b.weight).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_gives_no_bins() {
        let (_, calibration) = calibrated();
        let lost = Scores::new(vec![f32::NEG_INFINITY], Vec::new());
        assert_eq!(diagram(&lost, &calibration), Reliability { bins: Vec::new(), ece: 0.0 });
    }
}
