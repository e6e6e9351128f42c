//! `visage gallery`: which models cover it, moving it to another model, checking what is in it.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    client::{Connection, connect},
    gallery_folder,
};
use crate::{
    cli::{
        Globals,
        error::{Failure, OK, Outcome, PARTLY},
        json,
        output::{Ink, Io, cell, plain},
        parse,
    },
    proto::v1::{
        CheckGalleryRequest, ExportGalleryRequest, GalleryFinding, GalleryFindingKind, GetGalleryRequest,
        ReembedGalleryRequest, ReembedPlan, ReembedStage,
    },
};

/// Faces that are named on the terminal; `--json` names all.
const NAMED: usize = 50;

/// Subcommands of `gallery`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show which model is in use and how far each model covers the people enrolled.
    Status,
    /// Move the gallery to another model while recognition goes on.
    #[command(after_help = "\
Faces are embedded from the pictures kept of them; recognition goes on with the present model until the new one takes over in one
step. Ctrl-C cancels; what was embedded is kept, and the same command goes on from there. Exit code 3: done, but some faces must be
enrolled again.

Examples:
  visage gallery reembed --model mobilefacenet --dry-run    what would be done, and who must be enrolled again
  visage gallery reembed --model mobilefacenet
  visage gallery reembed --model dlib-resnet                back: needs no embedding unless --drop-old was given")]
    Reembed {
        /// Id of the new model (`visage models list`).
        #[arg(long, value_name = "ID")]
        model: String,
        /// Only tell what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Move although people are lost who have no picture kept: enrol them again afterwards.
        #[arg(long)]
        allow_missing: bool,
        /// Remove the old model's embeddings when it is done; going back then means embedding again.
        #[arg(long, conflicts_with = "dry_run")]
        drop_old: bool,
    },
    /// Write everybody into a folder: gallery.jsonl, a person with their faces a line, and pictures/. For `gallery import`, or anything else.
    Export {
        /// A folder that is not there yet.
        dir: PathBuf,
        /// Without pictures.
        #[arg(long)]
        no_pictures: bool,
        /// Without embeddings: another server makes its own from the pictures.
        #[arg(long)]
        no_embeddings: bool,
    },
    /// Take people and faces in from a folder that `gallery export` wrote. Who is here already stays; exit code 3 when something was refused.
    Import {
        /// The folder.
        dir: PathBuf,
    },
    /// List faces that may be wrong: one person enrolled as two, look-alikes, odd and poor pictures. Changes nothing.
    Check {
        /// At most this many findings, gravest first.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=10_000), value_name = "N")]
        limit: i32,
    },
}

/// Runs a subcommand of `gallery`.
pub async fn run(command: Command, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    match command {
        Command::Status => status(&server, io).await,
        Command::Reembed { model, dry_run, allow_missing, drop_old } => {
            let request = ReembedGalleryRequest { model, allow_missing, drop_old, validate_only: dry_run };
            reembed(&server, request, io).await
        }
        Command::Export { dir, no_pictures, no_embeddings } => {
            let request = ExportGalleryRequest { pictures: !no_pictures, embeddings: !no_embeddings };
            gallery_folder::export(&server, request, &dir, io).await
        }
        Command::Import { dir } => gallery_folder::import(&server, dir, io).await,
        Command::Check { limit } => check(&server, limit, io).await,
    }
}

async fn status(server: &Connection, io: &mut Io<'_>) -> Outcome {
    let gallery = server.gallery().get_gallery(GetGalleryRequest {}).await?.into_inner();
    if io.json {
        io.object(&json::to_value("Gallery", &gallery)?)?;
        return Ok(OK);
    }
    let other = gallery.model != gallery.configured_model;
    io.pairs(&[
        ("model", plain(&gallery.model)),
        (
            "configured",
            if other {
                format!("{}, which does not count: the data folder decides", plain(&gallery.configured_model))
            } else {
                String::new()
            },
        ),
        ("people", gallery.people.to_string()),
        ("faces", gallery.faces.to_string()),
        (
            "pictures",
            format!(
                "{} of {} faces; {}",
                gallery.pictures,
                gallery.faces,
                if gallery.keeps_pictures { "kept of new faces" } else { "none is kept of new faces" }
            ),
        ),
        ("moving", if gallery.moving { "to another model, at this moment".into() } else { String::new() }),
    ])?;
    let mut table = io.table(&["model", "people", "faces", "complete", ""]);
    for model in &gallery.models {
        let missing = gallery.faces.saturating_sub(model.faces);
        table.add_row(vec![
            cell(plain(&model.model), None),
            cell(model.people.to_string(), None),
            cell(model.faces.to_string(), None),
            match model.complete {
                true => cell("yes", Some(Ink::Green)),
                false => cell(format!("{missing} faces missing"), Some(Ink::Yellow)),
            },
            cell(if model.in_use { "in use" } else { "" }, None),
        ]);
    }
    io.line("")?;
    io.show(&table)?;
    Ok(OK)
}

async fn reembed(server: &Connection, request: ReembedGalleryRequest, io: &mut Io<'_>) -> Outcome {
    let mut steps = server.gallery().reembed_gallery(request).await?.into_inner();
    let bar = if io.progress { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{msg:10} {bar:30} {pos}/{len} faces, {eta} left") {
        bar.set_style(style);
    }
    let mut last = None;
    loop {
        let step = match steps.message().await {
            Ok(Some(step)) => step,
            Ok(None) => break,
            Err(status) => {
                bar.finish_and_clear();
                return Err(status.into());
            }
        };
        if io.json {
            io.object(&json::to_value("ReembedGalleryResponse", &step)?)?;
        }
        bar.set_message(match step.stage() {
            ReembedStage::Embedding => "embedding",
            ReembedStage::Indexing => "indexing",
            ReembedStage::Switched => "switched",
            _ => "loading",
        });
        bar.set_length(step.total);
        bar.set_position(step.done);
        last = Some(step);
    }
    bar.finish_and_clear();
    let Some((stage, Some(plan))) = last.map(|step| (step.stage(), step.plan)) else {
        return Err(Failure::new("the server ended the move without saying what became of it")
            .hint("see `visage gallery status`, and repeat it"));
    };
    let exit = if plan.missing.is_empty() { OK } else { PARTLY };
    if !io.json {
        tell(stage, &plan, io)?;
    }
    Ok(if stage == ReembedStage::Planned { OK } else { exit })
}

fn tell(stage: ReembedStage, plan: &ReembedPlan, io: &mut Io<'_>) -> Result<(), Failure> {
    let planned = stage == ReembedStage::Planned;
    let missing = match plan.missing.len() {
        0 => "none".into(),
        n => format!("{n} of {} faces, {} people lost", plan.faces, plan.lost_people.len()),
    };
    io.pairs(&[
        (if planned { "would move" } else { "moved" }, format!("from {} to {}", plain(&plan.from), plain(&plan.to))),
        ("people", plan.people.to_string()),
        ("embedded", format!("{} of {} faces", plan.embedded, plan.faces)),
        ("to embed", if planned { format!("{} faces from their pictures", plan.to_embed) } else { String::new() }),
        ("must be enrolled again", missing),
        (
            "exemplars left behind",
            match plan.negatives_left {
                0 => String::new(),
                n => format!("{n} of \"not that person\": they count again when {} is in use", plain(&plan.from)),
            },
        ),
        (
            "threshold",
            match plan.calibrated {
                true => format!("as calibrated for {}", plain(&plan.to)),
                false => format!("the model's own; `visage calibrate` learns one for {}", plain(&plan.to)),
            },
        ),
        ("removed", if plan.dropped > 0 { format!("{} old embeddings", plan.dropped) } else { String::new() }),
    ])?;
    for remark in &plan.remarks {
        io.remark(format!("look at it: {}", plain(remark)))?;
    }
    if plan.missing.is_empty() {
        return Ok(());
    }
    let mut table = io.table(&["person", "face", "source", ""]);
    for face in plan.missing.iter().take(NAMED) {
        let (person, id) = face.name.rsplit_once("/faces/").unwrap_or((&face.name, ""));
        let lost = plan.lost_people.iter().any(|p| p == person);
        table.add_row(vec![
            cell(parse::id(person), lost.then_some(Ink::Red)),
            cell(id, None),
            cell(plain(&face.source), None),
            cell(if lost { "no other face: not recognised" } else { "has other faces" }, None),
        ]);
    }
    io.line("")?;
    io.show(&table)?;
    if plan.missing.len() > NAMED {
        io.remark(format!("and {} more; --json names all", plan.missing.len() - NAMED))?;
    }
    Ok(())
}

async fn check(server: &Connection, limit: i32, io: &mut Io<'_>) -> Outcome {
    let found = server.gallery().check_gallery(CheckGalleryRequest { limit }).await?.into_inner();
    if io.json {
        io.object(&json::to_value("CheckGalleryResponse", &found)?)?;
        return Ok(OK);
    }
    let scope = match found.compared == found.faces {
        true => format!("{} faces of {}", found.faces, plain(&found.model)),
        false => format!("{} of {} faces of {}", found.compared, found.faces, plain(&found.model)),
    };
    if found.findings.is_empty() {
        io.line(format!("nothing to look at among {scope}"))?;
        return Ok(OK);
    }
    let mut advice: Vec<(&'static str, &str)> = Vec::new();
    let mut table = io.table(&["what", "face", "other face", "figures"]);
    for f in &found.findings {
        let (what, ink) = words(f.kind());
        if !advice.iter().any(|(known, _)| *known == what) {
            advice.push((what, &f.advice));
        }
        table.add_row(vec![
            cell(what, Some(ink)),
            cell(short(&f.person, &f.face), None),
            cell(short(&f.other_person, &f.other_face), None),
            cell(figures(f), None),
        ]);
    }
    io.show(&table)?;
    io.line("")?;
    for (what, advice) in advice {
        io.line(format!("{what}: {}", plain(advice)))?;
    }
    let cut = if found.total > found.findings.len() as u64 {
        format!(", {} shown", found.findings.len())
    } else {
        String::new()
    };
    io.line(format!(
        "{} findings{cut} among {scope}; `visage person face-image FACE -o FILE` shows a face",
        found.total
    ))?;
    Ok(OK)
}

fn words(kind: GalleryFindingKind) -> (&'static str, Ink) {
    match kind {
        GalleryFindingKind::SamePicture => ("same picture", Ink::Red),
        GalleryFindingKind::LookAlikes => ("look-alikes", Ink::Red),
        GalleryFindingKind::Outlier => ("outlier", Ink::Yellow),
        GalleryFindingKind::Duplicate => ("duplicate", Ink::Yellow),
        GalleryFindingKind::NoFace => ("no face", Ink::Yellow),
        GalleryFindingKind::Poor => ("poor", Ink::Yellow),
        GalleryFindingKind::Unspecified => ("something else", Ink::Dim),
    }
}

fn figures(f: &GalleryFinding) -> String {
    match f.kind() {
        GalleryFindingKind::NoFace => String::new(),
        GalleryFindingKind::Poor => format!("quality {:.2}, {:.2} is wanted", f.quality, f.limit),
        _ => format!("similarity {:.2}, limit {:.2}", f.similarity, f.limit),
    }
}

/// `person/face`, as `visage person face-image` takes it.
fn short(person: &str, face: &str) -> String {
    match face.rsplit_once("/faces/") {
        Some((person, face)) => format!("{}/{face}", parse::id(person)),
        None => parse::id(person).to_owned(),
    }
}
