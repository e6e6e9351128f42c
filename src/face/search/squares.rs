//! Squares of the detector's input that are to be searched, and the fewest boxes around them that are cheaper than more. Pure.

use super::Window;
use crate::frame::{BBox, scale::Part};

/// Parts begin and end at multiples of this, pixels of the detector's input: the coarsest stride, so that a face lies in the cells in which it
/// would lie in the whole frame.
pub(super) const STEP: u32 = 32;
/// Pixels of the input around a face that the detector is shown as well: of 94 faces of videos and group pictures it found all with so much
/// around them, and lost 3 with three quarters of it.
const AROUND: f32 = 64.0;
/// What a part costs beside its area, in squares of [`STEP`]: a request of its own.
pub(super) const FIXED: u32 = 8;
/// Parts of a frame at most.
const MOST: usize = 3;

/// Squares of [`STEP`] pixels of the input that are to be searched.
pub(super) struct Wanted {
    input: (u32, u32),
    columns: u32,
    squares: Vec<bool>,
}

impl Wanted {
    pub(super) fn new(input: (u32, u32)) -> Self {
        let (columns, rows) = (input.0.div_ceil(STEP), input.1.div_ceil(STEP));
        Self { input, columns, squares: vec![false; (columns * rows) as usize] }
    }

    /// Marks what lies around a place of the frame.
    pub(super) fn mark(&mut self, place: &BBox, scale: (f32, f32)) {
        // Places may lie outside of the frame: there casts end at 0, and beyond the last square nothing is.
        let first = |at: f32, scale: f32| (at * scale - AROUND) as u32 / STEP;
        let last = |at: f32, scale: f32, most: u32| ((at * scale + AROUND) as u32).min(most).div_ceil(STEP);
        let (left, top) = (first(place.x1, scale.0), first(place.y1, scale.1));
        let (right, bottom) = (last(place.x2, scale.0, self.input.0), last(place.y2, scale.1, self.input.1));
        for row in top..bottom {
            for column in left..right {
                self.squares[(row * self.columns + column) as usize] = true;
            }
        }
    }

    /// Boxes around what is marked, as few as are cheaper than more, none over another.
    pub(super) fn boxes(&self) -> Vec<Squares> {
        let mut left = self.squares.clone();
        let mut boxes = Vec::new();
        while let Some(start) = left.iter().position(|marked| *marked) {
            boxes.push(self.take(&mut left, start as u32));
        }
        loop {
            let pairs = (0..boxes.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
            let gain = |&(a, b): &(usize, usize)| {
                let (a, b): (&Squares, &Squares) = (&boxes[a], &boxes[b]);
                (a.meets(b), i64::from(a.area() + b.area() + FIXED) - i64::from(a.with(b).area()))
            };
            let Some((a, b)) = pairs.max_by_key(gain) else { break };
            let (meet, saved) = gain(&(a, b));
            if !meet && saved < 0 && boxes.len() <= MOST {
                break;
            }
            let joined = boxes.swap_remove(a).with(&boxes[b]);
            boxes[b] = joined;
        }
        boxes
    }

    /// Takes one piece of what is marked away; the box around it.
    fn take(&self, left: &mut [bool], start: u32) -> Squares {
        let mut around = Squares::of(start % self.columns, start / self.columns);
        let mut next = vec![start];
        while let Some(square) = next.pop() {
            if !std::mem::take(&mut left[square as usize]) {
                continue;
            }
            let (x, y) = (square % self.columns, square / self.columns);
            around = around.with(&Squares::of(x, y));
            let beside = [
                (x > 0, -1),
                (x + 1 < self.columns, 1),
                (y > 0, -i64::from(self.columns)),
                (true, i64::from(self.columns)),
            ];
            let marked = |by: &i64| left.get((i64::from(square) + by) as usize) == Some(&true);
            next.extend(
                beside.iter().filter(|(is, by)| *is && marked(by)).map(|(_, by)| (i64::from(square) + by) as u32),
            );
        }
        around
    }
}

/// A box of squares; right and bottom are the first outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Squares {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
}

impl Squares {
    fn of(column: u32, row: u32) -> Self {
        Self { left: column, top: row, right: column + 1, bottom: row + 1 }
    }

    fn with(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    pub(super) fn area(&self) -> u32 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    pub(super) fn window(&self, frame: (u32, u32), input: (u32, u32)) -> Window {
        let pixels = |square: u32, most: u32| (square * STEP).min(most);
        // Chroma is half as fine: a part begins at a whole pixel of it.
        let of_frame = |at: u32, input: u32, frame: u32| match at == input {
            true => frame,
            false => ((f64::from(at) * f64::from(frame) / f64::from(input) / 2.0).round() as u32 * 2).min(frame - 1),
        };
        let ((left, top), (right, bottom)) = (
            (pixels(self.left, input.0), pixels(self.top, input.1)),
            (pixels(self.right, input.0), pixels(self.bottom, input.1)),
        );
        let (x, y) = (of_frame(left, input.0, frame.0), of_frame(top, input.1, frame.1));
        let (x2, y2) = (of_frame(right, input.0, frame.0), of_frame(bottom, input.1, frame.1));
        let part = Part { x, y, width: x2.saturating_sub(x).max(1), height: y2.saturating_sub(y).max(1) };
        Window { part, size: (right - left, bottom - top) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn boxes_hold_all_that_is_marked_and_none_lies_over_another(marked in prop::collection::vec(any::<bool>(), 20 * 12), few in 1usize..40) {
            let mut wanted = Wanted::new((640, 360));
            wanted.squares.iter_mut().zip(marked.iter().enumerate()).for_each(|(square, (i, m))| *square = *m && i % few == 0);
            let boxes = wanted.boxes();
            prop_assert!(boxes.len() <= MOST);
            for (i, _) in wanted.squares.iter().enumerate().filter(|(_, marked)| **marked) {
                let square = Squares::of(i as u32 % 20, i as u32 / 20);
                prop_assert_eq!(boxes.iter().filter(|b| b.meets(&square)).count(), 1);
            }
        }
    }
}
