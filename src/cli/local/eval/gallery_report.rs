//! What `eval gallery` prints and draws.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    gallery::Result,
    words::{self, percent},
};
use crate::{
    cli::{
        error::Failure,
        output::{Ink, Io, cell, plain},
    },
    evaluation::{
        gallery::Couple,
        plot::{self, panels},
        scores::{Histogram, range},
    },
};

/// False positive identification rates that are reported.
const RATES: [(&str, f64); 3] = [("0.1", 1e-1), ("0.01", 1e-2), ("0.001", 1e-3)];
/// Bins of the histograms in JSON.
const BINS: usize = 50;

/// One object a model.
fn object(result: &Result, worst: usize) -> Value {
    let searches = &result.searches;
    let by_rate = |value: &dyn Fn(f64) -> Value| -> Value {
        RATES.iter().map(|(name, rate)| ((*name).to_owned(), value(*rate))).collect::<serde_json::Map<_, _>>().into()
    };
    let (genuine, impostor) = (searches.scores.genuine(), searches.scores.impostor());
    // Without a person of two faces nobody can be missed: such rates are null.
    let mated = searches.mated() > 0;
    let (low, high) = range([genuine, impostor, &result.strangers]);
    let histogram = |scores: &[f32]| Histogram::of(scores, low, high, BINS);
    let name = |face: usize| result.faces.entries.get(face).map_or("", |e| e.name.as_str()).to_owned();
    let couples = |list: Vec<Couple>, suspect: &dyn Fn(&Couple) -> bool| -> Vec<Value> {
        list.iter()
            .map(|c| json!({"a": name(c.a), "b": name(c.b), "similarity": c.similarity, "suspect": suspect(c)}))
            .collect()
    };
    json!({
        "model": result.model,
        "mirror": result.spec.mirror,
        "people": result.faces.people.len(),
        "faces": result.faces.entries.len(),
        "mated_searches": searches.mated(),
        "non_mated_searches": impostor.len(),
        "rank_1": mated.then(|| searches.rank_1()),
        "fnir_at_fpir": by_rate(&|rate| json!(mated.then(|| searches.fnir_at(rate).0))),
        "threshold_at_fpir": by_rate(&|rate| json!(searches.fnir_at(rate).1)),
        "enough_searches_for_fpir": by_rate(&|rate| json!(searches.scores.supports(rate))),
        "identification_threshold": result.spec.identification_threshold,
        "histograms": {
            "mated": histogram(genuine), "non_mated": histogram(impostor), "strangers": histogram(&result.strangers),
        },
        "look_alikes": couples(searches.look_alikes(&result.faces, worst), &|c| {
            c.similarity >= result.spec.identification_threshold
        }),
        "odd_photos": couples(searches.odd_ones(worst), &|c| c.similarity < result.spec.verification_threshold),
        "strangers": result.strangers.len(),
        "open_set": result.rows,
        "routes": result.routes,
        "no_classifier": result.no_classifier,
        "probes": result.probes,
        "error_versus_discard": {"curve": result.discard, "gain": result.discard.gain()},
        "no_face": result.lost.share(),
        "pictures": result.lost.pictures,
        "unreadable": result.lost.unreadable,
    })
}

/// Prints the results: lines of JSON, or tables.
pub fn print(results: &[Result], worst: usize, io: &mut Io<'_>) -> std::result::Result<(), Failure> {
    if io.json {
        for result in results {
            io.object(&object(result, worst))?;
        }
        return Ok(());
    }
    let columns: Vec<String> = results.iter().map(|r| words::column(&r.model, r.spec.mirror)).collect();
    let figures = |of: &dyn Fn(&Result) -> String| results.iter().map(of).collect::<Vec<String>>();
    let at = |result: &Result, rate: f64| {
        if result.searches.mated() == 0 {
            return "-".into();
        }
        let (fnir, threshold) = result.searches.fnir_at(rate);
        let few = if result.searches.scores.supports(rate) { "" } else { " *" };
        format!("{}{few} at {threshold:.3}", percent(fnir))
    };
    let rows = [
        ("people, faces", figures(&|r| format!("{}, {}", r.faces.people.len(), r.faces.entries.len()))),
        ("searches with the person there", figures(&|r| r.searches.mated().to_string())),
        ("searches with the person away", figures(&|r| r.searches.scores.impostor().len().to_string())),
        ("rank 1", figures(&|r| if r.searches.mated() == 0 { "-".into() } else { percent(r.searches.rank_1()) })),
        ("FNIR at FPIR 0.1", figures(&|r| at(r, 1e-1))),
        ("FNIR at FPIR 0.01", figures(&|r| at(r, 1e-2))),
        ("FNIR at FPIR 0.001", figures(&|r| at(r, 1e-3))),
        ("pictures without a face", figures(&|r| format!("{} of {}", r.lost.no_face, r.lost.pictures))),
    ];
    words::beside(io, &columns, &rows)?;
    if results.iter().any(|r| !r.searches.scores.supports(1e-3)) {
        io.line("* too few searches to see this rate: none of them was accepted")?;
    }
    if results.iter().any(|r| r.searches.mated() == 0) {
        io.line("- nobody has two faces, so nobody can be searched for in the rest; add pictures")?;
    }
    for result in results {
        open_set(result, io)?;
        routes(result, io)?;
        worst_pairs(result, worst, io)?;
    }
    Ok(())
}

fn open_set(result: &Result, io: &mut Io<'_>) -> std::io::Result<()> {
    if result.rows.is_empty() {
        return Ok(());
    }
    let name = words::column(&result.model, result.spec.mirror);
    io.line("")?;
    io.line(format!("{name}: who is named, over the threshold ({} strangers)", result.strangers.len()))?;
    let mut headings = vec!["threshold", "known, named", "known, wrong name", "strangers, named", ""];
    if !result.probes.is_empty() {
        headings.splice(4..4, ["probes, named", "probes, wrong name"]);
    }
    let mut table = io.table(&headings);
    for (i, row) in result.rows.iter().enumerate() {
        let strangers = if result.strangers.is_empty() { "-".into() } else { percent(row.strangers_accepted) };
        let mut texts =
            vec![format!("{:.3}", row.threshold), percent(row.identified), percent(row.misnamed), strangers];
        if let Some(probe) = result.probes.get(i) {
            texts.push(format!("{} of {}", probe.named, probe.expected));
            texts.push(format!("{} of {} faces", probe.wrong_names, probe.faces));
        }
        texts.push(if row.default { "<- default".into() } else { String::new() });
        let ink = row.default.then_some(Ink::Bold);
        table.add_row(texts.into_iter().map(|t| cell(t, ink)).collect::<Vec<_>>());
    }
    io.show(&table)
}

fn routes(result: &Result, io: &mut Io<'_>) -> std::io::Result<()> {
    if result.routes.first().is_none_or(|r| r.known == 0) {
        return Ok(());
    }
    let name = words::column(&result.model, result.spec.mirror);
    let known = result.routes.first().map_or(0, |r| r.known);
    io.line("")?;
    io.line(format!("{name}: ways to choose, {known} known faces at {:.3}", result.spec.identification_threshold))?;
    let headings = ["way", "first", "right", "unnamed", "wrong", "strangers, named", "right when no stranger is named"];
    let mut table = io.table(&headings);
    for row in &result.routes {
        let quiet = match (row.right_when_quiet, row.quiet_threshold) {
            (Some(right), Some(at)) => format!("{} at {at:.3}", percent(right)),
            _ => "-".into(),
        };
        let strangers = row.strangers_named.map_or_else(|| "-".into(), percent);
        let texts = [
            row.route.to_owned(),
            percent(row.first),
            percent(row.right),
            percent(row.unnamed),
            percent(row.wrong),
            strangers,
            quiet,
        ];
        table.add_row(texts.map(|t| cell(t, None)));
    }
    io.show(&table)?;
    match &result.no_classifier {
        Some(why) => io.line(format!("no classifier: {why}")),
        None => Ok(()),
    }
}

fn worst_pairs(result: &Result, worst: usize, io: &mut Io<'_>) -> std::io::Result<()> {
    let name = |face: usize| result.faces.entries.get(face).map(|e| plain(&e.name)).unwrap_or_default();
    let (same, named) = (result.spec.verification_threshold, result.spec.identification_threshold);
    let alike = result.searches.look_alikes(&result.faces, worst);
    let odd = result.searches.odd_ones(worst);
    // A look-alike is suspect from its limit on, an odd photo below it.
    let lists = [
        ("these two look alike", alike, named, true, "one would be named as the other"),
        ("this photo does not look like its person", odd, same, false, "look at it"),
    ];
    for (title, couples, limit, from, advice) in lists {
        if couples.is_empty() {
            continue;
        }
        io.line("")?;
        io.line(format!("{}: {title}", words::column(&result.model, result.spec.mirror)))?;
        let mut table = io.table(&["face", "nearest", "similarity", ""]);
        for couple in &couples {
            let (ink, advice) =
                if (couple.similarity >= limit) == from { (Some(Ink::Red), advice) } else { (None, "") };
            let texts = [name(couple.a), name(couple.b), format!("{:.3}", couple.similarity), advice.to_owned()];
            table.add_row(texts.map(|t| cell(t, ink)));
        }
        io.show(&table)?;
    }
    Ok(())
}

/// Draws histograms, FNIR over FPIR, names over the threshold, and error versus discard.
pub fn plot(file: &Path, results: &[Result]) -> std::result::Result<(), Failure> {
    let names: Vec<String> = results.iter().map(|r| words::column(&r.model, r.spec.mirror)).collect();
    let with = || names.iter().map(String::as_str).zip(results);
    let mut all = vec![panels::identification(&with().map(|(n, r)| (n, &r.searches.scores)).collect::<Vec<_>>())];
    for (name, result) in with() {
        let found = result.searches.searches.iter().filter_map(|s| Some(s.own?.similarity)).collect::<Vec<f32>>();
        let sets = [
            ("nearest of the person", found.as_slice()),
            ("nearest of others", result.searches.scores.impostor()),
            ("strangers", result.strangers.as_slice()),
        ];
        let default = result.spec.identification_threshold;
        all.push(panels::histograms(format!("{name}: best similarities"), &sets, ("default", default)));
        if !result.rows.is_empty() {
            all.push(panels::open_set(name, &result.rows, default));
        }
    }
    if results.iter().any(|r| r.discard.gain().is_some()) {
        all.push(panels::error_versus_discard(&with().map(|(n, r)| (n, &r.discard)).collect::<Vec<_>>()));
    }
    let size = results.first().map(|r| (r.faces.people.len(), r.faces.entries.len())).unwrap_or_default();
    plot::save(file, &format!("visage eval gallery: {} people, {} faces", size.0, size.1), &all)?;
    Ok(())
}
