//! A part of a picture at another size, in one pass: each row that is asked for is blended from the rows of each plane where the decoder
//! left them, scaled along the row, converted to R, G, B and handed on, all of it in the nearest cache. Nothing that is as large as a
//! picture is kept, and a steady stream allocates nothing.

use super::{
    filter::{Filter, Filters},
    lanes::{self, Lanes, Rows, STEPS},
    planes::{Picture, PixelFormat, Plane},
    scale::{Part, ToRgb},
};

/// Takes rows of R, G, B, one after another from the top; values 0 to 255, not rounded.
pub(super) trait Sink {
    /// Takes row `i`; `inline(always)`, so that it is compiled for what the processor has.
    fn row(&mut self, i: usize, rgb: [&[f32]; 3]);
}

/// A plane of the source, or what lies beside each other in one.
#[derive(Clone, Copy)]
struct Source<'a> {
    rows: Rows<'a>,
    width: usize,
    /// Values of a pixel beside each other.
    channels: usize,
    /// Line of its first channel.
    line: usize,
    halved: bool,
}

impl<'a> Source<'a> {
    fn new(plane: Plane<'a>, part: Part, channels: usize, line: usize, halved: bool) -> Self {
        let start = part.y as usize * plane.stride + part.x as usize * channels;
        let rows = Rows { data: plane.data.get(start..).unwrap_or_default(), stride: plane.stride };
        Self { rows, width: part.width as usize, channels, line, halved }
    }
}

/// Filters and lines of pixels, kept from picture to picture.
#[derive(Default)]
pub(super) struct Resampler {
    filters: Filters,
    blended: Vec<i16>,
    split: Vec<i16>,
    lines: [Vec<f32>; 3],
}

impl Resampler {
    /// A part of a picture at a size, row by row. What lies beyond the picture is 0 in every plane.
    pub(super) fn run(&mut self, picture: &Picture, part: Part, size: (u32, u32), sink: impl Sink) {
        let half = part.halved();
        let plane = |i| picture.plane(i);
        let (to_rgb, y) = (Some(ToRgb::new(picture.color())), Source::new(plane(0), part, 1, 0, false));
        match picture.format() {
            PixelFormat::Rgb => self.rgb(plane(0), part, size, sink),
            PixelFormat::I420 => {
                let (u, v) = (Source::new(plane(1), half, 1, 1, true), Source::new(plane(2), half, 1, 2, true));
                self.planes(&[y, u, v], (part, half), size, to_rgb, sink);
            }
            PixelFormat::Nv12 => {
                let uv = Source::new(plane(1), half, 2, 1, true);
                self.planes(&[y, uv], (part, half), size, to_rgb, sink);
            }
        }
    }

    /// A part of packed R, G, B bytes at a size, row by row.
    pub(super) fn rgb(&mut self, plane: Plane<'_>, part: Part, size: (u32, u32), sink: impl Sink) {
        self.planes(&[Source::new(plane, part, 3, 0, false)], (part, part), size, None, sink);
    }

    fn planes(
        &mut self,
        sources: &[Source<'_>],
        (part, half): (Part, Part),
        size: (u32, u32),
        to_rgb: Option<ToRgb>,
        sink: impl Sink,
    ) {
        let found =
            [part, half].map(|part| (self.filters.find(part.width, size.0), self.filters.find(part.height, size.1)));
        let beyond =
            found.iter().map(|(columns, _)| lanes::beyond(self.filters.at(*columns))).max().unwrap_or_default();
        let widest = sources.iter().map(|source| source.width * source.channels).max().unwrap_or_default();
        // Sums may read beyond a row, where weights are 0.
        self.blended.resize(widest + beyond, 0);
        self.split.resize(part.width as usize + beyond, 0);
        self.lines.iter_mut().for_each(|line| line.resize(size.0 as usize, 0.0));
        let Self { filters, blended, split, lines } = self;
        let filters = found.map(|(columns, rows)| (filters.at(columns), filters.at(rows)));
        lanes::vectorized(Pass { filters, blended, split, lines, sources, to_rgb, height: size.1 as usize, sink });
    }
}

struct Pass<'a, 'b, S> {
    /// Along and across, of the picture and of its halved planes.
    filters: [(&'a Filter, &'a Filter); 2],
    blended: &'a mut [i16],
    split: &'a mut [i16],
    lines: &'a mut [Vec<f32>; 3],
    sources: &'a [Source<'b>],
    to_rgb: Option<ToRgb>,
    height: usize,
    sink: S,
}

impl<S: Sink> lanes::Work for Pass<'_, '_, S> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { filters, blended, split, lines, sources, to_rgb, height, mut sink } = self;
        let mut fetched = [0; 3];
        for i in 0..height {
            for (source, fetched) in sources.iter().zip(&mut fetched) {
                let (columns, rows) = filters[usize::from(source.halved)];
                let (first, weights) = rows.coarse(i);
                let (channels, width) = (source.channels, source.width);
                source.rows.fetch(*fetched..first + weights.len(), width * channels);
                *fetched = first + weights.len();
                lanes.blend(source.rows, first, weights, &mut blended[..width * channels]);
                if channels == 1 {
                    along(lanes, columns, blended, &mut lines[source.line]);
                    continue;
                }
                for (channel, line) in lines[source.line..].iter_mut().take(channels).enumerate() {
                    match channels {
                        2 => split_from::<2>(blended, channel, &mut split[..width]),
                        _ => split_from::<3>(blended, channel, &mut split[..width]),
                    }
                    along(lanes, columns, split, line);
                }
            }
            let [r, g, b] = &mut *lines;
            if let Some(to_rgb) = to_rgb {
                to_rgb.lines([r, g, b]);
            }
            sink.row(i, [r, g, b]);
        }
    }
}

/// One of `N` channels that lie beside each other.
#[inline(always)]
fn split_from<const N: usize>(row: &[i16], channel: usize, out: &mut [i16]) {
    out.iter_mut().zip(row.as_chunks::<N>().0).for_each(|(out, pixel)| *out = pixel[channel]);
}

/// A blended row at another length, in grey levels.
#[inline(always)]
fn along<L: Lanes>(lanes: L, filter: &Filter, row: &[i16], out: &mut [f32]) {
    if filter.is_identity() {
        let grey = 1.0 / f32::from(STEPS);
        out.iter_mut().zip(row).for_each(|(out, value)| *out = f32::from(*value) * grey);
    } else {
        lanes.along(filter, row, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{ColorMatrix, made::Made};

    /// Noise; between rows lies 255, which must show nowhere. `cut` takes the padding of the last row away.
    fn noise(format: PixelFormat, (w, h): (u32, u32), padding: usize, cut: bool) -> Picture {
        let mut state = 7u32;
        let mut plane = |w: usize, h: usize| {
            let stride = w + padding;
            let mut data = vec![255u8; stride * h];
            for row in data.chunks_exact_mut(stride) {
                row[..w].iter_mut().for_each(|value| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *value = (state >> 24) as u8;
                });
            }
            data.truncate(if cut { stride * (h - 1) + w } else { stride * h });
            (data, stride)
        };
        let (w, h) = (w as usize, h as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let planes = match format {
            PixelFormat::Rgb => vec![plane(w * 3, h)],
            PixelFormat::Nv12 => vec![plane(w, h), plane(cw * 2, ch)],
            PixelFormat::I420 => vec![plane(w, h), plane(cw, ch), plane(cw, ch)],
        };
        let color = ColorMatrix { bt709: false, full_range: true };
        Picture::new(Made { format, size: (w as u32, h as u32), planes, color })
    }

    struct Keep<'a>(&'a mut Vec<[f32; 3]>);

    impl Sink for Keep<'_> {
        #[inline(always)]
        fn row(&mut self, i: usize, [r, g, b]: [&[f32]; 3]) {
            assert_eq!(self.0.len(), i * r.len());
            self.0.extend(r.iter().zip(g).zip(b).map(|((r, g), b)| [*r, *g, *b]));
        }
    }

    /// One value of a channel as the definition of the filter says, in f64 and from the picture's own bytes.
    fn exact(
        plane: Plane<'_>,
        part: Part,
        (channels, channel): (usize, usize),
        size: (u32, u32),
        at: (u32, u32),
    ) -> f64 {
        let weights = |from: u32, to: u32, i: u32| {
            let scale = f64::from(from) / f64::from(to);
            let (center, wide) = ((f64::from(i) + 0.5) * scale, scale.max(1.0));
            let weight = move |k: u32| (k, (1.0 - (f64::from(k) + 0.5 - center).abs() / wide).max(0.0));
            (0..from).map(weight).filter(|(_, w)| *w > 0.0).collect::<Vec<_>>()
        };
        let (across, down) = (weights(part.width, size.0, at.0), weights(part.height, size.1, at.1));
        let (mut sum, mut total) = (0.0, 0.0);
        for (y, wy) in &down {
            for (x, wx) in &across {
                let index = (part.y + y) as usize * plane.stride + (part.x + x) as usize * channels + channel;
                sum += wy * wx * f64::from(plane.data[index]);
                total += wy * wx;
            }
        }
        sum / total
    }

    fn exact_rgb(picture: &Picture, part: Part, size: (u32, u32), at: (u32, u32)) -> [f32; 3] {
        let of = |index, part, channels| exact(picture.plane(index), part, channels, size, at) as f32;
        let half = part.halved();
        let (u, v) = match picture.format() {
            PixelFormat::Rgb => return [0, 1, 2].map(|c| of(0, part, (3, c))),
            PixelFormat::I420 => (of(1, half, (1, 0)), of(2, half, (1, 0))),
            PixelFormat::Nv12 => (of(1, half, (2, 0)), of(1, half, (2, 1))),
        };
        ToRgb::new(picture.color()).convert(of(0, part, (1, 0)), u, v)
    }

    #[test]
    fn every_format_size_stride_and_part_is_what_the_filter_says() {
        let mut resampler = Resampler::default();
        for format in [PixelFormat::Rgb, PixelFormat::I420, PixelFormat::Nv12] {
            for (full, padding, cut) in [((101, 67), 0, false), ((134, 66), 11, true), ((99, 31), 3, true)] {
                let picture = noise(format, full, padding, cut);
                let whole = Part::whole(&picture);
                let inner = Part { x: 20, y: 8, width: 70, height: 20 };
                let corner = Part { x: full.0 - 33, y: full.1 - 21, width: 33, height: 21 };
                for (part, size) in [
                    (whole, (40, 27)),
                    (whole, (33, 11)),
                    (whole, full),
                    (whole, (full.0, 10)),
                    (whole, (7, full.1)),
                    (whole, (1, 1)),
                    (whole, (150, 90)),
                    (inner, (35, 10)),
                    (inner, (70, 20)),
                    (corner, (13, 9)),
                ] {
                    let mut found = Vec::new();
                    resampler.run(&picture, part, size, Keep(&mut found));
                    assert_eq!(found.len(), (size.0 * size.1) as usize);
                    for (i, found) in found.iter().enumerate() {
                        let at = (i as u32 % size.0, i as u32 / size.0);
                        let want = exact_rgb(&picture, part, size, at);
                        let off = found.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        assert!(off < 0.15, "{format:?} {full:?} {part:?} {size:?} {at:?}: {found:?} {want:?}");
                    }
                }
            }
        }
    }
}
