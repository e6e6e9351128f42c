//! `visage eval widerface`: average precision of the detector, or of predictions that another one wrote.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::lab::{self, Common, Lab};
use crate::{
    cli::{
        error::{Failure, OK, Outcome, PARTLY},
        output::{Io, cell},
    },
    evaluation::{
        plot::{self, panels},
        widerface::{Prediction, Truth, ap, average_precision, predictions},
    },
};

/// Boxes below this score change the average precision no more, and cost time.
const MIN_SCORE: f32 = 0.02;

/// Arguments of `eval widerface`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The annotation: wider_face_val_bbx_gt.txt.
    #[arg(long, value_name = "FILE")]
    pub truth: PathBuf,
    /// Which faces count as easy, medium and hard: lines `easy|medium|hard PATH i j ...`, as scripts/widerface-difficulty.py exports them.
    /// Without it every valid face counts, and the only setting is `all`.
    #[arg(long, value_name = "FILE")]
    pub difficulty: Option<PathBuf>,
    /// Predictions to judge: DIR/EVENT/PICTURE.txt.
    #[arg(long, value_name = "DIR", required_unless_present = "images", conflicts_with = "images")]
    pub predictions: Option<PathBuf>,
    /// Pictures to run the detector on, DIR/EVENT/PICTURE.jpg, at the size given by --size; never in tiles.
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Longer side of the detector's input in pixels, or `original`; nothing is enlarged [default: inference.detector_size].
    #[arg(long, value_name = "PX", value_parser = lab::size, conflicts_with = "predictions")]
    pub size: Option<u32>,
    /// Least detector score of a box, 0 to 1 [default: 0.02].
    #[arg(long, value_name = "SCORE", value_parser = lab::share, conflicts_with = "predictions")]
    pub min_score: Option<f32>,
    /// Draw the curves: FILE.svg or FILE.png.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// The server's configuration file (TOML): `models.detector` and the section `[inference]` count.
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs `eval widerface`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let common = Common { size: args.size, plot: args.plot.clone(), config: args.config.clone(), ..Common::default() };
    // The average precision is that of one size.
    let lab = Lab::open(&common)?.untiled();
    let truth = Truth::read(&args.truth)?;
    let settings = match &args.difficulty {
        Some(file) => truth.settings(file)?,
        None => {
            io.remark("note: without --difficulty every valid face counts; this is none of the official settings")?;
            vec![truth.all()]
        }
    };
    let (source, boxes, unreadable) = match (&args.predictions, &args.images) {
        (Some(dir), _) => ("predictions".to_owned(), predictions::read(dir, &truth)?, 0),
        (None, Some(dir)) => run_detector(&lab, &truth, dir, args.min_score, io).await?,
        (None, None) => return Err(Failure::usage("name --predictions DIR, or --images DIR to run the detector")),
    };
    let judged: Vec<(String, ap::Precision)> = settings
        .iter()
        .map(|setting| Ok((setting.name.clone(), average_precision(&truth, setting, &boxes)?)))
        .collect::<Result<_, Failure>>()?;
    report(&source, &lab, args.predictions.is_none(), &truth, &judged, &boxes, unreadable, io)?;
    if let Some(file) = &args.plot {
        let curves: Vec<_> = judged.iter().map(|(name, precision)| (name.clone(), precision)).collect();
        plot::save(file, &format!("visage eval widerface: {source}"), &[panels::precision_recall(&curves)])?;
        io.remark(format!("plot: {}", file.display()))?;
    }
    Ok(if unreadable > 0 { PARTLY } else { OK })
}

async fn run_detector(
    lab: &Lab,
    truth: &Truth,
    dir: &Path,
    min_score: Option<f32>,
    io: &mut Io<'_>,
) -> Result<(String, Vec<Vec<Prediction>>, usize), Failure> {
    let files: Vec<PathBuf> = truth.pictures.iter().map(|(name, _)| dir.join(name)).collect();
    if !files.iter().any(|file| file.is_file()) {
        let first = files.first().map(|f| f.display().to_string()).unwrap_or_default();
        return Err(Failure::new(format!("{} holds none of the annotated pictures", dir.display()))
            .hint(format!("the first is looked for as {first}")));
    }
    // The detector does not ask which embedder waits behind it.
    let embedder = lab.embedders().first().ok_or_else(|| Failure::new("no embedder is configured"))?;
    let engine = lab.engine(embedder).await?;
    let found = lab::detect(&engine, &files, min_score.unwrap_or(MIN_SCORE), io).await;
    let name = engine.detector().id.to_string();
    engine.shutdown().await;
    let found = found?;
    let unreadable = found.iter().filter(|f| f.is_none()).count();
    if unreadable > 0 {
        io.remark(format!("warning: {unreadable} annotated pictures could not be read; their faces count as missed"))?;
    }
    let boxes = found.into_iter().map(|f| f.unwrap_or_default().iter().map(predictions::of).collect()).collect();
    Ok((name, boxes, unreadable))
}

/// The detector's input as text.
fn size_of(lab: &Lab) -> String {
    match lab.config().inference.detector_size {
        u32::MAX => "original".into(),
        side => side.to_string(),
    }
}

#[allow(clippy::too_many_arguments)] // what a report says
fn report(
    source: &str,
    lab: &Lab,
    detected: bool,
    truth: &Truth,
    judged: &[(String, ap::Precision)],
    boxes: &[Vec<Prediction>],
    unreadable: usize,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let size = if detected { size_of(lab) } else { String::new() };
    let count: usize = boxes.iter().map(Vec::len).sum();
    if io.json {
        let by = |value: &dyn Fn(&ap::Precision) -> serde_json::Value| -> serde_json::Value {
            judged.iter().map(|(name, p)| (name.clone(), value(p))).collect::<serde_json::Map<_, _>>().into()
        };
        io.object(&json!({
            "detector": source, "size": size, "pictures": truth.pictures.len(), "unreadable": unreadable, "boxes": count,
            "average_precision": by(&|p| json!(p.average)), "faces": by(&|p| json!(p.faces)),
            "recall": by(&|p| json!(p.curve.last().map_or(0.0, |point| point.recall))),
        }))?;
        return Ok(());
    }
    let at = if size.is_empty() { String::new() } else { format!(" at {size} px") };
    io.line(format!("{source}{at}: {count} boxes in {} pictures", truth.pictures.len()))?;
    let mut table = io.table(&["setting", "AP", "faces", "recall of all boxes"]);
    for (name, precision) in judged {
        let recall = precision.curve.last().map_or(0.0, |point| point.recall);
        let texts =
            [name.clone(), format!("{:.4}", precision.average), precision.faces.to_string(), format!("{recall:.4}")];
        table.add_row(texts.map(|t| cell(t, None)));
    }
    io.show(&table)?;
    Ok(())
}
