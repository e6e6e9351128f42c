//! Figures of the evaluation → panels.

use super::{Axis, GREY, Kind, Legend, Panel, Series};
use crate::evaluation::{
    Scores, discard, hardship, open_set,
    reliability::Reliability,
    scores::{Histogram, range},
    widerface::ap,
};

/// Points of a curve over false accept rates.
const POINTS: usize = 160;
const BINS: usize = 60;
/// A bin of the reliability diagram with fewer comparisons says nothing and is not drawn.
const LEAST_IN_BIN: usize = 20;

fn rate(label: &str) -> Axis {
    Axis { label: label.into(), from: 0.0, to: 1.0, log: false }
}

fn series(name: impl Into<String>, kind: Kind, hue: usize, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.into(), kind, hue, points }
}

/// The exponent at which curves over false accepts begin: one impostor of them all, rounded down.
fn least_exponent(sets: &[(&str, &Scores)]) -> f64 {
    let most = sets.iter().map(|(_, s)| s.impostor().len()).max().unwrap_or(1).max(10);
    -(most as f64).log10().ceil().clamp(1.0, 6.0)
}

/// ROC: TAR over FAR on a logarithmic axis, a curve a model.
pub fn roc(sets: &[(&str, &Scores)]) -> Panel {
    let from = least_exponent(sets);
    let mut lowest = 1.0f64;
    let curve = |(i, (name, scores)): (usize, &(&str, &Scores))| {
        let points: Vec<_> = scores.roc(POINTS).iter().map(|p| (p.far.max(1e-9).log10(), p.tar)).collect();
        lowest = points.iter().filter(|p| p.0 >= from).map(|p| p.1).fold(lowest, f64::min);
        series(*name, Kind::Line, i, points)
    };
    let all: Vec<Series> = sets.iter().enumerate().map(curve).collect();
    // Good models differ in the last percent: the axis begins where the curves do.
    let bottom = if lowest > 0.9 {
        0.9
    } else if lowest > 0.5 {
        0.5
    } else {
        0.0
    };
    Panel {
        title: "ROC: people recognised, at a rate of strangers accepted".into(),
        x: Axis { label: "false accept rate (FAR)".into(), from, to: 0.0, log: true },
        y: Axis { from: bottom, ..rate("true accept rate (TAR)") },
        series: all,
        legend: Legend::LowerRight,
    }
}

/// Identification: FNIR over FPIR on a logarithmic axis, a curve a model.
pub fn identification(sets: &[(&str, &Scores)]) -> Panel {
    let from = least_exponent(sets);
    let curve = |(i, (name, scores)): (usize, &(&str, &Scores))| {
        let points = scores.roc(POINTS).iter().map(|p| (p.far.max(1e-9).log10(), 1.0 - p.tar)).collect();
        series(*name, Kind::Line, i, points)
    };
    Panel {
        title: "Searches: missed people, at a rate of strangers named".into(),
        x: Axis { label: "false positive identification rate (FPIR)".into(), from, to: 0.0, log: true },
        y: rate("false negative identification rate (FNIR)"),
        series: sets.iter().enumerate().map(curve).collect(),
        legend: Legend::UpperRight,
    }
}

/// The outline of a histogram as shares of the largest bin.
fn outline(scores: &[f32], (from, to): (f32, f32)) -> Vec<(f64, f64)> {
    let histogram = Histogram::of(scores, from, to, BINS);
    let most = histogram.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let edge = |i: usize| f64::from(from) + i as f64 * f64::from(histogram.width);
    let steps = histogram.counts.iter().enumerate();
    steps.flat_map(|(i, n)| [(edge(i), *n as f64 / most), (edge(i + 1), *n as f64 / most)]).collect()
}

/// Histograms of several sets of similarities, each scaled to its own highest bin, with a marked threshold.
pub fn histograms(title: String, sets: &[(&str, &[f32])], mark: (&str, f32)) -> Panel {
    let (low, high) = range(sets.iter().map(|(_, s)| *s).chain([&[mark.1][..]]));
    let (low, high) = (low - 0.02, high + 0.02);
    let mut all: Vec<Series> = sets
        .iter()
        .enumerate()
        .filter(|(_, (_, scores))| !scores.is_empty())
        .map(|(i, (name, scores))| {
            series(format!("{name} ({})", scores.len()), Kind::Area, i, outline(scores, (low, high)))
        })
        .collect();
    let at = f64::from(mark.1);
    all.push(series(format!("{} {:.3}", mark.0, mark.1), Kind::Mark, GREY, vec![(at, 0.0)]));
    Panel {
        title,
        x: Axis { label: "similarity".into(), from: f64::from(low), to: f64::from(high), log: false },
        y: Axis { to: 1.45, ..rate("share of the highest bin") },
        series: all,
        legend: Legend::UpperRight,
    }
}

/// Histograms of genuine and impostor similarities with the chosen threshold.
pub fn histogram(model: &str, scores: &Scores, threshold: f32) -> Panel {
    let sets = [("one person", scores.genuine()), ("different people", scores.impostor())];
    histograms(format!("{model}: similarities of pairs"), &sets, ("threshold", threshold))
}

/// Error versus discard, a curve a model; the dashed line is the best that any quality number could do for the first.
pub fn error_versus_discard(curves: &[(&str, &discard::Curve)]) -> Panel {
    let percent = |points: &[discard::Point], of: &dyn Fn(&discard::Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|p| (p.discarded * 100.0, of(p) * 100.0)).collect()
    };
    let mut all: Vec<Series> = curves
        .iter()
        .enumerate()
        .map(|(i, (name, curve))| series(*name, Kind::Dots, i, percent(&curve.points, &|p| p.fnmr)))
        .collect();
    if let Some((name, curve)) = curves.first() {
        all.push(series(format!("ideal for {name}"), Kind::Dashed, GREY, percent(&curve.points, &|p| p.ideal)));
    }
    let most = all.iter().flat_map(|s| s.points.iter().map(|p| p.1)).fold(0.1, f64::max);
    Panel {
        title: "Quality: errors left when the worst pictures are discarded".into(),
        x: Axis { label: "genuine pairs discarded, worst quality first (%)".into(), from: 0.0, to: 50.0, log: false },
        y: Axis { label: "FNMR at FMR 0.001 (%)".into(), from: 0.0, to: most * 1.4, log: false },
        series: all,
        legend: Legend::UpperRight,
    }
}

/// Reliability of the confidence, a curve a model; on the diagonal it is true.
pub fn reliability(diagrams: &[(&str, &Reliability)]) -> Panel {
    let mut all = vec![series("true", Kind::Dashed, GREY, vec![(0.0, 0.0), (1.0, 1.0)])];
    all.extend(diagrams.iter().enumerate().map(|(i, (name, diagram))| {
        let bins = diagram.bins.iter().filter(|b| b.count >= LEAST_IN_BIN);
        let points = bins.map(|b| (b.confidence, b.genuine)).collect();
        series(format!("{name} (ECE {:.3})", diagram.ece), Kind::Points, i, points)
    }));
    Panel {
        title: "Confidence: what is said, and what is so".into(),
        x: rate("confidence said (bins of 20 comparisons or more)"),
        y: rate("share that is one person"),
        series: all,
        legend: Legend::UpperLeft,
    }
}

/// Share recognised over the quality number, a curve a model.
pub fn quality(models: &[(String, Vec<hardship::Bin>)]) -> Panel {
    let mut all = vec![series("as good as said", Kind::Dashed, GREY, vec![(0.0, 0.0), (1.0, 1.0)])];
    all.extend(models.iter().enumerate().map(|(i, (name, bins))| {
        let points = bins.iter().filter(|b| b.count >= LEAST_IN_BIN).map(|b| (b.quality, b.recognised)).collect();
        series(name.as_str(), Kind::Points, i, points)
    }));
    Panel {
        title: "Quality: what is said, and what is recognised".into(),
        x: rate("quality number (bins of 20 comparisons or more)"),
        y: rate("share recognised at FMR 0.001"),
        series: all,
        legend: Legend::UpperLeft,
    }
}

/// Open set: known faces named and strangers accepted over the threshold, the model's default marked.
pub fn open_set(model: &str, rows: &[open_set::Row], default: f32) -> Panel {
    let of = |value: &dyn Fn(&open_set::Row) -> f64| -> Vec<(f64, f64)> {
        rows.iter().map(|r| (f64::from(r.threshold), value(r))).collect()
    };
    let ends = range([rows.iter().map(|r| r.threshold).collect::<Vec<_>>().as_slice()]);
    Panel {
        title: format!("{model}: who is named, over the threshold"),
        x: Axis { label: "threshold (similarity)".into(), from: f64::from(ends.0), to: f64::from(ends.1), log: false },
        y: Axis { to: 1.05, ..rate("share") },
        series: vec![
            series("known, with their name", Kind::Dots, 0, of(&|r| r.identified)),
            series("strangers, with a name", Kind::Dots, 1, of(&|r| r.strangers_accepted)),
            series("known, with a wrong name", Kind::Dots, 3, of(&|r| r.misnamed)),
            series(format!("default {default:.3}"), Kind::Mark, GREY, vec![(f64::from(default), 0.0)]),
        ],
        legend: Legend::MiddleRight,
    }
}

/// Precision over recall of a detector, a curve a setting.
pub fn precision_recall(settings: &[(String, &ap::Precision)]) -> Panel {
    let curve = |(i, (name, precision)): (usize, &(String, &ap::Precision))| {
        let points = precision.curve.iter().filter(|p| p.recall > 0.0).map(|p| (p.recall, p.precision)).collect();
        series(format!("{name} (AP {:.3})", precision.average), Kind::Line, i, points)
    };
    Panel {
        title: "Detector: precision over recall".into(),
        x: rate("recall"),
        y: rate("precision"),
        series: settings.iter().enumerate().map(curve).collect(),
        legend: Legend::LowerRight,
    }
}
