//! Good portraits made worse in known ways: what cameras do to faces, for measuring quality numbers on errors that good pictures lack.
//!
//! In: a picture, the landmarks of a face, a seed. Out: a picture of the same or a smaller size. Strengths are drawn evenly from ranges that reach from
//! harmless to hopeless, relative to the distance of the eyes. Pure: the same seed gives the same picture.

use image::{Rgb, RgbImage, imageops};

use crate::frame::{Picture, Point, crop, still};

/// What happens to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// Fewer pixels: eyes 6 to 22 pixels apart.
    Small,
    /// Out of focus: Gaussian, sigma 0.03 to 0.2 eye distances.
    Blur,
    /// Motion along a line, 0.15 to 0.7 eye distances.
    Motion,
    /// 3 to 30 % of the light, noise of 2 to 6 grey levels.
    Dark,
    /// 1.5 to 3.5 times the light.
    Bright,
    /// Noise of 10 to 50 grey levels.
    Noise,
    /// Eyes 28 pixels apart at most, JPEG quality 4 to 20.
    Jpeg,
    /// Dark glasses.
    Glasses,
    /// A plain cover over mouth and chin.
    Mask,
    /// A skin-coloured patch over one of the five landmarks.
    Hand,
    /// One half of the face behind something plain.
    Half,
}

impl Damage {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Small,
        Self::Blur,
        Self::Motion,
        Self::Dark,
        Self::Bright,
        Self::Noise,
        Self::Jpeg,
        Self::Glasses,
        Self::Mask,
        Self::Hand,
        Self::Half,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Blur => "blur",
            Self::Motion => "motion",
            Self::Dark => "dark",
            Self::Bright => "bright",
            Self::Noise => "noise",
            Self::Jpeg => "jpeg",
            Self::Glasses => "glasses",
            Self::Mask => "mask",
            Self::Hand => "hand",
            Self::Half => "half",
        }
    }

    /// The damaged picture. Landmarks as in [`crate::face::Detection`], in the picture's pixels.
    pub fn apply(self, image: &RgbImage, landmarks: &[Point; 5], seed: u64) -> RgbImage {
        let mut rng = fastrand::Rng::with_seed(seed ^ (self as u64) << 32);
        let mut between = |low: f32, high: f32| low + (high - low) * rng.f32();
        let face = Axes::of(landmarks);
        match self {
            Self::Small => shrunk(image, between(6.0, 22.0) / face.eyes),
            Self::Blur => imageops::blur(image, face.eyes * between(0.03, 0.2)),
            Self::Motion => {
                let (length, angle) = (face.eyes * between(0.15, 0.7), between(0.0, std::f32::consts::PI));
                moved(image, length, angle)
            }
            Self::Dark => {
                let (light, sigma) = (between(0.03, 0.3), between(2.0, 6.0));
                changed(image, &mut rng, |v, noise| v * light + sigma * noise)
            }
            Self::Bright => {
                let light = between(1.5, 3.5);
                changed(image, &mut rng, |v, _| v * light)
            }
            Self::Noise => {
                let sigma = between(10.0, 50.0);
                changed(image, &mut rng, |v, noise| v + sigma * noise)
            }
            Self::Jpeg => {
                let quality = between(4.0, 20.0) as u8;
                packed(shrunk(image, 28.0 / face.eyes), quality)
            }
            Self::Glasses => {
                let (width, height, tone) = (between(0.3, 0.42), between(0.2, 0.32), between(0.0, 45.0) as u8);
                let mut out = image.clone();
                for eye in &landmarks[..2] {
                    let lens = face.cover(face.below(*eye, 0.05), width, height * face.eyes / face.height);
                    lens.fill(&mut out, Rgb([tone; 3]));
                }
                out
            }
            Self::Mask => {
                let tone = [0; 3].map(|_| between(60.0, 255.0) as u8);
                let mouth = middle(landmarks[3], landmarks[4]);
                let cover = face.cover(face.below(mouth, -0.1), 0.95, between(0.45, 0.75));
                painted(image, cover, Rgb(tone))
            }
            Self::Hand => {
                let (width, height, light) = (between(0.3, 0.8), between(0.3, 0.8), between(0.6, 1.1));
                let at = landmarks[(between(0.0, 5.0) as usize).min(4)];
                let nose = pixel(image, landmarks[2]).map(|v| (f32::from(v) * light).min(255.0) as u8);
                painted(image, face.cover(at, width, height * face.eyes / face.height), Rgb(nose))
            }
            Self::Half => {
                let side = if between(0.0, 1.0) < 0.5 { -0.8 } else { 0.8 };
                let cover = face.cover(face.beside(landmarks[2], side), 0.8 * between(0.6, 1.1), 2.0);
                let tone = between(0.0, 255.0) as u8;
                painted(image, cover, Rgb([tone; 3]))
            }
        }
    }
}

/// The face's own directions: from eye to eye, from eyes to mouth.
struct Axes {
    across: Point,
    down: Point,
    /// Distance of the eyes, pixels.
    eyes: f32,
    /// From eyes to mouth, pixels.
    height: f32,
}

impl Axes {
    fn of(landmarks: &[Point; 5]) -> Self {
        let [left, right, _, mouth_left, mouth_right] = *landmarks;
        let (eyes, mouth) = (middle(left, right), middle(mouth_left, mouth_right));
        let (across, down) =
            (Point::new(right.x - left.x, right.y - left.y), Point::new(mouth.x - eyes.x, mouth.y - eyes.y));
        let length = |p: Point| p.x.hypot(p.y).max(1.0);
        Self { across, down, eyes: length(across), height: length(down) }
    }

    fn below(&self, p: Point, by: f32) -> Point {
        Point::new(p.x + by * self.down.x, p.y + by * self.down.y)
    }

    fn beside(&self, p: Point, by: f32) -> Point {
        Point::new(p.x + by * self.across.x, p.y + by * self.across.y)
    }

    /// A cover around a point: half its width in eye distances, half its height in face heights.
    fn cover(&self, center: Point, half_width: f32, half_height: f32) -> Cover {
        let unit = |p: Point, length: f32| Point::new(p.x / length, p.y / length);
        Cover {
            center,
            across: unit(self.across, self.eyes),
            down: unit(self.down, self.height),
            half: (half_width * self.eyes, half_height * self.height),
        }
    }
}

/// A plain parallelogram along a face's directions.
struct Cover {
    center: Point,
    across: Point,
    down: Point,
    /// Half its extent along both, pixels.
    half: (f32, f32),
}

impl Cover {
    fn fill(&self, image: &mut RgbImage, color: Rgb<u8>) {
        let turn = self.across.x * self.down.y - self.across.y * self.down.x;
        if turn.abs() < 1e-3 {
            return;
        }
        for (x, y, pixel) in image.enumerate_pixels_mut() {
            let (dx, dy) = (x as f32 - self.center.x, y as f32 - self.center.y);
            let along = (dx * self.down.y - dy * self.down.x) / turn;
            let below = (dy * self.across.x - dx * self.across.y) / turn;
            if along.abs() <= self.half.0 && below.abs() <= self.half.1 {
                *pixel = color;
            }
        }
    }
}

fn middle(a: Point, b: Point) -> Point {
    Point::new((a.x + b.x) / 2.0, (a.y + b.y) / 2.0)
}

fn pixel(image: &RgbImage, p: Point) -> [u8; 3] {
    let inside = |v: f32, size: u32| (v.max(0.0) as u32).min(size.saturating_sub(1));
    image.get_pixel(inside(p.x, image.width()), inside(p.y, image.height())).0
}

fn painted(image: &RgbImage, cover: Cover, color: Rgb<u8>) -> RgbImage {
    let mut out = image.clone();
    cover.fill(&mut out, color);
    out
}

/// Scaled down by a factor, never up, and never below 32 pixels.
fn shrunk(image: &RgbImage, factor: f32) -> RgbImage {
    let edge = |v: u32| ((v as f32 * factor.min(1.0)) as u32).clamp(32.min(v), v);
    crop::resized(image, edge(image.width()), edge(image.height()))
}

/// Each value changed by a function of it and of normal noise.
fn changed(image: &RgbImage, rng: &mut fastrand::Rng, change: impl Fn(f32, f32) -> f32) -> RgbImage {
    let mut out = image.clone();
    for value in out.iter_mut() {
        // Box and Muller, 1958.
        let (a, b) = (rng.f32().max(1e-7), rng.f32());
        let noise = (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos();
        *value = change(f32::from(*value), noise).round().clamp(0.0, 255.0) as u8;
    }
    out
}

/// The mean of the picture moved along a line of `length` pixels; the border repeats.
fn moved(image: &RgbImage, length: f32, angle: f32) -> RgbImage {
    let steps = (length.round() as i64).max(3);
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let mut sum = [0u32; 3];
        for step in 0..steps {
            let along = step as f32 - steps as f32 / 2.0;
            let at = |v: u32, by: f32, size: i64| (i64::from(v) - by.round() as i64).clamp(0, size - 1) as u32;
            let p = image.get_pixel(at(x, along * angle.cos(), width), at(y, along * angle.sin(), height));
            sum.iter_mut().zip(p.0).for_each(|(s, v)| *s += u32::from(v));
        }
        Rgb(sum.map(|s| (s / steps as u32) as u8))
    })
}

/// Through a JPEG and back.
fn packed(image: RgbImage, quality: u8) -> RgbImage {
    let limits = still::StillLimits { bytes: 64 << 20, pixels: 120_000_000 };
    let back = crop::jpeg(&image, quality).ok().and_then(|bytes| still::decode(&bytes, &limits).ok());
    back.map_or(image, |picture: Picture| crop::to_rgb(&picture))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portrait() -> (RgbImage, [Point; 5]) {
        let image = RgbImage::from_fn(200, 200, |x, y| Rgb([if (x / 5 + y / 5) % 2 == 0 { 180 } else { 70 }; 3]));
        let points = [(70.0, 80.0), (130.0, 80.0), (100.0, 110.0), (75.0, 140.0), (125.0, 140.0)];
        (image, points.map(|(x, y)| Point::new(x, y)))
    }

    #[test]
    fn every_kind_changes_the_picture_and_a_seed_repeats_it() {
        let (image, landmarks) = portrait();
        for damage in Damage::ALL {
            let once = damage.apply(&image, &landmarks, 7);
            assert_ne!(once, image, "{damage:?}");
            assert_eq!(once, damage.apply(&image, &landmarks, 7), "{damage:?}");
            assert_ne!(once, damage.apply(&image, &landmarks, 8), "{damage:?}");
        }
    }

    #[test]
    fn covers_lie_where_they_should() {
        let (image, landmarks) = portrait();
        let plain = |image: &RgbImage, p: Point| {
            let own = pixel(image, p);
            (-3..=3).all(|d| pixel(image, Point::new(p.x + d as f32, p.y)) == own)
        };
        let glasses = Damage::Glasses.apply(&image, &landmarks, 1);
        assert!(plain(&glasses, landmarks[0]) && plain(&glasses, landmarks[1]) && !plain(&glasses, landmarks[3]));
        let mask = Damage::Mask.apply(&image, &landmarks, 1);
        assert!(plain(&mask, landmarks[3]) && plain(&mask, landmarks[4]) && !plain(&mask, landmarks[0]));
    }

    #[test]
    fn impossible_landmarks_are_survived() {
        let (image, _) = portrait();
        for damage in Damage::ALL {
            for landmarks in [[Point::default(); 5], [Point::new(f32::NAN, 1e9); 5], [Point::new(-500.0, 9e6); 5]] {
                let out = damage.apply(&image, &landmarks, 3);
                assert!(out.width() > 0 && out.width() <= image.width(), "{damage:?}");
            }
        }
    }
}
