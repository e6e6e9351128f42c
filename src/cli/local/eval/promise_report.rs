//! What `eval promise` prints and draws.

use std::path::Path;

use serde_json::json;

use super::words::percent;
use crate::{
    cli::{
        error::Failure,
        output::{Ink, Io, cell},
    },
    evaluation::{
        plot::{self, Axis, GREY, Kind, Legend, Panel, Series},
        promise::{
            Share, sphere,
            split::{Kind as Looks, LENGTHS, Outcome, Row, Rule},
        },
    },
};

fn interval(share: &Share) -> String {
    format!("{} ({:.1} to {:.1})", percent(share.share), share.low * 100.0, share.high * 100.0)
}

fn rule(row: &Row) -> String {
    let of = match row.kind {
        None => return "single photograph".into(),
        Some(Looks::OnePhoto) => "one photograph",
        Some(Looks::AllPhotos) => "all photographs",
    };
    let what = match row.rule {
        Rule::Single | Rule::Fused => "fused template",
        Rule::Server => "server's statement",
        Rule::Plain => "template, threshold not raised (not used)",
        Rule::BestLook => "best look (not used)",
    };
    format!("{what}, looks of {of}")
}

/// Prints what held-out people gave: a line of JSON a model and promise, or tables.
pub fn splits(all: &[(String, Vec<Outcome>)], io: &mut Io<'_>) -> Result<(), Failure> {
    for (model, outcomes) in all {
        for outcome in outcomes {
            if io.json {
                io.object(&json!({"model": model, "promise": outcome}))?;
                continue;
            }
            io.line(format!(
                "{model}: promised at most {}; {} splits of {:.0} people enrolled and {:.0} background faces, {} people as strangers, mean threshold {:.3}",
                percent(outcome.fpir), outcome.splits, outcome.sizes.0, outcome.sizes.1, outcome.strangers, outcome.threshold
            ))?;
            if outcome.refused > 0 {
                io.line(format!("{} splits had too little to calibrate", outcome.refused))?;
            }
            let mut table =
                io.table(&["rule", "looks", "strangers named", "splits that kept it", "known people missed"]);
            for row in &outcome.rows {
                let broken = row.named.share > outcome.fpir;
                let ink = match row.rule {
                    Rule::BestLook | Rule::Plain => Some(Ink::Dim),
                    _ if broken => Some(Ink::Red),
                    _ => None,
                };
                let texts = [
                    rule(row),
                    row.looks.to_string(),
                    interval(&row.named),
                    format!("{:.0} %", row.kept * 100.0),
                    percent(row.missed.share),
                ];
                table.add_row(texts.map(|t| cell(t, ink)));
            }
            io.show(&table)?;
            io.line("")?;
        }
    }
    if !io.json {
        io.line("intervals are Wilson's at 95 %, over different people: pictures and tracks of one person are alike")?;
    }
    Ok(())
}

/// Draws strangers named over the looks of a track, a panel a model and promise.
pub fn plot(file: &Path, all: &[(String, Vec<Outcome>)]) -> Result<(), Failure> {
    let mut panels = Vec::new();
    for (model, outcomes) in all {
        for outcome in outcomes {
            let of = |wanted: Rule, name: &str, hue: usize, kind: Kind| Series {
                name: name.into(),
                kind,
                hue,
                points: outcome
                    .rows
                    .iter()
                    .filter(|r| r.rule == wanted && r.kind == Some(Looks::AllPhotos))
                    .map(|r| ((r.looks as f64).log2(), r.named.share))
                    .collect(),
            };
            let most = outcome.rows.iter().map(|r| r.named.share).fold(outcome.fpir, f64::max);
            let last = (LENGTHS[LENGTHS.len() - 1] as f64).log2();
            panels.push(Panel {
                title: format!("{model}: strangers named, promised {}", percent(outcome.fpir)),
                x: Axis { label: "doublings of looks (0: one look, 6: 64)".into(), from: 0.0, to: last, log: false },
                y: Axis { label: "share of strangers named".into(), from: 0.0, to: (most * 1.3).min(1.0), log: false },
                series: vec![
                    of(Rule::Fused, "fused template", 0, Kind::Dots),
                    of(Rule::Server, "server's statement", 1, Kind::Dots),
                    of(Rule::Plain, "threshold not raised (not used)", 3, Kind::Dots),
                    of(Rule::BestLook, "best look (not used)", 2, Kind::Dots),
                    Series {
                        name: "promised".into(),
                        kind: Kind::Dashed,
                        hue: GREY,
                        points: vec![(0.0, outcome.fpir), (last, outcome.fpir)],
                    },
                ],
                legend: Legend::UpperLeft,
            });
        }
    }
    plot::save(file, "visage eval promise: strangers held out", &panels)?;
    Ok(())
}

/// Prints what simulated sites gave.
pub fn sites(rows: &[sphere::Row], io: &mut Io<'_>) -> Result<(), Failure> {
    if io.json {
        for row in rows {
            io.object(&json!({"simulated": row}))?;
        }
        return Ok(());
    }
    let headings = [
        "world",
        "people",
        "background",
        "promised",
        "sites that kept it",
        "best estimate",
        "named, mean",
        "worst in ten",
    ];
    let mut table = io.table(&headings);
    for row in rows {
        let ink = (row.kept.trials > 0 && row.kept.high < 0.95).then_some(Ink::Red);
        let kept = if row.kept.trials == 0 { "too little to calibrate".into() } else { interval(&row.kept) };
        let texts = [
            row.world.to_owned(),
            row.people.to_string(),
            row.background.to_string(),
            percent(row.fpir),
            kept,
            percent(row.kept_best.share),
            percent(row.named),
            percent(row.worst),
        ];
        table.add_row(texts.map(|t| cell(t, ink)));
    }
    io.show(&table)?;
    for fpir in distinct(rows.iter().map(|r| r.fpir)) {
        let of: Vec<&sphere::Row> = rows.iter().filter(|r| r.fpir == fpir).collect();
        let sites: usize = of.iter().map(|r| r.kept.trials).sum();
        let kept: f64 = of.iter().map(|r| r.kept.share * r.kept.trials as f64).sum();
        io.line(format!(
            "promised {}: kept at {}",
            percent(fpir),
            interval(&Share::of(kept / sites.max(1) as f64, sites))
        ))?;
    }
    Ok(())
}

fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// Draws the share of simulated sites that kept the promise, by world.
pub fn plot_sites(file: &Path, rows: &[sphere::Row]) -> Result<(), Failure> {
    let panels: Vec<Panel> = distinct(rows.iter().map(|r| r.fpir))
        .into_iter()
        .map(|fpir| {
            let of: Vec<&sphere::Row> = rows.iter().filter(|r| r.fpir == fpir).collect();
            let mut series: Vec<Series> = Vec::new();
            for row in &of {
                // Beside each other, or equal shares would hide each other.
                let world = sphere::WORLDS.iter().position(|w| w.name == row.world).unwrap_or(0);
                let point = ((row.people as f64).log10() + 0.03 * (world as f64 - 2.0), row.kept.share);
                match series.iter_mut().find(|s| s.name == row.world) {
                    Some(one) => one.points.push(point),
                    None => series.push(Series {
                        name: row.world.into(),
                        kind: Kind::Points,
                        hue: series.len(),
                        points: vec![point],
                    }),
                }
            }
            series.push(Series {
                name: "95 %".into(),
                kind: Kind::Dashed,
                hue: GREY,
                points: vec![(0.9, 0.95), (3.1, 0.95)],
            });
            Panel {
                title: format!("Sites that kept the promise of {}", percent(fpir)),
                x: Axis { label: "people enrolled".into(), from: 0.9, to: 3.1, log: true },
                y: Axis { label: "share of sites".into(), from: 0.5, to: 1.02, log: false },
                series,
                legend: Legend::LowerRight,
            }
        })
        .collect();
    plot::save(file, "visage eval promise: simulated sites", &panels)?;
    Ok(())
}
