//! `visage models`: list, fetch and check the models.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::configured;
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
    /// The server's configuration file (TOML): section `[models]` counts.
    #[arg(long, global = true, value_name = "FILE", env = "VISAGE_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the prepared models, instead of `models.dir` [default: .cache/models near the program].
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A manifest file with more models, instead of `models.manifest`.
    #[arg(long, global = true, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the models of the manifest.
    List,
    /// Fetches and prepares models [default: those that the configuration names].
    Pull {
        /// Ids.
        ids: Vec<ModelId>,
    },
    /// Verifies the files of all models that are there.
    Check,
}

/// Runs the command. `json` prints one object a model.
///
/// # Errors
/// When the configuration or the manifest is faulty, a model can't be fetched, or a file is wrong.
pub async fn run(args: Args, json: bool) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || work(&args, json)).await?
}

fn work(args: &Args, json: bool) -> anyhow::Result<()> {
    let given = [("models.dir", &args.dir), ("models.manifest", &args.manifest)];
    let flags: Vec<_> =
        given.into_iter().filter_map(|(key, path)| Some((key, configured::path(path.as_deref()?)))).collect();
    let config = configured::load(args.config.as_deref(), &flags)?;
    let settings = config.models;
    let user = Some(&settings.manifest).filter(|path| !path.is_empty());
    let manifest = manifest::load(user.map(Path::new))?;
    let dir = locate::models_dir(&settings.dir);
    let mut out = std::io::stdout();
    match &args.command {
        Command::Pull { ids } => {
            let ids = if ids.is_empty() {
                let liveness = Some(&config.liveness.model).filter(|id| !id.is_empty());
                let ids = [&settings.detector, &settings.embedder].into_iter().chain(liveness);
                ids.map(|id| id.parse()).collect::<Result<_, _>>()?
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
