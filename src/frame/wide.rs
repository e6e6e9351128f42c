//! The sums of scaling in AVX2 and AVX-512. `pulp` wraps the instructions in calls that only a processor that has them can make, so
//! nothing here is unsafe.

use pulp::x86::{V3, V4};

use super::{
    filter::{Filter, WINDOW},
    lanes::{BLOCK, Lanes, Rows, TO_GREY, blend_plain, by_fours, chunk, rounding, single},
};

/// AVX2.
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
#[inline(always)]
fn pair(row: &[i16], first: u32, second: u32, weights: &[i16]) -> [[i16; 8]; 2] {
    let (a, b) = (&row[first as usize..first as usize + 4], &row[second as usize..second as usize + 4]);
    let values = [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]];
    let w = &weights[..8];
    [values, [w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]]
}

/// Four partial sums of a pixel.
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

/// AVX-512: half as many instructions to blend, and 16 pixels of a line from one window of it.
impl Lanes for V4 {
    #[inline(always)]
    fn blend(self, rows: Rows<'_>, first: usize, weights: &[u16], out: &mut [i16]) {
        if weights.len() == 1 {
            return single(rows, first, out);
        }
        let (chunks, rest) = out.as_chunks_mut::<BLOCK>();
        let begun = chunks.len() * BLOCK;
        for (i, out) in chunks.iter_mut().enumerate() {
            let mut sums = [self.avx512f._mm512_set1_epi16(rounding(weights) as i16); 2];
            for (k, weight) in weights.iter().enumerate() {
                let Some(values) = chunk::<BLOCK>(rows, first + k, i * BLOCK) else { continue };
                let weight = self.avx512f._mm512_set1_epi16(*weight as i16);
                for (sum, values) in sums.iter_mut().zip(values.as_chunks::<32>().0) {
                    let wide = self.avx512bw._mm512_cvtepu8_epi16(pulp::cast(*values));
                    let product = self.avx512bw._mm512_mulhi_epu16(self.avx512bw._mm512_slli_epi16::<8>(wide), weight);
                    *sum = self.avx512bw._mm512_add_epi16(*sum, product);
                }
            }
            for (out, sum) in out.as_chunks_mut::<32>().0.iter_mut().zip(sums) {
                *out = pulp::cast(self.avx512bw._mm512_srli_epi16::<1>(sum));
            }
        }
        for (i, out) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
            blend_plain::<1>(rows, first, weights, begun + i, out);
        }
    }

    #[inline(always)]
    fn four(self, row: &[i16], starts: &[u32; 4], weights: &[i16], room: usize) -> [f32; 4] {
        (*self).four(row, starts, weights, room)
    }

    #[inline(always)]
    fn along(self, filter: &Filter, row: &[i16], out: &mut [f32]) {
        if filter.groups.is_empty() {
            return by_fours(self, filter, row, out);
        }
        let (f, bw) = (self.avx512f, self.avx512bw);
        for (group, out) in filter.groups.iter().zip(out.chunks_mut(16)) {
            let Some(window) = row.get(group.start as usize..).and_then(<[i16]>::first_chunk::<WINDOW>) else { return };
            let [low, high]: [[i16; 32]; 2] = pulp::cast(*window);
            let (low, high) = (pulp::cast(low), pulp::cast(high));
            let mut places = pulp::cast(group.places);
            let mut sum = f._mm512_setzero_si512();
            for weights in &group.weights {
                let pairs = bw._mm512_permutex2var_epi16(low, places, high);
                sum = f._mm512_add_epi32(sum, bw._mm512_madd_epi16(pairs, pulp::cast(*weights)));
                places = bw._mm512_add_epi16(places, f._mm512_set1_epi16(2));
            }
            let grey = f._mm512_mul_ps(f._mm512_cvtepi32_ps(sum), f._mm512_set1_ps(TO_GREY));
            let grey: [f32; 16] = pulp::cast(grey);
            match out.as_chunks_mut::<16>().0 {
                [whole] => *whole = grey,
                _ => out.iter_mut().zip(grey).for_each(|(out, grey)| *out = grey),
            }
        }
    }
}
