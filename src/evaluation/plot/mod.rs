//! Plots a person can look at: panels of curves on one picture, as SVG or PNG by the file's ending.
//!
//! In: plain curves ([`Panel`], made by [`panels`]). SVG uses the viewer's fonts; PNG a built-in bitmap font, so that neither needs a
//! font library. Colours are Okabe and Ito's, which colour-blind people can tell apart.

mod canvas;
mod draw;
pub mod panels;

use std::path::Path;

use plotters::prelude::{IntoDrawingArea, SVGBackend};

use super::EvaluationError;
use crate::whole_file;

/// Width and height of a panel, pixels.
const PANEL: (u32, u32) = (760, 540);
/// Height of the picture's title, pixels.
const TITLE: u32 = 52;

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// Left or lower end; of a logarithmic axis its exponent of ten.
    pub from: f64,
    /// Right or upper end; of a logarithmic axis its exponent of ten.
    pub to: f64,
    /// Whether values are exponents of ten.
    pub log: bool,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A line.
    Line,
    /// A dashed line: a bound or a comparison.
    Dashed,
    /// A line with a dot at each point.
    Dots,
    /// Dots alone, where nothing lies between the points.
    Points,
    /// A filled area down to the lower end of the axis.
    Area,
    /// A vertical line at the x of its first point.
    Mark,
}

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend calls it; empty keeps it out.
    pub name: String,
    /// How it is drawn.
    pub kind: Kind,
    /// Which colour, counted from 0; [`GREY`] for what is not measured.
    pub hue: usize,
    /// Points; on a logarithmic axis exponents of ten.
    pub points: Vec<(f64, f64)>,
}

/// The grey of marks and bounds.
pub const GREY: usize = usize::MAX;

/// A diagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Says what it shows.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Its curves, drawn in order.
    pub series: Vec<Series>,
    /// Where the legend is in nobody's way.
    pub legend: Legend,
}

/// A corner for the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Legend {
    /// Right, above the x axis.
    LowerRight,
    /// Right, halfway up.
    MiddleRight,
    /// Right, below the title.
    UpperRight,
    /// Left, below the title.
    UpperLeft,
}

/// Draws panels, two a row, and writes the file.
///
/// # Errors
/// When there is nothing to draw, the ending is neither `svg` nor `png`, or the file can't be written.
pub fn save(path: &Path, title: &str, panels: &[Panel]) -> Result<(), EvaluationError> {
    check(path)?;
    if panels.is_empty() {
        return Err(EvaluationError::Drawing("there is no curve to draw".into()));
    }
    let columns = if panels.len() == 1 { 1 } else { 2 };
    let size = (PANEL.0 * columns, TITLE + PANEL.1 * (panels.len() as u32).div_ceil(columns));
    if is_svg(path) {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
            draw::figure(&area, title, TITLE, columns, panels)?;
            area.present().map_err(|e| EvaluationError::Drawing(e.to_string()))?;
        }
        return whole_file::write(path, text.as_bytes()).map_err(written(path));
    }
    let mut image = image::RgbImage::new(size.0, size.1);
    {
        let area = canvas::Canvas(&mut image).into_drawing_area();
        draw::figure(&area, title, TITLE, columns, panels)?;
    }
    whole_file::write_picture(path, &image).map_err(written(path))
}

fn written(path: &Path) -> impl FnOnce(std::io::Error) -> EvaluationError + '_ {
    |e| EvaluationError::Drawing(format!("{}: {e}", path.display()))
}

fn is_svg(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg"))
}

/// Whether the file's ending says how to draw: asked before an hour of work, not after.
///
/// # Errors
/// When the ending is neither `svg` nor `png`.
pub fn check(path: &Path) -> Result<(), EvaluationError> {
    if is_svg(path) || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        return Ok(());
    }
    Err(EvaluationError::Drawing(format!("{} ends neither in .svg nor in .png", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::evaluation::Scores;

    fn some() -> Vec<Panel> {
        let scores = Scores::new(
            (0..200).map(|i| 0.4 + i as f32 / 400.0).collect(),
            (0..900).map(|i| i as f32 / 1800.0).collect(),
        );
        vec![panels::roc(&[("a-model", &scores)]), panels::histogram("a-model", &scores, 0.45)]
    }

    #[test]
    fn an_svg_holds_curves_titles_and_axes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plot.svg");
        save(&file, "Two <panels> & a title", &some()).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for word in ["ROC", "a-model", "false accept rate", "polyline", "&lt;panels&gt;"] {
            assert!(text.contains(word), "{word} is missing");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn a_png_has_the_size_of_its_panels_and_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plot.png");
        save(&file, "Title", &some()).unwrap();
        let image = image::open(&file).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (2 * PANEL.0, PANEL.1 + TITLE));
        let dark = image.pixels().filter(|p| p.0.iter().all(|c| *c < 90)).count();
        assert!(dark > 2000, "{dark} dark pixels: no text was drawn");
    }

    #[test]
    fn other_endings_are_refused_before_the_work() {
        assert!(check(Path::new("plot.pdf")).unwrap_err().to_string().contains(".svg"));
        assert!(save(Path::new("plot.svg"), "", &[]).is_err());
        assert!(check(Path::new("PLOT.SVG")).is_ok());
    }
}
