//! The two sums that all scaling comes to, in plain code and in AVX2; which one runs is found out at run time. `pulp` wraps the
//! instructions, so nothing here is unsafe. Both give the same numbers to the last bit.
//!
//! Code that runs under [`vectorized`] must be inlined into it, or the compiler may not use the wider instructions there: hence
//! `inline(always)`, and no closures that are called from several places.

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

use super::filter::FINE;

/// Values of a blended row for each grey level.
pub(super) const STEPS: i16 = 128;
/// Columns that are blended at once; a broken buffer may lack them whole.
const BLOCK: usize = 64;
/// What turns the sums of [`Lanes::four`] into grey levels.
const TO_GREY: f32 = 1.0 / (STEPS as i32 * FINE) as f32;

/// Rows of bytes where a decoder left them. What a broken buffer lacks is 0.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// The buffer from the first pixel on.
    pub(super) data: &'a [u8],
    /// From one row to the next.
    pub(super) stride: usize,
}

/// The sums.
pub(super) trait Lanes: Copy {
    /// Rows from `first` on, each times its weight over 65536 (a single row as it is), in 128ths of a grey level: as many columns as
    /// `out` has.
    fn blend(self, rows: Rows<'_>, first: usize, weights: &[u16], out: &mut [i16]);

    /// Four pixels in grey levels, each the sum of `room` values of a blended row from its start on times its weights.
    fn four(self, row: &[i16], starts: &[u32; 4], weights: &[i16], room: usize) -> [f32; 4];
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
        struct Wide<W>(V3, W);
        impl<W: Work> pulp::NullaryFnOnce for Wide<W> {
            type Output = ();
            #[inline(always)]
            fn call(self) {
                self.1.run(self.0);
            }
        }
        if let Some(v3) = V3::try_new() {
            return v3.vectorize(Wide(v3, work));
        }
    }
    work.run(Plain);
}

/// `N` columns of a row, if it has them.
#[inline(always)]
fn chunk<'a, const N: usize>(rows: Rows<'a>, row: usize, column: usize) -> Option<&'a [u8; N]> {
    rows.data.get(row * rows.stride + column..)?.first_chunk()
}

/// Sums of weighted values are rounded down for each row: half a step for each, as far as there is room for it.
#[inline(always)]
fn rounding(weights: &[u16]) -> u16 {
    (weights.len() / 2).min(255) as u16
}

/// A single row in 128ths of a grey level.
#[inline(always)]
fn single(rows: Rows<'_>, first: usize, out: &mut [i16]) {
    let row = rows.data.get(first * rows.stride..).unwrap_or_default();
    let known = row.len().min(out.len());
    out.iter_mut().zip(row).for_each(|(out, value)| *out = i16::from(*value) * STEPS);
    out[known..].fill(0);
}

#[inline(always)]
fn blend_plain<const N: usize>(rows: Rows<'_>, first: usize, weights: &[u16], column: usize, out: &mut [i16; N]) {
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

/// AVX2.
#[cfg(target_arch = "x86_64")]
impl Lanes for V3 {
    #[inline(always)]
    fn blend(self, rows: Rows<'_>, first: usize, weights: &[u16], out: &mut [i16]) {
        if weights.len() == 1 {
            return single(rows, first, out);
        }
        let (chunks, rest) = out.as_chunks_mut::<BLOCK>();
        let begun = chunks.len() * BLOCK;
        for (i, out) in chunks.iter_mut().enumerate() {
            let mut sums = [self.avx._mm256_set1_epi16(rounding(weights) as i16); 4];
            for (k, weight) in weights.iter().enumerate() {
                let Some(values) = chunk::<BLOCK>(rows, first + k, i * BLOCK) else { continue };
                let weight = self.avx._mm256_set1_epi16(*weight as i16);
                for (sum, values) in sums.iter_mut().zip(values.as_chunks::<16>().0) {
                    let wide = self.avx2._mm256_cvtepu8_epi16(pulp::cast(*values));
                    let product = self.avx2._mm256_mulhi_epu16(self.avx2._mm256_slli_epi16::<8>(wide), weight);
                    *sum = self.avx2._mm256_add_epi16(*sum, product);
                }
            }
            for (out, sum) in out.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                *out = pulp::cast(self.avx2._mm256_srli_epi16::<1>(sum));
            }
        }
        for (i, out) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
            blend_plain::<1>(rows, first, weights, begun + i, out);
        }
    }

    #[inline(always)]
    fn four(self, row: &[i16], starts: &[u32; 4], weights: &[i16], room: usize) -> [f32; 4] {
        let v = self.sse2;
        let sum = if room == 4 {
            // Two pixels share a register.
            let [a, b] = pair(row, starts[0], starts[1], &weights[..8]);
            let [c, d] = pair(row, starts[2], starts[3], &weights[8..16]);
            self.ssse3._mm_hadd_epi32(
                v._mm_madd_epi16(pulp::cast(a), pulp::cast(b)),
                v._mm_madd_epi16(pulp::cast(c), pulp::cast(d)),
            )
        } else {
            let a = products(self, row, starts[0], &weights[..room]);
            let b = products(self, row, starts[1], &weights[room..2 * room]);
            let c = products(self, row, starts[2], &weights[2 * room..3 * room]);
            let d = products(self, row, starts[3], &weights[3 * room..4 * room]);
            self.ssse3._mm_hadd_epi32(self.ssse3._mm_hadd_epi32(a, b), self.ssse3._mm_hadd_epi32(c, d))
        };
        pulp::cast(self.sse._mm_mul_ps(v._mm_cvtepi32_ps(sum), self.sse._mm_set1_ps(TO_GREY)))
    }
}

/// Four values of each of two pixels, and their weights.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pair(row: &[i16], first: u32, second: u32, weights: &[i16]) -> [[i16; 8]; 2] {
    let (a, b) = (&row[first as usize..first as usize + 4], &row[second as usize..second as usize + 4]);
    let values = [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]];
    let w = &weights[..8];
    [values, [w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]]
}

/// Four partial sums of a pixel.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn products(v3: V3, row: &[i16], start: u32, weights: &[i16]) -> std::arch::x86_64::__m128i {
    let v = v3.sse2;
    let values = &row[start as usize..start as usize + weights.len()];
    let mut sum = v._mm_setzero_si128();
    for (values, weights) in values.as_chunks::<8>().0.iter().zip(weights.as_chunks::<8>().0) {
        sum = v._mm_add_epi32(sum, v._mm_madd_epi16(pulp::cast(*values), pulp::cast(*weights)));
    }
    sum
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
            self.blended.resize(self.width + self.horizontal.room, 0);
            lanes.blend(self.rows, first, weights, &mut self.blended[..self.width]);
            let room = self.horizontal.room;
            let weights = self.horizontal.fine.chunks_exact(4 * room);
            for (starts, weights) in self.horizontal.starts.as_chunks::<4>().0.iter().zip(weights) {
                self.out.extend(lanes.four(self.blended, starts, weights, room));
            }
        }
    }

    #[test]
    fn wide_and_plain_sums_are_the_same_and_near_the_exact_ones() {
        let (width, height, stride) = (203, 40, 210);
        let data: Vec<u8> = (0..stride * height).map(|i| (i * i * 7 + i / 3 * 89) as u8).collect();
        let (mut vertical, mut horizontal) = (Filter::default(), Filter::default());
        for (rows, columns) in [(40, 200), (20, 140), (13, 68), (7, 20), (80, 404), (3, 4)] {
            vertical.set(height as u32, rows);
            horizontal.set(width as u32, columns);
            for cut in [stride * height, stride * 25 + 70] {
                let rows = Rows { data: &data[..cut], stride };
                let mut made = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
                let [(a, b), (c, d)] = &mut made;
                let both =
                    |blended, out| Both { rows, vertical: &vertical, horizontal: &horizontal, width, blended, out };
                both(a, b).run(Plain);
                vectorized(both(c, d));
                assert_eq!(made[0], made[1]);
                let (first, weights) = vertical.coarse(2);
                for (column, value) in made[0].0[..width].iter().enumerate() {
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
