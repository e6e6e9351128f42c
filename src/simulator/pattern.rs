//! The test pattern: colour bars, a moving square and a clock that shows the time within the loop.

use std::time::Duration;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

/// Length of one loop.
pub const LOOP: Duration = Duration::from_secs(20);

const BARS: [[u8; 3]; 7] =
    [[192, 192, 192], [192, 192, 0], [0, 192, 192], [0, 192, 0], [192, 0, 192], [192, 0, 0], [0, 0, 192]];

/// Fills a packed RGB picture with the pattern at `at`.
pub fn draw(size: (u32, u32), at: Duration, pixels: &mut [u8]) {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let edge = (height / 6).max(2);
    // Across and back once a loop, so that the end meets the start.
    let part = at.as_secs_f32() / LOOP.as_secs_f32();
    let left = ((width.saturating_sub(edge)) as f32 * (1.0 - (2.0 * part - 1.0).abs())) as usize;
    let top = height * 2 / 3;
    for (row, line) in pixels.chunks_exact_mut(width * 3).enumerate() {
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            let inside = (left..left + edge).contains(&column) && (top..top + edge).contains(&row);
            let bar = BARS[(column * BARS.len() / width.max(1)).min(BARS.len() - 1)];
            pixel.copy_from_slice(if inside { &[255, 255, 255] } else { &bar });
        }
    }
    let millis = at.as_millis();
    write(pixels, size, &format!("{:02}.{:03}", millis / 1000, millis % 1000));
}

/// Writes text in the upper half, as large as fits a third of the height.
fn write(pixels: &mut [u8], size: (u32, u32), text: &str) {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let scale = (height / 48).max(1);
    let mut left = width / 16;
    for letter in text.chars() {
        let Some(glyph) = get_raster(letter, FontWeight::Bold, RasterHeight::Size16) else { continue };
        for (row, line) in glyph.rows().enumerate() {
            for (column, &ink) in line.iter().enumerate().filter(|(_, ink)| **ink > 96) {
                for (y, x) in (0..scale * scale).map(|index| (index / scale, index % scale)) {
                    let (x, y) = (left + column * scale + x, height / 6 + row * scale + y);
                    if let Some(pixel) = (x < width).then(|| pixels.get_mut((y * width + x) * 3..)).flatten() {
                        pixel.iter_mut().take(3).for_each(|value| *value = 255 - ink);
                    }
                }
            }
        }
        left += glyph.width() * scale;
    }
}
