//! `visage verify`: do two pictures show one person?

use std::path::PathBuf;

use serde::Serialize;

use super::client::connect;
use crate::{
    cli::{
        Globals,
        error::{NO, OK, Outcome},
        output::{Ink, Io},
        picture_file,
    },
    proto::v1::VerifyFacesRequest,
};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// First picture; its largest face counts.
    pub image_a: PathBuf,
    /// Second picture; its largest face counts.
    pub image_b: PathBuf,
    /// Similarity that counts as the same person, instead of the model's threshold.
    #[arg(long, value_name = "SIMILARITY", allow_negative_numbers = true)]
    pub threshold: Option<f32>,
}

/// `verify --json`. The names of its keys are part of the contract.
#[derive(Debug, Serialize)]
struct Answer {
    similarity: f32,
    threshold: f32,
    same: bool,
}

/// Runs `verify`. Exit code 0 for one person, 4 for two.
pub async fn run(args: Args, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let image_a = picture_file::read(args.image_a).await?;
    let image_b = picture_file::read(args.image_b).await?;
    let server = connect(globals).await?;
    let request = VerifyFacesRequest { image_a, image_b, threshold: args.threshold };
    let answer = server.recognition().verify_faces(request).await?.into_inner();
    if io.json {
        io.object(&Answer { similarity: answer.similarity, threshold: answer.threshold, same: answer.same })?;
    } else {
        let (word, ink) = if answer.same { ("same person", Ink::Green) } else { ("different people", Ink::Yellow) };
        let word = io.ink(ink, word);
        io.line(format!("{word}: similarity {:.3}, threshold {:.3}", answer.similarity, answer.threshold))?;
    }
    Ok(if answer.same { OK } else { NO })
}
