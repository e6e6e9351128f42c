//! Many small pictures on one, each with two lines of text below.

use image::{Rgb, RgbImage, imageops};

use super::lettering;

/// Edge of a tile's picture, pixels.
pub const TILE_PX: u32 = 160;
const GAP: u32 = 8;
const LINE: u32 = 18;
const COLUMNS: u32 = 8;
const PAPER: Rgb<u8> = Rgb([245, 245, 242]);
const BLANK: Rgb<u8> = Rgb([205, 205, 200]);

/// One picture of a sheet.
#[derive(Debug, Clone)]
pub struct Tile {
    /// At most [`TILE_PX`] an edge, larger ones are cut; `None` leaves a blank.
    pub picture: Option<RgbImage>,
    /// The lines below it; about 20 characters fit.
    pub lines: [String; 2],
}

/// The sheet: rows of eight, from the top left.
pub fn draw(tiles: &[Tile]) -> RgbImage {
    let count = tiles.len() as u32;
    let columns = count.clamp(1, COLUMNS);
    let (wide, tall) = (TILE_PX + GAP, TILE_PX + 2 * LINE + GAP);
    let mut sheet = RgbImage::from_pixel(GAP + columns * wide, GAP + count.div_ceil(columns).max(1) * tall, PAPER);
    for (i, tile) in tiles.iter().enumerate() {
        let (x, y) = (GAP + i as u32 % columns * wide, GAP + i as u32 / columns * tall);
        let blank = || RgbImage::from_pixel(TILE_PX, TILE_PX, BLANK);
        let picture = tile.picture.clone().unwrap_or_else(blank);
        let (w, h) = (picture.width().min(TILE_PX), picture.height().min(TILE_PX));
        let picture = imageops::crop_imm(&picture, 0, 0, w, h).to_image();
        imageops::replace(&mut sheet, &picture, i64::from(x + (TILE_PX - w) / 2), i64::from(y + (TILE_PX - h) / 2));
        for (line, top) in tile.lines.iter().zip([TILE_PX + 2, TILE_PX + 2 + LINE]) {
            let fitting: String = line.chars().take(20).collect();
            lettering::write(&mut sheet, (i64::from(x), i64::from(y + top)), &fitting, 16, Rgb([0, 0, 0]));
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_eight_with_pictures_in_their_places() {
        let red = Rgb([200, 10, 10]);
        let tile = |picture| Tile { picture, lines: ["door".into(), "11-24 06:33".into()] };
        let mut tiles = vec![tile(Some(RgbImage::from_pixel(300, 40, red))); 9];
        tiles[8].picture = None;
        let sheet = draw(&tiles);
        assert_eq!(sheet.dimensions(), (8 + 8 * 168, 8 + 2 * 204));
        assert_eq!(*sheet.get_pixel(8 + 168 + 80, 8 + 80), red);
        assert_eq!(*sheet.get_pixel(8 + 80, 8 + 204 + 80), BLANK);
        assert!((0..160).any(|x| sheet.get_pixel(8 + x, 8 + 170).0[0] < 100), "no text below the picture");
        assert_eq!(draw(&[]).dimensions(), (176, 212));
    }
}
