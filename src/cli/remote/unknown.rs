//! `visage unknown`: groups of faces that nobody knew.

use std::path::PathBuf;

use super::client::{Connection, connect};
use crate::{
    cli::{
        Globals,
        error::{OK, Outcome},
        json,
        output::{Ink, Io, cell, plain},
        parse, picture_file,
    },
    proto::v1::{
        DismissUnknownRequest, EnrollUnknownRequest, GetUnknownRequest, GetUnknownSheetRequest, ListUnknownsRequest,
        MergeUnknownsRequest, Unknown,
    },
};

/// Subcommands of `unknown`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List groups, last seen first.
    List {
        /// Also dismissed groups.
        #[arg(long)]
        all: bool,
    },
    /// Show a group: its appearances, and with -o its faces on one picture.
    Show {
        /// Id of the group, such as u17.
        id: String,
        /// File for the contact sheet (JPEG); - is stdout.
        #[arg(short = 'o', long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Enrol a group as a person; past events of the group are corrected.
    Enroll {
        /// Id of the group, such as u17.
        id: String,
        /// Id of the person; added when there is nobody of that id.
        person: String,
        /// What people call a person who is added.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Enrol even if the group looks like another person.
        #[arg(long)]
        force: bool,
    },
    /// Put the faces of B into A, for good.
    Merge {
        /// Id of the group that stays.
        a: String,
        /// Id of the group that goes.
        b: String,
    },
    /// Dismiss a group: it is not listed any more, and later appearances join it quietly.
    Dismiss {
        /// Id of the group, such as u17.
        id: String,
        /// Take a dismissal back.
        #[arg(long)]
        undo: bool,
    },
}

/// Runs a subcommand of `unknown`.
pub async fn run(command: Command, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    let name = |id: &str| parse::resource("unknowns", id);
    match command {
        Command::List { all } => list(&server, all, io).await,
        Command::Show { id, out } => show(&server, &id, out, io).await,
        Command::Enroll { id, person, name: display_name, force } => {
            let request = EnrollUnknownRequest {
                name: name(&id),
                person: parse::resource("people", &person),
                display_name: display_name.unwrap_or_default(),
                force,
            };
            let done = server.unknown().enroll_unknown(request).await?.into_inner();
            if io.json {
                io.object(&json::to_value("EnrollUnknownResponse", &done)?)?;
                return Ok(OK);
            }
            let added = if done.created { " (added)" } else { "" };
            io.line(format!(
                "{id} is {}{added}: {} of {} faces enrolled, {} past events corrected",
                parse::id(&done.person),
                done.faces_enrolled,
                done.faces_moved,
                done.events_corrected
            ))?;
            Ok(OK)
        }
        Command::Merge { a, b } => {
            let request = MergeUnknownsRequest { name: name(&a), from: name(&b) };
            let merged = server.unknown().merge_unknowns(request).await?.into_inner();
            report(&format!("{} went into", parse::id(&b)), &merged, io)
        }
        Command::Dismiss { id, undo } => {
            let request = DismissUnknownRequest { name: name(&id), undo };
            let group = server.unknown().dismiss_unknown(request).await?.into_inner();
            report(if undo { "listed again:" } else { "dismissed" }, &group, io)
        }
    }
}

fn report(words: &str, group: &Unknown, io: &mut Io<'_>) -> Outcome {
    match io.json {
        true => io.object(&json::to_value("Unknown", group)?)?,
        false => io.line(format!("{words} {} ({} appearances)", parse::id(&group.name), group.face_count))?,
    }
    Ok(OK)
}

fn cameras(group: &Unknown) -> String {
    group.cameras.iter().map(|c| parse::id(c)).collect::<Vec<_>>().join(", ")
}

async fn list(server: &Connection, all: bool, io: &mut Io<'_>) -> Outcome {
    let mut groups: Vec<Unknown> = Vec::new();
    let mut page_token = String::new();
    let keeping = loop {
        let request = ListUnknownsRequest { page_size: 1000, page_token, show_dismissed: all };
        let page = server.unknown().list_unknowns(request).await?.into_inner();
        groups.extend(page.unknowns);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break page.keeping;
        }
    };
    if !keeping {
        io.remark("this server keeps no new unknown faces; set unknowns.keep = true to have them kept")?;
    }
    if io.json {
        for group in &groups {
            io.object(&json::to_value("Unknown", group)?)?;
        }
        return Ok(OK);
    }
    if groups.is_empty() {
        if keeping {
            io.remark("no unknown faces")?;
        }
        return Ok(OK);
    }
    let mut table = io.table(&["id", "appearances", "last seen", "first seen", "cameras", ""]);
    for group in &groups {
        table.add_row(vec![
            cell(parse::id(&group.name), None),
            cell(group.face_count.to_string(), None),
            cell(parse::time_words(group.last_seen_time.as_ref()), None),
            cell(parse::time_words(group.first_seen_time.as_ref()), None),
            cell(plain(&cameras(group)), None),
            cell(if group.dismissed { "dismissed" } else { "" }, Some(Ink::Dim)),
        ]);
    }
    io.show(&table)?;
    Ok(OK)
}

async fn show(server: &Connection, id: &str, out: Option<PathBuf>, io: &mut Io<'_>) -> Outcome {
    let name = parse::resource("unknowns", id);
    if let Some(out) = out {
        let request = GetUnknownSheetRequest { name };
        let jpeg = server.unknown().get_unknown_sheet(request).await?.into_inner().jpeg;
        picture_file::write(&out, &jpeg, io.out)?;
        io.remark(format!("{} ({} bytes)", out.display(), jpeg.len()))?;
        return Ok(OK);
    }
    let group = server.unknown().get_unknown(GetUnknownRequest { name }).await?.into_inner();
    if io.json {
        io.object(&json::to_value("Unknown", &group)?)?;
        return Ok(OK);
    }
    io.pairs(&[
        ("id", parse::id(&group.name).into()),
        ("appearances", group.face_count.to_string()),
        ("first seen", parse::time_words(group.first_seen_time.as_ref())),
        ("last seen", parse::time_words(group.last_seen_time.as_ref())),
        ("cameras", plain(&cameras(&group))),
        ("dismissed", if group.dismissed { "yes".into() } else { String::new() }),
    ])?;
    let mut table = io.table(&["from", "to", "camera", "quality", "event"]);
    for face in &group.faces {
        table.add_row(vec![
            cell(parse::time_words(face.begin_time.as_ref()), None),
            cell(parse::time_words(face.end_time.as_ref()), None),
            cell(plain(parse::id(&face.camera)), None),
            cell(format!("{:.2}", face.quality), None),
            cell(parse::id(&face.event), None),
        ]);
    }
    io.line("")?;
    io.show(&table)?;
    if (group.faces.len() as u32) < group.face_count {
        io.remark(format!("the newest {} of {}", group.faces.len(), group.face_count))?;
    }
    Ok(OK)
}
