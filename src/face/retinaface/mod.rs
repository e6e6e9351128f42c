//! RetinaFace (arXiv 1905.00641; outputs as in biubug6/Pytorch_Retinaface): priors, decoding, suppression.

mod answers;
mod heads;
mod load;

pub use load::graph;

use super::Detection;
use crate::{
    frame::{BBox, Point},
    inference::{
        NetworkError, Output,
        manifest::{DetectorDecoding, ModelEntry},
    },
};

use self::answers::{Answers, Listed, Mapped, Prior};

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
            .map(|(s, sizes)| {
                let (rows, columns) = cells((width, height), *s);
                rows * columns * sizes.len()
            })
            .sum()
    }

    /// Faces of each picture of a batch, in input pixels, highest score first.
    ///
    /// Outputs are the published ones, `[batch, priors, 4]` (centre and size offsets), `[batch, priors, 2]` (softmaxed, column 1 is "face") and
    /// `[batch, priors, 10]` (landmark offsets), told apart by their last axis, or those of merged heads, one `[batch, 16 x sizes, rows, columns]`
    /// for each stride.
    ///
    /// # Errors
    /// When the outputs do not have these shapes.
    pub fn decode(
        &self,
        outputs: &[Output<'_>],
        size: (u32, u32),
        batch: usize,
        min_score: f32,
    ) -> Result<Vec<Vec<Detection>>, NetworkError> {
        let found = self.candidates(outputs, size, batch, min_score)?;
        Ok(found.into_iter().map(|candidates| suppress(candidates, self.nms_iou)).collect())
    }

    /// What [`RetinaFace::decode`] suppresses: every prior with a score, in the network's order.
    fn candidates(
        &self,
        outputs: &[Output<'_>],
        size: (u32, u32),
        batch: usize,
        least: f32,
    ) -> Result<Vec<Vec<Detection>>, NetworkError> {
        let merged = outputs.len() == self.strides.len() && outputs.iter().all(|o| o.shape.len() == 4);
        if merged {
            let maps: Vec<_> =
                self.strides.iter().zip(&self.sizes).map(|(s, sizes)| (cells(size, *s), sizes.len())).collect();
            let pictures = Mapped::of(outputs, batch, &maps, least)?;
            return Ok(pictures.iter().map(|answers| self.of_picture(answers, size, least)).collect());
        }
        let pictures = Listed::of(outputs, batch, self.priors(size.0, size.1))?;
        Ok(pictures.iter().map(|answers| self.of_picture(answers, size, least)).collect())
    }

    /// Priors in the network's order: stride, row, column, size; only those with a score are decoded.
    fn of_picture(&self, answers: &impl Answers, picture: (u32, u32), least: f32) -> Vec<Detection> {
        let [vc, vs] = self.variances;
        let mut found = Vec::new();
        let mut index = 0;
        for (level, (stride, sizes)) in self.strides.iter().zip(&self.sizes).enumerate() {
            let (s, (rows, columns)) = (*stride as f32, cells(picture, *stride));
            for cell in 0..rows * columns {
                for (place, size) in sizes.iter().enumerate() {
                    let prior = Prior { index, level, cell, size: place };
                    index += 1;
                    let Some(score) = answers.score(prior, least) else { continue };
                    let (row, column) = (cell / columns, cell % columns);
                    let (px, py) = ((column as f32 + 0.5) * s, (row as f32 + 0.5) * s);
                    let l = answers.offsets(prior);
                    let (cx, cy) = (px + vc * l[0] * size, py + vc * l[1] * size);
                    let (bw, bh) = (size * (vs * l[2]).exp(), size * (vs * l[3]).exp());
                    let m = answers.landmarks(prior);
                    let landmarks =
                        [0, 1, 2, 3, 4].map(|j| Point::new(px + vc * m[2 * j] * size, py + vc * m[2 * j + 1] * size));
                    let bbox = BBox::new(cx - bw / 2.0, cy - bh / 2.0, cx + bw / 2.0, cy + bh / 2.0);
                    let finite = [bbox.x1, bbox.y1, bbox.x2, bbox.y2].iter().all(|v| v.is_finite())
                        && landmarks.iter().all(|p| p.x.is_finite() && p.y.is_finite());
                    if finite {
                        found.push(Detection { bbox, score: score.min(1.0), landmarks });
                    }
                }
            }
        }
        found
    }
}

/// Rows and columns of the feature map of a stride.
fn cells((width, height): (u32, u32), stride: u32) -> (usize, usize) {
    (height.div_ceil(stride) as usize, width.div_ceil(stride) as usize)
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

    /// As the manifest says of RetinaFace with MobileNet-0.25.
    pub(super) fn retina() -> RetinaFace {
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

    /// A face at the third cell of the second stride, larger prior, in both forms of the outputs: the same detection.
    #[test]
    fn both_forms_of_the_outputs_give_the_same_face() {
        let (r, size) = (retina(), (64, 64));
        let (offsets, marks): ([f32; 4], [f32; 10]) =
            ([0.5, -1.0, 0.25, -0.5], std::array::from_fn(|j| j as f32 / 4.0 - 1.0));
        let (cell, n) = (2, r.priors(64, 64));
        let prior = 8 * 8 * 2 + cell * 2 + 1;
        let (mut loc, mut conf, mut landmarks) = (vec![0.0; n * 4], vec![0.0; n * 2], vec![0.0; n * 10]);
        loc[prior * 4..prior * 4 + 4].copy_from_slice(&offsets);
        conf[prior * 2 + 1] = 1.0 / (1.0 + (-3.0f32).exp());
        landmarks[prior * 10..prior * 10 + 10].copy_from_slice(&marks);
        let shapes = [4, 2, 10].map(|columns| [1, n as i64, columns]);
        let data = [&loc, &conf, &landmarks];
        let listed = [0, 1, 2].map(|i| Output { name: "any", shape: &shapes[i], data: data[i] });

        let shapes = [8, 4, 2].map(|edge| [1i64, 32, edge, edge]);
        let mut maps = shapes.map(|shape| vec![0.0f32; shape.iter().product::<i64>() as usize]);
        let map = &mut maps[1];
        let mut put = |channel: usize, value: f32| map[channel * 16 + cell] = value;
        offsets.iter().enumerate().for_each(|(j, v)| put(4 + j, *v));
        put(8 + 2, -1.0);
        put(8 + 3, 2.0);
        marks.iter().enumerate().for_each(|(j, v)| put(12 + 10 + j, *v));
        let mapped = [0, 1, 2].map(|i| Output { name: "any", shape: &shapes[i], data: &maps[i] });

        let found = r.decode(&mapped, size, 1, 0.9).unwrap().remove(0);
        assert_eq!(found, r.decode(&listed, size, 1, 0.9).unwrap().remove(0));
        assert_eq!(found.len(), 1);
        assert!((found[0].bbox.x1 + found[0].bbox.x2 - 2.0 * (40.0 + 0.1 * 0.5 * 128.0)).abs() < 1e-3, "{found:?}");
        assert_eq!(r.decode(&mapped, size, 1, 0.96).unwrap().remove(0), [], "the score is 0.953");
        assert!(r.decode(&mapped, (96, 64), 1, 0.9).is_err(), "a map of another size was read");
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
