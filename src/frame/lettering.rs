//! Text drawn into a picture with a built-in bitmap font: no font files, the same on every machine.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

/// The font's height that is nearest below `height` pixels; 16 is the smallest, 32 the largest.
fn raster(height: u32) -> RasterHeight {
    match height {
        0..=19 => RasterHeight::Size16,
        20..=23 => RasterHeight::Size20,
        24..=31 => RasterHeight::Size24,
        _ => RasterHeight::Size32,
    }
}

/// Pixels from one letter to the next at a height in pixels.
pub fn advance(height: u32) -> u32 {
    get_raster_width(FontWeight::Bold, raster(height)) as u32
}

/// Height of a line of text, pixels, that is really drawn for a wanted height.
pub fn line_height(height: u32) -> u32 {
    raster(height).val() as u32
}

pub(super) fn glyphs(text: &str, height: u32, most: usize) -> Vec<RasterizedChar> {
    let size = raster(height);
    let glyph = |c| get_raster(c, FontWeight::Bold, size).or_else(|| get_raster('?', FontWeight::Bold, size));
    text.chars().take(most).filter_map(glyph).collect()
}

/// Which letter pixels are set: calls `dot` with x, y from the text's left top corner, and strength 1 to 255. Letters beyond the font become `?`.
pub fn each_dot(text: &str, height: u32, mut dot: impl FnMut(i64, i64, u8)) {
    let mut left = 0;
    // No picture is wide enough for more.
    for glyph in glyphs(text, height, 4096) {
        for (row, line) in glyph.rows().enumerate() {
            for (column, strength) in line.iter().enumerate().filter(|(_, s)| **s > 0) {
                dot(left + column as i64, row as i64, *strength);
            }
        }
        left += glyph.width() as i64;
    }
}

/// Writes a line of text; (x, y) is its left top corner. What leaves the picture is cut off.
pub fn write(image: &mut RgbImage, (x, y): (i64, i64), text: &str, height: u32, color: Rgb<u8>) {
    let (w, h) = (i64::from(image.width()), i64::from(image.height()));
    each_dot(text, height, |dx, dy, strength| {
        let (px, py) = (x + dx, y + dy);
        if (0..w).contains(&px) && (0..h).contains(&py) {
            let pixel = image.get_pixel_mut(px as u32, py as u32);
            let (add, keep) = (u32::from(strength), 255 - u32::from(strength));
            for (old, new) in pixel.0.iter_mut().zip(color.0) {
                *old = ((u32::from(*old) * keep + u32::from(new) * add) / 255) as u8;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_drawn_inside_and_cut_at_the_border() {
        let mut image = RgbImage::new(40, 20);
        write(&mut image, (2, 2), "Aß李", 16, Rgb([255, 0, 0]));
        assert!(image.pixels().any(|p| p.0[0] > 200 && p.0[1] == 0));
        write(&mut image, (-500, 900), "far away", 32, Rgb([255, 255, 255]));
        assert!(image.pixels().all(|p| p.0[1] == 0));
        assert!(advance(16) < advance(32) && line_height(21) == 20);
    }
}
