//! Faces cut out of full-resolution planes: a similarity transform, row by row of the crop, straight into a network's tensor.
//!
//! Pixels whose samples all lie inside the picture, nearly all of a face, are made in three loops over a row that ask for no border:
//! where the samples lie, their four neighbours, their mean by distance. Others ask for each sample.

use std::ops::Range;

use super::{
    Point, Similarity,
    lanes::{self, Lanes},
    planes::{Picture, PixelFormat, Plane},
    resample::Sink,
    scale::ToRgb,
    tensor::{Place, Recipe},
};

/// Most samples of a crop's pixel in each direction.
const MOST_SAMPLES: u32 = 8;

/// Cuts crops out of pictures; one for each worker, with its buffers.
#[derive(Default)]
pub struct Warper {
    lines: [Vec<f32>; 3],
    samples: Samples,
}

impl Warper {
    /// A crop of `width` x `height` pixels into its place of a tensor, `3 * width * height` values; `to_crop` maps picture points to
    /// crop points. Values are whole grey levels where `whole` is true.
    ///
    /// Bilinear, black beyond the border, as `cv2.warpAffine` does it. Where the crop shrinks the face by more than two, each pixel is
    /// the mean of several samples, so that nothing aliases; of chroma, which is half as fine, of half as many.
    ///
    /// `false`, and nothing is written, when the transform is degenerate or `out` has another length.
    pub fn fill(
        &mut self,
        picture: &Picture,
        to_crop: &Similarity,
        size: (u32, u32),
        recipe: &Recipe,
        whole: bool,
        out: &mut [f32],
    ) -> bool {
        let (Some(to_picture), Some(place)) = (to_crop.inverse(), Place::new(out, size, recipe)) else { return false };
        self.lines.iter_mut().for_each(|line| line.resize(size.0 as usize, 0.0));
        self.samples.resize(size.0 as usize);
        let sampler = Sampler::new(picture);
        lanes::vectorized(Pass { warper: self, sampler, to_picture, height: size.1, whole, place });
        true
    }
}

struct Pass<'a, 'b, 'c> {
    warper: &'a mut Warper,
    sampler: Sampler<'b>,
    to_picture: Similarity,
    height: u32,
    whole: bool,
    place: Place<'c>,
}

impl lanes::Work for Pass<'_, '_, '_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self, _: L) {
        let Warper { lines, samples } = self.warper;
        let width = lines[0].len();
        let shrink = self.to_picture.scale();
        let n = if shrink > 2.0 { (shrink.ceil() as u32).min(MOST_SAMPLES) } else { 1 };
        for v in 0..self.height {
            let inside = self.sampler.span(&self.to_picture, width, v);
            self.sampler.anywhere(&self.to_picture, v, 0..inside.start, n, lines);
            self.sampler.inside(&self.to_picture, v, inside.clone(), n, samples, lines);
            self.sampler.anywhere(&self.to_picture, v, inside.end..width, n, lines);
            if self.whole {
                // Values are 0 to 255: half up is what `round` does.
                lines.iter_mut().for_each(|line| line.iter_mut().for_each(|v| *v = (*v + 0.5) as i32 as f32));
            }
            let [r, g, b] = &*lines;
            self.place.row(v as usize, [r, g, b]);
        }
    }
}

/// Where the samples of a row lie in a plane, and what was read there.
#[derive(Default)]
struct Samples {
    /// Place of the upper left neighbour.
    places: Vec<u32>,
    /// Distance from it, 0 to 1.
    across: Vec<f32>,
    down: Vec<f32>,
    /// The four neighbours, a byte each: upper left first, then upper right.
    read: Vec<u32>,
}

impl Samples {
    fn resize(&mut self, width: usize) {
        self.places.resize(width, 0);
        self.across.resize(width, 0.0);
        self.down.resize(width, 0.0);
        self.read.resize(width, 0);
    }

    /// `count` samples from `first` on, each `step` further, all inside a plane.
    #[inline(always)]
    fn lay(&mut self, count: usize, first: Point, step: Point, stride: u32, bytes: u32) {
        let places = self.places[..count].iter_mut().zip(&mut self.across[..count]).zip(&mut self.down[..count]);
        for (i, ((place, across), down)) in places.enumerate() {
            let (x, y) = (first.x + i as i32 as f32 * step.x, first.y + i as i32 as f32 * step.y);
            let (left, top) = (x as i32, y as i32);
            (*across, *down) = (x - left as f32, y - top as f32);
            *place = (top as u32).wrapping_mul(stride).wrapping_add((left as u32).wrapping_mul(bytes));
        }
    }

    /// Adds the samples of one channel of a plane whose pixels are `N` bytes wide, times `weight`.
    #[inline(always)]
    fn add<const N: usize>(&mut self, plane: Plane<'_>, channel: usize, weight: f32, out: &mut [f32]) {
        for (read, place) in self.read.iter_mut().zip(&self.places).take(out.len()) {
            let above = *place as usize + channel;
            let below = above + plane.stride;
            // Inside by construction; a question that is never answered with no costs next to nothing.
            let rows = (plane.data.get(above..=above + N), plane.data.get(below..=below + N));
            let (Some(a), Some(b)) = rows else { continue };
            *read = u32::from_le_bytes([a[0], a[N], b[0], b[N]]);
        }
        for (((out, read), across), down) in out.iter_mut().zip(&self.read).zip(&self.across).zip(&self.down) {
            let byte = |i: u32| ((read >> (8 * i)) & 255) as i32 as f32;
            let above = byte(0) + (byte(1) - byte(0)) * across;
            let below = byte(2) + (byte(3) - byte(2)) * across;
            *out += (above + (below - above) * down) * weight;
        }
    }
}

/// Samples a picture at real coordinates; integers are pixel centres, outside is black.
struct Sampler<'a> {
    planes: [Plane<'a>; 3],
    format: PixelFormat,
    size: (u32, u32),
    to_rgb: ToRgb,
    /// Whether all planes have all of their rows, and places in them are numbers of 31 bits.
    complete: bool,
}

impl<'a> Sampler<'a> {
    fn new(picture: &'a Picture) -> Self {
        let format = picture.format();
        let second = if format == PixelFormat::Rgb { 0 } else { 1 };
        let third = if format == PixelFormat::I420 { 2 } else { second };
        let planes = [picture.plane(0), picture.plane(second), picture.plane(third)];
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let used = match format {
            PixelFormat::Rgb => [(3 * w, h); 3],
            PixelFormat::I420 => [(w, h), (cw, ch), (cw, ch)],
            PixelFormat::Nv12 => [(w, h), (2 * cw, ch), (2 * cw, ch)],
        };
        let complete = planes.iter().zip(used).all(|(plane, (row, rows))| {
            let least = plane.stride.checked_mul(rows.saturating_sub(1)).and_then(|n| n.checked_add(row));
            plane.stride >= row && least.is_some_and(|n| n <= plane.data.len() && n <= i32::MAX as usize)
        });
        let size = (picture.width(), picture.height());
        Self { planes, format, size, to_rgb: ToRgb::new(picture.color()), complete }
    }

    /// The pixels of row `v` whose samples all lie inside, with a pixel to spare, in every plane.
    #[inline(always)]
    fn span(&self, to_picture: &Similarity, width: usize, v: u32) -> Range<usize> {
        let mut span = (0.0, if self.complete { width as f32 } else { 0.0 });
        let begin = to_picture.apply(Point::new(0.0, v as f32));
        // How far samples lie from the pixel's own place.
        let spread = (to_picture.a.abs() + to_picture.b.abs()) / 2.0;
        for (at, step, edge) in [(begin.x, to_picture.a, self.size.0), (begin.y, to_picture.b, self.size.1)] {
            let (least, most) = (1.0 + spread, edge as f32 - 3.0 - spread);
            if step.abs() < 1e-6 {
                if !(least..=most).contains(&at) {
                    return 0..0;
                }
                continue;
            }
            let (a, b) = ((least - at) / step, (most - at) / step);
            span = (f32::max(span.0, a.min(b)), f32::min(span.1, a.max(b) + 1.0));
        }
        let (first, last) = (span.0.ceil(), span.1.floor());
        // Asked this way round, what is no number is nowhere.
        if first < last { first as usize..last as usize } else { 0..0 }
    }

    /// Pixels of a row that have all of their samples inside.
    #[inline(always)]
    fn inside(
        &self,
        to_picture: &Similarity,
        v: u32,
        span: Range<usize>,
        n: u32,
        samples: &mut Samples,
        [first, second, third]: &mut [Vec<f32>; 3],
    ) {
        let (first, second, third) = (&mut first[span.clone()], &mut second[span.clone()], &mut third[span.clone()]);
        first.fill(0.0);
        second.fill(0.0);
        third.fill(0.0);
        let (step, begin) = (Point::new(to_picture.a, to_picture.b), span.start as f32);
        let [y, u, w] = self.planes;
        let weight = 1.0 / (n * n) as f32;
        for k in 0..n * n {
            let p = to_picture.apply(Point::new(begin + offset(k % n, n), v as f32 + offset(k / n, n)));
            if self.format == PixelFormat::Rgb {
                samples.lay(first.len(), p, step, y.stride as u32, 3);
                samples.add::<3>(y, 0, weight, first);
                samples.add::<3>(y, 1, weight, second);
                samples.add::<3>(y, 2, weight, third);
            } else {
                samples.lay(first.len(), p, step, y.stride as u32, 1);
                samples.add::<1>(y, 0, weight, first);
            }
        }
        if self.format == PixelFormat::Rgb {
            return;
        }
        let n = n.div_ceil(2);
        let weight = 1.0 / (n * n) as f32;
        let step = Point::new(step.x / 2.0, step.y / 2.0);
        for k in 0..n * n {
            let p = to_picture.apply(Point::new(begin + offset(k % n, n), v as f32 + offset(k / n, n)));
            let p = chroma(p.x, p.y);
            if self.format == PixelFormat::I420 {
                samples.lay(first.len(), p, step, u.stride as u32, 1);
                samples.add::<1>(u, 0, weight, second);
                if u.stride != w.stride {
                    samples.lay(first.len(), p, step, w.stride as u32, 1);
                }
                samples.add::<1>(w, 0, weight, third);
            } else {
                samples.lay(first.len(), p, step, u.stride as u32, 2);
                samples.add::<2>(u, 0, weight, second);
                samples.add::<2>(u, 1, weight, third);
            }
        }
        self.to_rgb.lines([first, second, third]);
    }

    /// Pixels of a row of which some samples may lie beyond the border.
    fn anywhere(&self, to_picture: &Similarity, v: u32, span: Range<usize>, n: u32, lines: &mut [Vec<f32>; 3]) {
        let weight = 1.0 / (n * n) as f32;
        for u in span {
            let mut sum = [0f32; 3];
            for k in 0..n * n {
                let at = Point::new(u as f32 + offset(k % n, n), v as f32 + offset(k / n, n));
                let p = to_picture.apply(at);
                sum.iter_mut().zip(self.rgb(p.x, p.y)).for_each(|(s, c)| *s += c * weight);
            }
            lines.iter_mut().zip(sum).for_each(|(line, sum)| line[u] = sum);
        }
    }

    /// One channel, bilinear; `outside` is the value beyond the border.
    fn at(&self, plane: usize, (step, offset): (usize, usize), size: (u32, u32), x: f32, y: f32, outside: f32) -> f32 {
        let p = &self.planes[plane];
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let get = |xi: f32, yi: f32| -> f32 {
            if xi < 0.0 || yi < 0.0 || xi >= size.0 as f32 || yi >= size.1 as f32 {
                return outside;
            }
            let index = yi as usize * p.stride + xi as usize * step + offset;
            p.data.get(index).map_or(outside, |v| f32::from(*v))
        };
        let top = get(x0, y0) * (1.0 - fx) + get(x0 + 1.0, y0) * fx;
        let bottom = get(x0, y0 + 1.0) * (1.0 - fx) + get(x0 + 1.0, y0 + 1.0) * fx;
        top * (1.0 - fy) + bottom * fy
    }

    fn rgb(&self, x: f32, y: f32) -> [f32; 3] {
        let touched = x > -1.0 && y > -1.0 && x < self.size.0 as f32 && y < self.size.1 as f32;
        if !touched {
            return [0.0; 3];
        }
        if self.format == PixelFormat::Rgb {
            return [0, 1, 2].map(|c| self.at(0, (3, c), self.size, x, y, 0.0));
        }
        let half = (self.size.0.div_ceil(2), self.size.1.div_ceil(2));
        // The border repeats.
        let Point { x: cx, y: cy } = chroma(x, y);
        let (cx, cy) = (cx.clamp(0.0, half.0 as f32 - 1.0), cy.clamp(0.0, half.1 as f32 - 1.0));
        let luma = self.at(0, (1, 0), self.size, x, y, 16.0);
        let (u, v) = if self.format == PixelFormat::I420 {
            (self.at(1, (1, 0), half, cx, cy, 128.0), self.at(2, (1, 0), half, cx, cy, 128.0))
        } else {
            (self.at(1, (2, 0), half, cx, cy, 128.0), self.at(1, (2, 1), half, cx, cy, 128.0))
        };
        self.to_rgb.convert(luma, u, v)
    }
}

/// Where sample `i` of `n` lies in a pixel, from its centre.
#[inline(always)]
fn offset(i: u32, n: u32) -> f32 {
    (i as f32 + 0.5) / n as f32 - 0.5
}

/// A point in the halved planes: chroma is sited between two rows and, as MPEG-2 does, on every second column.
#[inline(always)]
fn chroma(x: f32, y: f32) -> Point {
    Point::new(x / 2.0, (y - 0.5) / 2.0)
}

#[cfg(test)]
#[path = "warp_tests.rs"]
mod tests;
