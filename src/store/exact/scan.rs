//! How near each row of a matrix is to a probe: the one pass over all values, in the widest registers of the processor.

use pulp::{Arch, Simd, WithSimd};

use crate::face::Distance;

/// Writes the nearness of each row of `values` (row-major, as many a row as the probe has) to `out`, nearer is larger: the dot product, or minus the
/// squared distance. Rows that `wanted` leaves out keep what they had.
pub fn nearness(distance: Distance, probe: &[f32], values: &[f32], wanted: impl Fn(usize) -> bool, out: &mut [f32]) {
    match distance {
        Distance::Cosine => Pass::<_, false> { probe, values, wanted, out }.run(),
        Distance::Euclidean => Pass::<_, true> { probe, values, wanted, out }.run(),
    }
}

/// The similarity of a nearness, as [`Distance::similarity`] defines it.
pub fn similarity(distance: Distance, nearness: f32) -> f32 {
    match distance {
        Distance::Cosine => nearness,
        Distance::Euclidean => 1.0 - (-nearness).sqrt(),
    }
}

/// A pass over rows; `SQUARED` takes squared differences instead of products.
struct Pass<'a, W, const SQUARED: bool> {
    probe: &'a [f32],
    values: &'a [f32],
    wanted: W,
    out: &'a mut [f32],
}

impl<W: Fn(usize) -> bool, const SQUARED: bool> Pass<'_, W, SQUARED> {
    fn run(self) {
        match Arch::new() {
            // Sums that the compiler vectorises by itself with what every processor has.
            Arch::Scalar => self.rows(sixteen_sums::<SQUARED>),
            wide => wide.dispatch(self),
        }
    }

    #[inline(always)]
    fn rows(self, sum: impl Fn(&[f32], &[f32]) -> f32) {
        let rows = self.values.chunks_exact(self.probe.len().max(1)).zip(self.out);
        for (row, (values, nearness)) in rows.enumerate() {
            if (self.wanted)(row) {
                let sum = sum(self.probe, values);
                *nearness = if SQUARED { -sum } else { sum };
            }
        }
    }
}

impl<W: Fn(usize) -> bool, const SQUARED: bool> WithSimd for Pass<'_, W, SQUARED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (probe, rest) = S::as_simd_f32s(self.probe);
        let (probe_pairs, probe_last) = probe.as_chunks::<2>();
        let add = |sum: S::f32s, x: S::f32s, y: S::f32s| {
            if SQUARED {
                let difference = simd.sub_f32s(x, y);
                simd.mul_add_e_f32s(difference, difference, sum)
            } else {
                simd.mul_add_e_f32s(x, y, sum)
            }
        };
        self.rows(
            #[inline(always)]
            |_, row| {
                let (row, row_rest) = S::as_simd_f32s(row);
                let (row_pairs, row_last) = row.as_chunks::<2>();
                // Two sums beside each other: neither waits for the other's last addition.
                let (mut even, mut odd) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
                for (x, y) in probe_pairs.iter().zip(row_pairs) {
                    even = add(even, x[0], y[0]);
                    odd = add(odd, x[1], y[1]);
                }
                for (x, y) in probe_last.iter().zip(row_last) {
                    even = add(even, *x, *y);
                }
                simd.reduce_sum_f32s(simd.add_f32s(even, odd)) + summed::<SQUARED>(rest, row_rest)
            },
        );
    }
}

fn sixteen_sums<const SQUARED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let ((a16, a_rest), (b16, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0f32; 16];
    for (x, y) in a16.iter().zip(b16) {
        for i in 0..16 {
            sums[i] += term::<SQUARED>(x[i], y[i]);
        }
    }
    sums.iter().sum::<f32>() + summed::<SQUARED>(a_rest, b_rest)
}

#[inline(always)]
fn summed<const SQUARED: bool>(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| term::<SQUARED>(*x, *y)).sum()
}

#[inline(always)]
fn term<const SQUARED: bool>(x: f32, y: f32) -> f32 {
    if SQUARED { (x - y) * (x - y) } else { x * y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness_is_what_the_definition_says_of_any_length() {
        let mut dice = fastrand::Rng::with_seed(3);
        for size in [1, 4, 15, 16, 17, 128, 192] {
            let mut some = |n: usize| (0..n).map(|_| dice.f32() - 0.5).collect::<Vec<f32>>();
            let (probe, values) = (some(size), some(size * 7));
            for distance in [Distance::Cosine, Distance::Euclidean] {
                let mut out = [f32::NEG_INFINITY; 7];
                nearness(distance, &probe, &values, |row| row != 2, &mut out);
                let plain: Vec<f32> = values
                    .chunks_exact(size)
                    .map(|row| match distance {
                        Distance::Cosine => sixteen_sums::<false>(&probe, row),
                        Distance::Euclidean => -sixteen_sums::<true>(&probe, row),
                    })
                    .collect();
                for (row, values) in values.chunks_exact(size).enumerate() {
                    let exact = distance.similarity(&probe, values);
                    assert!((similarity(distance, plain[row]) - exact).abs() < 1e-5, "{distance:?} {size} {row}");
                    let expected = if row == 2 { f32::NEG_INFINITY } else { exact };
                    let got = similarity(distance, out[row]);
                    assert!(
                        got == expected || (got - expected).abs() < 1e-5,
                        "{distance:?} {size} {row}: {got} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_probe_itself_is_as_near_as_can_be() {
        let probe = [0.5f32; 20];
        let mut out = [0.0];
        nearness(Distance::Euclidean, &probe, &probe, |_| true, &mut out);
        assert_eq!(similarity(Distance::Euclidean, out[0]), 1.0);
    }
}
