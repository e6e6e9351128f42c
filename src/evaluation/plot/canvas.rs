//! An RGB image as a place for plotters to draw on. Text comes from the built-in bitmap font, everything else from plotters' rasteriser.

use std::convert::Infallible;

use image::RgbImage;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    text_anchor::{HPos, VPos},
};

use crate::frame::lettering;

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// Draws into the image.
pub(super) struct Canvas<'a>(pub &'a mut RgbImage);

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return Ok(()) };
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            let (r, g, b) = color.rgb;
            for (old, new) in pixel.0.iter_mut().zip([r, g, b]) {
                let mixed = f64::from(*old) * (1.0 - color.alpha) + f64::from(new) * color.alpha;
                *old = mixed.round().clamp(0.0, 255.0) as u8;
            }
        }
        Ok(())
    }

    // Segment by segment: one polygon around a whole curve has holes where the curve turns sharply.
    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        let mut from: Option<BackendCoord> = None;
        for to in path {
            if let Some(from) = from {
                self.draw_line(from, to, style)?;
            }
            from = Some(to);
        }
        Ok(())
    }

    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        text: &str,
        style: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        Ok(size_of(text, style.size()))
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, pos: BackendCoord) -> Drawn {
        let (width, height) = size_of(text, style.size());
        let (width, height) = (width as i32, height as i32);
        let dx = match style.anchor().h_pos {
            HPos::Left => 0,
            HPos::Right => -width,
            HPos::Center => -width / 2,
        };
        let dy = match style.anchor().v_pos {
            VPos::Top => 0,
            VPos::Center => -height / 2,
            VPos::Bottom => -height,
        };
        let (turn, color) = (style.transform(), style.color());
        let mut dots = Vec::new();
        lettering::each_dot(text, style.size() as u32, |x, y, strength| dots.push((x as i32, y as i32, strength)));
        for (x, y, strength) in dots {
            let (x, y) = turn.transform(x + dx, y + dy);
            let color = BackendColor { alpha: color.alpha * f64::from(strength) / 255.0, rgb: color.rgb };
            self.draw_pixel((pos.0 + x, pos.1 + y), color)?;
        }
        Ok(())
    }
}

fn size_of(text: &str, size: f64) -> (u32, u32) {
    let height = size as u32;
    (lettering::advance(height) * text.chars().count() as u32, lettering::line_height(height))
}
