//! `visage eval`: the papers' protocols on the user's own pictures, in this process. One file a command.
//!
//! [`lab`] loads models and runs pictures through them, [`verification`] compares pairs, [`gallery`] searches, [`widerface`] judges the detector,
//! [`sizes`] its input, [`quality`] the face quality number, [`tracking`] follows faces through made scenes, [`promise`] holds people out to
//! see whether a calibrated threshold keeps its word, [`liveness`] scores real pictures and crude attacks, `words` holds what their tables share. Nothing is changed anywhere; a data folder is
//! only read.

pub mod gallery;
mod gallery_report;
pub mod lab;
pub mod liveness;
pub mod promise;
mod promise_report;
pub mod quality;
mod sheet;
pub mod sizes;
pub mod tracking;
mod tracking_report;
pub mod verification;
mod verification_report;
pub mod widerface;
mod words;

use crate::{
    cli::{
        error::{Failure, Outcome},
        output::Io,
    },
    evaluation::EvaluationError,
};

const EXIT_CODES: &str = "\
EXIT CODES:
  0  done
  1  failed
  2  wrong command line
  3  done, but some pictures could not be read; they count as pictures without a face

docs/evaluation.md explains protocols and plots.";

/// What to evaluate.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Compare pairs of pictures: a list of pairs, or all pictures of a folder of people with all.
    #[command(after_help = EXIT_CODES)]
    Pairs(verification::PairsArgs),
    /// Labeled Faces in the Wild, View 2: 10 folds, accuracy and its standard error.
    #[command(after_help = EXIT_CODES)]
    Lfw(verification::LfwArgs),
    /// WIDER FACE: average precision of the detector.
    #[command(after_help = EXIT_CODES)]
    Widerface(widerface::Args),
    /// Damage good portraits and see how much is still recognised, and whether the face quality number knows.
    #[command(after_help = EXIT_CODES)]
    Quality(quality::Args),
    /// The detector at several input sizes: which faces it loses as they shrink, and how far off their landmarks are.
    #[command(after_help = EXIT_CODES)]
    Sizes(sizes::Args),
    /// Search for each face of a gallery in the rest of it; strangers against it; who looks like whom.
    #[command(after_help = EXIT_CODES)]
    Gallery(gallery::Args),
    /// Made scenes of real faces: identity F1, switches, and how often a subscriber is told of one appearance.
    #[command(after_help = EXIT_CODES)]
    Tracking(tracking::Args),
    /// The promise of `visage calibrate` on people held out, in pictures and over tracks, or on simulated sites.
    #[command(after_help = EXIT_CODES)]
    Promise(promise::Args),
    /// Liveness (experimental): scores of real pictures and of crude attacks made from them.
    #[command(after_help = EXIT_CODES)]
    Liveness(liveness::Args),
}

/// Runs `eval`.
pub async fn run(command: Command, io: &mut Io<'_>) -> Outcome {
    match command {
        Command::Pairs(args) => verification::pairs(args, io).await,
        Command::Lfw(args) => verification::lfw(args, io).await,
        Command::Widerface(args) => widerface::run(args, io).await,
        Command::Quality(args) => quality::run(args, io).await,
        Command::Sizes(args) => sizes::run(args, io).await,
        Command::Gallery(args) => gallery::run(args, io).await,
        Command::Tracking(args) => tracking::run(args, io).await,
        Command::Promise(args) => promise::run(args, io).await,
        Command::Liveness(args) => liveness::run(args, io).await,
    }
}

impl From<EvaluationError> for Failure {
    fn from(error: EvaluationError) -> Self {
        Self::new(error.to_string())
    }
}
