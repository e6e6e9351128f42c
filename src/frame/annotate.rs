//! Boxes, landmarks and names drawn into a picture.

use image::{Rgb, RgbImage};

use super::{BBox, Point, lettering};

/// One face to mark.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where; may leave the picture.
    pub bbox: BBox,
    /// Landmarks to dot, if wanted.
    pub landmarks: Option<[Point; 5]>,
    /// Text above the box; empty draws none.
    pub label: String,
    /// Known faces are green, others amber.
    pub known: bool,
}

const KNOWN: Rgb<u8> = Rgb([46, 184, 92]);
const OTHER: Rgb<u8> = Rgb([240, 160, 30]);

/// Draws marks; line width and text follow the picture's size.
pub fn draw(image: &mut RgbImage, marks: &[Mark]) {
    let edge = image.width().max(image.height());
    let line = (edge / 500).clamp(2, 8) as i64;
    for mark in marks {
        let color = if mark.known { KNOWN } else { OTHER };
        let [x1, y1, x2, y2] =
            [mark.bbox.x1, mark.bbox.y1, mark.bbox.x2, mark.bbox.y2].map(|v| v.clamp(-1e6, 1e6).round() as i64);
        fill(image, [x1, y1, x2, y1 + line], color);
        fill(image, [x1, y2 - line, x2, y2], color);
        fill(image, [x1, y1, x1 + line, y2], color);
        fill(image, [x2 - line, y1, x2, y2], color);
        for p in mark.landmarks.iter().flatten() {
            let (x, y) = (p.x.clamp(-1e6, 1e6).round() as i64, p.y.clamp(-1e6, 1e6).round() as i64);
            fill(image, [x - line / 2, y - line / 2, x + line - line / 2, y + line - line / 2], color);
        }
    }
    // Names last, so that no box crosses one.
    for mark in marks.iter().filter(|m| !m.label.is_empty()) {
        text(image, mark, edge);
    }
}

fn text(image: &mut RgbImage, mark: &Mark, edge: u32) {
    let height = match edge {
        0..=600 => 16,
        601..=1100 => 20,
        1101..=1700 => 24,
        _ => 32,
    };
    let label: String = mark.label.chars().take(40).collect();
    let width = i64::from(lettering::advance(height)) * label.chars().count() as i64;
    let tall = i64::from(lettering::line_height(height));
    let (picture_w, picture_h) = (i64::from(image.width()), i64::from(image.height()));
    let x = (mark.bbox.x1.clamp(-1e6, 1e6).round() as i64).min(picture_w - width - 8).max(0);
    let above = mark.bbox.y1.clamp(-1e6, 1e6).round() as i64 - tall - 4;
    let y = if above >= 0 {
        above
    } else {
        (mark.bbox.y2.clamp(-1e6, 1e6).round() as i64).min(picture_h - tall - 4).max(0)
    };
    fill(image, [x, y, x + width + 8, y + tall + 4], if mark.known { KNOWN } else { OTHER });
    lettering::write(image, (x + 4, y + 2), &label, height, Rgb([0, 0, 0]));
}

/// Fills the part of a half-open rectangle that lies in the picture.
fn fill(image: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], color: Rgb<u8>) {
    let (w, h) = (i64::from(image.width()), i64::from(image.height()));
    for y in y1.max(0)..y2.min(h) {
        for x in x1.max(0)..x2.min(w) {
            image.put_pixel(x as u32, y as u32, color);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_beyond_the_picture_and_odd_letters_do_no_harm() {
        let mut image = RgbImage::new(120, 80);
        let far = BBox::new(-50.0, -50.0, 500.0, 500.0);
        let label = "Žofie 李 \u{1F600}".to_owned();
        let nan = BBox::new(f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.0);
        let marks = [far, nan].map(|bbox| Mark {
            bbox,
            landmarks: Some([Point::new(1e9, -1e9); 5]),
            label: label.clone(),
            known: true,
        });
        draw(&mut image, &marks);
        assert!(image.pixels().any(|p| *p == KNOWN));
    }

    #[test]
    fn a_box_is_drawn_where_it_is() {
        let mut image = RgbImage::new(200, 100);
        let mark =
            Mark { bbox: BBox::new(20.0, 30.0, 60.0, 80.0), landmarks: None, label: String::new(), known: false };
        draw(&mut image, &[mark]);
        assert_eq!(*image.get_pixel(20, 50), OTHER);
        assert_eq!(*image.get_pixel(40, 50), Rgb([0, 0, 0]));
    }
}
