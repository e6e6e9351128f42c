//! `visage audit`: the audit log of a data folder, exported and verified, also while a server works there.

use std::path::Path;

use serde_json::json;

use super::configured::Folder;
use crate::{
    access::audit::{
        AuditError, FOLDER, Record,
        check::{self, CheckError},
        record::{self, Hash},
    },
    cli::{
        error::{FAILED, Failure, OK, Outcome},
        output::{Io, plain},
        parse::{self, Moment},
    },
    time::{Timestamp, now},
};

/// Arguments of `audit`.
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
    /// Prints the records, oldest first; with --json as they are kept, hashes included.
    Export {
        /// Not before: a time (2026-05-01T08:00:00Z) or a duration ago (7d).
        #[arg(long, value_name = "TIME", value_parser = parse::moment)]
        since: Option<Moment>,
        /// Before: a time or a duration ago.
        #[arg(long, value_name = "TIME", value_parser = parse::moment)]
        until: Option<Moment>,
    },
    /// Checks that no record was changed, moved, added or taken out; names the first that is wrong (exit code 1).
    Verify {
        /// A record that was noted before, as this command prints it: it must still be there, and the same.
        #[arg(long, value_name = "NUMBER:HASH", value_parser = noted)]
        noted: Option<(u64, Hash)>,
    },
}

fn noted(text: &str) -> Result<(u64, Hash), String> {
    let parts = text.split_once(':').and_then(|(n, hash)| Some((n.parse().ok()?, record::parsed(hash)?)));
    parts.ok_or_else(|| "is not NUMBER:HASH, as `visage audit verify` prints it".into())
}

/// Runs the command.
///
/// # Errors
/// When there is no log, or it can't be read.
pub fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let config = args.folder.config()?;
    let dir = &config.server.data_dir;
    if !dir.join(FOLDER).is_dir() {
        let message = format!("there is no audit log in the data folder {}", dir.display());
        return Err(Failure::new(message).hint("name the server's with --data-dir or VISAGE_DATA_DIR"));
    }
    match args.command {
        Command::Export { since, until } => export(dir, since, until, io),
        Command::Verify { noted } => verify(dir, noted, io),
    }
}

/// A failure of reading, or of writing what was read.
enum ExportError {
    Audit(AuditError),
    Out(std::io::Error),
}

impl From<AuditError> for ExportError {
    fn from(error: AuditError) -> Self {
        Self::Audit(error)
    }
}

fn export(dir: &Path, since: Option<Moment>, until: Option<Moment>, io: &mut Io<'_>) -> Outcome {
    let now = now();
    let at = |moment: Option<Moment>| moment.map(|m| m.at(now));
    let (since, until): (Option<Timestamp>, Option<Timestamp>) = (at(since), at(until));
    let mut unreadable = 0u64;
    let read = check::lines::<ExportError>(dir, |_, _, line| {
        // What is no record is printed as it is with --json: an export leaves nothing out that it can't judge.
        let Ok(record) = Record::parse(line) else {
            unreadable += 1;
            let text = String::from_utf8_lossy(line);
            return io
                .line(if io.json { text.into_owned() } else { format!("(no record) {}", plain(&text)) })
                .map_err(ExportError::Out);
        };
        let entry = &record.entry;
        if since.is_some_and(|at| entry.time < at) || until.is_some_and(|at| entry.time >= at) {
            return Ok(());
        }
        let text = if io.json { String::from_utf8_lossy(line).into_owned() } else { words(&record) };
        io.line(text).map_err(ExportError::Out)
    });
    match read {
        Ok(_) if unreadable == 0 => Ok(OK),
        Ok(_) => {
            Err(Failure::new(format!("{unreadable} lines are no records")).hint("`visage audit verify` tells where"))
        }
        Err(ExportError::Audit(error)) => Err(anyhow::Error::from(error).into()),
        Err(ExportError::Out(error)) => Err(error.into()),
    }
}

fn words(record: &Record) -> String {
    let e = &record.entry;
    let left_out = if e.left_out > 0 { format!(" (and {} more that were refused)", e.left_out) } else { String::new() };
    let who = if e.token == e.role { e.token.clone() } else { format!("{} ({})", e.token, e.role) };
    let subjects = e.subjects.join(" ");
    let text = format!("{} {who} {} {} {} {subjects}{left_out}", e.time, e.peer, e.method, e.outcome);
    plain(text.trim_end())
}

fn verify(dir: &Path, noted: Option<(u64, Hash)>, io: &mut Io<'_>) -> Outcome {
    let verified = match check::verify_from(dir, noted) {
        Ok(verified) => verified,
        Err(CheckError::Broken(broken)) if io.json => {
            io.object(&json!({
                "sound": false,
                "record": broken.record,
                "file": broken.path.display().to_string(),
                "line": broken.line,
                "message": broken.what,
            }))?;
            return Ok(FAILED);
        }
        Err(error) => return Err(Failure::new(error.to_string())),
    };
    let hash = hex::encode(verified.hash);
    if io.json {
        io.object(&json!({
            "sound": true,
            "first": verified.first,
            "last": verified.last,
            "hash": hash,
            "files": verified.files,
            "tornBytes": verified.torn,
        }))?;
        return Ok(OK);
    }
    if verified.last == 0 {
        io.line("the audit log is empty")?;
        return Ok(OK);
    }
    let begins = match verified.first {
        1 => "from the first on".to_owned(),
        first => format!("begins at record {first}; retention removed those before"),
    };
    io.line(format!("the audit log is sound: {begins}, up to record {}", verified.last))?;
    io.line(format!("{}:{hash}", verified.last))?;
    io.remark(
        "note that line elsewhere: `visage audit verify --noted` tells later whether this record is still the same",
    )?;
    if verified.torn > 0 {
        io.remark(format!(
            "{} bytes of half a record stand at the end, as a crash leaves them; the server removes them at its start",
            verified.torn
        ))?;
    }
    Ok(OK)
}
