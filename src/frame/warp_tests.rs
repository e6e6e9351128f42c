use super::*;
use crate::frame::{
    crop::PLAIN,
    made::{BT709, Made},
};

const SIZE: (usize, usize) = (161, 123);

/// Waves about grey, so that no colour leaves its range; each plane has a stride of its own.
fn waves(format: PixelFormat) -> Made {
    let plane = |w: usize, h: usize, bytes: usize, padding: usize, phase: f32| {
        let stride = w * bytes + padding;
        let mut data = vec![255u8; stride * (h - 1) + w * bytes];
        for y in 0..h {
            for x in 0..w * bytes {
                let wave = ((x / bytes) as f32 * 0.13 + phase + (x % bytes) as f32).sin() + (y as f32 * 0.11).cos();
                data[y * stride + x] = (128.0 + 12.0 * wave) as u8;
            }
        }
        (data, stride)
    };
    let ((w, h), (cw, ch)) = (SIZE, (SIZE.0.div_ceil(2), SIZE.1.div_ceil(2)));
    let planes = match format {
        PixelFormat::Rgb => vec![plane(w, h, 3, 5, 0.0)],
        PixelFormat::Nv12 => vec![plane(w, h, 1, 7, 0.0), plane(cw, ch, 2, 3, 1.0)],
        PixelFormat::I420 => vec![plane(w, h, 1, 7, 0.0), plane(cw, ch, 1, 4, 1.0), plane(cw, ch, 1, 9, 2.0)],
    };
    Made { format, size: (w as u32, h as u32), planes, color: BT709 }
}

fn turned(scale: f32, angle: f32, (x, y): (f32, f32)) -> Similarity {
    let (a, b) = (scale * angle.cos(), scale * angle.sin());
    // The picture's point x, y comes to 16, 12 in the crop.
    Similarity { a, b, tx: 16.0 - (a * x - b * y), ty: 12.0 - (b * x + a * y) }
}

/// Sample by sample.
fn slowly(picture: &Picture, to_crop: &Similarity, (width, height): (u32, u32)) -> Vec<f32> {
    let (sampler, to_picture) = (Sampler::new(picture), to_crop.inverse().unwrap());
    let shrink = to_picture.scale();
    let n = if shrink > 2.0 { (shrink.ceil() as u32).min(MOST_SAMPLES) } else { 1 };
    let mut lines = [0, 1, 2].map(|_| vec![0.0; width as usize]);
    let mut out = Vec::new();
    for v in 0..height {
        sampler.anywhere(&to_picture, v, 0..width as usize, n, &mut lines);
        (0..width as usize).for_each(|u| out.extend([lines[0][u], lines[1][u], lines[2][u]]));
    }
    out
}

#[test]
fn rows_inside_are_what_the_samples_one_by_one_are() {
    let mut warper = Warper::default();
    for format in [PixelFormat::Rgb, PixelFormat::I420, PixelFormat::Nv12] {
        let picture = Picture::new(waves(format));
        for (scale, angle, at, inside) in [
            (1.0, 0.0, (80.0, 60.0), true),
            (0.9, 0.4, (80.3, 60.7), true),
            (3.1, -2.0, (40.0, 40.0), true),
            (0.31, 0.2, (82.0, 61.0), true),
            (0.31, 0.2, (30.0, 20.0), false),
            (1.0, 1.0, (3.0, 119.0), false),
            (1.0, -1.0, (155.0, 5.0), false),
            (0.8, 0.0, (150.0, 60.0), false),
            (1.0, 0.0, (-500.0, 60.0), false),
            (0.1, 0.0, (80.0, 60.0), false),
        ] {
            let to_crop = turned(scale, angle, at);
            let (size, to_picture) = ((33, 25), to_crop.inverse().unwrap());
            let sampler = Sampler::new(&picture);
            assert_eq!((0..25).all(|v| sampler.span(&to_picture, 33, v) == (0..33)), inside);
            let mut out = vec![f32::NAN; 33 * 25 * 3];
            assert!(warper.fill(&picture, &to_crop, size, &PLAIN, false, &mut out));
            let want = slowly(&picture, &to_crop, size);
            let off = out.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Fewer samples of chroma are another mean of it.
            let most = if scale < 0.5 { 0.6 } else { 0.02 };
            assert!(off < most, "{format:?} {scale} {angle} {at:?}: {off}");
            let mut whole = out.clone();
            warper.fill(&picture, &to_crop, size, &PLAIN, true, &mut whole);
            assert!(whole.iter().zip(&out).all(|(whole, v)| *whole == v.round()));
        }
    }
}

#[test]
fn a_broken_buffer_is_black_or_grey_and_harmless() {
    for format in [PixelFormat::Rgb, PixelFormat::I420, PixelFormat::Nv12] {
        for cut in [0, 1, 700] {
            let mut planes = waves(format);
            planes.planes.iter_mut().for_each(|(data, _)| data.truncate(cut));
            let mut out = vec![f32::NAN; 33 * 25 * 3];
            let to_crop = turned(1.0, 0.3, (80.0, 60.0));
            assert!(Warper::default().fill(&Picture::new(planes), &to_crop, (33, 25), &PLAIN, true, &mut out));
            assert!(out.iter().all(|v| (0.0..=255.0).contains(v)));
        }
    }
}

#[test]
fn nothing_is_written_where_it_can_not_be() {
    let picture = Picture::new(waves(PixelFormat::I420));
    let degenerate = Similarity { a: 0.0, b: 0.0, tx: 0.0, ty: 0.0 };
    let mut out = vec![7.0; 12];
    assert!(!Warper::default().fill(&picture, &degenerate, (2, 2), &PLAIN, false, &mut out));
    assert!(!Warper::default().fill(&picture, &turned(1.0, 0.0, (9.0, 9.0)), (3, 2), &PLAIN, false, &mut out));
    assert_eq!(out, [7.0; 12]);
}
