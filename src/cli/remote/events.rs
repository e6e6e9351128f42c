//! `visage events`: the past, and what people say of it.

use std::path::PathBuf;

use super::{
    client::{Connection, connect},
    watch::{Wanted, print_event},
};
use crate::{
    cli::{
        Globals,
        error::{OK, Outcome},
        json,
        output::Io,
        parse::{self, Moment},
        picture_file,
    },
    proto::v1::{
        Feedback, GetEventImageRequest, GetEventRequest, GiveFeedbackRequest, ListEventsRequest, SearchEventsRequest,
    },
};

/// Events fetched at once.
const PAGE: u32 = 1000;

/// A judgement, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Judgement {
    /// The event is right.
    Right,
    /// The event is wrong.
    Wrong,
}

/// Subcommands of `events`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List past events, newest first.
    List {
        /// Which events.
        #[command(flatten)]
        wanted: Wanted,
        /// Not before: a time (2026-05-01T08:00:00Z) or a duration ago (10m).
        #[arg(long, value_parser = parse::moment, value_name = "T")]
        since: Option<Moment>,
        /// Before this time.
        #[arg(long, value_parser = parse::moment, value_name = "T")]
        until: Option<Moment>,
        /// At most this many events; 0 means all.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
    },
    /// Show one event.
    Get {
        /// Id of the event.
        id: String,
    },
    /// Save the picture of an event as JPEG.
    Image {
        /// Id of the event.
        id: String,
        /// File to write; - is stdout.
        #[arg(short = 'o', long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Was this face here before? Past appearances that look like the largest face of a picture, most similar first.
    Search {
        /// The picture.
        image: PathBuf,
        /// Which events.
        #[command(flatten)]
        wanted: Wanted,
        /// Not before: a time (2026-05-01T08:00:00Z) or a duration ago (10m).
        #[arg(long, value_parser = parse::moment, value_name = "T")]
        since: Option<Moment>,
        /// Before this time.
        #[arg(long, value_parser = parse::moment, value_name = "T")]
        until: Option<Moment>,
        /// Least similarity; the identification threshold by default.
        #[arg(long, allow_negative_numbers = true, value_name = "S")]
        threshold: Option<f32>,
        /// At most this many appearances, 1 to 1000.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000), value_name = "N")]
        limit: i32,
    },
    /// Say whether an event was right; a wrong match is corrected, and right after wrong takes that back.
    Feedback {
        /// Id of the event.
        id: String,
        /// The judgement.
        #[arg(value_enum)]
        judgement: Judgement,
    },
}

/// Runs a subcommand of `events`.
pub async fn run(command: Command, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    match command {
        Command::List { wanted, since, until, limit } => {
            let now = crate::time::now();
            let request = ListEventsRequest {
                filter: Some(wanted.filter()),
                start_time: since.map(|at| at.resolve(now)),
                end_time: until.map(|at| at.resolve(now)),
                ..ListEventsRequest::default()
            };
            list(&server, request, limit, io).await
        }
        Command::Get { id } => {
            let request = GetEventRequest { name: parse::resource("events", &id) };
            let event = server.event().get_event(request).await?.into_inner();
            print_event(&event, None, io)?;
            Ok(OK)
        }
        Command::Image { id, out } => {
            let request = GetEventImageRequest { name: parse::resource("events", &id) };
            let jpeg = server.event().get_event_image(request).await?.into_inner().jpeg;
            picture_file::write(&out, &jpeg, io.out)?;
            io.remark(format!("{} ({} bytes)", out.display(), jpeg.len()))?;
            Ok(OK)
        }
        Command::Search { image, wanted, since, until, threshold, limit } => {
            let now = crate::time::now();
            let request = SearchEventsRequest {
                image: picture_file::read(image).await?,
                filter: Some(wanted.filter()),
                start_time: since.map(|at| at.resolve(now)),
                end_time: until.map(|at| at.resolve(now)),
                threshold,
                page_size: limit,
            };
            search(&server, request, io).await
        }
        Command::Feedback { id, judgement } => {
            let feedback = match judgement {
                Judgement::Right => Feedback::Right,
                Judgement::Wrong => Feedback::Wrong,
            };
            let request = GiveFeedbackRequest { name: parse::resource("events", &id), feedback: feedback.into() };
            let event = server.event().give_feedback(request).await?.into_inner();
            print_event(&event, None, io)?;
            Ok(OK)
        }
    }
}

/// Prints hits, most similar first; with `--json` each as an EventHit.
async fn search(server: &Connection, request: SearchEventsRequest, io: &mut Io<'_>) -> Outcome {
    let answer = server.event().search_events(request).await?.into_inner();
    for hit in &answer.hits {
        if io.json {
            io.object(&json::to_value("EventHit", hit)?)?;
            continue;
        }
        let Some(event) = &hit.event else { continue };
        print_event(event, None, io)?;
        let unknown =
            if hit.unknown.is_empty() { String::new() } else { format!(", unknown {}", parse::id(&hit.unknown)) };
        io.line(format!("    {} similarity {:.3}{unknown}", parse::id(&event.name), hit.similarity))?;
    }
    io.remark(format!(
        "{} appearances of {} decisions reach {:.2}",
        answer.hits.len(),
        answer.compared,
        answer.threshold
    ))?;
    if answer.truncated {
        io.remark("older decisions were left out; give a time span with --since and --until")?;
    }
    Ok(OK)
}

async fn list(server: &Connection, mut request: ListEventsRequest, limit: u32, io: &mut Io<'_>) -> Outcome {
    let mut left = if limit == 0 { u32::MAX } else { limit };
    loop {
        request.page_size = i32::try_from(left.min(PAGE)).unwrap_or_default();
        let page = server.event().list_events(request.clone()).await?.into_inner();
        for event in page.events.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            print_event(event, None, io)?;
            if !io.json {
                let image = if event.has_image { " (picture)" } else { "" };
                io.line(format!("    {}{image}", parse::id(&event.name)))?;
            }
            left = left.saturating_sub(1);
        }
        request.page_token = page.next_page_token;
        if left == 0 || request.page_token.is_empty() {
            return Ok(OK);
        }
    }
}
