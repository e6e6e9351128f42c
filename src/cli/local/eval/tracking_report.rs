//! What `eval tracking` prints and draws.

use std::{ops::RangeInclusive, path::Path};

use serde_json::{Value, json};

use super::{tracking::Scored, words::percent};
use crate::{
    cli::{
        error::Failure,
        output::{Ink, Io, cell},
    },
    evaluation::{
        plot::{self, Axis, Kind, Legend, Panel, Series},
        tracking::metrics::Figures,
    },
};

fn object(figures: &Figures) -> Value {
    json!({
        "idf1": figures.idf1(), "mota": figures.mota(), "tracks_per_appearance": figures.tracks_per_appearance(),
        "counts": figures,
    })
}

/// Prints the results: a line of JSON a tracker, or a table.
pub fn print(results: &[Scored], model: &str, seeds: &RangeInclusive<u64>, io: &mut Io<'_>) -> Result<(), Failure> {
    let sum = |result: &Scored| result.scenes.iter().map(|s| s.1).sum::<Figures>();
    if io.json {
        for result in results {
            let scenes: serde_json::Map<String, Value> =
                result.scenes.iter().map(|(name, figures)| (name.clone(), object(figures))).collect();
            io.object(&json!({
                "tracker": result.tracker, "model": model, "seeds": [seeds.start(), seeds.end()],
                "scenes": scenes, "all": object(&sum(result)), "looks": result.looks,
            }))?;
        }
        return Ok(());
    }
    let headings =
        ["scene", "tracker", "IDF1", "MOTA", "switches", "fragments", "appearances", "told", "per appearance"];
    let mut table = io.table(&headings);
    let scenes = results.first().map_or(0, |r| r.scenes.len());
    for place in 0..=scenes {
        for (i, result) in results.iter().enumerate() {
            let (name, figures) = result.scenes.get(place).cloned().unwrap_or_else(|| ("all".to_owned(), sum(result)));
            let ink = if i == 0 { Some(Ink::Bold) } else { Some(Ink::Dim) };
            let texts = [
                if i == 0 { name } else { String::new() },
                result.tracker.to_owned(),
                percent(figures.idf1()),
                percent(figures.mota()),
                figures.switches.to_string(),
                figures.fragmentations.to_string(),
                figures.appearances.to_string(),
                figures.tracks.to_string(),
                format!("{:.2}", figures.tracks_per_appearance()),
            ];
            table.add_row(texts.map(|t| cell(t, ink)));
        }
    }
    io.show(&table)?;
    for (tracker, looks) in results.iter().filter_map(|r| Some((r.tracker, r.looks?))) {
        io.line(format!("{tracker} embedded {looks} crops with {model}; seeds {} to {}", seeds.start(), seeds.end()))?;
    }
    Ok(())
}

/// Draws IDF1 and told appearances by scene.
pub fn plot(file: &Path, results: &[Scored], model: &str) -> Result<(), Failure> {
    let names: Vec<String> =
        results.first().map(|r| r.scenes.iter().map(|s| s.0.clone()).collect()).unwrap_or_default();
    let panel = |title: String, label: &str, to: f64, value: &dyn Fn(&Figures) -> f64| Panel {
        title,
        x: Axis { label: names.join(", "), from: 0.5, to: names.len() as f64 + 0.5, log: false },
        y: Axis { label: label.into(), from: 0.0, to, log: false },
        series: results
            .iter()
            .enumerate()
            .map(|(i, result)| Series {
                name: result.tracker.into(),
                kind: Kind::Dots,
                hue: i,
                points: result.scenes.iter().enumerate().map(|(k, s)| (k as f64 + 1.0, value(&s.1))).collect(),
            })
            .collect(),
        legend: Legend::LowerRight,
    };
    let all = results.iter().flat_map(|r| r.scenes.iter().map(|s| s.1.tracks_per_appearance()));
    let most = all.fold(1.5, f64::max) * 1.1;
    let panels = [
        panel("Identity F1 by scene (1 is right)".into(), "IDF1", 1.05, &Figures::idf1),
        panel("Told appearances for one (1 is right)".into(), "tracks", most, &Figures::tracks_per_appearance),
    ];
    plot::save(file, &format!("visage eval tracking: {model}"), &panels)?;
    Ok(())
}
