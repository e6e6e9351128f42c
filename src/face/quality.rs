//! How well a face can be recognised: size, sharpness, frontality and detector score as one number.

use super::{Detection, alignment};
use crate::frame::{Picture, Point, crop};

/// How well a face can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// One number, 0 (useless) to 1 (ideal): the product of the parts, see [`measure`].
    pub value: f32,
    /// Edge of the aligned crop in frame pixels: the resolution the embedder really gets.
    pub size_px: f32,
    /// Sharpness, 0 (blurred) to 1 (sharp).
    pub sharpness: f32,
    /// Frontality, 0 (profile) to 1 (frontal).
    pub frontality: f32,
}

impl Quality {
    /// For ordering shots: quality, then size among equals; values that are not numbers come last.
    pub fn rank(&self) -> (f32, f32) {
        let number = |v: f32| if v.is_finite() { v } else { -1.0 };
        (number(self.value), number(self.size_px))
    }
}

/// Edge of the crop that is judged, pixels; ArcFace's template scaled to it.
const EDGE: u32 = 64;
const TEMPLATE: [[f32; 2]; 5] = [[21.88, 29.54], [42.02, 29.43], [32.01, 40.99], [23.74, 52.78], [40.42, 52.69]];
/// A face as large as the common embedders' input gains nothing from more pixels.
const FULL_SIZE_PX: f32 = 112.0;
/// Laplacian energy relative to contrast at which a face counts as half sharp; measured on blurred portraits.
const HALF_SHARP: f32 = 0.1;

/// Measures a face. `value = (size/112, at most 1)^½ · (½ + ½ sharpness) · frontality · score`.
///
/// Sharpness is the variance of the Laplacian (Pech-Pacheco et al., 2000) of the aligned 64 px luma crop over the crop's own
/// variance, so that light does not count; frontality is how near the nose lies to the axis between eyes and mouth.
pub fn measure(picture: &Picture, detection: &Detection) -> Quality {
    let Some(transform) = alignment::similarity(&detection.landmarks, &alignment::template(&TEMPLATE)) else {
        return Quality::default();
    };
    let scale = transform.scale();
    if !scale.is_finite() || scale <= 0.0 {
        return Quality::default();
    }
    let size_px = EDGE as f32 / scale;
    let sharpness = sharpness(&crop::warp(picture, &transform, EDGE, EDGE));
    let frontality = frontality(detection);
    let size = (size_px / FULL_SIZE_PX).min(1.0).sqrt();
    let value = (size * (0.5 + 0.5 * sharpness) * frontality * detection.score).clamp(0.0, 1.0);
    Quality { value, size_px, sharpness, frontality }
}

/// Sharpness of an RGB crop of `EDGE` x `EDGE`.
fn sharpness(rgb: &[f32]) -> f32 {
    let edge = EDGE as usize;
    if rgb.len() != edge * edge * 3 {
        return 0.0;
    }
    let luma: Vec<f32> = rgb.chunks_exact(3).map(|c| 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]).collect();
    let variance = |values: &[f32]| {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / values.len() as f32
    };
    let mut laplacian = Vec::with_capacity((edge - 2) * (edge - 2));
    for y in 1..edge - 1 {
        for x in 1..edge - 1 {
            let at = |x: usize, y: usize| luma[y * edge + x];
            laplacian.push(4.0 * at(x, y) - at(x - 1, y) - at(x + 1, y) - at(x, y - 1) - at(x, y + 1));
        }
    }
    // One grey level of noise is not sharpness.
    let energy = variance(&laplacian) / (variance(&luma) + 20.0);
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
    }

    #[test]
    fn impossible_landmarks_are_useless_faces() {
        let mut d = face(0.0);
        d.landmarks = [Point::new(5.0, 5.0); 5];
        assert_eq!(measure(&texture(1), &d).value, 0.0);
        d.landmarks = [Point::new(f32::NAN, 5.0); 5];
        assert_eq!(measure(&texture(1), &d).value, 0.0);
    }
}
