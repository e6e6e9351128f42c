//! `visage privacy`: what is stored about a person, in a form to hand over.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::connect;
use crate::{
    cli::{
        Globals,
        error::{Failure, OK, Outcome},
        json as wire_json,
        output::Io,
        parse,
    },
    proto::v1::{ReportPersonRequest, report_person_response::Piece},
    whole_file::WholeFile,
};

/// Subcommands of `privacy`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Tell everything that is stored about a person: faces, embeddings, events, judgements, and for how long.
    Report {
        /// Id of the person.
        person: String,
        /// A new folder for report.json and all pictures, to hand over; without it the report is printed, without pictures.
        #[arg(short = 'o', long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Runs a subcommand of `privacy`.
///
/// # Errors
/// When there is no such person, the server fails, or the folder can't be written.
pub async fn run(command: Command, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let Command::Report { person, out } = command;
    let server = connect(globals).await?;
    if let Some(dir) = &out {
        std::fs::create_dir(dir).map_err(|e| {
            Failure::new(format!("{} can't be made: {e}", dir.display())).hint("name a folder that is not there yet")
        })?;
    }
    let request = ReportPersonRequest { name: parse::resource("people", &person), pictures: out.is_some() };
    let mut pieces = server.person().report_person(request).await?.into_inner();
    let (mut whole, mut faces, mut events) = (Value::Null, Vec::new(), Vec::new());
    while let Some(message) = pieces.message().await? {
        match message.piece {
            Some(Piece::Report(report)) => whole = wire_json::to_value("PersonReport", &report)?,
            Some(Piece::Face(mut face)) => {
                let jpeg = std::mem::take(&mut face.jpeg);
                let id = face.face.as_ref().map_or_else(String::new, |f| parse::id(&f.name).to_owned());
                let mut value = wire_json::to_value("FaceReport", &face)?;
                keep(out.as_deref(), &format!("face-{id}.jpg"), &jpeg, &mut value)?;
                faces.push(value);
            }
            Some(Piece::Event(mut event)) => {
                let jpeg = std::mem::take(&mut event.jpeg);
                let id = event.event.as_ref().map_or_else(String::new, |e| parse::id(&e.name).to_owned());
                let mut value = wire_json::to_value("EventReport", &event)?;
                keep(out.as_deref(), &format!("event-{id}.jpg"), &jpeg, &mut value)?;
                events.push(value);
            }
            None => {}
        }
    }
    let counts = (faces.len(), events.len());
    let report = json!({ "report": whole, "faces": faces, "events": events });
    match out {
        None if io.json => io.object(&report)?,
        None => io.line(serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?)?,
        Some(dir) => {
            write(&dir.join("report.json"), &serde_json::to_vec_pretty(&report).map_err(anyhow::Error::from)?)?;
            if io.json {
                io.object(&json!({ "folder": dir.display().to_string(), "faces": counts.0, "events": counts.1 }))?;
            } else {
                io.line(format!("{}: {} faces and {} events", dir.display(), counts.0, counts.1))?;
            }
        }
    }
    Ok(OK)
}

/// Writes a picture and notes its name.
fn keep(dir: Option<&Path>, name: &str, jpeg: &[u8], value: &mut Value) -> Result<(), Failure> {
    let Some(dir) = dir.filter(|_| !jpeg.is_empty()) else { return Ok(()) };
    // Names come from the server: none may lead out of the folder.
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).collect();
    write(&dir.join(&name), jpeg)?;
    value["picture"] = name.into();
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    let written = WholeFile::create(path).and_then(|file| {
        let mut file = file.readable_by_owner()?;
        file.write_all(bytes)?;
        file.finish()
    });
    written.map_err(|e| Failure::new(format!("{} can't be written: {e}", path.display())))
}
