//! `visage eval pairs` and `visage eval lfw`: is this one person? Accuracy by cross-validation, ROC, and what stands behind the figures.

use std::path::{Path, PathBuf};

use super::{
    lab::{self, Common, Lab, Which},
    verification_report as report,
    words::{self, Lost},
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::Io,
    },
    evaluation::{
        Found, Scores,
        discard::{self, Judged},
        faces::{self, Choice},
        folds::{self, Accuracy, Scored},
        groups::{self, Groups, Rates},
        pairs::{self as list, PairList},
        people,
        reliability::{self, Reliability},
    },
    inference::manifest::EmbedderSpec,
};

/// False match rate that fixes the threshold of the error-versus-discard curve.
const DISCARD_FMR: f64 = 1e-3;

/// Arguments of `eval pairs`.
#[derive(Debug, clap::Args)]
pub struct PairsArgs {
    /// Folder of people: DIR/PERSON/*.{jpg,jpeg,png,webp}.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// List of pairs: LFW's pairs.txt, pairsDevTest.txt, or lines `path path 0|1`.
    #[arg(long, value_name = "FILE", required_unless_present = "all", conflicts_with = "all")]
    pub pairs: Option<PathBuf>,
    /// Compare all pictures with all.
    #[arg(long)]
    pub all: bool,
    /// Which face of a picture counts.
    #[arg(long, value_name = "WHICH", default_value = "largest")]
    pub face: Which,
    /// Options of all comparisons.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `eval lfw`.
#[derive(Debug, clap::Args)]
pub struct LfwArgs {
    /// Folder of the pictures: DIR/NAME/NAME_0001.jpg.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// List of pairs [default: DIR/pairs.txt].
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Which face of a picture counts.
    #[arg(long, value_name = "WHICH", default_value = "central")]
    pub face: Which,
    /// Options of all comparisons.
    #[command(flatten)]
    pub options: Options,
}

/// Options of all comparisons.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Who belongs to which group: `person,COLUMN…` [default: DIR/groups.csv, if there is one].
    #[arg(long, value_name = "FILE")]
    pub groups: Option<PathBuf>,
    /// Threshold for the rates per group [default: the mean of the folds' thresholds].
    #[arg(long, value_name = "SIMILARITY", allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// Models, detector, plot.
    #[command(flatten)]
    pub common: Common,
}

/// What one embedder gave.
pub struct Result {
    /// Its id.
    pub model: String,
    /// What the manifest says of it.
    pub spec: EmbedderSpec,
    /// Similarities of all pairs.
    pub scores: Scores,
    /// Cross-validated accuracy.
    pub accuracy: Accuracy,
    /// Does quality tell what fails?
    pub discard: discard::Curve,
    /// Does confidence tell the truth?
    pub reliability: Reliability,
    /// Error rates of groups.
    pub groups: Vec<Rates>,
    /// Threshold of the groups' rates.
    pub threshold: f32,
    /// Pictures without a face.
    pub lost: Lost,
}

/// Runs `eval pairs`.
pub async fn pairs(args: PairsArgs, io: &mut Io<'_>) -> Outcome {
    let dir = args.dir.clone();
    let pairs = match args.pairs {
        Some(file) => list::read(&file, &dir)?,
        None => people::all_pairs(people::read(&dir)?)?,
    };
    evaluate("pairs", &dir, pairs, args.face.into(), &args.options, io).await
}

/// Runs `eval lfw`.
pub async fn lfw(args: LfwArgs, io: &mut Io<'_>) -> Outcome {
    let file = match args.pairs {
        Some(file) => file,
        None => args.dir.join("pairs.txt"),
    };
    if !file.is_file() {
        return Err(Failure::new(format!("there is no list of pairs {}", file.display())).hint(
            "LFW's View 2 is http://vis-www.cs.umass.edu/lfw/pairs.txt: put it there or name it with --pairs FILE; without one, \
             `visage eval pairs DIR --all` compares all pictures of a folder of people",
        ));
    }
    let pairs = list::read(&file, &args.dir)?;
    evaluate("lfw", &args.dir, pairs, args.face.into(), &args.options, io).await
}

async fn evaluate(
    what: &str,
    dir: &Path,
    pairs: PairList,
    choice: Choice,
    options: &Options,
    io: &mut Io<'_>,
) -> Outcome {
    let lab = Lab::open(&options.common)?;
    let groups = match &options.groups {
        Some(file) => Some(groups::read(file)?),
        None => {
            Some(dir.join("groups.csv")).filter(|file| file.is_file()).map(|file| groups::read(&file)).transpose()?
        }
    };
    let files: Vec<PathBuf> = pairs.samples.iter().map(|s| s.path.clone()).collect();
    let (mut results, mut exit) = (Vec::new(), OK);
    for id in lab.embedders() {
        let engine = lab.engine(id).await?;
        let found = lab::embed(&engine, &files, choice, io).await;
        engine.shutdown().await;
        let found = found?;
        if results.is_empty() {
            let bad = faces::unreadable(&pairs.samples, &found);
            words::name_unreadable(io, &bad)?;
            exit = words::exit(&bad);
        }
        let spec = lab.spec(id)?;
        results.push(judge(id.to_string(), spec, &pairs, &found, groups.as_ref(), options.threshold)?);
    }
    report::print(&results, &pairs, io)?;
    if let Some(file) = &options.common.plot {
        report::plot(file, what, &results)?;
        io.remark(format!("plot: {}", file.display()))?;
    }
    Ok(exit)
}

/// Faces → figures.
fn judge(
    model: String,
    spec: EmbedderSpec,
    pairs: &PairList,
    found: &[Found],
    groups: Option<&Groups>,
    threshold: Option<f32>,
) -> std::result::Result<Result, Failure> {
    let mut similarities = Vec::with_capacity(pairs.pairs.len());
    let mut judged = Vec::new();
    for pair in &pairs.pairs {
        let (Some(a), Some(b)) = (found[pair.a].face(), found[pair.b].face()) else {
            similarities.push(f32::NEG_INFINITY);
            continue;
        };
        let similarity = a.embedding.similarity(&b.embedding).map_err(anyhow::Error::from)?;
        similarities.push(similarity);
        if pair.same {
            judged.push(Judged { similarity, quality: a.quality.value.min(b.quality.value) });
        }
    }
    let of = |same: bool| {
        let both = pairs.pairs.iter().zip(&similarities);
        both.filter(|(p, _)| p.same == same).map(|(_, s)| *s).collect::<Vec<f32>>()
    };
    let scores = Scores::new(of(true), of(false));
    let scored = pairs.pairs.iter().zip(&similarities);
    let scored: Vec<Scored> = scored.map(|(p, s)| Scored { similarity: *s, same: p.same, fold: p.fold }).collect();
    let accuracy = folds::cross_validate(&scored)?;
    let threshold = threshold.unwrap_or(accuracy.threshold);
    let groups = groups.map(|g| g.rates(&pairs.samples, &pairs.pairs, &similarities, threshold));
    Ok(Result {
        model,
        discard: discard::curve(&judged, &scores, DISCARD_FMR),
        reliability: reliability::diagram(&scores, &spec.calibration),
        groups: groups.unwrap_or_default(),
        lost: Lost::of(found),
        spec,
        scores,
        accuracy,
        threshold,
    })
}
