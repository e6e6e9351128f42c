//! `visage eval liveness`: how real pictures score, and crude attacks made from them.

use std::path::PathBuf;

use futures::{StreamExt, stream};
use serde_json::json;

use super::{
    lab::{self, Common, Lab},
    words::percent,
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome, PARTLY},
        output::{Ink, Io, cell},
    },
    evaluation::{
        faces::{self, Choice},
        people,
        presentation::{Attack, Scored},
    },
    face::{FaceEngine, FaceError},
    frame::{Picture, crop},
    ids::ModelId,
};

/// The middle of the scale; no more than that.
const MIDDLE: f32 = 0.5;

/// Arguments of `eval liveness`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of real pictures; folders in it are looked into. The largest face of each counts.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Liveness model to evaluate; repeat it, or separate ids by commas [default: liveness.model, or `liveness`].
    #[arg(long = "model", value_name = "ID", value_delimiter = ',')]
    pub models: Vec<ModelId>,
    /// Score the real pictures only: for a folder of your own attacks.
    #[arg(long)]
    pub real_only: bool,
    /// Longer side of the detector's input in pixels, or `original`; no tiles are looked at [default: inference.detector_size].
    #[arg(long, value_name = "PX", value_parser = lab::size)]
    pub size: Option<u32>,
    /// Least detector score of a face, 0 to 1 [default: inference.min_score].
    #[arg(long, value_name = "SCORE", value_parser = lab::share)]
    pub min_score: Option<f32>,
    /// The server's configuration file (TOML): sections `[models]`, `[liveness]` and `[inference]` count.
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs `eval liveness`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let common =
        Common { size: args.size, min_score: args.min_score, config: args.config.clone(), ..Common::default() };
    let lab = Lab::open(&common)?;
    let mut models = args.models.clone();
    if models.is_empty() {
        let configured = Some(lab.config().liveness.model.as_str()).filter(|id| !id.is_empty());
        models.push(configured.unwrap_or("liveness").parse().map_err(anyhow::Error::from)?);
    }
    let files = people::pictures(&args.dir)?;
    let attacks = if args.real_only { &Attack::ALL[..1] } else { &Attack::ALL[..] };
    let mut unreadable = 0;
    for model in models {
        let engine = lab.liveness_engine(&model).await?;
        let (rows, bad) = score(&engine, &files, attacks, io).await?;
        engine.shutdown().await;
        unreadable = bad;
        report(&model, attacks, &rows, io)?;
    }
    io.remark("attacks are made by this program: what they score says nothing about real prints, screens or masks")?;
    if unreadable > 0 {
        io.remark(format!("warning: {unreadable} of {} pictures could not be read", files.len()))?;
    }
    Ok(if unreadable > 0 { PARTLY } else { OK })
}

/// Scores for each attack, and how many pictures could not be read.
async fn score(
    engine: &FaceEngine,
    files: &[PathBuf],
    attacks: &[Attack],
    io: &Io<'_>,
) -> Result<(Vec<Scored>, usize), Failure> {
    let bar = lab::bar(io, engine.liveness_model().map_or("", |model| model.id.as_str()), files.len());
    let one = |file: PathBuf| async move {
        let opened = tokio::task::spawn_blocking(move || faces::open(&file)).await;
        let Ok(Ok(picture)) = opened else { return Ok(None) };
        let Some(face) = largest(engine, &picture).await? else { return Ok(Some(vec![None; attacks.len()])) };
        let mut scores = Vec::with_capacity(attacks.len());
        for attack in attacks.iter().copied() {
            let (real, bbox) = (picture.clone(), face.bbox);
            let made = move || Picture::from_rgb(attack.apply(&crop::to_rgb(&real), &bbox));
            let Ok(made) = tokio::task::spawn_blocking(made).await else { return Err(FaceError::Stopped) };
            // As a camera would: the face is found anew.
            scores.push(match largest(engine, &made).await? {
                Some(face) => engine.liveness(&made, &[face]).await?.pop().flatten(),
                None => None,
            });
        }
        Ok(Some(scores))
    };
    let mut results = stream::iter(files.iter().cloned()).map(one).buffered(2 * engine.workers() + 2);
    let (mut rows, mut unreadable) = (vec![Scored::default(); attacks.len()], 0);
    while let Some(result) = results.next().await {
        bar.inc(1);
        let Some(scores) = result.map_err(|e| Failure::new(e.to_string()))? else {
            unreadable += 1;
            continue;
        };
        for (row, score) in rows.iter_mut().zip(scores) {
            row.scores.extend(score);
            row.no_face += usize::from(score.is_none());
        }
    }
    bar.finish_and_clear();
    Ok((rows, unreadable))
}

async fn largest(engine: &FaceEngine, picture: &Picture) -> Result<Option<crate::face::Detection>, FaceError> {
    let found = engine.detect(picture, None).await?;
    Ok(faces::choose(&found, Choice::Largest, (picture.width(), picture.height())).map(|i| found[i]))
}

fn report(model: &ModelId, attacks: &[Attack], rows: &[Scored], io: &mut Io<'_>) -> Result<(), Failure> {
    if io.json {
        for (attack, row) in attacks.iter().zip(rows) {
            io.object(&json!({
                "model": model.as_str(), "pictures": attack.name(), "faces": row.scores.len(), "no_face": row.no_face,
                "share_above_half": row.share_above(MIDDLE), "p05": row.quantile(0.05), "median": row.quantile(0.5),
                "p95": row.quantile(0.95),
            }))?;
        }
        return Ok(());
    }
    let mut table = io.table(&[model.as_str(), "faces", "no face", "above 0.5", "5 %", "median", "95 %"]);
    for (attack, row) in attacks.iter().zip(rows) {
        let quantile = |share| cell(row.quantile(share).map_or_else(String::new, |v| format!("{v:.3}")), None);
        table.add_row(vec![
            cell(attack.name(), Some(Ink::Dim)),
            cell(row.scores.len().to_string(), None),
            cell(row.no_face.to_string(), None),
            cell(percent(row.share_above(MIDDLE)), None),
            quantile(0.05),
            quantile(0.5),
            quantile(0.95),
        ]);
    }
    Ok(io.show(&table)?)
}
