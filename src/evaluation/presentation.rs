//! Crude presentation attacks, made from real pictures: what a picture of a picture looks like in some one respect.
//!
//! They show whether a liveness score reacts to anything at all. A score that rejects them may accept every real attack, and one that accepts
//! them may reject real ones: real prints and screens, taken by a real camera, are another thing (docs/liveness.md).

use image::{Rgb, RgbImage};

use crate::frame::{BBox, Point, crop};

/// What is done to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Nothing: a real picture.
    None,
    /// A third of the pixels, enlarged again: the loss of taking a picture of a picture.
    Rescaled,
    /// Coloured stripes and a slow beat, as a screen's pixels and the camera's give them (moiré).
    Screen,
    /// A print's screen of dots, each colour at its own angle.
    Halftone,
    /// A lamp mirrored beside the face.
    Glare,
    /// A cut-out print: white margin, then something grey behind it.
    Paper,
    /// A screen's contrast: dark parts darker, black not black, a tint of blue.
    Gamma,
    /// Rescaled, screen, gamma and glare together.
    Recaptured,
}

impl Attack {
    /// All of them, the real picture first.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Rescaled,
        Self::Screen,
        Self::Halftone,
        Self::Glare,
        Self::Paper,
        Self::Gamma,
        Self::Recaptured,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "real",
            Self::Rescaled => "rescaled",
            Self::Screen => "screen (moiré)",
            Self::Halftone => "halftone",
            Self::Glare => "glare",
            Self::Paper => "paper margin",
            Self::Gamma => "screen gamma",
            Self::Recaptured => "screen, all at once",
        }
    }

    /// The picture after it; `face` (pixels) says how large and where the marks are. The size stays.
    pub fn apply(self, picture: &RgbImage, face: &BBox) -> RgbImage {
        let edge = face.width().max(face.height()).max(8.0);
        match self {
            Self::None => picture.clone(),
            Self::Rescaled => {
                let (width, height) = picture.dimensions();
                let small = crop::resized(picture, (width / 3).max(1), (height / 3).max(1));
                crop::resized(&small, width, height)
            }
            Self::Screen => screen(picture, edge),
            Self::Halftone => halftone(picture, edge),
            Self::Glare => glare(picture, face, edge),
            Self::Paper => paper(picture, face),
            Self::Gamma => {
                each(picture, |_, c, v| 255.0 * (v / 255.0).powf(1.6) * 0.8 + if c == 2 { 38.0 } else { 28.0 })
            }
            Self::Recaptured => [Self::Rescaled, Self::Screen, Self::Gamma, Self::Glare]
                .iter()
                .fold(picture.clone(), |picture, part| part.apply(&picture, face)),
        }
    }
}

/// Every value anew: from its pixel, its channel and itself (0 to 255).
fn each(picture: &RgbImage, value: impl Fn(Point, usize, f32) -> f32) -> RgbImage {
    let mut out = picture.clone();
    for (x, y, pixel) in out.enumerate_pixels_mut() {
        let at = Point::new(x as f32, y as f32);
        let channels = pixel.0;
        *pixel = Rgb([0, 1, 2].map(|c| value(at, c, f32::from(channels[c])).clamp(0.0, 255.0).round() as u8));
    }
    out
}

/// Coordinates turned by `degrees`, in periods of `period` pixels, as an angle.
fn phases(p: Point, degrees: f32, period: f32) -> (f32, f32) {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let turn = std::f32::consts::TAU / period;
    ((p.x * cos + p.y * sin) * turn, (p.y * cos - p.x * sin) * turn)
}

fn screen(picture: &RgbImage, edge: f32) -> RgbImage {
    let period = (edge / 40.0).max(2.2);
    each(picture, |p, c, v| {
        let (stripes, _) = phases(p, 4.0, period);
        let (beat, _) = phases(p, 31.0, period * 7.3);
        let third = std::f32::consts::TAU / 3.0 * c as f32;
        v * (1.0 + 0.25 * (stripes + third).sin()) * (1.0 + 0.12 * (beat + third / 2.0).sin())
    })
}

fn halftone(picture: &RgbImage, edge: f32) -> RgbImage {
    let period = (edge / 30.0).max(2.5);
    each(picture, |p, c, v| {
        let (a, b) = phases(p, [15.0, 75.0, 0.0][c], period);
        let least = (a.cos() + b.cos()) / 4.0 + 0.5;
        let ink = ((v / 255.0 - least) * 3.0 + 0.5).clamp(0.0, 1.0);
        0.5 * v + 0.5 * 255.0 * ink
    })
}

fn glare(picture: &RgbImage, face: &BBox, edge: f32) -> RgbImage {
    let (middle, spread) = (Point::new(face.x1 + 0.25 * face.width(), face.y1 + 0.2 * face.height()), 0.3 * edge);
    each(picture, |p, _, v| v + 180.0 * (-p.distance(middle).powi(2) / (2.0 * spread * spread)).exp())
}

fn paper(picture: &RgbImage, face: &BBox) -> RgbImage {
    let (print, sheet) = (face.grown(1.15), face.grown(1.3));
    let inside = |b: &BBox, p: Point| (b.x1..b.x2).contains(&p.x) && (b.y1..b.y2).contains(&p.y);
    each(picture, |p, c, v| match (inside(&print, p), inside(&sheet, p)) {
        (true, _) => v,
        (false, true) => 240.0,
        (false, false) => [96.0, 88.0, 80.0][c],
    })
}

/// What a group of pictures scored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// A score a face, 0 to 1.
    pub scores: Vec<f32>,
    /// Pictures in which the detector saw no face (any more).
    pub no_face: usize,
}

impl Scored {
    /// Share of faces, 0 to 1, that score above `least`; 0 without any.
    pub fn share_above(&self, least: f32) -> f64 {
        self.scores.iter().filter(|s| **s > least).count() as f64 / self.scores.len().max(1) as f64
    }

    /// The score below which a `share` (0 to 1) of them lies; `None` without any.
    pub fn quantile(&self, share: f64) -> Option<f32> {
        let mut sorted = self.scores.clone();
        sorted.sort_by(f32::total_cmp);
        let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> (RgbImage, BBox) {
        (RgbImage::from_fn(120, 90, |x, y| Rgb([100 + x as u8, 60 + y as u8, 120])), BBox::new(40.0, 20.0, 80.0, 70.0))
    }

    #[test]
    fn every_attack_changes_the_face_or_what_is_around_it_and_keeps_the_size() {
        let (real, face) = picture();
        for attack in Attack::ALL {
            let made = attack.apply(&real, &face);
            assert_eq!(made.dimensions(), real.dimensions(), "{attack:?}");
            assert_eq!(made == real, attack == Attack::None, "{attack:?}");
            assert_eq!(made, attack.apply(&real, &face), "{attack:?} is another one each time");
        }
        let paper = Attack::Paper.apply(&real, &face);
        assert_eq!(paper.get_pixel(60, 45), real.get_pixel(60, 45), "the face itself");
        assert_eq!((paper.get_pixel(60, 15).0, paper.get_pixel(5, 5).0), ([240; 3], [96, 88, 80]));
        // A face at the border, or none at all, is no reason to fail.
        Attack::Recaptured.apply(&RgbImage::new(2, 2), &BBox::new(-5.0, -5.0, -5.0, -5.0));
    }

    #[test]
    fn shares_and_quantiles() {
        let scored = Scored { scores: vec![0.9, 0.2, 0.6, 0.5, 0.8], no_face: 0 };
        assert_eq!((scored.share_above(0.5), scored.quantile(0.5), scored.quantile(0.0)), (0.6, Some(0.6), Some(0.2)));
        assert_eq!((Scored::default().share_above(0.5), Scored::default().quantile(0.5)), (0.0, None));
    }
}
