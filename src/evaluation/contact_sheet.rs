//! Couples of faces side by side on one picture, each with what it is called.

use image::{Rgb, RgbImage, imageops};

use crate::{
    face::Detection,
    frame::{BBox, Picture, annotate, crop, lettering},
};

/// Edge of a face on the sheet, pixels.
const TILE: u32 = 132;
/// Room for a line of text below a tile.
const LINE: u32 = 20;
/// Distance between tiles.
const GAP: u32 = 8;
/// Couples a row.
const COLUMNS: u32 = 3;
const PAPER: Rgb<u8> = Rgb([250, 250, 250]);
const INK: Rgb<u8> = Rgb([30, 30, 30]);
const ALARM: Rgb<u8> = Rgb([176, 32, 32]);

/// Two faces.
#[derive(Debug, Clone)]
pub struct Couple {
    /// Both faces as [`tile`] cuts them; black when a picture could not be read again.
    pub faces: [RgbImage; 2],
    /// What they are called.
    pub names: [String; 2],
    /// Their similarity, as text.
    pub figure: String,
    /// Whether a person should look: drawn in red.
    pub alarming: bool,
}

/// A heading and its couples.
#[derive(Debug, Clone)]
pub struct Section {
    /// Says what the couples have in common.
    pub title: String,
    /// The couples.
    pub couples: Vec<Couple>,
}

/// The face with a little of what is around it, framed as the server's annotated pictures are.
pub fn tile(picture: &Picture, detection: &Detection) -> RgbImage {
    let around = detection.bbox.grown(1.5);
    let edge = around.width().max(around.height());
    let c = around.center();
    let square = BBox::new(c.x - edge / 2.0, c.y - edge / 2.0, c.x + edge / 2.0, c.y + edge / 2.0);
    let rgb = crop::warp(picture, &crop::box_transform(&square, TILE, TILE), TILE, TILE);
    let rgb: Vec<u8> = rgb.into_iter().map(|v| (v + 0.5) as u8).collect();
    let mut tile = RgbImage::from_raw(TILE, TILE, rgb).unwrap_or_else(|| RgbImage::new(TILE, TILE));
    let scale = TILE as f32 / edge.max(1.0);
    let b = detection.bbox;
    let at = |x: f32, y: f32| ((x - square.x1) * scale, (y - square.y1) * scale);
    let ((x1, y1), (x2, y2)) = (at(b.x1, b.y1), at(b.x2, b.y2));
    let mark = annotate::Mark { bbox: BBox::new(x1, y1, x2, y2), landmarks: None, label: String::new(), known: true };
    annotate::draw(&mut tile, &[mark]);
    tile
}

/// Draws the sheet. Sections without couples are left out; nothing at all gives a small empty sheet.
pub fn draw(sections: &[Section]) -> RgbImage {
    let couple_width = 2 * TILE + GAP;
    let couple_height = TILE + 2 * LINE + GAP;
    let width = COLUMNS * (couple_width + 2 * GAP) + GAP;
    let rows = |s: &Section| (s.couples.len() as u32).div_ceil(COLUMNS);
    let shown: Vec<&Section> = sections.iter().filter(|s| !s.couples.is_empty()).collect();
    let height: u32 = shown.iter().map(|s| 2 * LINE + rows(s) * (couple_height + GAP)).sum::<u32>() + 2 * GAP;
    let mut sheet = RgbImage::from_pixel(width, height, PAPER);
    let mut top = GAP;
    for section in shown {
        lettering::write(&mut sheet, (i64::from(GAP), i64::from(top)), &section.title, 20, INK);
        top += 2 * LINE;
        for (i, couple) in section.couples.iter().enumerate() {
            let x = GAP + (i as u32 % COLUMNS) * (couple_width + 2 * GAP);
            let y = top + (i as u32 / COLUMNS) * (couple_height + GAP);
            for (k, (face, name)) in couple.faces.iter().zip(&couple.names).enumerate() {
                let left = i64::from(x + k as u32 * (TILE + GAP));
                imageops::replace(&mut sheet, face, left, i64::from(y));
                let fits = (TILE / lettering::advance(16).max(1)) as usize;
                lettering::write(&mut sheet, (left, i64::from(y + TILE + 2)), &shortened(name, fits), 16, INK);
            }
            let color = if couple.alarming { ALARM } else { INK };
            lettering::write(&mut sheet, (i64::from(x), i64::from(y + TILE + LINE)), &couple.figure, 16, color);
        }
        top += rows(section) * (couple_height + GAP);
    }
    sheet
}

/// The end of a name tells files of a person apart, so the beginning is cut.
fn shortened(name: &str, fits: usize) -> String {
    let count = name.chars().count();
    if count <= fits {
        return name.to_owned();
    }
    let rest: String = name.chars().skip(count - fits.saturating_sub(1)).collect();
    format!("~{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Point;

    #[test]
    fn a_sheet_holds_every_couple() {
        let picture = Picture::from_rgb(RgbImage::from_pixel(300, 200, Rgb([10, 200, 10])));
        let detection =
            Detection { bbox: BBox::new(250.0, 150.0, 320.0, 240.0), score: 0.9, landmarks: [Point::default(); 5] };
        let face = tile(&picture, &detection);
        assert_eq!(face.dimensions(), (TILE, TILE));
        assert!(face.pixels().any(|p| p.0 == [10, 200, 10]));
        let couple = Couple {
            faces: [face.clone(), face],
            names: ["anna/1.jpg".into(), "a very long name of a file.jpg".into()],
            figure: "0.55".into(),
            alarming: true,
        };
        let one = draw(&[Section { title: "These look alike".into(), couples: vec![couple.clone()] }]);
        let four = draw(&[Section { title: "These look alike".into(), couples: vec![couple; 4] }]);
        assert!(four.height() > one.height() && four.width() == one.width());
        assert!(one.pixels().any(|p| *p == ALARM));
        assert!(draw(&[]).height() > 0);
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("anna/0001.jpg", 9), "~0001.jpg");
        assert_eq!(shortened("ä/1.jpg", 9), "ä/1.jpg");
    }
}
