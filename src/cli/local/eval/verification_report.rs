//! What `eval pairs` and `eval lfw` print and draw.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    verification::Result,
    words::{self, percent},
};
use crate::{
    cli::{
        error::Failure,
        output::{Io, cell, plain},
    },
    evaluation::{
        groups::Rates,
        pairs::PairList,
        plot::{self, panels},
    },
};

/// One object a model. The names of its keys are part of the contract: a script may rely on them.
fn object(result: &Result) -> Value {
    let far = |far: f64| result.scores.at_far(far);
    json!({
        "model": result.model,
        "pairs": result.scores.genuine().len() + result.scores.impostor().len(),
        "accuracy_mean": result.accuracy.mean,
        "accuracy_se": result.accuracy.standard_error,
        "auc": result.scores.auc(),
        "threshold": result.accuracy.threshold,
        "tar_at_far": {"0.01": far(1e-2).tar, "0.001": far(1e-3).tar},
        "no_face": result.lost.share(),
        "eer": result.scores.eer(),
        "genuine_pairs": result.scores.genuine().len(),
        "impostor_pairs": result.scores.impostor().len(),
        "threshold_at_far": {"0.01": far(1e-2).threshold, "0.001": far(1e-3).threshold},
        "verification": {
            "threshold": result.spec.verification_threshold,
            "tar": result.scores.at(result.spec.verification_threshold).tar,
            "far": result.scores.at(result.spec.verification_threshold).far,
        },
        "mirror": result.spec.mirror,
        "pictures": result.lost.pictures,
        "unreadable": result.lost.unreadable,
        "folds": result.accuracy.folds,
        "error_versus_discard": {"curve": result.discard, "gain": result.discard.gain()},
        "reliability": result.reliability,
        "groups": {"threshold": result.threshold, "rates": result.groups},
    })
}

/// Prints the results: lines of JSON, or tables with a column a model.
pub fn print(results: &[Result], pairs: &PairList, io: &mut Io<'_>) -> std::result::Result<(), Failure> {
    if io.json {
        for result in results {
            io.object(&object(result))?;
        }
        return Ok(());
    }
    let columns: Vec<String> = results.iter().map(|r| words::column(&r.model, r.spec.mirror)).collect();
    let figures = |of: &dyn Fn(&Result) -> String| results.iter().map(of).collect::<Vec<String>>();
    let at = |result: &Result, far: f64| {
        let point = result.scores.at_far(far);
        let few = if result.scores.supports(far) { "" } else { " *" };
        format!("{}{few} at {:.3}", percent(point.tar), point.threshold)
    };
    let rows = [
        ("pairs of one person", figures(&|r| r.scores.genuine().len().to_string())),
        ("pairs of different people", figures(&|r| r.scores.impostor().len().to_string())),
        ("accuracy", figures(&|r| format!("{} +- {:.2}", percent(r.accuracy.mean), r.accuracy.standard_error * 100.0))),
        ("threshold of it", figures(&|r| format!("{:.3}", r.accuracy.threshold))),
        ("AUC", figures(&|r| format!("{:.5}", r.scores.auc()))),
        ("EER", figures(&|r| percent(r.scores.eer()))),
        ("TAR at FAR 1e-2", figures(&|r| at(r, 1e-2))),
        ("TAR at FAR 1e-3", figures(&|r| at(r, 1e-3))),
        (
            "at the model's 1:1 threshold",
            figures(&|r| {
                let point = r.scores.at(r.spec.verification_threshold);
                format!("TAR {}, FAR {} at {:.3}", percent(point.tar), percent(point.far), point.threshold)
            }),
        ),
        (
            "pictures without a face",
            figures(&|r| format!("{} of {} ({})", r.lost.no_face, r.lost.pictures, percent(r.lost.share()))),
        ),
        ("confidence: ECE", figures(&|r| format!("{:.3}", r.reliability.ece))),
        (
            "quality: gain of discarding",
            figures(&|r| {
                r.discard.gain().map_or("no errors to avoid".into(), |g| format!("{g:.2} (1 ideal, 0 chance)"))
            }),
        ),
    ];
    words::beside(io, &columns, &rows)?;
    if results.iter().any(|r| !r.scores.supports(1e-3)) {
        io.line("* too few pairs of different people to see this rate: none of them was accepted")?;
    }
    for result in results.iter().filter(|r| !r.groups.is_empty()) {
        io.line("")?;
        let name = words::column(&result.model, result.spec.mirror);
        io.line(format!("{name}: error rates within groups at {:.3}", result.threshold))?;
        groups(&result.groups, io)?;
    }
    discards(results, &columns, io)?;
    let people = pairs.samples.iter().map(|s| &s.person).collect::<std::collections::BTreeSet<_>>().len();
    io.remark(format!("{} pictures of {people} people", pairs.samples.len()))?;
    Ok(())
}

fn groups(rates: &[Rates], io: &mut Io<'_>) -> std::io::Result<()> {
    let mut table = io.table(&["column", "group", "genuine", "FNMR", "95 %", "impostor", "FMR", "95 %"]);
    let within = |(low, high): (f64, f64)| format!("{:.2} to {:.2} %", low * 100.0, high * 100.0);
    let rate = |value: f64, of: usize| if of == 0 { "-".to_owned() } else { percent(value) };
    for r in rates {
        let texts = [
            plain(&r.column),
            plain(&r.group),
            r.genuine.to_string(),
            rate(r.fnmr, r.genuine),
            within(r.fnmr_interval),
            r.impostor.to_string(),
            rate(r.fmr, r.impostor),
            within(r.fmr_interval),
        ];
        table.add_row(texts.map(|t| cell(t, None)));
    }
    io.show(&table)
}

/// FNMR at FMR 1e-3 when the worst pictures are left out.
fn discards(results: &[Result], columns: &[String], io: &mut Io<'_>) -> std::io::Result<()> {
    let steps = results.iter().map(|r| r.discard.points.len()).min().unwrap_or(0);
    if results.iter().all(|r| r.discard.gain().is_none()) {
        return Ok(());
    }
    io.line("")?;
    io.line("FNMR at FMR 1e-3 when the worst pairs by quality are discarded")?;
    let names: Vec<String> = (0..steps).step_by(2).map(|i| format!("{} % discarded", i * 5)).collect();
    let rows: Vec<(&str, Vec<String>)> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let cells = results.iter().filter_map(|r| r.discard.points.get(i * 2));
            (name.as_str(), cells.map(|p| format!("{} (quality >= {:.2})", percent(p.fnmr), p.least_quality)).collect())
        })
        .collect();
    words::beside(io, columns, &rows)
}

/// Draws ROC, histograms, error versus discard and reliability.
pub fn plot(file: &Path, what: &str, results: &[Result]) -> std::result::Result<(), Failure> {
    let names: Vec<String> = results.iter().map(|r| words::column(&r.model, r.spec.mirror)).collect();
    let with = || names.iter().map(String::as_str).zip(results);
    let mut all = vec![panels::roc(&with().map(|(n, r)| (n, &r.scores)).collect::<Vec<_>>())];
    all.extend(with().map(|(n, r)| panels::histogram(n, &r.scores, r.accuracy.threshold)));
    all.push(panels::error_versus_discard(&with().map(|(n, r)| (n, &r.discard)).collect::<Vec<_>>()));
    all.push(panels::reliability(&with().map(|(n, r)| (n, &r.reliability)).collect::<Vec<_>>()));
    let first = results.first().map(|r| r.scores.genuine().len() + r.scores.impostor().len()).unwrap_or_default();
    plot::save(file, &format!("visage eval {what}: {first} pairs"), &all)?;
    Ok(())
}
