//! `visage eval quality`: good portraits damaged in known ways. How much is still recognised, and does the face quality number know?

use std::{io::Write as _, path::PathBuf};

use serde_json::json;

use super::{
    lab::{self, Common, Lab},
    words,
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::{Io, cell},
    },
    evaluation::{
        EvaluationError,
        damage::Damage,
        hardship::{self, Hardship, Tried},
        people,
        plot::{self, panels},
    },
    whole_file::WholeFile,
};

/// False match rate that fixes the threshold.
const FMR: f64 = 1e-3;

/// Arguments of `eval quality`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of people: DIR/PERSON/*.{jpg,jpeg,png,webp}; people with a single picture only serve as others.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Write the features of every face and whether it was recognised as JSON lines, for scripts/fit-quality.py.
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// Models, detector, plot.
    #[command(flatten)]
    pub common: Common,
}

/// Runs `eval quality`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let lab = Lab::open(&args.common)?;
    let samples = people::read(&args.dir)?;
    let unwritten = |e: std::io::Error| {
        let file = args.features.as_deref().unwrap_or(&args.dir).display();
        Failure::new(format!("{file} can't be written")).because(&e)
    };
    // Begun before the work, so that a faulty name costs no hour; whole at the end, so that a failure costs no older file.
    let mut features = args.features.as_deref().map(WholeFile::create).transpose().map_err(unwritten)?;
    let (mut results, mut exit, mut unreadable) = (Vec::new(), OK, 0);
    for id in lab.embedders() {
        let engine = lab.engine(id).await?;
        let tried = lab::embed_damaged(&engine, &samples, io).await;
        engine.shutdown().await;
        let (tried, bad) = tried?;
        if results.is_empty() {
            words::name_unreadable(io, &bad)?;
            (exit, unreadable) = (words::exit(&bad), bad.len());
        }
        let result = hardship::judge(&tried, FMR);
        if result.rows.iter().all(|row| row.comparisons == 0) {
            return Err(EvaluationError::TooLittle(format!(
                "nobody in {} has two pictures with a face; give folders DIR/<person>/ with several pictures",
                args.dir.display()
            ))
            .into());
        }
        if let Some(file) = &mut features {
            write_features(file, id.as_str(), &tried, result.threshold).map_err(unwritten)?;
        }
        results.push((id.to_string(), result));
    }
    features.map(WholeFile::finish).transpose().map_err(unwritten)?;
    report(&results, unreadable, io)?;
    if let Some(file) = &args.common.plot {
        let curves: Vec<_> = results.iter().map(|(name, r)| (name.as_str(), &r.curve)).collect();
        let of = |(name, r): &(String, Hardship)| (name.clone(), r.bins.clone());
        let bins: Vec<_> = results.iter().map(of).collect();
        let drawn = [panels::error_versus_discard(&curves), panels::quality(&bins)];
        plot::save(file, &format!("visage eval quality: {}", args.dir.display()), &drawn)?;
        io.remark(format!("plot: {}", file.display()))?;
    }
    Ok(exit)
}

/// A line a face: its features, and for each other picture of its person whether the comparison succeeds.
fn write_features(file: &mut WholeFile, model: &str, tried: &[Tried], threshold: f32) -> std::io::Result<()> {
    let plain = |t: &Tried| t.attempts.iter().find(|a| a.damage.is_none()).and_then(|a| a.face.clone());
    let undamaged: Vec<_> = tried.iter().map(plain).collect();
    for (i, picture) in tried.iter().enumerate() {
        for attempt in &picture.attempts {
            let Some(face) = &attempt.face else { continue };
            let others =
                tried.iter().zip(&undamaged).enumerate().filter(|(j, (t, _))| *j != i && t.person == picture.person);
            let recognised: Vec<bool> = others
                .filter_map(|(_, (_, other))| face.embedding.similarity(&other.as_ref()?.embedding).ok())
                .map(|similarity| similarity >= threshold)
                .collect();
            let q = face.quality;
            let line = json!({
                "model": model, "person": picture.person, "picture": i, "damage": attempt.damage.map_or("none", Damage::name),
                "value": q.value, "score": q.score, "eyes": q.detail.eyes, "nose": q.detail.nose, "mouth": q.detail.mouth,
                "clipped": q.clipped, "frontality": q.frontality, "size_px": q.size_px, "sharpness": q.sharpness,
                "recognised": recognised,
            });
            writeln!(file, "{line}")?;
        }
    }
    Ok(())
}

fn report(results: &[(String, Hardship)], unreadable: usize, io: &mut Io<'_>) -> Result<(), Failure> {
    for (model, result) in results {
        if io.json {
            io.object(&json!({
                "model": model, "unreadable": unreadable, "fmr": result.fmr, "threshold": result.threshold, "rows": result.rows,
                "error_versus_discard": result.curve, "gain": result.curve.gain(), "bins": result.bins,
            }))?;
            continue;
        }
        let fmr = words::percent(result.fmr);
        io.line(format!("{model}: recognised at {:.3}, FMR {fmr} of undamaged faces", result.threshold))?;
        let headings =
            ["damage", "faces", "found", "recognised", "gain", "score's", "sharpness'", "frontality's", "size's"];
        let mut table = io.table(&headings);
        for row in &result.rows {
            let gain = |g: Option<f64>| g.map_or("-".into(), |g| format!("{g:.2}"));
            let g = &row.gains;
            let mut cells = vec![
                row.damage.to_owned(),
                row.faces.to_string(),
                words::percent(row.found),
                words::percent(row.recognised),
            ];
            cells.extend([g.quality, g.score, g.sharpness, g.frontality, g.size].map(gain));
            table.add_row(cells.into_iter().map(|text| cell(text, None)));
        }
        io.show(&table)?;
        let bins: Vec<String> =
            result.bins.iter().map(|b| format!("{:.2}: {:.0} %", b.quality, b.recognised * 100.0)).collect();
        io.line(format!("quality: recognised   {}", bins.join("   ")))?;
    }
    if !io.json {
        io.remark(
            "gain: share of the possible fall of errors when the worst by that number are discarded; 1 ideal, 0 chance",
        )?;
    }
    Ok(())
}
