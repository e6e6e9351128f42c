//! Panels → plotters' shapes, on any back end.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Axis, EvaluationError, GREY, Kind, Legend, Panel, Series};

/// Okabe and Ito, "Color Universal Design", 2008; the two that are hard to see on white are left out.
const HUES: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const DIM: RGBColor = RGBColor(110, 110, 110);
const FONT: &str = "sans-serif";

fn hue(number: usize) -> RGBColor {
    if number == GREY { DIM } else { HUES[number % HUES.len()] }
}

fn failed(error: impl std::fmt::Display) -> EvaluationError {
    EvaluationError::Drawing(error.to_string())
}

/// The whole picture: title, then panels, `columns` a row.
pub(super) fn figure<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    title_height: u32,
    columns: u32,
    panels: &[Panel],
) -> Result<(), EvaluationError> {
    area.fill(&WHITE).map_err(failed)?;
    let (head, body) = area.split_vertically(title_height);
    let style = TextStyle::from((FONT, 24)).pos(Pos::new(HPos::Center, VPos::Center));
    let middle = (area.dim_in_pixel().0 as i32 / 2, title_height as i32 / 2);
    head.draw(&Text::new(title.to_owned(), middle, style)).map_err(failed)?;
    let rows = panels.len().div_ceil(columns as usize);
    for (place, panel) in body.split_evenly((rows, columns as usize)).iter().zip(panels) {
        one(place, panel)?;
    }
    Ok(())
}

/// A tick: powers of ten on logarithmic axes, as few digits as the range needs on others.
fn tick(axis: &Axis, value: f64) -> String {
    if axis.log {
        return match value.round() as i32 {
            exponent if (value - f64::from(exponent)).abs() > 1e-6 => String::new(),
            0 => "1".into(),
            -1 => "0.1".into(),
            -2 => "0.01".into(),
            exponent => format!("1e{exponent}"),
        };
    }
    let digits = match axis.to - axis.from {
        span if span > 20.0 => 0,
        span if span > 0.95 => 1,
        _ => 2,
    };
    format!("{:.digits$}", if value.abs() < 1e-9 { 0.0 } else { value })
}

fn one<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panel: &Panel) -> Result<(), EvaluationError> {
    let (x, y) = (&panel.x, &panel.y);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 20))
        .margin(14)
        .margin_top(22)
        .margin_right(28)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(x.from..x.to, y.from..y.to)
        .map_err(failed)?;
    let whole = |axis: &Axis| if axis.log { (axis.to - axis.from).round().max(1.0) as usize + 1 } else { 11 };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(DIM)
        .x_labels(whole(x))
        .y_labels(whole(y))
        .x_label_formatter(&|v| tick(x, *v))
        .y_label_formatter(&|v| tick(y, *v))
        .x_desc(&x.label)
        .y_desc(&y.label)
        .label_style((FONT, 16))
        .axis_desc_style((FONT, 16))
        .draw()
        .map_err(failed)?;
    for series in &panel.series {
        let color = hue(series.hue);
        let inside = |(a, b): &(f64, f64)| (a.clamp(x.from, x.to), b.clamp(y.from, y.to));
        let points: Vec<(f64, f64)> =
            series.points.iter().filter(|(a, b)| a.is_finite() && b.is_finite()).map(inside).collect();
        let drawn = match series.kind {
            Kind::Line => chart.draw_series(LineSeries::new(points, color.stroke_width(3))).map_err(failed)?,
            Kind::Dots => {
                let dots = points.iter().map(|p| Circle::new(*p, 5, color.filled()));
                chart.draw_series(dots).map_err(failed)?;
                chart.draw_series(LineSeries::new(points, color.stroke_width(2))).map_err(failed)?
            }
            Kind::Points => {
                let dots = points.iter().map(|p| Circle::new(*p, 7, color.filled()));
                chart.draw_series(dots).map_err(failed)?
            }
            Kind::Dashed => {
                chart.draw_series(DashedLineSeries::new(points, 8, 6, color.stroke_width(2))).map_err(failed)?
            }
            Kind::Area => {
                let area = AreaSeries::new(points, y.from, color.mix(0.28)).border_style(color.stroke_width(2));
                chart.draw_series(area).map_err(failed)?
            }
            Kind::Mark => {
                let at = points.first().map_or(x.from, |p| p.0);
                let line = [(at, y.from), (at, y.to)];
                chart.draw_series(DashedLineSeries::new(line, 4, 5, color.stroke_width(2))).map_err(failed)?
            }
        };
        legend(drawn, series, color);
    }
    if panel.series.iter().any(|s| !s.name.is_empty()) {
        let position = match panel.legend {
            Legend::LowerRight => SeriesLabelPosition::LowerRight,
            Legend::MiddleRight => SeriesLabelPosition::MiddleRight,
            Legend::UpperRight => SeriesLabelPosition::UpperRight,
            Legend::UpperLeft => SeriesLabelPosition::UpperLeft,
        };
        chart
            .configure_series_labels()
            .position(position)
            .background_style(WHITE.mix(0.9))
            .border_style(RGBColor(200, 200, 200))
            .label_font((FONT, 16))
            .margin(10)
            .legend_area_size(30)
            .draw()
            .map_err(failed)?;
    }
    Ok(())
}

fn legend<'a, B: DrawingBackend + 'a>(
    drawn: &mut plotters::chart::SeriesAnno<'a, B>,
    series: &Series,
    color: RGBColor,
) {
    if series.name.is_empty() {
        return;
    }
    let kind = series.kind;
    drawn.label(series.name.as_str()).legend(move |(x, y)| {
        // Three strokes: apart for a dashed line, joined for the others; an area is a thick one.
        let ends = match kind {
            Kind::Dashed | Kind::Mark => [(0, 6), (9, 15), (18, 24)],
            _ => [(0, 8), (8, 16), (16, 24)],
        };
        let style = if kind == Kind::Area { color.mix(0.5).stroke_width(8) } else { color.stroke_width(3) };
        let stroke = |i: usize| PathElement::new(vec![(ends[i].0, 0), (ends[i].1, 0)], style);
        EmptyElement::at((x, y)) + stroke(0) + stroke(1) + stroke(2)
    });
}
