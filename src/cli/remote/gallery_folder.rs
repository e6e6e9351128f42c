//! A gallery as a folder: `gallery.jsonl`, whose first line tells what it is and every other a person with their faces, and `pictures/`.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;

use super::client::Connection;
use crate::{
    cli::{
        error::{Failure, OK, Outcome, PARTLY},
        json as wire_json,
        output::{Io, plain},
        parse,
    },
    proto::v1::{
        ExportGalleryRequest, GalleryFace, ImportGalleryRequest, ImportGalleryResponse, ImportOutcome, Person,
        export_gallery_response, import_gallery_request,
    },
    time::now,
    whole_file::WholeFile,
};

const LIST: &str = "gallery.jsonl";
const PICTURES: &str = "pictures";
const FORMAT: u64 = 1;
/// Pieces that wait to be sent.
const WAITING: usize = 4;
/// Refusals that are named on the terminal.
const NAMED: usize = 20;

fn trouble(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new(format!("{path} can't be used: {error}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = WholeFile::create(path).and_then(|file| {
        let mut file = file.readable_by_owner()?;
        file.write_all(bytes)?;
        file.finish()
    });
    written.map_err(trouble(path))
}

/// Writes everybody into a new folder; the list comes last, so that a folder without one was not finished.
pub(super) async fn export(server: &Connection, request: ExportGalleryRequest, dir: &Path, io: &mut Io<'_>) -> Outcome {
    fs::create_dir(dir).map_err(|e| trouble(dir)(e).hint("name a folder that is not there yet"))?;
    let pictures = dir.join(PICTURES);
    fs::create_dir(&pictures).map_err(trouble(&pictures))?;
    let path = dir.join(LIST);
    let mut list = WholeFile::create(&path).and_then(WholeFile::readable_by_owner).map_err(trouble(&path))?;
    let head = json!({ "format": FORMAT, "visage": env!("CARGO_PKG_VERSION"), "exportTime": now().to_string() });
    writeln!(list, "{head}").map_err(trouble(&path))?;
    let mut pieces = server.gallery().export_gallery(request).await?.into_inner();
    let (mut open, mut people, mut faces): (Option<Value>, u64, u64) = (None, 0, 0);
    while let Some(message) = pieces.message().await? {
        match message.piece {
            Some(export_gallery_response::Piece::Person(person)) => {
                if let Some(line) =
                    open.replace(json!({ "person": wire_json::to_value("Person", &person)?, "faces": [] }))
                {
                    writeln!(list, "{line}").map_err(trouble(&path))?;
                }
                people += 1;
            }
            Some(export_gallery_response::Piece::Face(mut face)) => {
                let jpeg = std::mem::take(&mut face.jpeg);
                let id = face.face.as_ref().map_or_else(String::new, |f| parse::id(&f.name).to_owned());
                let mut value = wire_json::to_value("GalleryFace", &face)?;
                if !jpeg.is_empty() {
                    // Names come from the server: none may lead out of the folder.
                    let id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
                    let name = format!("{PICTURES}/{id}.jpg");
                    write(&dir.join(&name), &jpeg)?;
                    value["picture"] = name.into();
                }
                if let Some(all) = open.as_mut().and_then(|line| line["faces"].as_array_mut()) {
                    all.push(value);
                }
                faces += 1;
            }
            None => {}
        }
    }
    if let Some(line) = open {
        writeln!(list, "{line}").map_err(trouble(&path))?;
    }
    list.finish().map_err(trouble(&path))?;
    match io.json {
        true => io.object(&json!({ "folder": dir.display().to_string(), "people": people, "faces": faces }))?,
        false => io.line(format!("{}: {people} people with {faces} faces", dir.display()))?,
    }
    Ok(OK)
}

/// The pieces of one line.
fn pieces(dir: &Path, at: usize, line: &str) -> Result<Vec<import_gallery_request::Piece>, Failure> {
    use import_gallery_request::Piece;
    let fault = |f: Failure| Failure { message: format!("line {at} of {LIST}: {}", f.message), ..f };
    let mut value: Value = serde_json::from_str(line).map_err(|e| fault(Failure::new("it is no JSON").because(&e)))?;
    let mut person: Person = wire_json::from_value("Person", value["person"].take()).map_err(fault)?;
    // What the other server found out, not what is known.
    (person.face_count, person.looks_like, person.etag) = (0, Vec::new(), String::new());
    let mut all = vec![Piece::Person(person)];
    let faces = value["faces"].as_array_mut().map(std::mem::take).unwrap_or_default();
    for mut face in faces {
        let picture = face.as_object_mut().and_then(|face| face.remove("picture"));
        let mut face: GalleryFace = wire_json::from_value("GalleryFace", face).map_err(fault)?;
        if let Some(name) = picture.as_ref().and_then(Value::as_str) {
            let path = Path::new(name);
            let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside {
                return Err(fault(Failure::new(format!("{name:?} leads out of the folder"))));
            }
            face.jpeg = fs::read(dir.join(path)).map_err(trouble(&dir.join(path)))?.into();
        }
        all.push(Piece::Face(face));
    }
    Ok(all)
}

/// Sends every line, until the server is gone; how many lines there were.
fn send(dir: &Path, to: &tokio::sync::mpsc::Sender<ImportGalleryRequest>) -> Result<(), Failure> {
    let path = dir.join(LIST);
    let file =
        File::open(&path).map_err(|e| trouble(&path)(e).hint("name a folder that `visage gallery export` wrote"))?;
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(trouble(&path))?;
        if at == 0 {
            let head: Value = serde_json::from_str(&line).unwrap_or_default();
            if head["format"] != FORMAT {
                return Err(Failure::new(format!("{} is of another form than {FORMAT}", path.display())));
            }
            continue;
        }
        for piece in pieces(dir, at + 1, &line)? {
            if to.blocking_send(ImportGalleryRequest { piece: Some(piece) }).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Sends a folder to the server and reports.
pub(super) async fn import(server: &Connection, dir: PathBuf, io: &mut Io<'_>) -> Outcome {
    let (sender, requests) = tokio::sync::mpsc::channel(WAITING);
    let sending = tokio::task::spawn_blocking(move || send(&dir, &sender));
    let mut answers = server.gallery().import_gallery(ReceiverStream::new(requests)).await?.into_inner();
    let (mut added, mut there, mut refused) = (0_u64, 0_u64, Vec::<ImportGalleryResponse>::new());
    while let Some(answer) = answers.message().await? {
        match answer.outcome() {
            ImportOutcome::Added => added += 1,
            ImportOutcome::ThereAlready => there += 1,
            ImportOutcome::Refused | ImportOutcome::Unspecified => refused.push(answer),
        }
    }
    // What was sent before a faulty line is in; the fault is told after it.
    sending.await.map_err(anyhow::Error::from)??;
    if io.json {
        let told: Vec<Value> = refused.iter().map(|r| json!({ "name": r.name, "message": r.message })).collect();
        io.object(&json!({ "added": added, "thereAlready": there, "refused": told }))?;
    } else {
        io.line(format!("{added} people and faces added, {there} were there already, {} refused", refused.len()))?;
        for answer in refused.iter().take(NAMED) {
            io.remark(format!("refused {}: {}", plain(&answer.name), plain(&answer.message)))?;
        }
    }
    Ok(if refused.is_empty() { OK } else { PARTLY })
}
