//! What the network answered for one prior, in either form of its outputs.

use crate::inference::{NetworkError, Output};

/// Values of a prior: offsets of the box, scores, offsets of the landmarks.
pub(super) const COLUMNS: [usize; 3] = [4, 2, 10];

/// A prior: its place among all, its feature map, its cell there (row-major), and which of the sizes of that map it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prior {
    pub(super) index: usize,
    pub(super) level: usize,
    pub(super) cell: usize,
    pub(super) size: usize,
}

/// Answers for one picture.
pub(super) trait Answers {
    /// The score of a face, 0 to 1, where it is above `least`.
    fn score(&self, prior: Prior, least: f32) -> Option<f32>;
    /// Offsets of centre and size.
    fn offsets(&self, prior: Prior) -> [f32; 4];
    /// Offsets of the landmarks, x before y.
    fn landmarks(&self, prior: Prior) -> [f32; 10];
}

/// The published outputs: `[batch, priors, 4]`, `[batch, priors, 2]` (softmaxed, column 1 is "face") and `[batch, priors, 10]`, told apart
/// by their last axis.
pub(super) struct Listed<'a> {
    outputs: [&'a [f32]; 3],
}

impl<'a> Listed<'a> {
    /// Those of each picture of a batch.
    pub(super) fn of(outputs: &[Output<'a>], batch: usize, priors: usize) -> Result<Vec<Self>, NetworkError> {
        let mut found = [&[][..]; 3];
        for (place, columns) in found.iter_mut().zip(COLUMNS) {
            let output = outputs.iter().find(|t| t.is_shaped(&[batch, priors, columns]));
            *place = output.ok_or_else(|| missing(&[batch, priors, columns], outputs))?.data;
        }
        let one = |b: usize| {
            let mut outputs = found;
            for (output, columns) in outputs.iter_mut().zip(COLUMNS) {
                *output = &output[b * priors * columns..(b + 1) * priors * columns];
            }
            Self { outputs }
        };
        Ok((0..batch).map(one).collect())
    }
}

impl Answers for Listed<'_> {
    fn score(&self, prior: Prior, least: f32) -> Option<f32> {
        Some(self.outputs[1][prior.index * 2 + 1]).filter(|score| *score > least)
    }

    fn offsets(&self, prior: Prior) -> [f32; 4] {
        std::array::from_fn(|j| self.outputs[0][prior.index * 4 + j])
    }

    fn landmarks(&self, prior: Prior) -> [f32; 10] {
        std::array::from_fn(|j| self.outputs[2][prior.index * 10 + j])
    }
}

/// The outputs of merged heads ([`super::heads`]): a feature map `[batch, 16 x sizes, rows, columns]` for each stride, whose channels are the
/// offsets of each size, then its two scores before the softmax, then its landmarks.
pub(super) struct Mapped<'a> {
    levels: Vec<Level<'a>>,
    /// A difference of scores below which no prior is a face: spares most of them an exponential.
    bound: f32,
}

struct Level<'a> {
    map: &'a [f32],
    cells: usize,
    sizes: usize,
}

impl<'a> Mapped<'a> {
    /// Those of each picture of a batch; `maps` are rows, columns and sizes of each stride, `least` the score that a face must be above.
    pub(super) fn of(
        outputs: &[Output<'a>],
        batch: usize,
        maps: &[((usize, usize), usize)],
        least: f32,
    ) -> Result<Vec<Self>, NetworkError> {
        let channels = COLUMNS.iter().sum::<usize>();
        for (output, ((rows, columns), sizes)) in outputs.iter().zip(maps) {
            let axes = [batch, channels * sizes, *rows, *columns];
            if !output.is_shaped(&axes) {
                return Err(missing(&axes, outputs));
            }
        }
        // A little below, so that rounding decides at the score itself.
        let bound = if least > 0.0 { (least / (1.0 - least)).ln() - 1e-3 } else { f32::NEG_INFINITY };
        let one = |b: usize| {
            let level = |(output, ((rows, columns), sizes)): (&Output<'a>, &((usize, usize), usize))| {
                let cells = rows * columns;
                let each = channels * sizes * cells;
                Level { map: &output.data[b * each..(b + 1) * each], cells, sizes: *sizes }
            };
            Self { levels: outputs.iter().zip(maps).map(level).collect(), bound }
        };
        Ok((0..batch).map(one).collect())
    }

    /// Values of a prior; `head` is the place of the head in [`COLUMNS`].
    fn values<const N: usize>(&self, prior: Prior, head: usize) -> [f32; N] {
        let level = &self.levels[prior.level];
        let before: usize = COLUMNS[..head].iter().sum();
        let first = before * level.sizes + prior.size * COLUMNS[head];
        std::array::from_fn(|j| level.map[(first + j) * level.cells + prior.cell])
    }
}

impl Answers for Mapped<'_> {
    fn score(&self, prior: Prior, least: f32) -> Option<f32> {
        let [other, face] = self.values(prior, 1);
        let difference = face - other;
        // The softmax of two.
        (difference > self.bound).then(|| 1.0 / (1.0 + (-difference).exp())).filter(|score| *score > least)
    }

    fn offsets(&self, prior: Prior) -> [f32; 4] {
        self.values(prior, 0)
    }

    fn landmarks(&self, prior: Prior) -> [f32; 10] {
        self.values(prior, 2)
    }
}

fn missing(axes: &[usize], outputs: &[Output<'_>]) -> NetworkError {
    let shapes: Vec<_> = outputs.iter().map(|t| (&t.name, &t.shape)).collect();
    NetworkError::Run(format!("no output of shape {axes:?} among {shapes:?}"))
}
