//! `visage train`: a classifier over the enrolled faces, and how good it is.

use indicatif::{ProgressBar, ProgressStyle};

use super::client::connect;
use crate::{
    cli::{
        Globals,
        error::{Failure, OK, Outcome},
        json,
        output::{Ink, Io, cell, plain},
    },
    proto::v1::{RouteTally, TrainClassifierRequest, TrainingResult, train_classifier_response::Message},
};

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server first tests classifiers on enrolled faces that they have not seen, beside the decision by similarity, then trains one on all
faces and keeps it. It decides only where the configuration says identity.decision = \"classifier\"; then the server also trains one by itself.
Once trained it follows the gallery. A person who is erased is gone from it at once.

Examples:
  visage train                     test, train, keep
  visage train --dry-run           only test
  visage train --forget")]
pub struct Args {
    /// Only tell; nothing is kept.
    #[arg(long)]
    pub dry_run: bool,
    /// Folds of the cross-validation, 2 to 20.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=20))]
    pub folds: u32,
    /// Forget the classifier.
    #[arg(long, conflicts_with_all = ["dry_run", "folds"])]
    pub forget: bool,
}

/// Runs `train`.
pub async fn run(args: Args, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    let request = TrainClassifierRequest { validate_only: args.dry_run, forget: args.forget, folds: args.folds };
    let mut answers = server.server().train_classifier(request).await?.into_inner();
    let bar = if io.progress { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} trainings, {elapsed}") {
        bar.set_style(style);
    }
    let mut result = None;
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(Message::Progress(p)) => {
                bar.set_length(p.total.into());
                bar.set_position(p.done.into());
            }
            Some(Message::Result(r)) => result = Some(r),
            None => {}
        }
    }
    bar.finish_and_clear();
    match result {
        Some(result) if io.json => io.object(&json::to_value("TrainingResult", &result)?)?,
        Some(result) => tell(&args, &result, io)?,
        None if args.forget && io.json => io.object(&serde_json::json!({"forgotten": true}))?,
        None if args.forget => io.line("forgotten; similarity decides")?,
        None => return Err(Failure::new("the server ended the training without a result").hint("try again")),
    }
    Ok(OK)
}

fn tell(args: &Args, r: &TrainingResult, io: &mut Io<'_>) -> Result<(), Failure> {
    let c = r.classifier.clone().unwrap_or_default();
    let of_tested = |n: u32| format!("{:.1} %", f64::from(n) / f64::from(r.tested.max(1)) * 100.0);
    io.pairs(&[
        ("model", plain(&c.model)),
        ("trained on", format!("{} faces of {} people", c.faces, c.people)),
        ("tested on", format!("{} faces in {} folds, each by a classifier that had not seen it", r.tested, r.folds)),
        ("not tested", format!("{} people with a single face", r.untested_people)),
        (
            "right person first",
            format!(
                "{} by the classifier, {} by similarity",
                of_tested(r.classifier_first),
                of_tested(r.nearest_first)
            ),
        ),
    ])?;
    io.line("")?;
    let mut table = io.table(&["with the threshold", "right", "unnamed", "wrong", "named with their person away"]);
    let rows = [("classifier", &r.by_classifier), ("similarity", &r.by_similarity)];
    for (name, tally) in rows {
        let RouteTally { right, unnamed, wrong, strangers_named } = tally.unwrap_or_default();
        let texts =
            [name.to_owned(), right.to_string(), unnamed.to_string(), wrong.to_string(), strangers_named.to_string()];
        table.add_row(texts.map(|t| cell(t, None)));
    }
    io.show(&table)?;
    let kept = if args.dry_run { "only told: nothing is kept" } else { "kept; `visage info` tells whether it decides" };
    let kept = io.ink(Ink::Green, kept);
    io.line(kept)?;
    Ok(())
}
