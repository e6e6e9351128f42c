//! Whether a scene still looks as when it was last looked at: a pure rule over coarse maps of brightness.
//!
//! A face can't show up without changing what is seen, so a picture that looks like the last one that was searched needs no search.

use std::time::{Duration, Instant};

use super::restless::Restless;
use crate::frame::{
    Point,
    luma::{CHANGED, COLUMNS, FEW, LumaGrid, ROWS, row_and_column},
    region::{self, Region},
};

/// A still scene is searched again after this long: nobody who stands still and was overlooked stays so.
const AGAIN: Duration = Duration::from_secs(5);
/// Each time in vain it takes twice as long, at most this.
const AGAIN_MOST: Duration = Duration::from_secs(30);
/// A cell that changed among others that did not must differ by more than this to be movement: around sharp edges, such as writing, coding
/// makes that of one key frame to the next. Whoever comes changes several that touch.
const SPECK: f32 = 1.5 * CHANGED;
/// Where only restless cells or specks changed, a picture is searched this long after the last one at the earliest.
const RESTLESS_EVERY: Duration = Duration::from_secs(1);

/// What a picture says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// As the last one that was searched.
    Still,
    /// Something is elsewhere.
    Changed,
    /// Only what is restless changed (a clock in the picture), or specks, and no search was made for a second: worth a search, but nothing
    /// moves.
    Restless,
    /// As the last one, which was searched too long ago (or there was none).
    Due,
}

/// Judges picture by picture.
#[derive(Debug, Default)]
pub struct Stillness {
    searched: Option<(LumaGrid, Instant)>,
    restless: Restless,
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

    /// Judges a picture; `tracked` while a face is. Whatever is not still is taken as searched.
    pub fn judge(&mut self, grid: LumaGrid, tracked: bool, now: Instant) -> Judgement {
        let judgement = match &self.searched {
            None => Judgement::Due,
            Some((before, at)) => {
                let searched = now.saturating_duration_since(*at);
                let again = AGAIN.saturating_mul(1 << self.in_vain.min(8)).min(AGAIN_MOST);
                match grid.change(before).map(|cells| self.changed(&cells)) {
                    None | Some(Changed { moves: true, .. }) => Judgement::Changed,
                    _ if searched >= again => Judgement::Due,
                    Some(Changed { little: true, .. }) if searched >= RESTLESS_EVERY => Judgement::Restless,
                    Some(_) => Judgement::Still,
                }
            }
        };
        // Afterwards: what a picture shows must not excuse itself.
        let unwatched = &self.unwatched;
        self.restless.learn(&grid, |cell| !unwatched.get(cell).copied().unwrap_or_default(), tracked, now);
        match judgement {
            Judgement::Still => return judgement,
            Judgement::Restless => {}
            Judgement::Due => self.in_vain = self.in_vain.saturating_add(u32::from(self.searched.is_some())),
            Judgement::Changed => self.in_vain = 0,
        }
        self.searched = Some((grid, now));
        judgement
    }

    /// Cells that are not watched did not change.
    fn changed(&self, cells: &[f32]) -> Changed {
        let watched = |cell: usize| self.unwatched.len() != cells.len() || !self.unwatched[cell];
        let changed = (0..cells.len()).filter(|cell| cells[*cell] > CHANGED && watched(*cell));
        let (restless, elsewhere): (Vec<usize>, Vec<usize>) =
            changed.partition(|cell| self.restless.is_restless(*cell));
        // A clock changes in few cells at once; somebody before it in more.
        let many = restless.len() as f32 > FEW * cells.len() as f32;
        let moves =
            many || elsewhere.iter().any(|cell| cells[*cell] > SPECK || touches(*cell, &elsewhere, cells.len()));
        Changed { little: !(restless.is_empty() && elsewhere.is_empty()), moves }
    }
}

/// Whether one of the others is beside, above or below a cell, or at a corner of it.
fn touches(cell: usize, others: &[usize], cells: usize) -> bool {
    let (row, column) = row_and_column(cell, cells);
    others.iter().filter(|other| **other != cell).any(|other| {
        let (r, c) = row_and_column(*other, cells);
        r.abs_diff(row) <= 1 && c.abs_diff(column) <= 1
    })
}

/// What changed.
struct Changed {
    /// Something did, if only a clock or a speck.
    little: bool,
    /// Something moves.
    moves: bool,
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
        assert_eq!(stillness.judge(room(0, &[]), false, at(0)), Judgement::Due);
        for i in 1..20 {
            assert_eq!(stillness.judge(room(i, &[]), false, at(i * 200)), Judgement::Still);
        }
        assert_eq!(stillness.judge(room(30, &[(300, 100, 30, 220)]), false, at(4000)), Judgement::Changed);
        assert_eq!(
            stillness.judge(room(31, &[(300, 100, 30, 220)]), false, at(4200)),
            Judgement::Still,
            "stands there"
        );
        assert_eq!(stillness.judge(room(32, &[]), false, at(4400)), Judgement::Changed);
        let due: Vec<_> =
            (45..1200u64).filter(|i| stillness.judge(room(*i, &[]), false, at(i * 100)) == Judgement::Due).collect();
        assert_eq!(due, [94, 194, 394, 694, 994], "more and more rarely while nothing changes, but never not at all");
        assert_eq!(stillness.judge(room(31, &[(300, 100, 30, 220)]), false, at(120_000)), Judgement::Changed);
        assert_eq!(stillness.judge(room(32, &[(300, 100, 30, 220)]), false, at(125_000)), Judgement::Due);
    }

    #[test]
    fn a_speck_of_coding_is_searched_but_is_no_movement() {
        let (cell, beside) = ((300, 100, 10), (310, 110, 10));
        let at = |(x, y, edge): (u32, u32, u32), by: u8| (x, y, edge, 118 + by);
        for (things, expected) in [
            (vec![at(cell, 5)], Judgement::Restless),
            (vec![at(cell, 5), at((360, 100, 10), 5)], Judgement::Restless),
            (vec![at(cell, 8)], Judgement::Changed),
            (vec![at(cell, 5), at(beside, 5)], Judgement::Changed),
        ] {
            let (mut stillness, start) = (Stillness::default(), Instant::now());
            let plain = |things: &[_]| {
                let mut image = RgbImage::from_pixel(640, 360, Rgb([118; 3]));
                for &(x, y, edge, value) in things {
                    (0..edge * edge).for_each(|i| image.put_pixel(x + i % edge, y + i / edge, Rgb([value; 3])));
                }
                LumaGrid::of(&Picture::from_rgb(image))
            };
            assert_eq!(stillness.judge(plain(&[]), false, start), Judgement::Due);
            assert_eq!(stillness.judge(plain(&things), false, start + Duration::from_secs(2)), expected, "{things:?}");
        }
    }

    /// Digits of a clock in the corner: those of the seconds change every second, the two before them every ten, those of the minutes with them.
    fn clock(second: u64) -> [(u32, u32, u32, u8); 3] {
        let ink = |of: u64| 60 + (of * 7919 % 150) as u8;
        [(610, 8, 9, ink(second)), (598, 8, 9, ink(second / 10)), (574, 8, 9, ink(second / 60))]
    }

    /// Judges a noisy room with a clock, and what else there is, every so many milliseconds.
    fn watch(
        stillness: &mut Stillness,
        start: Instant,
        times: impl Iterator<Item = u64>,
        things: &[(u32, u32, u32, u8)],
    ) -> Vec<Judgement> {
        let judge = |ms| {
            let things: Vec<_> = clock(ms / 1000).iter().chain(things).copied().collect();
            stillness.judge(room(ms, &things), false, start + Duration::from_millis(ms))
        };
        times.map(judge).collect()
    }

    #[test]
    fn the_time_in_the_picture_is_no_movement_at_any_rate_and_a_visitor_beside_or_before_it_is_seen() {
        let count = |all: &[Judgement], of| all.iter().filter(|judgement| **judgement == of).count();
        for step in [200, 1000, 2000] {
            let (mut stillness, start) = (Stillness::default(), Instant::now());
            watch(&mut stillness, start, (0..20_000).step_by(step), &[]);
            let later = watch(&mut stillness, start, (20_000..200_000).step_by(step), &[]);
            assert_eq!(count(&later, Judgement::Changed), 0, "every {step} ms");
            let searched = count(&later, Judgement::Restless);
            assert!((50..=180).contains(&searched), "{searched} searches, every {step} ms");
            let beside = watch(&mut stillness, start, 200_000..200_001, &[(100, 200, 30, 10)]);
            assert_eq!(beside, [Judgement::Changed]);
            let gone = watch(&mut stillness, start, 202_000..202_001, &[]);
            assert_eq!(gone, [Judgement::Changed]);
            let before = watch(&mut stillness, start, 204_000..204_001, &[(598, 6, 20, 10)]);
            assert_eq!(
                before,
                [Judgement::Restless],
                "no larger than the clock: nothing moves, but the picture is searched"
            );
            let larger = watch(&mut stillness, start, 206_000..206_001, &[(598, 6, 30, 10)]);
            assert_eq!(larger, [Judgement::Changed]);
            watch(&mut stillness, start, 208_000..208_001, &[]);
            let filling = [530, 560, 590].map(|x| (x, 0, 30, 10));
            let filling = watch(&mut stillness, start, 210_000..210_001, &filling);
            assert_eq!(
                filling,
                [Judgement::Changed],
                "in more cells at once than a clock has, though all of them are its"
            );
        }
    }

    #[test]
    fn what_no_longer_changes_is_forgotten_and_so_is_all_when_the_camera_turns() {
        let visitor = [(598, 6, 20, 10)];
        for (pause, expected) in [(50_000, Judgement::Restless), (110_000, Judgement::Changed)] {
            let (mut stillness, start) = (Stillness::default(), Instant::now());
            watch(&mut stillness, start, (0..60_000).step_by(500), &[]);
            let at = |ms| start + Duration::from_millis(ms);
            for ms in (60_000..60_000 + pause).step_by(500) {
                stillness.judge(room(ms, &clock(60)), false, at(ms));
            }
            let come = room(1, &clock(60).into_iter().chain(visitor).collect::<Vec<_>>());
            assert_eq!(stillness.judge(come, false, at(62_000 + pause)), expected, "after {pause} ms");
        }
        let (mut stillness, start) = (Stillness::default(), Instant::now());
        watch(&mut stillness, start, (0..60_000).step_by(500), &[]);
        let yard = |value: u8| {
            let mut image = RgbImage::from_fn(640, 360, |_, y| Rgb([230 - (y / 2) as u8; 3]));
            (0..400).for_each(|i| image.put_pixel(598 + i % 20, 6 + i / 20, Rgb([value; 3])));
            LumaGrid::of(&Picture::from_rgb(image))
        };
        let at = |ms: u64| start + Duration::from_millis(60_000 + ms);
        assert_eq!(stillness.judge(yard(200), false, at(0)), Judgement::Changed);
        assert_eq!(stillness.judge(yard(20), false, at(2000)), Judgement::Changed, "nothing is known of this view");
    }

    #[test]
    fn a_clock_is_learnt_beside_what_moves_where_no_face_counts() {
        let points = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)].map(|(x, y)| Point::new(x, y)).to_vec();
        let (mut stillness, start) = (Stillness::within(&[Region { points, exclude: true }]), Instant::now());
        let judge = |ms: u64| {
            let leaves =
                (0..30u32).map(|k| (k % 6 * 40, k / 6 * 60, 20, 60 + (ms * 31 + u64::from(k) * 97) as u8 % 150));
            let things: Vec<_> = leaves.chain(clock(ms / 1000)).collect();
            stillness.judge(room(ms, &things), false, start + Duration::from_millis(ms))
        };
        let all: Vec<_> = (0..60_000).step_by(500).map(judge).collect();
        assert!(all[40..].iter().all(|judgement| *judgement != Judgement::Changed), "{all:?}");
        assert!(all[40..].contains(&Judgement::Restless), "{all:?}");
    }

    #[test]
    fn who_is_tracked_teaches_nothing() {
        let (mut stillness, start) = (Stillness::default(), Instant::now());
        let at = |i: u64| start + Duration::from_millis(i * 500);
        for i in 0..60 {
            let nods = room(i, &[(300, 100, 30, if i.is_multiple_of(2) { 220 } else { 20 })]);
            stillness.judge(nods, true, at(i));
        }
        assert_eq!(stillness.judge(room(60, &[]), false, at(60)), Judgement::Changed);
        assert_eq!(stillness.judge(room(61, &[(300, 100, 30, 220)]), false, at(61)), Judgement::Changed);
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
            stillness.judge(room(0, &[]), false, start);
            let at = |i: u64| start + Duration::from_millis(i * 100);
            for i in 1..20 {
                let cars = room(i, &[(400 + 10 * i as u32, 200, 40, 250)]);
                assert_eq!(stillness.judge(cars, false, at(i)), Judgement::Still, "{regions:?}");
            }
            assert_eq!(stillness.judge(room(30, &[(100, 200, 30, 250)]), false, at(30)), Judgement::Changed);
        }
        // A region too small for a cell is no reason to sleep for ever.
        let speck = [(0.5, 0.5), (0.501, 0.5), (0.5, 0.501)].map(|(x, y)| Point::new(x, y)).to_vec();
        let mut stillness = Stillness::within(&[Region { points: speck, exclude: false }]);
        stillness.judge(room(0, &[]), false, start);
        assert_eq!(stillness.judge(room(1, &[(100, 200, 30, 250)]), false, start), Judgement::Changed);
    }

    #[test]
    fn a_scene_that_moves_everywhere_is_not_left_out() {
        let (mut stillness, start) = (Stillness::default(), Instant::now());
        let last = (0..40u64).map(|i| {
            let crowd: Vec<_> = (0..30u32).map(|k| (k * 20, (k * 37 + i as u32 * 11) % 300, 20, 230)).collect();
            stillness.judge(room(i, &crowd), false, start + Duration::from_millis(i * 100))
        });
        assert_eq!(last.last(), Some(Judgement::Changed));
    }
}
