//! `visage models`: list, fetch and check the models.

use std::{io::Write, path::PathBuf};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    ids::ModelId,
    models::{self, locate, manifest, pull},
};

/// Arguments of `models`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// Folder of the prepared models [default: .cache/models near the program].
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VISAGE_MODELS_DIR",
        default_value = "",
        hide_default_value = true
    )]
    dir: String,
    /// A manifest file with more models.
    #[arg(long, global = true, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the models of the manifest.
    List,
    /// Fetches and prepares models [default: detector and default embedder].
    Pull {
        /// Ids.
        ids: Vec<ModelId>,
    },
    /// Verifies the files of all models that are there.
    Check,
}

const DEFAULTS: [&str; 2] = ["retinaface-mnet025", "dlib-resnet"];

/// Runs the command. `json` prints one object a model.
///
/// # Errors
/// When the manifest is faulty, a model can't be fetched, or a file is wrong.
pub async fn run(args: Args, json: bool) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || work(&args, json)).await?
}

fn work(args: &Args, json: bool) -> anyhow::Result<()> {
    let manifest = manifest::load(args.manifest.as_deref())?;
    let dir = locate::models_dir(&args.dir);
    let mut out = std::io::stdout();
    match &args.command {
        Command::Pull { ids } => {
            let ids = if ids.is_empty() {
                DEFAULTS.iter().map(|id| id.parse()).collect::<Result<_, _>>()?
            } else {
                ids.clone()
            };
            for id in ids {
                let bar = if json { ProgressBar::hidden() } else { ProgressBar::no_length() };
                bar.set_style(ProgressStyle::with_template("{prefix:20} {bytes:>10} {wide_msg}")?);
                bar.set_prefix(id.to_string());
                let outcome = pull::pull(&dir, &id, &manifest, &mut |what, done, total| {
                    bar.set_message(what.to_owned());
                    if total > 0 {
                        bar.set_length(total);
                    }
                    bar.set_position(done);
                })?;
                bar.finish_and_clear();
                let word = match outcome {
                    pull::Pulled::Present => "present",
                    pull::Pulled::Fetched => "fetched",
                };
                if json {
                    writeln!(out, "{}", json!({"id": id.as_str(), "result": word}))?;
                } else {
                    writeln!(out, "{id:20} {word}")?;
                }
            }
        }
        Command::List | Command::Check => {
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            table.set_header(["id", "role", "licence", "state"]);
            let mut wrong = Vec::new();
            for entry in manifest.entries() {
                let state = match models::load(&dir, &entry.id, &manifest) {
                    Ok(_) => "ready".to_owned(),
                    Err(models::ModelError::Missing { .. }) => "not here".to_owned(),
                    Err(error) => {
                        wrong.push(error.to_string());
                        "wrong file".to_owned()
                    }
                };
                if json {
                    let line =
                        json!({"id": entry.id.as_str(), "role": entry.role, "licence": entry.licence, "state": state});
                    writeln!(out, "{line}")?;
                }
                table.add_row([
                    entry.id.to_string(),
                    format!("{:?}", entry.role).to_lowercase(),
                    entry.licence.clone(),
                    state,
                ]);
            }
            if !json {
                writeln!(out, "{table}")?;
            }
            anyhow::ensure!(wrong.is_empty() || matches!(args.command, Command::List), "{}", wrong.join("\n"));
        }
    }
    Ok(())
}
