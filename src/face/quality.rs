//! How well a face can be recognised, as one number: detail at eyes, nose and mouth, detector score, glare, frontality.

use std::fmt;

use super::{Detection, alignment};
use crate::frame::{Picture, Point, crop};

/// How well a face can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// One number, 0 (useless) to 1 (ideal), see [`measure`].
    pub value: f32,
    /// Edge of the aligned crop in frame pixels: the resolution the embedder really gets.
    pub size_px: f32,
    /// Sharpness, 0 (blurred) to 1 (sharp).
    pub sharpness: f32,
    /// Frontality, 0 (profile) to 1 (frontal).
    pub frontality: f32,
    /// Detail where the embedder looks.
    pub detail: Detail,
    /// Share of the face's pixels that are as bright as can be, 0 to 1.
    pub clipped: f32,
    /// The detector's score, 0 to 1.
    pub score: f32,
    /// How much it looks like a living face and not like a picture of one, 0 to 1; experimental, no part of `value`, `None` where no
    /// model for it is in use ([`super::FaceEngine::liveness`]).
    pub liveness: Option<f32>,
}

/// Detail of parts of a face: natural logarithm of 0.02 and the mean gradient, less that of noise, over the face's contrast. About -0.5 to
/// 0.3 on good portraits, below -1.5 where a part is hidden, in the dark or blurred away.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Detail {
    /// Both eyes and brows.
    pub eyes: f32,
    /// The nose.
    pub nose: f32,
    /// The mouth.
    pub mouth: f32,
}

/// What stands most in the way of recognising a face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Flaw {
    /// Little detail anywhere: out of focus, moving, too dark or upscaled. Holds the sharpness, 0 to 1.
    Blurred(f32),
    /// Seen from the side, above or below. Holds the frontality, 0 to 1.
    TurnedAway(f32),
    /// The rest of the face has detail, the eyes have not: dark glasses, hair, a shadow.
    EyesHidden,
    /// The rest of the face has detail, the mouth has not: a mask, a scarf, a hand.
    MouthHidden,
    /// Over-exposed. Holds the share of clipped pixels, 0 to 1.
    Glaring(f32),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blurred(sharpness) => write!(f, "too blurred: sharpness {sharpness:.2}"),
            Self::TurnedAway(frontality) => write!(f, "turned away too far: frontality {frontality:.2}"),
            Self::EyesHidden => f.write_str("without detail at the eyes (dark glasses, a shadow?)"),
            Self::MouthHidden => f.write_str("without detail at the mouth (a mask, a hand?)"),
            Self::Glaring(share) => write!(f, "over-exposed: {:.0} % of it is plain white", share * 100.0),
        }
    }
}

impl Quality {
    /// For ordering shots: quality, then size among equals; values that are not numbers come last.
    pub fn rank(&self) -> (f32, f32) {
        let number = |v: f32| if v.is_finite() { v } else { -1.0 };
        (number(self.value), number(self.size_px))
    }

    /// What stands most in the way, for words to a person; says nothing about whether the face is good enough.
    pub fn flaw(&self) -> Flaw {
        let Detail { eyes, nose, mouth } = self.detail;
        if self.clipped > MUCH_CLIPPED {
            Flaw::Glaring(self.clipped)
        } else if self.frontality < MUCH_TURNED {
            Flaw::TurnedAway(self.frontality)
        } else if eyes < HIDDEN && nose.max(mouth) > eyes + STANDS_OUT {
            Flaw::EyesHidden
        } else if mouth < HIDDEN && nose.max(eyes) > mouth + STANDS_OUT {
            Flaw::MouthHidden
        } else {
            Flaw::Blurred(self.sharpness)
        }
    }
}

/// Edge of the crop that is judged, pixels; ArcFace's template scaled to it.
const EDGE: usize = 64;
const TEMPLATE: [[f32; 2]; 5] = [[21.88, 29.54], [42.02, 29.43], [32.01, 40.99], [23.74, 52.78], [40.42, 52.69]];
/// Frontality from which turning costs nothing. Not fitted: portraits hold too few turned faces.
const FRONTAL_ENOUGH: f32 = 0.4;
/// Laplacian energy relative to contrast at which a face counts as half sharp; measured on blurred portraits.
const HALF_SHARP: f32 = 0.1;
/// Columns and rows of the crop, half-open.
type Part = ([usize; 2], [usize; 2]);
const LEFT_EYE: Part = ([14, 31], [22, 36]);
const RIGHT_EYE: Part = ([33, 50], [22, 36]);
const NOSE: Part = ([24, 40], [34, 46]);
const MOUTH: Part = ([20, 44], [46, 58]);
const FACE: Part = ([12, 52], [14, 60]);
/// Bright as can be, grey levels.
const CLIPPED: f32 = 250.0;
const MUCH_CLIPPED: f32 = 0.25;
const MUCH_TURNED: f32 = 0.3;
const HIDDEN: f32 = -1.2;
const STANDS_OUT: f32 = 0.6;

/// Weights of the logistic model, fitted by `scripts/fit-quality.py` to features of `visage eval quality` on damaged portraits; docs/evaluation.md, section Quality.
const BIAS: f32 = 5.401;
const SCORE: f32 = 5.071;
const EYES: f32 = 1.967;
const MOUTHS: f32 = 0.516;
const NOSES: f32 = 0.456;
const GLARE: f32 = 1.137;

/// Measures a face. `value = p · (frontality/0.4, 0.2 to 1)^½`.
///
/// `p` is a logistic model of "a comparison with another picture of the person succeeds at FMR 0.001", of the detector score's logarithm, the
/// [`Detail`] of eyes, nose and mouth, and the share of clipped pixels. Detail is judged on the aligned 64 px luma crop, noise taken out as
/// estimated by Immerkær, "Fast Noise Variance Estimation", CVIU 64(2), 1996. Sharpness is the variance of the Laplacian
/// (Pech-Pacheco et al., 2000) over the crop's own variance. Size counts by the detail that a small face lacks; frontality is how near the nose lies to the axis between eyes and mouth.
pub fn measure(picture: &Picture, detection: &Detection) -> Quality {
    let Some(transform) = alignment::similarity(&detection.landmarks, &alignment::template(&TEMPLATE)) else {
        return Quality::default();
    };
    let scale = transform.scale();
    if !scale.is_finite() || scale <= 0.0 {
        return Quality::default();
    }
    let size_px = EDGE as f32 / scale;
    let rgb = crop::warp(picture, &transform, EDGE as u32, EDGE as u32);
    if rgb.len() != EDGE * EDGE * 3 {
        return Quality::default();
    }
    let luma: Vec<f32> = rgb.chunks_exact(3).map(|c| 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]).collect();
    let detail = detail(&luma);
    let clipped = mean(&luma, FACE, |v| f32::from(u8::from(v >= CLIPPED)));
    let (sharpness, frontality) = (sharpness(&luma), frontality(detection));
    let score = if detection.score.is_finite() { detection.score.clamp(0.0, 1.0) } else { 0.0 };
    let logit = BIAS + SCORE * score.max(0.3).ln() + EYES * detail.eyes + NOSES * detail.nose + MOUTHS * detail.mouth
        - GLARE * clipped;
    let turned = (frontality / FRONTAL_ENOUGH).clamp(0.2, 1.0).sqrt();
    let value = (turned / (1.0 + (-logit).exp())).clamp(0.0, 1.0);
    Quality { value, size_px, sharpness, frontality, detail, clipped, score, liveness: None }
}

/// Mean of a function of the pixels of a part.
fn mean(values: &[f32], (columns, rows): Part, of: impl Fn(f32) -> f32) -> f32 {
    let row = |y: usize| &values[y * EDGE + columns[0]..y * EDGE + columns[1]];
    let sum: f32 = (rows[0]..rows[1]).flat_map(row).map(|v| of(*v)).sum();
    sum / ((columns[1] - columns[0]) * (rows[1] - rows[0])) as f32
}

/// Detail of the parts of a luma crop.
fn detail(luma: &[f32]) -> Detail {
    let at = |x: usize, y: usize| luma[y * EDGE + x];
    let (mut gradient, mut rough) = (vec![0f32; EDGE * EDGE], vec![0f32; EDGE * EDGE]);
    for y in 1..EDGE - 1 {
        for x in 1..EDGE - 1 {
            let (dx, dy) = ((at(x + 1, y) - at(x - 1, y)) / 2.0, (at(x, y + 1) - at(x, y - 1)) / 2.0);
            gradient[y * EDGE + x] = dx.hypot(dy);
            let corners = at(x - 1, y - 1) + at(x + 1, y - 1) + at(x - 1, y + 1) + at(x + 1, y + 1);
            let edges = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1);
            rough[y * EDGE + x] = (corners - 2.0 * edges + 4.0 * at(x, y)).abs();
        }
    }
    let noise = (std::f32::consts::FRAC_PI_2).sqrt() / 6.0 * mean(&rough, FACE, |v| v);
    let level = mean(luma, FACE, |v| v);
    let contrast = mean(luma, FACE, |v| (v - level) * (v - level)).sqrt();
    let of = |part: Part| {
        let plain = mean(&gradient, part, |v| v);
        (plain * plain - noise * noise).max(0.0).sqrt()
    };
    // Eight grey levels: without them a flat grey area would be all detail.
    let log = |v: f32| (v / (contrast + 8.0) + 0.02).ln();
    Detail { eyes: log((of(LEFT_EYE) + of(RIGHT_EYE)) / 2.0), nose: log(of(NOSE)), mouth: log(of(MOUTH)) }
}

/// Sharpness of a luma crop.
fn sharpness(luma: &[f32]) -> f32 {
    let variance = |values: &[f32]| {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / values.len() as f32
    };
    let mut laplacian = Vec::with_capacity((EDGE - 2) * (EDGE - 2));
    for y in 1..EDGE - 1 {
        for x in 1..EDGE - 1 {
            let at = |x: usize, y: usize| luma[y * EDGE + x];
            laplacian.push(4.0 * at(x, y) - at(x - 1, y) - at(x + 1, y) - at(x, y - 1) - at(x, y + 1));
        }
    }
    // One grey level of noise is not sharpness.
    let energy = variance(&laplacian) / (variance(luma) + 20.0);
    energy / (energy + HALF_SHARP)
}

/// 1 for a face seen from the front, 0 for a profile: the nose's place relative to eyes and mouth.
fn frontality(detection: &Detection) -> f32 {
    let [left, right, nose, mouth_left, mouth_right] = detection.landmarks;
    let middle = |a: Point, b: Point| Point::new((a.x + b.x) / 2.0, (a.y + b.y) / 2.0);
    let (eyes, mouth) = (middle(left, right), middle(mouth_left, mouth_right));
    let (ex, ey) = (right.x - left.x, right.y - left.y);
    let eye_distance = ex.hypot(ey);
    let (dx, dy) = (mouth.x - eyes.x, mouth.y - eyes.y);
    let height = dx.hypot(dy);
    if eye_distance < 1e-3 || height < 1e-3 {
        return 0.0;
    }
    // Yaw: how far the nose leaves the axis from eyes to mouth, sideways, in eye distances or face heights, whichever is larger.
    let (nx, ny) = (nose.x - eyes.x, nose.y - eyes.y);
    let sideways = ((nx * dy - ny * dx) / height).abs() / eye_distance.max(0.6 * height);
    // Pitch: the nose lies at about 0.55 of the way from eyes to mouth.
    let way = (nx * dx + ny * dy) / (height * height);
    let yaw = 1.0 - (sideways / 0.55).min(1.0);
    let pitch = 1.0 - (((way - 0.55).abs() - 0.15).max(0.0) / 0.45).min(1.0);
    (yaw * pitch).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::BBox;

    fn face(shift: f32) -> Detection {
        let mut landmarks = alignment::template(&TEMPLATE).map(|p| Point::new(p.x * 2.0 + 40.0, p.y * 2.0 + 40.0));
        landmarks[2].x += shift;
        Detection { bbox: BBox::new(60.0, 60.0, 150.0, 170.0), score: 1.0, landmarks }
    }

    fn texture(blur: u32) -> Picture {
        let noisy = image::RgbImage::from_fn(240, 240, |x, y| {
            let v = if (x / 6 + y / 6) % 2 == 0 { 200 } else { 60 };
            image::Rgb([v, v, v])
        });
        let small = crop::resized(&noisy, 240 / blur, 240 / blur);
        Picture::from_rgb(crop::resized(&small, 240, 240))
    }

    #[test]
    fn blur_and_turning_away_cost_quality() {
        let sharp = measure(&texture(1), &face(0.0));
        let blurred = measure(&texture(8), &face(0.0));
        assert!(sharp.sharpness > 0.7 && blurred.sharpness < sharp.sharpness / 2.0, "{sharp:?} {blurred:?}");
        let turned = measure(&texture(1), &face(25.0));
        assert!(sharp.frontality > 0.8 && turned.frontality < 0.3, "{sharp:?} {turned:?}");
        assert!((sharp.size_px - 128.0).abs() < 1.0);
        assert!(
            sharp.value > 2.0 * turned.value && sharp.value > 1.5 * blurred.value,
            "{sharp:?} {blurred:?} {turned:?}"
        );
        assert_eq!(turned.flaw(), Flaw::TurnedAway(turned.frontality));
        assert_eq!(blurred.flaw(), Flaw::Blurred(blurred.sharpness));
    }

    #[test]
    fn impossible_landmarks_are_useless_faces() {
        let mut d = face(0.0);
        d.landmarks = [Point::new(5.0, 5.0); 5];
        assert_eq!(measure(&texture(1), &d).value, 0.0);
        d.landmarks = [Point::new(f32::NAN, 5.0); 5];
        assert_eq!(measure(&texture(1), &d).value, 0.0);
    }

    /// The texture with a plain bar over rows of the aligned crop.
    fn barred(rows: [u32; 2]) -> Picture {
        let image = image::RgbImage::from_fn(240, 240, |x, y| {
            let v = if (x / 6 + y / 6) % 2 == 0 { 200 } else { 60 };
            let bar = (40 + 2 * rows[0]..40 + 2 * rows[1]).contains(&y);
            image::Rgb([if bar { 20 } else { v }; 3])
        });
        Picture::from_rgb(image)
    }

    #[test]
    fn hidden_eyes_and_mouths_are_seen() {
        let whole = measure(&texture(1), &face(0.0));
        let (eyes, mouth) = (measure(&barred([20, 38]), &face(0.0)), measure(&barred([44, 60]), &face(0.0)));
        assert!(eyes.value < whole.value / 2.0 && mouth.value < whole.value, "{whole:?} {eyes:?} {mouth:?}");
        assert_eq!((eyes.flaw(), mouth.flaw()), (Flaw::EyesHidden, Flaw::MouthHidden));
    }

    #[test]
    fn noise_is_no_detail_and_glare_is_named() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noisy = Picture::from_rgb(image::RgbImage::from_fn(240, 240, |_, _| image::Rgb([100 + noise() / 8; 3])));
        let q = measure(&noisy, &face(0.0));
        assert!(q.detail.eyes < -1.0 && q.value < 0.4, "{q:?}");
        let white =
            measure(&Picture::from_rgb(image::RgbImage::from_pixel(240, 240, image::Rgb([255; 3]))), &face(0.0));
        assert_eq!((white.flaw(), white.clipped), (Flaw::Glaring(1.0), 1.0));
    }
}
