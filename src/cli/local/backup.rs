//! `visage backup`: a copy of a data folder as one file, also while a server works there, and back.

use std::path::PathBuf;

use serde_json::json;

use super::configured::Folder;
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::Io,
    },
    config::Config,
    store::sqlite::backup::{self, BackupError, Restored},
};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// Of which server.
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Writes a backup of the data folder, also while a server works there. The key is not in it: keep that elsewhere.
    Create {
        /// Where to; an existing file is replaced once the new one is whole.
        file: PathBuf,
    },
    /// Reads a whole backup and compares it with what was written.
    Check {
        /// The backup.
        file: PathBuf,
    },
    /// Puts a backup in the place of what the data folder holds; no server may work there. Whoever was erased since is erased in it, too.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Puts data that are there aside, as visage.before-restore.db.
        #[arg(long)]
        replace: bool,
        /// A further list of erasures, erasures.jsonl of the lost data folder.
        #[arg(long, value_name = "FILE")]
        erasures: Option<PathBuf>,
    },
}

/// Runs the command.
///
/// # Errors
/// When the data folder, the key or the backup can't be used.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let config = args.folder.config()?;
    match args.command {
        Command::Create { file } => create(config, file, io).await,
        Command::Check { file } => {
            let shown = file.display().to_string();
            let manifest = work(move || backup::check(&file)).await?;
            told(&manifest, &shown, "is whole", io)
        }
        Command::Restore { file, replace, erasures } => restore(config, file, replace, erasures, io).await,
    }
}

async fn work<T: Send + 'static>(work: impl FnOnce() -> Result<T, BackupError> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::from)?;
    done.map_err(|e| anyhow::Error::from(e).into())
}

async fn create(config: Config, file: PathBuf, io: &mut Io<'_>) -> Outcome {
    let shown = file.display().to_string();
    let (dir, storage) = (config.server.data_dir, config.storage);
    let beside = storage.file(&dir);
    let manifest = work(move || backup::create(&dir, &storage, &file)).await?;
    if let (false, Some(key)) = (io.json, beside) {
        io.remark(format!(
            "it can be read with the key {} only, which is not in it: keep a copy of that elsewhere",
            key.display()
        ))?;
    }
    told(&manifest, &shown, "was written and read again", io)
}

fn told(manifest: &backup::Manifest, file: &str, what: &str, io: &mut Io<'_>) -> Outcome {
    if io.json {
        io.object(&serde_json::to_value(manifest).map_err(anyhow::Error::from)?)?;
    } else {
        let bytes: u64 = manifest.files.iter().map(|f| f.bytes).sum();
        io.line(format!(
            "{file} {what}: {} cameras, {} people with {} faces, {} events, {:.1} MiB of {}",
            manifest.cameras,
            manifest.people,
            manifest.faces,
            manifest.events,
            bytes as f64 / f64::from(1 << 20),
            manifest.created
        ))?;
    }
    Ok(OK)
}

async fn restore(config: Config, file: PathBuf, replace: bool, list: Option<PathBuf>, io: &mut Io<'_>) -> Outcome {
    let shown = file.display().to_string();
    let (dir, storage) = (config.server.data_dir, config.storage);
    let folder = dir.display().to_string();
    let restored = work(move || backup::restore(&dir, &storage, &file, list.as_deref(), replace)).await?;
    let Restored { manifest, erased_again, replaced } = restored;
    if io.json {
        let aside = replaced.map(|path| path.display().to_string());
        io.object(&json!({ "backup": manifest, "erasedAgain": erased_again, "replaced": aside }))?;
        return Ok(OK);
    }
    told(&manifest, &shown, &format!("is restored to {folder}"), io)?;
    if erased_again > 0 {
        io.remark(format!("{erased_again} erasures since the backup were carried out in it again"))?;
    }
    if let Some(aside) = replaced {
        io.remark(format!("what was there before is {}; delete it once all is well", aside.display()))?;
    }
    io.remark("subscribers begin anew: resume tokens of before are refused")?;
    Ok(OK)
}
