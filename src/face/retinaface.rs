//! RetinaFace (arXiv 1905.00641; outputs as in biubug6/Pytorch_Retinaface): priors, decoding, suppression.

use super::Detection;
use crate::{
    frame::{BBox, Point},
    inference::{
        NetworkError, Output,
        manifest::{DetectorDecoding, ModelEntry},
    },
};

/// How the network's outputs are read; from the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct RetinaFace {
    /// Strides of the feature maps.
    pub strides: Vec<u32>,
    /// Prior edges in input pixels for each stride.
    pub sizes: Vec<Vec<f32>>,
    /// Variances of centre and size.
    pub variances: [f32; 2],
    /// Boxes that overlap a better one by more than this are dropped.
    pub nms_iou: f32,
}

impl RetinaFace {
    /// As a model's description says; `None` when it is no detector.
    pub fn of(entry: &ModelEntry) -> Option<Self> {
        let DetectorDecoding::Retinaface { strides, sizes, variances, nms_iou } = entry.detector.clone()?;
        Some(Self { strides, sizes, variances, nms_iou })
    }

    /// Number of priors for an input of `width` x `height`.
    pub fn priors(&self, width: u32, height: u32) -> usize {
        self.strides
            .iter()
            .zip(&self.sizes)
            .map(|(s, sizes)| width.div_ceil(*s) as usize * height.div_ceil(*s) as usize * sizes.len())
            .sum()
    }

    /// Faces of each picture of a batch, in input pixels, highest score first.
    ///
    /// Outputs are `[batch, priors, 4]` (centre and size offsets), `[batch, priors, 2]` (softmaxed, column 1 is "face") and
    /// `[batch, priors, 10]` (landmark offsets), told apart by their last axis.
    ///
    /// # Errors
    /// When the outputs do not have these shapes.
    pub fn decode(
        &self,
        outputs: &[Output<'_>],
        (width, height): (u32, u32),
        batch: usize,
        min_score: f32,
    ) -> Result<Vec<Vec<Detection>>, NetworkError> {
        let n = self.priors(width, height);
        let find = |columns: usize| {
            outputs.iter().find(|t| t.is_shaped(&[batch, n, columns])).ok_or_else(|| {
                let shapes: Vec<_> = outputs.iter().map(|t| (&t.name, &t.shape)).collect();
                NetworkError::Run(format!("no output of shape [{batch}, {n}, {columns}] among {shapes:?}"))
            })
        };
        let (loc, conf, marks) = (find(4)?, find(2)?, find(10)?);
        Ok((0..batch)
            .map(|b| {
                let found = self.decode_one(
                    &loc.data[b * n * 4..(b + 1) * n * 4],
                    &conf.data[b * n * 2..(b + 1) * n * 2],
                    &marks.data[b * n * 10..(b + 1) * n * 10],
                    (width, height),
                    min_score,
                );
                suppress(found, self.nms_iou)
            })
            .collect())
    }

    /// Priors in the network's order: stride, row, column, size; only those with a score are decoded.
    fn decode_one(
        &self,
        loc: &[f32],
        conf: &[f32],
        marks: &[f32],
        (w, h): (u32, u32),
        min_score: f32,
    ) -> Vec<Detection> {
        let [vc, vs] = self.variances;
        let mut found = Vec::new();
        let mut i = 0;
        for (stride, sizes) in self.strides.iter().zip(&self.sizes) {
            let s = *stride as f32;
            for row in 0..h.div_ceil(*stride) {
                for column in 0..w.div_ceil(*stride) {
                    for size in sizes {
                        let (k, score) = (i, conf[i * 2 + 1]);
                        i += 1;
                        if score.is_nan() || score <= min_score {
                            continue;
                        }
                        let (px, py) = ((column as f32 + 0.5) * s, (row as f32 + 0.5) * s);
                        let l = &loc[k * 4..k * 4 + 4];
                        let (cx, cy) = (px + vc * l[0] * size, py + vc * l[1] * size);
                        let (bw, bh) = (size * (vs * l[2]).exp(), size * (vs * l[3]).exp());
                        let m = &marks[k * 10..k * 10 + 10];
                        let landmarks = [0, 1, 2, 3, 4]
                            .map(|j| Point::new(px + vc * m[2 * j] * size, py + vc * m[2 * j + 1] * size));
                        let bbox = BBox::new(cx - bw / 2.0, cy - bh / 2.0, cx + bw / 2.0, cy + bh / 2.0);
                        let finite = [bbox.x1, bbox.y1, bbox.x2, bbox.y2].iter().all(|v| v.is_finite())
                            && landmarks.iter().all(|p| p.x.is_finite() && p.y.is_finite());
                        if finite {
                            found.push(Detection { bbox, score: score.min(1.0), landmarks });
                        }
                    }
                }
            }
        }
        found
    }
}

/// Greedy non-maximum suppression: the best stays, those that overlap it by more than `max_iou` go. Highest score first.
pub fn suppress(mut found: Vec<Detection>, max_iou: f32) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for d in found {
        if kept.iter().all(|k| k.bbox.iou(&d.bbox) <= max_iou) {
            kept.push(d);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retina() -> RetinaFace {
        RetinaFace {
            strides: vec![8, 16, 32],
            sizes: vec![vec![16.0, 32.0], vec![64.0, 128.0], vec![256.0, 512.0]],
            variances: [0.1, 0.2],
            nms_iou: 0.4,
        }
    }

    #[test]
    fn counts_priors_as_the_network_does() {
        assert_eq!(retina().priors(640, 640), 16_800);
        assert_eq!(retina().priors(640, 360), 9_520);
        assert_eq!(retina().priors(128, 96), 504);
    }

    #[test]
    fn wrong_shapes_are_an_error() {
        let output = Output { name: "loc", shape: &[1, 3, 4], data: &[0.0; 12] };
        assert!(retina().decode(&[output], (64, 64), 1, 0.5).is_err());
    }

    #[test]
    fn zero_offsets_give_the_prior_itself() {
        let (r, n) = (retina(), retina().priors(64, 64));
        let mut conf = vec![0.0; n * 2];
        conf[1] = 0.9;
        let (loc, marks) = (vec![0.0; n * 4], vec![0.0; n * 10]);
        let shapes = [4, 2, 10].map(|columns| [1, n as i64, columns]);
        let data = [&loc, &conf, &marks];
        let outputs = [0, 1, 2].map(|i| Output { name: "any", shape: &shapes[i], data: data[i] });
        let found = r.decode(&outputs, (64, 64), 1, 0.5).unwrap().remove(0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].bbox, BBox::new(-4.0, -4.0, 12.0, 12.0));
    }

    fn faces() -> impl Strategy<Value = Vec<Detection>> {
        let face = (0f32..200.0, 0f32..200.0, 5f32..80.0, 5f32..80.0, 0f32..1.0).prop_map(|(x, y, w, h, score)| {
            Detection { bbox: BBox::new(x, y, x + w, y + h), score, landmarks: Default::default() }
        });
        proptest::collection::vec(face, 0..40)
    }

    proptest! {
        #[test]
        fn suppression_leaves_no_overlap_is_idempotent_and_keeps_the_best(found in faces()) {
            let kept = suppress(found.clone(), 0.4);
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(kept.iter().skip(i + 1).all(|b| a.bbox.iou(&b.bbox) <= 0.4));
            }
            prop_assert_eq!(suppress(kept.clone(), 0.4), kept.clone());
            let best = found.iter().map(|d| d.score).fold(0.0, f32::max);
            prop_assert!(found.is_empty() || kept[0].score == best);
            let mut reversed = found;
            reversed.reverse();
            prop_assert_eq!(suppress(reversed, 0.4).len(), kept.len());
        }
    }
}
