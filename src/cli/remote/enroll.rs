//! `visage enroll`: pictures in, one verdict a picture out.
//!
//! One bidirectional stream for up to `CHUNK` pictures: two at most are read ahead, answers are matched to pictures by their
//! source text. What was answered before a stream broke is told all the same.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    pin::pin,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{
    client::{Connection, connect},
    enroll_conflicts::{conflict_words, draw_sheet, tell_conflicts},
    enroll_sources::{Source, from_dir},
};
use crate::{
    cli::{
        Globals,
        error::{FAILED, Failure, OK, Outcome, PARTLY},
        output::{Ink, Io, cell, plain},
        parse, picture_file,
    },
    proto::v1::{
        BoundingBox, Conflict, CreatePersonRequest, EnrollFacesRequest, EnrollFacesResponse, GetPersonRequest, Person,
        RefusalReason,
    },
};

/// Pictures in flight between reader and server.
const READ_AHEAD: usize = 2;
/// Pictures of one stream: well below what a server takes (`limits.pictures_per_enrolment`).
const CHUNK: usize = 500;

/// Arguments of `enroll`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "visage enroll [OPTIONS] PERSON IMAGE...\n       visage enroll [OPTIONS] --from-dir DIR")]
pub struct Args {
    /// Id of the person; must exist.
    #[arg(required_unless_present = "from_dir", conflicts_with = "from_dir", requires = "images")]
    pub person: Option<String>,
    /// Pictures of the person: JPEG, PNG or WebP.
    #[arg(value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Enrol DIR/PERSON/*.{jpg,jpeg,png,webp}; people are created as needed.
    #[arg(long, value_name = "DIR")]
    pub from_dir: Option<PathBuf>,
    /// Enrol even a face that looks like another person or is already enrolled.
    #[arg(long)]
    pub force: bool,
    /// Take the largest face of a picture with several, if it is clearly the largest.
    #[arg(long)]
    pub largest: bool,
    /// Draw each picture that was refused or doubted beside the enrolled face that speaks against it (PNG or JPEG). A sheet that can't be
    /// drawn changes nothing about the enrolment and ends in exit code 1.
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
}

/// What became of one picture.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) person: String,
    pub(super) image: PathBuf,
    pub(super) face: Option<(String, f32)>,
    refusal: String,
    message: String,
    similar: String,
    /// Enrolled faces that speak against it.
    pub(super) conflicts: Vec<Conflict>,
    /// The face in the picture; of several the widest.
    pub(super) bbox: Option<BoundingBox>,
}

impl Verdict {
    fn object(&self) -> serde_json::Value {
        json!({
            "image": self.image.display().to_string(), "person": self.person, "enrolled": self.face.is_some(),
            "face": self.face.as_ref().map(|(name, _)| name), "quality": self.face.as_ref().map(|(_, quality)| quality),
            "refusal": (!self.refusal.is_empty()).then_some(&self.refusal), "message": self.message,
            "similar_person": (!self.similar.is_empty()).then_some(&self.similar),
            "conflicts": self.conflicts.iter().map(|c| json!({
                "kind": conflict_words(c.kind()), "face": c.face, "similarity": c.similarity, "limit": c.limit,
                "refuses": c.refuses,
            })).collect::<Vec<_>>(),
        })
    }
}

/// What was done so far; outlives a failure.
#[derive(Default)]
struct Tally {
    created: usize,
    verdicts: Vec<Verdict>,
}

/// Runs `enroll`. Exit code 0 when all pictures are enrolled, 3 when some were refused, 1 when the sheet could not be drawn; a failure comes
/// after the summary of what was done before it.
pub async fn run(args: Args, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    if let Some(sheet) = &args.sheet {
        picture_file::check_drawn(sheet)?;
    }
    let (sources, empty) = match (&args.from_dir, &args.person) {
        (Some(dir), _) => {
            let dir = dir.clone();
            let task = tokio::task::spawn_blocking(move || from_dir(&dir));
            task.await.map_err(|e| Failure::new("reading the folder was interrupted").because(&e))??
        }
        (None, Some(person)) => {
            // All or nothing for files named one by one: a typing mistake must not enrol half of them.
            for image in &args.images {
                picture_file::check(image)?;
            }
            let person = parse::id(person).to_owned();
            (vec![Source { display_name: person.clone(), person, pictures: args.images.clone() }], Vec::new())
        }
        (None, None) => return Err(Failure::usage("name a person and pictures, or --from-dir")),
    };
    for folder in &empty {
        io.remark(format!("warning: no pictures in {}", folder.display()))?;
    }
    let server = connect(globals).await?;
    let mut tally = Tally::default();
    let ended = enroll(&server, &args, &sources, &mut tally, io).await;
    let begun = tally.created > 0 || !tally.verdicts.is_empty();
    match ended {
        Err(failure) if failure.quiet || !begun => return Err(failure),
        _ => {}
    }
    let mut exit = summarise(&sources, &tally, io)?;
    if let Some(sheet) = &args.sheet {
        // What was enrolled is enrolled, and a failure of the enrolment matters more than one of the sheet.
        if let Err(failure) = draw_sheet(&server, sheet, &tally.verdicts, io).await {
            let causes = failure.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
            io.remark(format!("warning: no sheet was drawn: {}{causes}", failure.message))?;
            exit = FAILED;
        }
    }
    ended.map(|()| exit)
}

async fn enroll(
    server: &Connection,
    args: &Args,
    sources: &[Source],
    tally: &mut Tally,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    for source in sources {
        tally.created += usize::from(ensure_person(server, source, args.from_dir.is_some()).await?);
    }
    let pictures: Vec<Sent> = sources
        .iter()
        .flat_map(|source| {
            source.pictures.iter().map(|image| Sent { person: source.person.clone(), image: image.clone() })
        })
        .collect();
    let bar = progress(io, pictures.len());
    let mut outcome = Ok(());
    for chunk in pictures.chunks(CHUNK) {
        outcome = send(server, args, chunk, &mut tally.verdicts, io, &bar).await;
        if outcome.is_err() {
            break;
        }
    }
    bar.finish_and_clear();
    outcome
}

/// Makes sure that the person exists; true when it was created.
async fn ensure_person(server: &Connection, source: &Source, create: bool) -> Result<bool, Failure> {
    if !create {
        let request = GetPersonRequest { name: parse::resource("people", &source.person) };
        let found = server.person().get_person(request).await;
        return found.map(|_| false).map_err(|status| {
            let missing = status.code() == Code::NotFound;
            let failure = Failure::from(status);
            let hint = format!("add them with `visage person add {}`", source.person);
            if missing && failure.hint.is_none() { failure.hint(hint) } else { failure }
        });
    }
    let person = Some(Person { display_name: source.display_name.clone(), ..Person::default() });
    let request = CreatePersonRequest { person_id: source.person.clone(), person, validate_only: false };
    match server.person().create_person(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists => Ok(false),
        Err(status) => Err(status.into()),
    }
}

/// A picture that is sent (or can't be) and waits for its verdict.
#[derive(Debug, Clone)]
struct Sent {
    person: String,
    image: PathBuf,
}

/// Sends pictures in one stream; verdicts that came before a failure are in `verdicts`.
async fn send(
    server: &Connection,
    args: &Args,
    pictures: &[Sent],
    verdicts: &mut Vec<Verdict>,
    io: &mut Io<'_>,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let answered = verdicts.len();
    let (requests, outbox) = mpsc::channel(READ_AHEAD);
    let (waiting, mut inbox) = mpsc::channel::<Result<Sent, Verdict>>(pictures.len().max(1));
    let (force, allow_several_faces) = (args.force, args.largest);
    let feed = async move {
        for sent in pictures {
            match picture_file::read(sent.image.clone()).await {
                Ok(image) => {
                    let request = EnrollFacesRequest {
                        person: parse::resource("people", &sent.person),
                        image,
                        source: sent.image.display().to_string(),
                        allow_several_faces,
                        force,
                    };
                    // A closed channel means that the call ended: its own error says why.
                    if waiting.send(Ok(sent.clone())).await.is_err() || requests.send(request).await.is_err() {
                        return;
                    }
                }
                Err(failure) => {
                    if waiting.send(Err(unreadable(sent.clone(), &failure))).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let answers = async {
        let mut client = server.person();
        let mut answers = client.enroll_faces(ReceiverStream::new(outbox)).await?.into_inner();
        let mut pending = VecDeque::<Sent>::new();
        while let Some(answer) = answers.message().await? {
            drain(&mut inbox, &mut pending, verdicts, io, bar)?;
            let place = pending.iter().position(|sent| sent.image.display().to_string() == answer.source).unwrap_or(0);
            if let Some(sent) = pending.remove(place) {
                settle(judged(sent, answer), verdicts, io, bar)?;
            }
        }
        drain(&mut inbox, &mut pending, verdicts, io, bar)?;
        match pending.front() {
            Some(sent) => Err(Failure::new(format!("the server gave no answer for {}", sent.image.display()))),
            None if verdicts.len() < answered + pictures.len() => {
                Err(Failure::new("the server ended the enrolment early"))
            }
            None => Ok(()),
        }
    };
    let (mut feed, mut answers) = (pin!(feed), pin!(answers));
    // A call that failed must not wait for pictures that nobody takes any more.
    tokio::select! {
        outcome = &mut answers => return outcome,
        () = &mut feed => {}
    }
    answers.await
}

/// Takes over what the feeder has announced so far.
fn drain(
    inbox: &mut mpsc::Receiver<Result<Sent, Verdict>>,
    pending: &mut VecDeque<Sent>,
    verdicts: &mut Vec<Verdict>,
    io: &mut Io<'_>,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    while let Ok(item) = inbox.try_recv() {
        match item {
            Ok(sent) => pending.push_back(sent),
            Err(verdict) => settle(verdict, verdicts, io, bar)?,
        }
    }
    Ok(())
}

fn settle(verdict: Verdict, verdicts: &mut Vec<Verdict>, io: &mut Io<'_>, bar: &ProgressBar) -> Result<(), Failure> {
    if io.json {
        io.object(&verdict.object())?;
    }
    bar.inc(1);
    verdicts.push(verdict);
    Ok(())
}

fn judged(sent: Sent, answer: EnrollFacesResponse) -> Verdict {
    let reason = RefusalReason::try_from(answer.refusal).unwrap_or_default();
    let face = answer.face.map(|face| (face.name, face.quality));
    let refusal = match (&face, reason) {
        (Some(_), _) => String::new(),
        (None, RefusalReason::Unspecified) => "REFUSED".to_owned(),
        (None, reason) => reason.as_str_name().trim_start_matches("REFUSAL_REASON_").to_owned(),
    };
    let similar = parse::id(&answer.similar_person).to_owned();
    let bbox = match &answer.detections[..] {
        [only] => only.bbox,
        several => several.iter().filter_map(|d| d.bbox).max_by(|a, b| width(a).total_cmp(&width(b))),
    };
    let (message, conflicts) = (answer.message, answer.conflicts);
    Verdict { person: sent.person, image: sent.image, face, refusal, message, similar, conflicts, bbox }
}

fn width(b: &BoundingBox) -> f32 {
    b.x2 - b.x1
}

fn unreadable(sent: Sent, failure: &Failure) -> Verdict {
    let (message, refusal) = (failure.message.clone(), "UNREADABLE".to_owned());
    let (person, image) = (sent.person, sent.image);
    Verdict { person, image, face: None, refusal, message, similar: String::new(), conflicts: Vec::new(), bbox: None }
}

fn progress(io: &Io<'_>, total: usize) -> ProgressBar {
    if !io.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    if let Ok(style) = ProgressStyle::with_template("enrolling {bar:30} {pos}/{len} pictures, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn summarise(sources: &[Source], tally: &Tally, io: &mut Io<'_>) -> Outcome {
    let (created, verdicts) = (tally.created, &tally.verdicts);
    let refused: Vec<_> = verdicts.iter().filter(|verdict| verdict.face.is_none()).collect();
    let enrolled = verdicts.len() - refused.len();
    let unanswered = sources.iter().map(|source| source.pictures.len()).sum::<usize>() - verdicts.len();
    let exit = if refused.is_empty() { OK } else { PARTLY };
    if io.json {
        let summary = json!({
            "people": sources.len(), "created": created, "enrolled": enrolled, "refused": refused.len(),
            "unanswered": unanswered,
        });
        io.object(&json!({ "summary": summary }))?;
        return Ok(exit);
    }
    let mut table = io.table(&["person", "name", "enrolled", "refused"]);
    for source in sources {
        let own = || verdicts.iter().filter(|verdict| verdict.person == source.person);
        let (all, good) = (own().count(), own().filter(|verdict| verdict.face.is_some()).count());
        let ink = if good == 0 { Some(Ink::Red) } else { None };
        table.add_row(vec![
            cell(source.person.clone(), ink),
            cell(plain(&source.display_name), None),
            cell(good.to_string(), None),
            cell((all - good).to_string(), (all > good).then_some(Ink::Yellow)),
        ]);
    }
    io.show(&table)?;
    if !refused.is_empty() {
        let mut table = io.table(&["refused", "why", "details"]);
        for verdict in &refused {
            let why = verdict.refusal.to_lowercase().replace('_', " ");
            table.add_row(vec![
                cell(short(&verdict.image), None),
                cell(why, Some(Ink::Yellow)),
                cell(plain(&verdict.message), None),
            ]);
        }
        io.line("")?;
        io.show(&table)?;
    }
    tell_conflicts(verdicts, io)?;
    io.line("")?;
    let people = if sources.len() == 1 { "person" } else { "people" };
    let rest = if unanswered == 0 { String::new() } else { format!(", {unanswered} not reached") };
    io.line(format!(
        "{} {people} ({created} new): {enrolled} faces enrolled, {} pictures refused{rest}",
        sources.len(),
        refused.len()
    ))?;
    Ok(exit)
}

/// The last folder and the file name: enough to find the picture, short enough for a table.
pub(super) fn short(path: &Path) -> String {
    let mut parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    parts.reverse();
    plain(&parts.join("/"))
}
