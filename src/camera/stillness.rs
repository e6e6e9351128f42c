//! Whether a scene still looks as when it was last looked at: a pure rule over coarse maps of brightness.
//!
//! A face can't show up without changing what is seen, so a picture that looks like the last one that was searched needs no search.

use std::time::{Duration, Instant};

use crate::frame::{
    Point,
    luma::{CHANGED, COLUMNS, LumaGrid, ROWS},
    region::{self, Region},
};

/// A still scene is searched again after this long: nobody who stands still and was overlooked stays so.
const AGAIN: Duration = Duration::from_secs(5);
/// Each time in vain it takes twice as long, at most this.
const AGAIN_MOST: Duration = Duration::from_secs(30);
/// Weight of the newest picture in how restless a cell is.
const LEARN: f32 = 0.1;
/// A cell that changed in more than this share of pictures is restless: a clock in the picture, a lamp that blinks.
const RESTLESS: f32 = 0.3;
/// Restless cells are left out as long as they are few; many of them are a scene that moves. Share of all cells.
const FEW: f32 = 0.01;

/// What a picture says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// As the last one that was searched.
    Still,
    /// Something is elsewhere.
    Changed,
    /// As the last one, which was searched too long ago (or there was none).
    Due,
}

/// Judges picture by picture.
#[derive(Debug, Default)]
pub struct Stillness {
    searched: Option<(LumaGrid, Instant)>,
    /// The newest map, for how restless cells are.
    last: Option<LumaGrid>,
    restless: Vec<f32>,
    /// Searches without a change.
    in_vain: u32,
    /// Cells in which something may change unnoticed, since no face counts there; empty: none.
    unwatched: Vec<bool>,
}

impl Stillness {
    /// Watches the cells that touch a region in which faces count, and their neighbours.
    pub fn within(regions: &[Region]) -> Self {
        if regions.is_empty() {
            return Self::default();
        }
        let counts = |column: i32, row: i32| {
            let at = |index: i32, of: usize| ((index as f32 + 0.5) / of as f32).clamp(0.0, 1.0);
            region::counts(regions, Point::new(at(column, COLUMNS), at(row, ROWS)))
        };
        let near = |column: i32, row: i32| (-1..=1).any(|dy| (-1..=1).any(|dx| counts(column + dx, row + dy)));
        let cells = (0..ROWS as i32).flat_map(|row| (0..COLUMNS as i32).map(move |column| (column, row)));
        let unwatched: Vec<bool> = cells.map(|(column, row)| !near(column, row)).collect();
        // Regions too small to hold a cell's centre: all is watched.
        let some = unwatched.iter().any(|unwatched| !unwatched);
        Self { unwatched: if some { unwatched } else { Vec::new() }, ..Self::default() }
    }

    /// Judges a picture. Whatever is not still is taken as searched.
    pub fn judge(&mut self, grid: LumaGrid, now: Instant) -> Judgement {
        self.learn(&grid);
        let judgement = match &self.searched {
            None => Judgement::Due,
            Some((before, at)) => match grid.change(before).map(|cells| self.watched(cells)) {
                Some(cells) if !self.shows_change(&cells) => {
                    let again = AGAIN.saturating_mul(1 << self.in_vain.min(8)).min(AGAIN_MOST);
                    if now.saturating_duration_since(*at) >= again { Judgement::Due } else { Judgement::Still }
                }
                _ => Judgement::Changed,
            },
        };
        match judgement {
            Judgement::Still => return judgement,
            Judgement::Due => self.in_vain = self.in_vain.saturating_add(u32::from(self.searched.is_some())),
            Judgement::Changed => self.in_vain = 0,
        }
        self.searched = Some((grid, now));
        judgement
    }

    fn learn(&mut self, grid: &LumaGrid) {
        let change = self.last.replace(grid.clone()).and_then(|before| grid.change(&before));
        let Some(cells) = change.map(|cells| self.watched(cells)) else {
            self.restless.clear();
            return;
        };
        self.restless.resize(cells.len(), 0.0);
        for (rate, cell) in self.restless.iter_mut().zip(&cells) {
            *rate += LEARN * (f32::from(u8::from(*cell > CHANGED)) - *rate);
        }
    }

    /// Cells that are not watched did not change.
    fn watched(&self, mut cells: Vec<f32>) -> Vec<f32> {
        if self.unwatched.len() == cells.len() {
            cells
                .iter_mut()
                .zip(&self.unwatched)
                .filter(|(_, unwatched)| **unwatched)
                .for_each(|(cell, _)| *cell = 0.0);
        }
        cells
    }

    fn shows_change(&self, cells: &[f32]) -> bool {
        let restless = self.restless.iter().filter(|rate| **rate > RESTLESS).count() as f32;
        let leave_out = restless <= FEW * cells.len() as f32;
        let is_restless = |cell: usize| self.restless.get(cell).is_some_and(|rate| *rate > RESTLESS);
        cells.iter().enumerate().any(|(cell, by)| *by > CHANGED && !(leave_out && is_restless(cell)))
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::frame::Picture;

    /// A noisy room with things in it: x, y, edge, brightness.
    fn room(seed: u64, things: &[(u32, u32, u32, u8)]) -> LumaGrid {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut image = RgbImage::from_fn(640, 360, |x, _| Rgb([100 + (x / 16) as u8 + random.u8(0..12); 3]));
        for &(x, y, edge, value) in things {
            (0..edge * edge).for_each(|i| image.put_pixel(x + i % edge, y + i / edge, Rgb([value; 3])));
        }
        LumaGrid::of(&Picture::from_rgb(image))
    }

    #[test]
    fn noise_is_still_a_visitor_is_not_and_nobody_waits_for_ever() {
        let (mut stillness, start) = (Stillness::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(stillness.judge(room(0, &[]), at(0)), Judgement::Due);
        for i in 1..20 {
            assert_eq!(stillness.judge(room(i, &[]), at(i * 200)), Judgement::Still);
        }
        assert_eq!(stillness.judge(room(30, &[(300, 100, 30, 220)]), at(4000)), Judgement::Changed);
        assert_eq!(stillness.judge(room(31, &[(300, 100, 30, 220)]), at(4200)), Judgement::Still, "stands there");
        assert_eq!(stillness.judge(room(32, &[]), at(4400)), Judgement::Changed);
        let due: Vec<_> =
            (45..1200u64).filter(|i| stillness.judge(room(*i, &[]), at(i * 100)) == Judgement::Due).collect();
        assert_eq!(due, [94, 194, 394, 694, 994], "more and more rarely while nothing changes, but never not at all");
        assert_eq!(stillness.judge(room(31, &[(300, 100, 30, 220)]), at(120_000)), Judgement::Changed);
        assert_eq!(stillness.judge(room(32, &[(300, 100, 30, 220)]), at(125_000)), Judgement::Due);
    }

    #[test]
    fn a_clock_in_the_picture_is_learnt_and_a_visitor_beside_it_is_seen() {
        let (mut stillness, start) = (Stillness::default(), Instant::now());
        let clock = |i: u64| (600, 8, 12, if i.is_multiple_of(2) { 20 } else { 240 });
        let mut changed = 0;
        for i in 0..60u64 {
            let judged = stillness.judge(room(i, &[clock(i)]), start + Duration::from_millis(i * 100));
            changed += usize::from(judged == Judgement::Changed);
        }
        assert!(changed <= 6, "the clock was taken for a visitor {changed} times");
        let both = room(90, &[clock(1), (100, 200, 30, 10)]);
        assert_eq!(stillness.judge(both, start + Duration::from_millis(6100)), Judgement::Changed);
    }

    #[test]
    fn what_moves_where_no_face_counts_is_no_change() {
        let square = |x1: f32, x2: f32, exclude| {
            let points = [(x1, 0.0), (x2, 0.0), (x2, 1.0), (x1, 1.0)].map(|(x, y)| Point::new(x, y)).to_vec();
            Region { points, exclude }
        };
        let start = Instant::now();
        for regions in [vec![square(0.0, 0.5, false)], vec![square(0.55, 1.0, true)]] {
            let mut stillness = Stillness::within(&regions);
            stillness.judge(room(0, &[]), start);
            let at = |i: u64| start + Duration::from_millis(i * 100);
            for i in 1..20 {
                let cars = room(i, &[(400 + 10 * i as u32, 200, 40, 250)]);
                assert_eq!(stillness.judge(cars, at(i)), Judgement::Still, "{regions:?}");
            }
            assert_eq!(stillness.judge(room(30, &[(100, 200, 30, 250)]), at(30)), Judgement::Changed);
        }
        // A region too small for a cell is no reason to sleep for ever.
        let speck = [(0.5, 0.5), (0.501, 0.5), (0.5, 0.501)].map(|(x, y)| Point::new(x, y)).to_vec();
        let mut stillness = Stillness::within(&[Region { points: speck, exclude: false }]);
        stillness.judge(room(0, &[]), start);
        assert_eq!(stillness.judge(room(1, &[(100, 200, 30, 250)]), start), Judgement::Changed);
    }

    #[test]
    fn a_scene_that_moves_everywhere_is_not_left_out() {
        let (mut stillness, start) = (Stillness::default(), Instant::now());
        let last = (0..40u64).map(|i| {
            let crowd: Vec<_> = (0..30u32).map(|k| (k * 20, (k * 37 + i as u32 * 11) % 300, 20, 230)).collect();
            stillness.judge(room(i, &crowd), start + Duration::from_millis(i * 100))
        });
        assert_eq!(last.last(), Some(Judgement::Changed));
    }
}
