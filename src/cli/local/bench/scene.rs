//! Pictures to measure with, in the format that a decoder gives.

use std::path::Path;

use crate::{
    cli::{error::Failure, picture_file},
    face::Detection,
    frame::{BBox, ColorMatrix, Picture, PixelFormat, Pixels, Plane, Point, crop, still},
};

/// Bytes between rows of decoded planes are a multiple of this.
const ALIGNED: usize = 32;

/// Planes Y, U and V as a decoder leaves them: BT.709, limited range, aligned rows.
pub struct Decoded {
    size: (u32, u32),
    planes: [(Vec<u8>, usize); 3],
}

impl Pixels for Decoded {
    fn format(&self) -> PixelFormat {
        PixelFormat::I420
    }
    fn size(&self) -> (u32, u32) {
        self.size
    }
    fn plane(&self, index: usize) -> Plane<'_> {
        let (data, stride) = &self.planes[index.min(2)];
        Plane { data, stride: *stride }
    }
    fn color(&self) -> ColorMatrix {
        ColorMatrix { bt709: true, full_range: false }
    }
}

impl Decoded {
    /// A picture from colours: red, green and blue of each pixel, 0 to 255.
    pub fn from_rgb(size: (u32, u32), rgb: impl Fn(u32, u32) -> [u8; 3]) -> Self {
        let plane = |w: u32, h: u32| {
            let stride = (w as usize).next_multiple_of(ALIGNED);
            (vec![0u8; stride * h as usize], stride)
        };
        let (w, h) = size;
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let mut planes = [plane(w, h), plane(cw, ch), plane(cw, ch)];
        // ITU-R BT.709, limited range.
        let luma = |[r, g, b]: [u8; 3]| 0.2126 * f32::from(r) + 0.7152 * f32::from(g) + 0.0722 * f32::from(b);
        for y in 0..h {
            for x in 0..w {
                let (data, stride) = &mut planes[0];
                data[y as usize * *stride + x as usize] = (16.5 + luma(rgb(x, y)) * 219.0 / 255.0) as u8;
            }
        }
        for y in 0..ch {
            for x in 0..cw {
                let pixel = rgb(2 * x, 2 * y);
                let chroma = |c: u8, full: f32| (128.5 + (f32::from(c) - luma(pixel)) / full * 224.0 / 255.0) as u8;
                let at = |stride: usize| y as usize * stride + x as usize;
                let (data, stride) = &mut planes[1];
                data[at(*stride)] = chroma(pixel[2], 1.8556);
                let (data, stride) = &mut planes[2];
                data[at(*stride)] = chroma(pixel[0], 1.5748);
            }
        }
        Self { size, planes }
    }
}

/// A made picture without faces: soft waves and fine noise, another for each `seed`.
pub fn made(size: (u32, u32), seed: u64) -> Picture {
    let mut dice = fastrand::Rng::with_seed(seed);
    let phase = dice.f32() * 6.0;
    let noise: Vec<u8> = (0..8191).map(|_| dice.u8(0..24)).collect();
    Picture::new(Decoded::from_rgb(size, |x, y| {
        let wave = |k: f32, p: f32| 100.0 + 80.0 * ((x as f32 * k + phase + p).sin() * (y as f32 * k * 0.7 + p).cos());
        let grain = noise[(x as usize * 131 + y as usize * 521) % noise.len()];
        [wave(0.011, 0.0), wave(0.017, 2.0), wave(0.023, 4.0)].map(|v| (v as u8).saturating_add(grain))
    }))
}

/// A picture from a file, as a decoder would give it; scaled to `size` where one is given.
///
/// # Errors
/// When the file is no picture.
pub async fn from_file(path: &Path, size: Option<(u32, u32)>) -> Result<Picture, Failure> {
    let bytes = picture_file::read(path.to_owned()).await?;
    let limits = still::StillLimits { bytes: 64 << 20, pixels: 64 << 20 };
    let picture = still::decode(&bytes, &limits)
        .map_err(|e| Failure::new(format!("{} can't be used", path.display())).because(&e))?;
    let mut image = crop::to_rgb(&picture);
    if let Some((w, h)) = size {
        image = crop::resized(&image, w, h);
    }
    Ok(Picture::new(Decoded::from_rgb(image.dimensions(), |x, y| image.get_pixel(x, y).0)))
}

/// `count` faces of `edge` pixels, spread over a picture, with the landmarks of an upright face: where to cut, not what is there.
pub fn faces((width, height): (u32, u32), edge: f32, count: usize) -> Vec<Detection> {
    let columns = ((width as f32 / edge) as usize).max(1);
    let rows = ((height as f32 / edge) as usize).max(1);
    (0..count)
        .map(|i| {
            let (x, y) = ((i % columns) as f32 * edge, (i / columns % rows) as f32 * edge);
            let at = |fx: f32, fy: f32| Point::new(x + fx * edge, y + fy * edge);
            let landmarks = [at(0.31, 0.41), at(0.69, 0.4), at(0.5, 0.61), at(0.35, 0.8), at(0.66, 0.79)];
            Detection { bbox: BBox::new(x, y, x + edge, y + edge), score: 0.99, landmarks }
        })
        .collect()
}

/// `WIDTHxHEIGHT` of the command line.
///
/// # Errors
/// In words, when it is no size from 32 to 8192 pixels.
pub fn size(text: &str) -> Result<(u32, u32), String> {
    let edge = |text: &str| text.parse().ok().filter(|edge| (32..=8192).contains(edge));
    let both = text.split_once('x').and_then(|(w, h)| Some((edge(w)?, edge(h)?)));
    both.ok_or_else(|| "give WIDTHxHEIGHT in pixels, each 32 to 8192, such as 1920x1080".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_come_back_from_the_planes() {
        let colours = [[200, 30, 40], [20, 180, 60], [40, 50, 220], [128; 3]];
        for colour in colours {
            let picture = Picture::new(Decoded::from_rgb((50, 20), |_, _| colour));
            let back = crop::to_rgb(&picture);
            let near = back.pixels().all(|p| p.0.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 3));
            assert!(near, "{colour:?} {:?}", back.get_pixel(3, 3));
        }
    }

    #[test]
    fn made_pictures_differ_by_their_seed_and_faces_lie_inside() {
        let (a, b) = (made((64, 48), 1), made((64, 48), 2));
        assert_ne!(a.plane(0).data, b.plane(0).data);
        assert_eq!(a.plane(0).stride, 64);
        let faces = faces((1920, 1080), 160.0, 100);
        assert!(faces.iter().all(|f| f.bbox.x2 <= 1920.0 && f.bbox.y2 <= 1080.0));
    }

    #[test]
    fn sizes_are_two_numbers() {
        assert_eq!(size("1920x1080"), Ok((1920, 1080)));
        assert!(["1920", "0x5", "axb", "9000x9000"].iter().all(|text| size(text).is_err()));
    }
}
