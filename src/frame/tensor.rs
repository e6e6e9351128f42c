//! Pixels → a network's input, straight into its tensor: rows of R, G, B come from `resample.rs` or [`super::warp`], one at a time,
//! and get their order of channels and normalisation here. All buffers are kept, so a steady stream allocates nothing.

use super::{
    planes::Picture,
    resample::{Resampler, Sink},
    scale::Part,
};

/// How a pixel becomes values of a tensor: `value = (pixel - mean[c]) * scale[c]`, pixel 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Blue first when true, else red.
    pub bgr: bool,
    /// The three values of a pixel beside each other (NHWC) when true, else one plane a channel (NCHW).
    pub interleaved: bool,
    /// Subtracted from each channel, in the tensor's order of channels.
    pub mean: [f32; 3],
    /// Then multiplied.
    pub scale: [f32; 3],
}

impl Recipe {
    /// Mean and scale in the order R, G, B.
    fn by_rgb(&self) -> ([f32; 3], [f32; 3]) {
        let turn = |[a, b, c]: [f32; 3]| if self.bgr { [c, b, a] } else { [a, b, c] };
        (turn(self.mean), turn(self.scale))
    }
}

/// Writes R, G, B values (0 to 255, row by row) into a picture's place of a tensor.
///
/// Nothing is written when the lengths do not agree: both are `3 * width * height` values.
pub fn write_rgb(rgb: &[f32], width: u32, recipe: &Recipe, out: &mut [f32]) {
    let (w, (mean, scale)) = (width as usize, recipe.by_rgb());
    if rgb.len() != out.len() || w == 0 || !rgb.len().is_multiple_of(3 * w) {
        return;
    }
    let n = rgb.len() / 3;
    for (i, pixel) in rgb.as_chunks::<3>().0.iter().enumerate() {
        for c in 0..3 {
            let channel = if recipe.bgr { 2 - c } else { c };
            let place = if recipe.interleaved { i * 3 + channel } else { channel * n + i };
            out[place] = (pixel[c] - mean[c]) * scale[c];
        }
    }
}

/// Turns every row of a picture in its place of a tensor around: what was written becomes its mirror image.
pub fn mirror(values: &mut [f32], width: u32, recipe: &Recipe) {
    let w = width as usize;
    if w == 0 {
        return;
    }
    if recipe.interleaved {
        values.chunks_exact_mut(3 * w).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
    } else {
        values.chunks_exact_mut(w).for_each(<[f32]>::reverse);
    }
}

/// Scales and converts pictures; one for each worker, with its buffers.
#[derive(Default)]
pub struct Scaler(Resampler);

impl Scaler {
    /// A part of a picture, scaled to `width` x `height`, into its place of a tensor: `3 * width * height` values. What lies beyond
    /// the picture is 0 in every plane. Values are not rounded to whole grey levels.
    ///
    /// Nothing is written when `out` has another length.
    pub fn fill(
        &mut self,
        picture: &Picture,
        part: Part,
        (width, height): (u32, u32),
        recipe: &Recipe,
        out: &mut [f32],
    ) {
        if let Some(place) = Place::new(out, (width, height), recipe) {
            self.0.run(picture, part, (width, height), place);
        }
    }
}

/// A picture's place in a tensor: takes rows from top to bottom.
pub(super) struct Place<'a> {
    planes: [&'a mut [f32]; 3],
    width: usize,
    interleaved: bool,
    /// Blue first in an interleaved place.
    turn: bool,
    mean: [f32; 3],
    scale: [f32; 3],
}

impl<'a> Place<'a> {
    /// `None` when there are not `3 * width * height` values, or none.
    pub(super) fn new(out: &'a mut [f32], (width, height): (u32, u32), recipe: &Recipe) -> Option<Self> {
        let n = width as usize * height as usize;
        if n == 0 || out.len() != 3 * n {
            return None;
        }
        let (mean, scale) = recipe.by_rgb();
        let planes = if recipe.interleaved {
            [out, &mut [], &mut []]
        } else {
            let (first, rest) = out.split_at_mut(n);
            let (second, third) = rest.split_at_mut(n);
            if recipe.bgr { [third, second, first] } else { [first, second, third] }
        };
        let turn = recipe.interleaved && recipe.bgr;
        Some(Self { planes, width: width as usize, interleaved: recipe.interleaved, turn, mean, scale })
    }
}

impl Sink for Place<'_> {
    #[inline(always)]
    fn row(&mut self, i: usize, rgb: [&[f32]; 3]) {
        let (w, mean, scale) = (self.width, self.mean, self.scale);
        if !self.interleaved {
            for (((plane, line), mean), scale) in self.planes.iter_mut().zip(rgb).zip(mean).zip(scale) {
                let row = &mut plane[i * w..(i + 1) * w];
                row.iter_mut().zip(line).for_each(|(out, value)| *out = (value - mean) * scale);
            }
            return;
        }
        let row = &mut self.planes[0][i * 3 * w..(i + 1) * 3 * w];
        let [a, b, c] = if self.turn { [2, 1, 0] } else { [0, 1, 2] };
        for (((pixel, r), g), bl) in row.as_chunks_mut::<3>().0.iter_mut().zip(rgb[0]).zip(rgb[1]).zip(rgb[2]) {
            let values = [(r - mean[0]) * scale[0], (g - mean[1]) * scale[1], (bl - mean[2]) * scale[2]];
            *pixel = [values[a], values[b], values[c]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{
        PixelFormat,
        made::{BT709, Made},
        scale,
    };

    /// Waves in every plane; between rows lies 255, which must show nowhere. `cut` takes the last row's padding away.
    fn wavy(format: PixelFormat, (w, h): (u32, u32), cut: bool) -> Picture {
        let (cw, ch) = (w.div_ceil(2) as usize, h.div_ceil(2) as usize);
        let plane = |w: usize, h: usize, step: usize, phase: f32| {
            let stride = w + 14 + w % 2;
            let mut data = vec![255; stride * h];
            for (y, row) in data.chunks_exact_mut(stride).enumerate() {
                for (x, v) in row[..w].iter_mut().enumerate() {
                    let wave = ((x / step) as f32 * 0.21 + phase + (x % step) as f32).sin() + (y as f32 * 0.17).cos();
                    *v = (126.0 + 50.0 * wave) as u8;
                }
            }
            data.truncate(if cut { stride * (h - 1) + w } else { stride * h });
            (data, stride)
        };
        let luma = plane(w as usize, h as usize, 1, 0.0);
        let planes = match format {
            PixelFormat::Nv12 => vec![luma, plane(2 * cw, ch, 2, 1.0)],
            _ => vec![luma, plane(cw, ch, 1, 1.0), plane(cw, ch, 1, 2.0)],
        };
        Picture::new(Made { format, size: (w, h), planes, color: BT709 })
    }

    fn recipe(bgr: bool, interleaved: bool) -> Recipe {
        Recipe { bgr, interleaved, mean: [104.0, 117.0, 123.0], scale: [1.0, 0.5, 2.0] }
    }

    /// What the pass must come to: the scaled RGB picture, written value by value.
    fn slowly(picture: &Picture, part: Part, (w, h): (u32, u32), recipe: &Recipe) -> Vec<f32> {
        let rgb: Vec<f32> = scale::rgb_of(picture, part, w, h).as_raw().iter().map(|v| f32::from(*v)).collect();
        let mut out = vec![0.0; rgb.len()];
        write_rgb(&rgb, w, recipe, &mut out);
        out
    }

    #[test]
    fn the_one_pass_is_within_half_a_grey_level_of_the_steps_one_by_one() {
        let mut scaler = Scaler::default();
        let rgb = Picture::from_rgb(image::RgbImage::from_fn(101, 67, |x, y| image::Rgb([x as u8, y as u8, 99])));
        let mut pictures = vec![rgb];
        for format in [PixelFormat::I420, PixelFormat::Nv12] {
            pictures.extend([wavy(format, (101, 67), false), wavy(format, (96, 64), true)]);
        }
        for picture in &pictures {
            let whole = Part::whole(picture);
            let corner = Part { x: 20, y: 10, width: 64, height: 40 };
            for (part, size) in
                [(whole, (40, 27)), (whole, (whole.width, whole.height)), (corner, (32, 20)), (corner, (64, 40))]
            {
                for (bgr, interleaved) in [(true, false), (false, false), (true, true), (false, true)] {
                    let recipe = recipe(bgr, interleaved);
                    let mut out = vec![f32::NAN; (size.0 * size.1 * 3) as usize];
                    scaler.fill(picture, part, size, &recipe, &mut out);
                    let want = slowly(picture, part, size, &recipe);
                    let off = out.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(off <= 0.501 * 2.0, "{:?} {part:?} {size:?} {recipe:?}: {off}", picture.format());
                }
            }
        }
    }

    #[test]
    fn what_lies_between_rows_shows_nowhere() {
        for cut in [false, true] {
            let grey = |w: usize, h: usize| {
                let mut data = vec![255; 32 * h];
                data.chunks_exact_mut(32).for_each(|row| row[..w].fill(128));
                data.truncate(if cut { 32 * (h - 1) + w } else { 32 * h });
                (data, 32)
            };
            let planes = vec![grey(18, 12), grey(9, 6), grey(9, 6)];
            let picture = Picture::new(Made { format: PixelFormat::I420, size: (18, 12), planes, color: BT709 });
            let recipe = Recipe { bgr: false, interleaved: false, mean: [0.0; 3], scale: [1.0; 3] };
            let mut out = vec![0.0; 6 * 4 * 3];
            Scaler::default().fill(&picture, Part::whole(&picture), (6, 4), &recipe, &mut out);
            assert!(out.iter().all(|v| (v - 130.4).abs() < 0.5), "{out:?}");
        }
    }

    #[test]
    fn a_broken_buffer_and_a_wrong_length_do_no_harm() {
        let planes = vec![(vec![200; 10], 18), (vec![], 9), (vec![7; 3], 0)];
        let picture = Picture::new(Made { format: PixelFormat::I420, size: (18, 12), planes, color: BT709 });
        for size in [(6, 4), (18, 12)] {
            let mut out = vec![f32::NAN; (size.0 * size.1 * 3) as usize];
            Scaler::default().fill(&picture, Part::whole(&picture), size, &recipe(true, false), &mut out);
            assert!(out.iter().all(|v| v.is_finite()));
        }
        let mut short = vec![5.0; 7];
        Scaler::default().fill(&picture, Part::whole(&picture), (6, 4), &recipe(true, false), &mut short);
        write_rgb(&[1.0; 12], 2, &recipe(true, false), &mut short);
        assert_eq!(short, [5.0; 7]);
    }

    #[test]
    fn values_go_where_the_recipe_says_and_mirrored_rows_run_backwards() {
        let rgb = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let mut recipe = Recipe { bgr: true, interleaved: false, mean: [1.0, 2.0, 3.0], scale: [1.0, 1.0, 0.5] };
        let mut out = [0.0; 6];
        write_rgb(&rgb, 2, &recipe, &mut out);
        assert_eq!(out, [29.0, 59.0, 18.0, 48.0, 3.5, 18.5]);
        mirror(&mut out, 2, &recipe);
        assert_eq!(out, [59.0, 29.0, 48.0, 18.0, 18.5, 3.5]);
        (recipe.interleaved, recipe.bgr) = (true, false);
        write_rgb(&rgb, 2, &recipe, &mut out);
        assert_eq!(out, [9.0, 18.0, 13.5, 39.0, 48.0, 28.5]);
        mirror(&mut out, 2, &recipe);
        assert_eq!(out, [39.0, 48.0, 28.5, 9.0, 18.0, 13.5]);
    }
}
