//! The two sums that all scaling comes to, in plain code; [`super::wide`] has them in wider instructions. Which ones run is found out at
//! run time, and all give the same numbers to the last bit.
//!
//! Code that runs under [`vectorized`] must be inlined into it, or the compiler may not use the wider instructions there: hence
//! `inline(always)`, and no closures that are called from several places.

use std::{hint::black_box, ops::Range};

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};

use super::filter::{FINE, Filter, WINDOW};

/// Values of a blended row for each grey level.
pub(super) const STEPS: i16 = 128;
/// Columns that are blended at once; a broken buffer may lack them whole.
pub(super) const BLOCK: usize = 64;
/// What turns the sums of [`Lanes::four`] into grey levels.
pub(super) const TO_GREY: f32 = 1.0 / (STEPS as i32 * FINE) as f32;

/// Rows of bytes where a decoder left them. What a broken buffer lacks is 0.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// The buffer from the first pixel on.
    pub(super) data: &'a [u8],
    /// From one row to the next.
    pub(super) stride: usize,
}

/// Bytes that come from memory together.
const CACHE_LINE: usize = 64;

impl Rows<'_> {
    /// Reads a byte of each cache line of some rows, in the order of memory: the processor sees that and reads ahead, which it does not
    /// where several rows are blended side by side.
    #[inline(always)]
    pub(super) fn fetch(self, rows: Range<usize>, bytes: usize) {
        let mut any = 0;
        for row in rows {
            let Some(from) = self.data.get(row * self.stride..) else { break };
            for byte in from[..bytes.min(from.len())].iter().step_by(CACHE_LINE) {
                any |= byte;
            }
        }
        black_box(any);
    }
}

/// The sums.
pub(super) trait Lanes: Copy {
    /// Rows from `first` on, each times its weight over 65536 (a single row as it is), in 128ths of a grey level: as many columns as
    /// `out` has.
    fn blend(self, rows: Rows<'_>, first: usize, weights: &[u16], out: &mut [i16]);

    /// Four pixels in grey levels, each the sum of `room` values of a blended row from its start on times its weights.
    fn four(self, row: &[i16], starts: &[u32; 4], weights: &[i16], room: usize) -> [f32; 4];

    /// A blended row at another length, in grey levels. Behind the row lie [`beyond`] values, which count for nothing.
    #[inline(always)]
    fn along(self, filter: &Filter, row: &[i16], out: &mut [f32]) {
        by_fours(self, filter, row, out);
    }
}

/// Values that a row must have behind its last pixel.
pub(super) fn beyond(filter: &Filter) -> usize {
    filter.room.max(WINDOW)
}

/// [`Lanes::along`] by [`Lanes::four`].
#[inline(always)]
pub(super) fn by_fours<L: Lanes>(lanes: L, filter: &Filter, row: &[i16], out: &mut [f32]) {
    // A constant length lets the compiler unroll the sums.
    match filter.room {
        4 => by_fours_of(lanes, filter, row, 4, out),
        8 => by_fours_of(lanes, filter, row, 8, out),
        16 => by_fours_of(lanes, filter, row, 16, out),
        room => by_fours_of(lanes, filter, row, room, out),
    }
}

#[inline(always)]
fn by_fours_of<L: Lanes>(lanes: L, filter: &Filter, row: &[i16], room: usize, out: &mut [f32]) {
    let (fours, rest) = out.as_chunks_mut::<4>();
    let (starts, last) = filter.starts.as_chunks::<4>();
    let weights = filter.fine.chunks_exact(4 * room);
    for ((out, starts), weights) in fours.iter_mut().zip(starts).zip(weights) {
        *out = lanes.four(row, starts, weights, room);
    }
    for (i, (out, start)) in rest.iter_mut().zip(last).enumerate() {
        let weights = &filter.fine[(fours.len() * 4 + i) * room..][..room];
        [*out, ..] = Plain.four(row, &[*start; 4], weights, room);
    }
}

/// Work that is done with whatever the processor has.
pub(super) trait Work {
    /// Does it; must be `inline(always)`.
    fn run<L: Lanes>(self, lanes: L);
}

/// Does work with the widest instructions that the processor has.
pub(super) fn vectorized<W: Work>(work: W) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(v4) = V4::try_new() {
            return v4.vectorize(With(v4, work));
        }
        if let Some(v3) = V3::try_new() {
            return v3.vectorize(With(v3, work));
        }
    }
    work.run(Plain);
}

/// Work with the instructions that do it.
pub(super) struct With<L, W>(pub(super) L, pub(super) W);

#[cfg(target_arch = "x86_64")]
impl<L: Lanes, W: Work> pulp::NullaryFnOnce for With<L, W> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        self.1.run(self.0);
    }
}

/// `N` columns of a row, if it has them.
#[inline(always)]
pub(super) fn chunk<'a, const N: usize>(rows: Rows<'a>, row: usize, column: usize) -> Option<&'a [u8; N]> {
    rows.data.get(row * rows.stride + column..)?.first_chunk()
}

/// Sums of weighted values are rounded down for each row: half a step for each, as far as there is room for it.
#[inline(always)]
pub(super) fn rounding(weights: &[u16]) -> u16 {
    (weights.len() / 2).min(255) as u16
}

/// A single row in 128ths of a grey level.
#[inline(always)]
pub(super) fn single(rows: Rows<'_>, first: usize, out: &mut [i16]) {
    let row = rows.data.get(first * rows.stride..).unwrap_or_default();
    let known = row.len().min(out.len());
    out.iter_mut().zip(row).for_each(|(out, value)| *out = i16::from(*value) * STEPS);
    out[known..].fill(0);
}

#[inline(always)]
pub(super) fn blend_plain<const N: usize>(
    rows: Rows<'_>,
    first: usize,
    weights: &[u16],
    column: usize,
    out: &mut [i16; N],
) {
    let mut sums = [rounding(weights); N];
    for (i, weight) in weights.iter().enumerate() {
        let Some(values) = chunk::<N>(rows, first + i, column) else { continue };
        for (sum, value) in sums.iter_mut().zip(values) {
            // The upper half of the product of 256ths of a grey level and the weight.
            *sum += ((u32::from(*value) * u32::from(*weight)) >> 8) as u16;
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum >> 1) as i16);
}

/// For any processor.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Lanes for Plain {
    #[inline(always)]
    fn blend(self, rows: Rows<'_>, first: usize, weights: &[u16], out: &mut [i16]) {
        if weights.len() == 1 {
            return single(rows, first, out);
        }
        let (chunks, rest) = out.as_chunks_mut::<BLOCK>();
        let begun = chunks.len() * BLOCK;
        for (i, out) in chunks.iter_mut().enumerate() {
            blend_plain::<BLOCK>(rows, first, weights, i * BLOCK, out);
        }
        for (i, out) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
            blend_plain::<1>(rows, first, weights, begun + i, out);
        }
    }

    #[inline(always)]
    fn four(self, row: &[i16], starts: &[u32; 4], weights: &[i16], room: usize) -> [f32; 4] {
        let mut out = [0.0; 4];
        for ((out, start), weights) in out.iter_mut().zip(starts).zip(weights.chunks_exact(room)) {
            let values = &row[*start as usize..*start as usize + room];
            let sum: i32 = values.iter().zip(weights).map(|(v, w)| i32::from(*v) * i32::from(*w)).sum();
            *out = sum as f32 * TO_GREY;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::filter::Filter;

    /// Runs both sums over all columns and keeps what came out.
    struct Both<'a> {
        rows: Rows<'a>,
        vertical: &'a Filter,
        horizontal: &'a Filter,
        width: usize,
        blended: &'a mut Vec<i16>,
        out: &'a mut Vec<f32>,
    }

    impl Work for Both<'_> {
        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) {
            let (first, weights) = self.vertical.coarse(2);
            self.blended.resize(self.width + beyond(self.horizontal), 0);
            lanes.blend(self.rows, first, weights, &mut self.blended[..self.width]);
            self.out.resize(self.horizontal.starts.len(), 0.0);
            lanes.along(self.horizontal, self.blended, self.out);
        }
    }

    #[test]
    fn wide_and_plain_sums_are_the_same_and_near_the_exact_ones() {
        let (width, height, stride) = (203, 40, 210);
        let data: Vec<u8> = (0..stride * height).map(|i| (i * i * 7 + i / 3 * 89) as u8).collect();
        for (rows, columns) in [(40, 200), (20, 140), (13, 68), (7, 20), (80, 404), (3, 4), (30, 77), (21, 203)] {
            let (vertical, horizontal) = (Filter::new(height as u32, rows), Filter::new(width as u32, columns));
            for cut in [stride * height, stride * 25 + 70] {
                let rows = Rows { data: &data[..cut], stride };
                let sums = |run: &dyn Fn(Both<'_>)| {
                    let (mut blended, mut out) = (Vec::new(), Vec::new());
                    let (blended_to, out_to) = (&mut blended, &mut out);
                    let (vertical, horizontal) = (&vertical, &horizontal);
                    run(Both { rows, vertical, horizontal, width, blended: blended_to, out: out_to });
                    (blended, out)
                };
                let plain = sums(&|both| both.run(Plain));
                assert!(sums(&|both| vectorized(both)) == plain, "{columns} columns");
                #[cfg(target_arch = "x86_64")]
                {
                    // What this processor lacks is not tried.
                    let avx2 = V3::try_new().map(|v3| sums(&|both| v3.vectorize(With(v3, both))));
                    assert!(avx2.is_none_or(|avx2| avx2 == plain), "{columns} columns");
                    let avx512 = V4::try_new().map(|v4| sums(&|both| v4.vectorize(With(v4, both))));
                    assert!(avx512.is_none_or(|avx512| avx512 == plain), "{columns} columns");
                }
                let (first, weights) = vertical.coarse(2);
                for (column, value) in plain.0[..width].iter().enumerate() {
                    let at = |i: usize| rows.data.get((first + i) * stride + column).map_or(0.0, |v| f32::from(*v));
                    let single = weights.len() == 1;
                    let share = |w: u16| if single { 1.0 } else { f32::from(w) / 65536.0 };
                    let want: f32 = weights.iter().enumerate().map(|(i, w)| at(i) * share(*w)).sum();
                    // Blocks are left out whole where a buffer ends, so only columns before them are told here.
                    if cut == data.len() || column < 64 {
                        assert!((f32::from(*value) / f32::from(STEPS) - want).abs() < 0.1, "{column}: {value} {want}");
                    }
                }
            }
        }
    }
}
