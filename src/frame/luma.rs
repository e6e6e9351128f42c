//! A coarse map of brightness: what tells a still scene from one in which something moves.

use super::Picture;

/// Columns of cells.
pub const COLUMNS: usize = 64;
/// Rows of cells.
pub const ROWS: usize = 36;
/// Rows of pixels that are read of each row of cells: enough to average noise away, few enough to cost next to nothing.
const READ: usize = 8;

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
    fn tiny_and_broken_pictures_have_a_map() {
        let one = RgbImage::from_pixel(1, 1, Rgb([90; 3]));
        assert_eq!(LumaGrid::of(&Picture::from_rgb(one)), LumaGrid(vec![90.0]));
        let odd = RgbImage::from_pixel(67, 41, Rgb([7; 3]));
        assert!(LumaGrid::of(&Picture::from_rgb(odd)).0.iter().all(|v| *v == 7.0));
    }
}
