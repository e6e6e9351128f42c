//! What each pixel of a line at another length is made of: a triangle filter, as wide as the line shrinks, so that nothing aliases.

/// Sum of the fine weights of a pixel.
pub(super) const FINE: i32 = 1 << 14;
/// Sum of the coarse weights of a pixel.
const COARSE: i32 = 1 << 16;
/// Weights below it are none.
const LEAST: f64 = 1e-5;

/// The source pixels of each pixel of a line that is scaled from one length to another, and their weights; kept from line to line.
///
/// Pixel `i` lies at `(i + 0.5) * from / to` in the source. A source pixel at distance `d` counts `1 - d / max(1, from / to)`, where that
/// is more than 0; weights are divided by their sum, so a border repeats nothing. It is what Pillow's `BILINEAR` does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Filter {
    from: u32,
    to: u32,
    /// Length of each pixel's place in the weights: 4, or a multiple of 8; the rest of a place is 0.
    pub(super) room: usize,
    /// First source pixel of each pixel.
    pub(super) starts: Vec<u32>,
    /// Number of source pixels of each pixel.
    counts: Vec<u32>,
    /// Weights as whole numbers that sum to [`FINE`].
    pub(super) fine: Vec<i16>,
    /// Weights as whole numbers that sum to 65536; a single one is not told.
    coarse: Vec<u16>,
    /// The same for 16 pixels at once; none where 16 pixels need more than [`WINDOW`] source pixels.
    pub(super) groups: Vec<Group>,
}

/// Source pixels that one group may need.
pub(super) const WINDOW: usize = 64;

/// 16 pixels that are made of one window of the source: their weights are fine ones, and come in pairs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// First source pixel of the window.
    pub(super) start: u32,
    /// Where the first pair of each pixel lies in the window; the next pair is 2 further.
    pub(super) places: [u16; 32],
    /// The first weights of all pixels, two each, then the next two of each; what follows the last of a pixel is 0.
    pub(super) weights: Vec<[i16; 32]>,
}

impl Filter {
    /// Makes it the filter from one length to another; no work where it is already.
    pub(super) fn set(&mut self, from: u32, to: u32) {
        if (self.from, self.to) == (from, to) {
            return;
        }
        (self.from, self.to) = (from, to);
        self.starts.clear();
        self.counts.clear();
        self.fine.clear();
        self.coarse.clear();
        let scale = f64::from(from) / f64::from(to.max(1));
        let wide = scale.max(1.0);
        // As many as fit between two zeros of the triangle.
        let most = ((2.0 * wide).ceil() as usize).min(from as usize);
        self.room = if most <= 4 { 4 } else { most.next_multiple_of(8) };
        let mut weights = Vec::with_capacity(most + 2);
        for i in 0..to {
            let center = (f64::from(i) + 0.5) * scale;
            let first = (center - wide).floor().max(0.0) as u32;
            let last = ((center + wide).ceil() as u32).min(from);
            let weight = |k: u32| (1.0 - ((f64::from(k) + 0.5 - center) / wide).abs()).max(0.0);
            weights.clear();
            weights.extend((first..last).map(|k| (k, weight(k))).filter(|(_, w)| *w >= LEAST));
            self.starts.push(weights.first().map_or(0, |(k, _)| *k));
            self.counts.push(weights.len() as u32);
            let sum: f64 = weights.iter().map(|(_, w)| w).sum();
            let largest = (0..weights.len()).max_by(|a, b| weights[*a].1.total_cmp(&weights[*b].1)).unwrap_or(0);
            let whole = |total: i32| {
                let mut rounded: Vec<i32> =
                    weights.iter().map(|(_, w)| (w / sum * f64::from(total)).round() as i32).collect();
                let missing = total - rounded.iter().sum::<i32>();
                // What rounding leaves over matters least where most is.
                rounded.iter_mut().skip(largest).take(1).for_each(|w| *w += missing);
                rounded.resize(self.room, 0);
                rounded
            };
            self.fine.extend(whole(FINE).into_iter().map(|w| w as i16));
            self.coarse.extend(whole(COARSE).into_iter().map(|w| w.min(COARSE - 1) as u16));
        }
        self.group();
    }

    fn group(&mut self) {
        self.groups.clear();
        let pairs = self.counts.iter().max().map_or(0, |count| count.div_ceil(2)) as usize;
        for (i, starts) in self.starts.chunks(16).enumerate() {
            let (first, last) = (starts[0], starts[starts.len() - 1]);
            if (last - first) as usize + 2 * pairs > WINDOW {
                self.groups.clear();
                return;
            }
            let mut group = Group { start: first, places: [0; 32], weights: vec![[0; 32]; pairs] };
            for (k, start) in starts.iter().enumerate() {
                let place = (start - first) as u16;
                (group.places[2 * k], group.places[2 * k + 1]) = (place, place + 1);
                let fine = &self.fine[(i * 16 + k) * self.room..][..self.room];
                for (weights, pair) in group.weights.iter_mut().zip(fine.as_chunks::<2>().0) {
                    weights[2 * k..2 * k + 2].copy_from_slice(pair);
                }
            }
            self.groups.push(group);
        }
    }

    /// Whether lines stay as they are.
    pub(super) fn is_identity(&self) -> bool {
        self.from == self.to
    }

    /// The first source pixel of pixel `i`, and the coarse weights of it and those that follow. One weight stands for all of that pixel.
    pub(super) fn coarse(&self, i: usize) -> (usize, &[u16]) {
        (self.starts[i] as usize, &self.coarse[i * self.room..][..self.counts[i] as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_is_one_two_three_two_one() {
        let mut filter = Filter::default();
        filter.set(30, 10);
        let (start, weights) = filter.coarse(4);
        assert_eq!((start, filter.room), (11, 8));
        for (weight, ninths) in weights.iter().zip([1.0, 2.0, 3.0, 2.0, 1.0]) {
            assert!((f64::from(*weight) / 65536.0 - ninths / 9.0).abs() < 1e-4, "{weights:?}");
        }
    }

    #[test]
    fn weights_sum_to_one_lie_in_the_line_and_are_symmetric() {
        let mut filter = Filter::default();
        for (from, to) in [(1920, 640), (960, 640), (1, 7), (7, 1), (5, 5), (100, 99), (99, 100), (8192, 32), (1000, 3)]
        {
            filter.set(from, to);
            assert_eq!(filter.starts.len(), to as usize);
            assert_eq!(filter.is_identity(), from == to);
            for i in 0..to as usize {
                let (start, coarse) = filter.coarse(i);
                let fine = &filter.fine[i * filter.room..][..filter.room];
                assert!(!coarse.is_empty() && start + coarse.len() <= from as usize, "{from} {to} {i}");
                assert_eq!(fine.iter().map(|w| i32::from(*w)).sum::<i32>(), FINE);
                assert!(fine.iter().all(|w| *w >= 0) && fine[coarse.len()..].iter().all(|w| *w == 0));
                let sum: u32 = coarse.iter().map(|w| u32::from(*w)).sum();
                assert!(sum == 65536 || coarse == [65535], "{from} {to} {i}: {coarse:?}");
                let (mirrored, weights) = filter.coarse(to as usize - 1 - i);
                assert_eq!(mirrored, from as usize - start - coarse.len(), "{from} {to} {i}");
                let backwards = weights.iter().rev();
                let most = weights.len() as i32 + 1;
                assert!(coarse.iter().zip(backwards).all(|(a, b)| (i32::from(*a) - i32::from(*b)).abs() <= most));
            }
        }
    }
}
