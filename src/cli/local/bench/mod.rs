//! `visage bench`: how fast this machine does it, and how much of that is ours. One file a command.
//!
//! [`detect`] and [`embed`] run the engine that serves beside the bare session of ONNX Runtime, in turns in one process; [`matching`] runs the
//! gallery's search beside a bare scan. [`setup`] loads models, [`bare`] is the bare session, [`scene`] makes pictures, [`figures`] does
//! the statistics. `pipeline` and `capacity` run the whole server as a process of its own (`rig`) under simulated cameras (`stage`); `meter` reads
//! what it costs, `ledger` compares its events with what was shown, `limit` runs bare sessions on all cores. docs/performance.md explains what they print.

pub mod bare;
#[cfg(feature = "simulator")]
pub mod capacity;
pub mod detect;
pub mod embed;
pub mod figures;
#[cfg(feature = "simulator")]
pub mod ledger;
#[cfg(feature = "simulator")]
pub mod limit;
pub mod matching;
#[cfg(feature = "simulator")]
pub mod meter;
#[cfg(feature = "simulator")]
pub mod pipeline;
#[cfg(feature = "simulator")]
pub mod rig;
pub mod scene;
pub mod setup;
pub mod simulate;
#[cfg(feature = "simulator")]
pub mod stage;

use crate::cli::{error::Outcome, output::Io};

const NOTES: &str = "\
Ours and bare run in turns, so that a busy machine slows both alike; rates are those of the median run. `efficiency` is ours over bare.
docs/performance.md explains every key of `--json`.";

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The detector: decoded pictures to faces, beside the bare network.
    #[command(after_help = NOTES)]
    Detect(detect::Args),
    /// The embedder: faces of a decoded picture to embeddings, beside the bare network.
    #[command(after_help = NOTES)]
    Embed(embed::Args),
    /// The gallery's search at several sizes, beside a bare scan.
    #[command(after_help = NOTES)]
    Match(matching::Args),
    /// A cluster of any size on a made clock: what moves when workers come and go, and what it costs.
    Simulate(simulate::Args),
    /// The whole server under simulated cameras, beside full decoding and the bare sessions.
    #[cfg(feature = "simulator")]
    Pipeline(pipeline::Args),
    /// How many cameras this machine holds, and what limits it.
    #[cfg(feature = "simulator")]
    Capacity(capacity::Args),
}

/// Runs `bench`.
pub async fn run(command: Command, io: &mut Io<'_>) -> Outcome {
    match command {
        Command::Detect(args) => detect::run(args, io).await,
        Command::Embed(args) => embed::run(args, io).await,
        Command::Match(args) => matching::run(args, io).await,
        Command::Simulate(args) => simulate::run(args, io).await,
        #[cfg(feature = "simulator")]
        Command::Pipeline(args) => pipeline::run(args, io).await,
        #[cfg(feature = "simulator")]
        Command::Capacity(args) => capacity::run(args, io).await,
    }
}
