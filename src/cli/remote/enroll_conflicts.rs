//! Enrolled faces that speak against pictures: told in a table, drawn on a sheet.

use std::path::Path;

use bytes::Bytes;
use image::RgbImage;
use tonic::Code;

use super::{
    client::Connection,
    enroll::{Verdict, short},
};
use crate::{
    cli::{
        conflict_sheet,
        error::Failure,
        output::{Ink, Io, cell},
        parse, picture_file,
    },
    proto::v1::{Conflict, ConflictKind, GetFaceImageRequest},
};

/// What is wrong, in words.
pub(super) fn conflict_words(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::Duplicate => "same picture",
        ConflictKind::LooksLikeAnotherPerson => "looks like another person",
        ConflictKind::UnlikeOwnFaces => "unlike own faces",
        ConflictKind::Unspecified => "something else",
    }
}

/// Draws what was refused or doubted, each beside the enrolled face that speaks against it. A picture is read once and kept as tiles only; one
/// that can't be read any more stays blank.
///
/// # Errors
/// When the server does not answer, or the file can't be written.
pub(super) async fn draw_sheet(
    server: &Connection,
    sheet: &Path,
    verdicts: &[Verdict],
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let all: usize = verdicts.iter().map(|v| v.conflicts.len()).sum();
    let mut pairs = Vec::new();
    for verdict in verdicts.iter().filter(|v| !v.conflicts.is_empty()) {
        let room = conflict_sheet::MOST - pairs.len();
        if room == 0 {
            break;
        }
        let bbox = verdict.bbox.map(|b| [b.x1, b.y1, b.x2, b.y2]);
        let new = match picture_file::read(verdict.image.clone()).await {
            Ok(bytes) => tile(bytes, bbox).await?,
            Err(_) => None,
        };
        for conflict in verdict.conflicts.iter().take(room) {
            let (owner, _) = conflict.face.rsplit_once("/faces/").unwrap_or((&conflict.face, ""));
            let outcome = if conflict.refuses { "refused" } else { "told" };
            pairs.push(conflict_sheet::Pair {
                new: new.clone(),
                enrolled: enrolled(server, conflict).await?,
                lines: [
                    [verdict.person.clone(), short(&verdict.image)],
                    [parse::id(owner).to_owned(), format!("{:.2} {outcome}", conflict.similarity)],
                ],
            });
        }
    }
    if pairs.is_empty() {
        io.remark("no conflicts, so no sheet")?;
        return Ok(());
    }
    let (path, drawn) = (sheet.to_owned(), pairs.len());
    let written = tokio::task::spawn_blocking(move || conflict_sheet::write(&path, pairs)).await;
    written.map_err(|e| Failure::new("drawing the sheet was interrupted").because(&e))??;
    let left = if all > drawn { format!("; {} more were left out", all - drawn) } else { String::new() };
    io.remark(format!("{} shows {drawn} conflicts{left}", sheet.display()))?;
    Ok(())
}

/// The enrolled face of a conflict; `None` where no picture of it is kept.
async fn enrolled(server: &Connection, conflict: &Conflict) -> Result<Option<RgbImage>, Failure> {
    let name = conflict.face.clone();
    match server.person().get_face_image(GetFaceImageRequest { name }).await {
        Ok(answer) => tile(answer.into_inner().jpeg, None).await,
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// [`conflict_sheet::tile`] off the async threads.
async fn tile(bytes: Bytes, bbox: Option<[f32; 4]>) -> Result<Option<RgbImage>, Failure> {
    let made = tokio::task::spawn_blocking(move || conflict_sheet::tile(&bytes, bbox)).await;
    made.map_err(|e| Failure::new("drawing the sheet was interrupted").because(&e))
}

/// The enrolled faces that speak against pictures, also against those that were enrolled all the same.
pub(super) fn tell_conflicts(verdicts: &[Verdict], io: &mut Io<'_>) -> Result<(), Failure> {
    let conflicts: Vec<(&Verdict, &Conflict)> =
        verdicts.iter().flat_map(|v| v.conflicts.iter().map(move |c| (v, c))).collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    let mut table = io.table(&["look at", "outcome", "why", "enrolled face", "similarity", "limit"]);
    for (verdict, c) in conflicts {
        let outcome = if verdict.face.is_some() { "enrolled" } else { "refused" };
        let (person, face) = c.face.rsplit_once("/faces/").unwrap_or((&c.face, ""));
        table.add_row(vec![
            cell(short(&verdict.image), None),
            cell(outcome, Some(if verdict.face.is_some() { Ink::Dim } else { Ink::Yellow })),
            cell(conflict_words(c.kind()), None),
            cell(format!("{}/{face}", parse::id(person)), None),
            cell(format!("{:.2}", c.similarity), None),
            cell(format!("{:.2}", c.limit), None),
        ]);
    }
    io.line("")?;
    io.show(&table)?;
    Ok(())
}
