//! A coarse map of brightness: what tells a still scene from one in which something moves.

use super::Picture;

/// Columns of cells.
pub const COLUMNS: usize = 64;
/// Rows of cells.
pub const ROWS: usize = 36;
/// Rows of pixels that are read of each row of cells: enough to average noise away, few enough to cost next to nothing.
const READ: usize = 8;

/// A cell that differs by more than this has changed, grey levels. Noise of a mean over 240 pixels stays well below.
pub const CHANGED: f32 = 4.0;
/// Cells that change at once at most, share of all, where a clock in the picture may be all that does: a hand-width of writing. More is movement.
pub const FEW: f32 = 0.01;
/// Maps of one view correlate by more than this, and across a cut by less: by 0.23, 0.12, 0.05 and 0.01 at those of a video, by 0.82 or more
/// 0.2 s apart in three videos without any.
const SAME_VIEW: f32 = 0.5;
/// Another view changes at least this share of the cells; 0.77 at the least of those cuts, 0.68 at most in a fast pan. In the dark,
/// somebody who runs may be all that correlates.
const ANOTHER_VIEW: f32 = 0.7;

/// Row and column of a cell in a map of so many. Pictures narrower than [`COLUMNS`] pixels have a cell a column; what their rows are then
/// doesn't matter.
pub fn row_and_column(cell: usize, cells: usize) -> (usize, usize) {
    let columns = COLUMNS.min(cells).max(1);
    (cell / columns, cell % columns)
}

/// Mean brightness of each cell, row by row; 0 to 255.
#[derive(Debug, Clone, PartialEq)]
pub struct LumaGrid(Vec<f32>);

impl LumaGrid {
    /// The map of a picture; reads a part of the rows of its first plane (of RGB all three channels count alike).
    pub fn of(picture: &Picture) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let plane = picture.plane(0);
        let bytes = if picture.format() == super::PixelFormat::Rgb { 3 } else { 1 };
        let (columns, rows) = (COLUMNS.min(width), ROWS.min(height));
        let mut cells = Vec::with_capacity(columns * rows);
        let mut sums = vec![0u32; columns];
        for row in 0..rows {
            let (top, bottom) = (row * height / rows, (row + 1) * height / rows);
            let step = ((bottom - top) / READ).max(1);
            let mut read = 0u32;
            sums.fill(0);
            for y in (top..bottom).step_by(step) {
                let start = y * plane.stride;
                let Some(line) = plane.data.get(start..start + width * bytes) else { continue };
                read += 1;
                for (column, sum) in sums.iter_mut().enumerate() {
                    let (from, to) = (column * width / columns * bytes, (column + 1) * width / columns * bytes);
                    *sum += line[from..to].iter().map(|v| u32::from(*v)).sum::<u32>();
                }
            }
            cells.extend(sums.iter().enumerate().map(|(column, sum)| {
                let wide = ((column + 1) * width / columns - column * width / columns) * bytes;
                *sum as f32 / (wide as u32 * read).max(1) as f32
            }));
        }
        Self(cells)
    }

    /// By how much each cell differs, light that changed everywhere alike taken out; `None` for pictures of another size.
    pub fn change(&self, before: &Self) -> Option<Vec<f32>> {
        if self.0.len() != before.0.len() || self.0.is_empty() {
            return None;
        }
        let mut apart: Vec<f32> = self.0.iter().zip(&before.0).map(|(now, then)| now - then).collect();
        let mut sorted = apart.clone();
        let (_, median, _) = sorted.select_nth_unstable_by(apart.len() / 2, f32::total_cmp);
        let everywhere = *median;
        apart.iter_mut().for_each(|cell| *cell = (*cell - everywhere).abs());
        Some(apart)
    }

    /// Takes some cells of a map of the same size.
    pub fn take_from(&mut self, other: &Self, which: impl Fn(usize) -> bool) {
        let cells = self.0.iter_mut().zip(&other.0).enumerate();
        cells.filter(|(cell, _)| which(*cell)).for_each(|(_, (ours, theirs))| *ours = *theirs);
    }

    /// Whether the camera looks elsewhere than a moment `before`: it was turned at once, or the video was cut. Light that changes, a
    /// pan, and people who come near are no other view.
    pub fn is_another_view(&self, before: &Self) -> bool {
        let Some(apart) = self.change(before) else { return true };
        let changed = apart.iter().filter(|cell| **cell > CHANGED).count() as f32;
        changed >= ANOTHER_VIEW * apart.len() as f32 && self.correlation(before) < SAME_VIEW
    }

    /// Pearson's correlation, -1 to 1; 1 where either is of one brightness everywhere and says nothing.
    fn correlation(&self, other: &Self) -> f32 {
        let mean = |cells: &[f32]| cells.iter().sum::<f32>() / cells.len().max(1) as f32;
        let (here, there) = (mean(&self.0), mean(&other.0));
        let (mut both, mut ours, mut theirs) = (0.0, 0.0, 0.0);
        for (a, b) in self.0.iter().zip(&other.0) {
            let (a, b) = (a - here, b - there);
            both += a * b;
            ours += a * a;
            theirs += b * b;
        }
        let flat = CHANGED * CHANGED * self.0.len() as f32;
        if ours < flat || theirs < flat { 1.0 } else { both / (ours * theirs).sqrt() }
    }
}

/// What a camera shows: the map of the newest frame.
#[derive(Debug, Default)]
pub struct View(Option<LumaGrid>);

impl View {
    /// Takes the map of the next frame; whether it is another view than the one before ([`LumaGrid::is_another_view`]).
    pub fn moves_to(&mut self, next: LumaGrid) -> bool {
        let elsewhere = self.0.as_ref().is_some_and(|before| next.is_another_view(before));
        self.0 = Some(next);
        elsewhere
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn largest(a: &RgbImage, b: &RgbImage) -> Option<f32> {
        let grid = |image: &RgbImage| LumaGrid::of(&Picture::from_rgb(image.clone()));
        grid(a).change(&grid(b)).map(|cells| cells.into_iter().fold(0.0, f32::max))
    }

    #[test]
    fn light_is_no_change_and_a_small_face_is() {
        let plain = RgbImage::from_fn(1280, 720, |x, y| Rgb([(x / 16 + y / 16) as u8; 3]));
        let mut brighter = plain.clone();
        brighter.pixels_mut().for_each(|p| p.0 = p.0.map(|v| v + 9));
        assert!(largest(&plain, &brighter).unwrap() < 0.01);
        let mut visited = plain.clone();
        (0..40 * 40).for_each(|i| visited.put_pixel(700 + i % 40, 300 + i / 40, Rgb([230; 3])));
        assert!(largest(&plain, &visited).unwrap() > 20.0);
        assert_eq!(largest(&plain, &RgbImage::new(32, 20)), None);
    }

    #[test]
    fn a_cut_is_another_view_and_a_lamp_or_a_large_person_is_not() {
        let room = |seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            let furniture: Vec<u8> = (0..16 * 9).map(|_| random.u8(20..160)).collect();
            RgbImage::from_fn(640, 360, |x, y| Rgb([furniture[(y / 40 * 16 + x / 40) as usize]; 3]))
        };
        let grid = |image: &RgbImage| LumaGrid::of(&Picture::from_rgb(image.clone()));
        let (lobby, yard) = (room(1), room(2));
        assert!(grid(&yard).is_another_view(&grid(&lobby)));
        let mut view = View::default();
        let moves = [&lobby, &lobby, &yard, &yard, &lobby].map(|next| view.moves_to(grid(next)));
        assert_eq!(moves, [false, false, true, false, true]);
        let mut lit = lobby.clone();
        lit.enumerate_pixels_mut()
            .for_each(|(x, _, p)| p.0 = p.0.map(|v| (f32::from(v) * (1.0 + x as f32 / 1280.0)) as u8));
        assert!(!grid(&lit).is_another_view(&grid(&lobby)));
        // Two fifths of the view, and there at once: more than anybody can.
        let with = |room: &RgbImage, left: u32| {
            let mut room = room.clone();
            (60..360)
                .for_each(|y| (left..left + 300).for_each(|x| room.put_pixel(x, y, Rgb([200 - (y % 30) as u8; 3]))));
            grid(&room)
        };
        assert!(!with(&lobby, 20).is_another_view(&grid(&lobby)));
        let dark = RgbImage::from_pixel(640, 360, Rgb([12; 3]));
        assert!(!grid(&lobby).is_another_view(&grid(&dark)), "nothing was seen before");
        // All that is seen at night is who runs there.
        let runs = |left: u32| {
            let mut night = dark.clone();
            (200..300).for_each(|y| (left..left + 60).for_each(|x| night.put_pixel(x, y, Rgb([180; 3]))));
            grid(&night)
        };
        assert!(!runs(300).is_another_view(&runs(200)));
    }

    #[test]
    fn tiny_and_broken_pictures_have_a_map() {
        let one = RgbImage::from_pixel(1, 1, Rgb([90; 3]));
        assert_eq!(LumaGrid::of(&Picture::from_rgb(one)), LumaGrid(vec![90.0]));
        let odd = RgbImage::from_pixel(67, 41, Rgb([7; 3]));
        assert!(LumaGrid::of(&Picture::from_rgb(odd)).0.iter().all(|v| *v == 7.0));
    }
}
