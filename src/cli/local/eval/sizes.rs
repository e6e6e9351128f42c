//! `visage eval sizes`: the detector at several input sizes, against itself at the largest.

use std::path::PathBuf;

use serde_json::json;

use super::{
    lab::{self, Common, Lab},
    words,
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome, PARTLY},
        output::{Io, cell},
    },
    evaluation::{people, sizes::Sizes},
};

/// Arguments of `eval sizes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of pictures; folders in them are looked into, too.
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Longer sides of the detector's input to try, pixels.
    #[arg(long, value_name = "PX,…", value_delimiter = ',', default_value = "64,96,128,160,240,320,480,640,960,1280")]
    pub sizes: Vec<u32>,
    /// Longer side at which the truth is looked for, pixels; at most the picture's own.
    #[arg(long, value_name = "PX", default_value_t = 1600)]
    pub truth_size: u32,
    /// Least score of the truth, 0 to 1.
    #[arg(long, value_name = "SCORE", default_value_t = 0.9, value_parser = lab::share)]
    pub truth_score: f32,
    /// Score from which a face counts as found in the last column but one, 0 to 1 [default: inference.min_score].
    #[arg(long, value_name = "SCORE", value_parser = lab::share)]
    pub min_score: Option<f32>,
    /// The server's configuration file (TOML): `models.detector` and the section `[inference]` count.
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs `eval sizes`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    if let Some(bad) = args.sizes.iter().chain([&args.truth_size]).find(|s| !(32..=8192).contains(*s)) {
        return Err(Failure::usage(format!("{bad} is no size: give pixels from 32 to 8192")));
    }
    let common = Common { min_score: args.min_score, config: args.config.clone(), ..Common::default() };
    let lab = Lab::open(&common)?;
    let mut files = Vec::new();
    for dir in &args.dirs {
        files.extend(people::pictures(dir)?);
    }
    let embedder = lab.embedders().first().ok_or_else(|| Failure::new("no embedder is configured"))?;
    let engine = lab.engine(embedder).await?;
    let wanted = lab.config().inference.min_score;
    let found = lab::detect_at(&engine, &files, args.truth_size, &args.sizes, io).await;
    engine.shutdown().await;
    let found = found?;
    let mut sizes = Sizes::default();
    for picture in found.iter().flatten() {
        let truth: Vec<_> = picture.truth.iter().copied().filter(|d| d.score > args.truth_score).collect();
        picture.at.iter().for_each(|(scale, faces)| sizes.add(&truth, faces, *scale, wanted));
    }
    let unreadable = found.iter().filter(|f| f.is_none()).count();
    let bins = sizes.bins();
    if io.json {
        io.object(&json!({"pictures": files.len(), "unreadable": unreadable, "min_score": wanted, "bins": bins}))?;
    } else {
        let score = format!("found at {wanted}");
        let mut table = io.table(&["width in the input", "faces", "found at 0.5", &score, "landmarks off by"]);
        for (i, bin) in bins.iter().enumerate() {
            let to = bins.get(i + 1).map_or("and more".into(), |next| format!("to {}", next.from_px));
            let texts = [
                format!("{} {to} px", bin.from_px),
                bin.faces.to_string(),
                words::percent(bin.found_at_half),
                words::percent(bin.found),
                format!("{:.3} eye distances", bin.landmarks_off),
            ];
            table.add_row(texts.map(|t| cell(t, None)));
        }
        io.show(&table)?;
        if unreadable > 0 {
            io.remark(format!("warning: {unreadable} pictures could not be read"))?;
        }
    }
    Ok(if unreadable > 0 { PARTLY } else { OK })
}
