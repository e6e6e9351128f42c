//! What each pixel of a line at another length is made of: a triangle filter, as wide as the line shrinks, so that nothing aliases.

/// Sum of the fine weights of a pixel.
pub(super) const FINE: i32 = 1 << 14;
/// Sum of the coarse weights of a pixel.
const COARSE: i32 = 1 << 16;
/// Weights below it are none.
const LEAST: f64 = 1e-5;

/// The source pixels of each pixel of a line that is scaled from one length to another, and their weights.
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
    /// The filter from one length to another.
    pub(super) fn new(from: u32, to: u32) -> Self {
        let mut filter = Self { from, to, ..Self::default() };
        filter.fill();
        filter
    }

    fn fill(&mut self) {
        let (from, to) = (self.from, self.to);
        let scale = f64::from(from) / f64::from(to.max(1));
        let wide = scale.max(1.0);
        // As many as fit between two zeros of the triangle.
        let most = ((2.0 * wide).ceil() as usize).min(from as usize);
        self.room = if most <= 4 { 4 } else { most.next_multiple_of(8) };
        let (mut weights, mut rounded) = (Vec::with_capacity(most + 2), Vec::new());
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
            rounded.clear();
            for total in [FINE, COARSE] {
                let begun = rounded.len();
                rounded.extend(weights.iter().map(|(_, w)| (w / sum * f64::from(total)).round() as i32));
                // What rounding leaves over matters least where most is.
                let missing = total - rounded[begun..].iter().sum::<i32>();
                rounded[begun..].iter_mut().skip(largest).take(1).for_each(|w| *w += missing);
                rounded.resize(begun + self.room, 0);
            }
            let (fine, coarse) = rounded.split_at(self.room);
            self.fine.extend(fine.iter().map(|w| *w as i16));
            self.coarse.extend(coarse.iter().map(|w| (*w).min(COARSE - 1) as u16));
        }
        self.group();
    }

    fn group(&mut self) {
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

/// Filters that are kept: cameras of several sizes, parts and tiles beside whole pictures take turns; a size of frame has up to 64 parts' edges.
const KEPT: usize = 96;

/// The filters used last, each with the number of the call that asked for it last.
#[derive(Default)]
pub(super) struct Filters {
    kept: Vec<(u64, Filter)>,
    calls: u64,
}

impl Filters {
    /// Where the filter from one length to another is. What the last few calls answered stays where it is.
    pub(super) fn find(&mut self, from: u32, to: u32) -> usize {
        self.calls += 1;
        let known = self.kept.iter().position(|(_, filter)| (filter.from, filter.to) == (from, to));
        let at = known.unwrap_or_else(|| {
            let new = (0, Filter::new(from, to));
            if self.kept.len() < KEPT {
                self.kept.push(new);
                return self.kept.len() - 1;
            }
            let longest_ago = (0..KEPT).min_by_key(|at| self.kept[*at].0).unwrap_or(0);
            self.kept[longest_ago] = new;
            longest_ago
        });
        self.kept[at].0 = self.calls;
        at
    }

    /// The filter at a place.
    pub(super) fn at(&self, place: usize) -> &Filter {
        &self.kept[place].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_is_one_two_three_two_one() {
        let filter = Filter::new(30, 10);
        let (start, weights) = filter.coarse(4);
        assert_eq!((start, filter.room), (11, 8));
        for (weight, ninths) in weights.iter().zip([1.0, 2.0, 3.0, 2.0, 1.0]) {
            assert!((f64::from(*weight) / 65536.0 - ninths / 9.0).abs() < 1e-4, "{weights:?}");
        }
    }

    #[test]
    fn weights_sum_to_one_lie_in_the_line_and_are_symmetric() {
        for (from, to) in [(1920, 640), (960, 640), (1, 7), (7, 1), (5, 5), (100, 99), (99, 100), (8192, 32), (1000, 3)]
        {
            let filter = Filter::new(from, to);
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

    #[test]
    fn filters_are_kept_and_those_just_asked_for_are_not_replaced() {
        let mut filters = Filters::default();
        for round in 1..100u32 {
            // The first is asked for all the time, the others are new.
            let asked = [(640, 360), (round * 7, 5), (round * 9, 4), (round * 11, 3)];
            let found = asked.map(|(from, to)| (filters.find(from, to), Filter::new(from, to)));
            assert!(found.iter().all(|(at, filter)| filters.at(*at) == filter), "{round}");
        }
        assert_eq!(filters.kept.len(), KEPT);
    }
}
