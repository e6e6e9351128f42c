//! The protocol: match boxes to faces at IoU 0.5, count over 1000 thresholds, integrate precision over recall.
//!
//! As wondervictor/WiderFace-Evaluation (`evaluation.py`, the Python form of the official MATLAB code) computes it: boxes count their last pixel
//! (IoU with + 1), scores are stretched to 0 … 1 over the whole set, boxes on faces that do not count are ignored, recall is over the
//! faces that count in all pictures, and precision is made monotonous before integration (Pascal VOC 2010). One thing differs: boxes
//! are sorted by score, which the reference expects of its files.

use std::collections::BTreeSet;

use super::{
    super::EvaluationError,
    truth::{Rect, Setting, Truth},
};

/// IoU from which on a box is on a face.
const IOU: f32 = 0.5;
/// Thresholds between the lowest and the highest score.
const THRESHOLDS: usize = 1000;

/// A box that a detector gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Left, top, width, height, pixels.
    pub rect: Rect,
    /// Score; higher is surer, any scale.
    pub score: f32,
}

/// Precision and recall at one threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// Share of counting faces found, 0 to 1.
    pub recall: f64,
    /// Share of the boxes that are right, 0 to 1; 0 without boxes.
    pub precision: f64,
}

/// The result of a setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Precision {
    /// Average precision, 0 to 1.
    pub average: f64,
    /// Faces that count.
    pub faces: usize,
    /// The curve, highest threshold first.
    pub curve: Vec<Point>,
}

/// IoU of two boxes whose last pixel counts.
fn iou(a: &Rect, b: &Rect) -> f32 {
    let width = (a[0] + a[2]).min(b[0] + b[2]) - a[0].max(b[0]) + 1.0;
    let height = (a[1] + a[3]).min(b[1] + b[3]) - a[1].max(b[1]) + 1.0;
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let area = |r: &Rect| (r[2] + 1.0) * (r[3] + 1.0);
    width * height / (area(a) + area(b) - width * height)
}

/// For each box, best first: whether it is a proposal (not on a face that does not count), and whether it finds a face for the first time.
fn matched(boxes: &[Prediction], faces: &[Rect], counting: &BTreeSet<usize>) -> Vec<(bool, bool)> {
    let mut found = vec![false; faces.len()];
    boxes
        .iter()
        .map(|b| {
            let mut best: Option<(usize, f32)> = None;
            for (face, rect) in faces.iter().enumerate() {
                let overlap = iou(&b.rect, rect);
                if best.is_none_or(|(_, most)| overlap > most) {
                    best = Some((face, overlap));
                }
            }
            match best.filter(|(_, overlap)| *overlap >= IOU) {
                Some((face, _)) if !counting.contains(&face) => (false, false),
                Some((face, _)) => (true, !std::mem::replace(&mut found[face], true)),
                None => (true, false),
            }
        })
        .collect()
}

/// Average precision of a setting. `predictions[i]` belongs to picture i of the annotation.
///
/// # Errors
/// When no face counts in the setting.
pub fn average_precision(
    truth: &Truth,
    setting: &Setting,
    predictions: &[Vec<Prediction>],
) -> Result<Precision, EvaluationError> {
    let faces: usize = setting.counting.iter().map(BTreeSet::len).sum();
    if faces == 0 {
        return Err(EvaluationError::TooLittle(format!(
            "no face counts in the setting {:?}; look at the difficulty list",
            setting.name
        )));
    }
    // The reference starts from 1 and 0, so scores are stretched only when they lie within.
    let scores = predictions.iter().flatten().map(|p| f64::from(p.score));
    let (low, high) = scores.fold((1.0f64, 0.0f64), |(low, high), s| (low.min(s), high.max(s)));
    let span = if high > low { high - low } else { 1.0 };
    // Proposals and faces found at each threshold: first what is added, then summed up.
    let mut added = vec![(0usize, 0usize); THRESHOLDS];
    for ((_, rects), (counting, boxes)) in truth.pictures.iter().zip(setting.counting.iter().zip(predictions)) {
        if rects.is_empty() || boxes.is_empty() {
            continue;
        }
        let mut boxes = boxes.clone();
        boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
        for (b, (proposal, hit)) in boxes.iter().zip(matched(&boxes, rects, counting)) {
            let score = (f64::from(b.score) - low) / span;
            // Threshold t, counted from 0, is 1 - (t + 1) / 1000: the first that the score reaches.
            let reaches = |t: usize| score >= 1.0 - (t + 1) as f64 / THRESHOLDS as f64;
            let near = ((1.0 - score) * THRESHOLDS as f64).floor().max(1.0) as usize - 1;
            let first = (near.saturating_sub(1)..THRESHOLDS).find(|t| reaches(*t));
            if let Some(place) = first.and_then(|t| added.get_mut(t)) {
                place.0 += usize::from(proposal);
                place.1 += usize::from(hit);
            }
        }
    }
    let (mut proposals, mut hits) = (0, 0);
    let curve: Vec<Point> = added
        .iter()
        .map(|(more_proposals, more_hits)| {
            proposals += more_proposals;
            hits += more_hits;
            let precision = if proposals == 0 { 0.0 } else { hits as f64 / proposals as f64 };
            Point { recall: hits as f64 / faces as f64, precision }
        })
        .collect();
    Ok(Precision { average: integrated(&curve), faces, curve })
}

/// Area under the curve with precision made monotonous, from the right.
fn integrated(curve: &[Point]) -> f64 {
    let (mut area, mut best, mut right) = (0.0, 0.0f64, None::<f64>);
    for point in curve.iter().rev() {
        if let Some(right) = right {
            area += (right - point.recall) * best;
        }
        best = best.max(point.precision);
        right = Some(point.recall);
    }
    area + right.unwrap_or(0.0) * best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference, step by step as its Python code goes, with no shortcut.
    #[allow(clippy::needless_range_loop)] // as the original is written
    fn reference(truth: &Truth, setting: &Setting, predictions: &[Vec<Prediction>]) -> f64 {
        let (mut max, mut min) = (0.0f64, 1.0f64);
        for p in predictions.iter().flatten() {
            max = max.max(f64::from(p.score));
            min = min.min(f64::from(p.score));
        }
        let mut pr_curve = vec![[0.0f64; 2]; 1000];
        let mut count_face = 0;
        for i in 0..truth.pictures.len() {
            let gt = &truth.pictures[i].1;
            count_face += setting.counting[i].len();
            if gt.is_empty() || predictions[i].is_empty() {
                continue;
            }
            let mut pred = predictions[i].clone();
            pred.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap());
            let ignore: Vec<i32> = (0..gt.len()).map(|f| i32::from(setting.counting[i].contains(&f))).collect();
            let mut recall_list = vec![0; gt.len()];
            let mut proposal_list = vec![1; pred.len()];
            let mut pred_recall = vec![0; pred.len()];
            for h in 0..pred.len() {
                let [x, y, w, hh] = pred[h].rect;
                let (mut max_overlap, mut max_idx) = (-1.0f32, 0);
                for (k, g) in gt.iter().enumerate() {
                    let (gx2, gy2) = (g[0] + g[2], g[1] + g[3]);
                    let iw = (x + w).min(gx2) - x.max(g[0]) + 1.0;
                    let ih = (y + hh).min(gy2) - y.max(g[1]) + 1.0;
                    let mut overlap = 0.0;
                    if iw > 0.0 && ih > 0.0 {
                        let box_area = (gx2 - g[0] + 1.0) * (gy2 - g[1] + 1.0);
                        overlap = iw * ih / ((x + w - x + 1.0) * (y + hh - y + 1.0) + box_area - iw * ih);
                    }
                    if overlap > max_overlap {
                        (max_overlap, max_idx) = (overlap, k);
                    }
                }
                if max_overlap >= 0.5 {
                    if ignore[max_idx] == 0 {
                        recall_list[max_idx] = -1;
                        proposal_list[h] = -1;
                    } else if recall_list[max_idx] == 0 {
                        recall_list[max_idx] = 1;
                    }
                }
                pred_recall[h] = recall_list.iter().filter(|r| **r == 1).count();
            }
            for (t, sum) in pr_curve.iter_mut().enumerate() {
                let thresh = 1.0 - (t + 1) as f64 / 1000.0;
                let last = (0..pred.len()).rfind(|k| (f64::from(pred[*k].score) - min) / (max - min) >= thresh);
                if let Some(last) = last {
                    sum[0] += proposal_list[..=last].iter().filter(|p| **p == 1).count() as f64;
                    sum[1] += pred_recall[last] as f64;
                }
            }
        }
        let mut mrec = vec![0.0];
        let mut mpre = vec![0.0];
        for [proposals, hits] in pr_curve {
            mrec.push(hits / f64::from(count_face as u32));
            mpre.push(if proposals == 0.0 { 0.0 } else { hits / proposals });
        }
        mrec.push(1.0);
        mpre.push(0.0);
        for i in (1..mpre.len()).rev() {
            mpre[i - 1] = mpre[i - 1].max(mpre[i]);
        }
        (1..mrec.len()).filter(|i| mrec[*i] != mrec[i - 1]).map(|i| (mrec[i] - mrec[i - 1]) * mpre[i]).sum()
    }

    /// Numbers that look random and are the same everywhere (a linear congruential generator, Knuth's constants).
    struct Dice(u64);
    impl Dice {
        fn roll(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 24) as f32
        }
    }

    fn synthetic(seed: u64) -> (Truth, Setting, Vec<Vec<Prediction>>) {
        let mut dice = Dice(seed);
        let mut truth = Truth::default();
        let mut setting = Setting { name: "hard".into(), counting: Vec::new() };
        let mut predictions = Vec::new();
        for picture in 0..40 {
            let count = (dice.roll() * 9.0) as usize;
            let faces: Vec<Rect> = (0..count)
                .map(|_| [dice.roll() * 500.0, dice.roll() * 400.0, 6.0 + dice.roll() * 60.0, 6.0 + dice.roll() * 80.0])
                .collect();
            let mut boxes = Vec::new();
            for face in &faces {
                // Found twice, found shifted, or missed.
                for _ in 0..(dice.roll() * 3.0) as usize {
                    let mut shift = |edge: f32| (dice.roll() - 0.5) * edge * 0.7;
                    let rect = [face[0] + shift(face[2]), face[1] + shift(face[3]), face[2], face[3] * 1.1];
                    boxes.push(Prediction { rect, score: 0.02 + dice.roll() * 0.97 });
                }
            }
            for _ in 0..(dice.roll() * 4.0) as usize {
                let rect = [dice.roll() * 500.0, dice.roll() * 400.0, 20.0, 25.0];
                boxes.push(Prediction { rect, score: (dice.roll() * 50.0).round() / 100.0 + 0.01 });
            }
            setting.counting.push((0..count).filter(|_| dice.roll() > 0.3).collect());
            truth.pictures.push((format!("e/{picture:03}.jpg"), faces));
            predictions.push(boxes);
        }
        (truth, setting, predictions)
    }

    #[test]
    fn agrees_with_the_reference_on_made_data() {
        for seed in 0..30 {
            let (truth, setting, predictions) = synthetic(seed);
            let ours = average_precision(&truth, &setting, &predictions).unwrap().average;
            let theirs = reference(&truth, &setting, &predictions);
            assert!((ours - theirs).abs() < 1e-12, "seed {seed}: {ours} and {theirs}");
            assert!((0.05..0.95).contains(&ours), "seed {seed}: {ours} tells nothing");
        }
    }

    #[test]
    fn extremes_are_one_and_zero() {
        let truth = Truth {
            pictures: vec![("a.jpg".into(), vec![[10.0, 10.0, 20.0, 20.0], [60.0, 10.0, 20.0, 20.0]])],
            ..Truth::default()
        };
        let setting = Setting { name: "easy".into(), counting: vec![[0, 1].into()] };
        let on = |x: f32, score: f32| Prediction { rect: [x, 10.0, 20.0, 20.0], score };
        let ap = |boxes: Vec<Prediction>| average_precision(&truth, &setting, &[boxes]).unwrap().average;
        assert_eq!(ap(vec![on(10.0, 0.9), on(60.0, 0.8)]), 1.0);
        assert_eq!(ap(vec![on(10.0, 0.9)]), 0.5);
        assert_eq!(ap(vec![on(200.0, 0.9)]), 0.0);
        assert_eq!(ap(Vec::new()), 0.0);
        let nobody = Setting { name: "easy".into(), counting: vec![BTreeSet::new()] };
        assert!(average_precision(&truth, &nobody, &[Vec::new()]).is_err());
    }

    #[test]
    fn boxes_on_faces_that_do_not_count_are_neither_right_nor_wrong() {
        let truth = Truth {
            pictures: vec![("a.jpg".into(), vec![[10.0, 10.0, 20.0, 20.0], [60.0, 10.0, 20.0, 20.0]])],
            ..Truth::default()
        };
        let setting = Setting { name: "easy".into(), counting: vec![[0].into()] };
        let on = |x: f32, score: f32| Prediction { rect: [x, 10.0, 20.0, 20.0], score };
        let result = average_precision(&truth, &setting, &[vec![on(60.0, 0.9), on(10.0, 0.5)]]).unwrap();
        assert_eq!((result.average, result.faces), (1.0, 1));
    }
}
