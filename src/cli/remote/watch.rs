//! `visage watch`: events as they happen, over outages of the server.
//!
//! `attempt` reads one stream to its end; the loop in `follow` decides whether to try again and from where. What
//! was printed last is remembered by its resume token, so nothing is lost or printed twice.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tonic::{Code, Status};

use super::client::connect;
use crate::{
    cli::{
        Globals,
        error::{Failure, OK, Outcome, UNREACHABLE},
        json,
        output::{Ink, Io, plain},
        parse::{self, Moment},
    },
    proto::v1::{
        Event, EventFilter, EventKind, StreamEventsRequest, stream_events_request::Start,
        stream_events_response::Message,
    },
};

/// First pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause before connecting again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Which events are wanted; shared by `watch` and `events list`.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct Wanted {
    /// Only this camera; may be repeated.
    #[arg(long = "camera", value_name = "ID")]
    pub cameras: Vec<String>,
    /// Only cameras with this label; may be repeated.
    #[arg(long = "label", value_parser = parse::label, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Only this person; may be repeated.
    #[arg(long = "person", value_name = "ID")]
    pub people: Vec<String>,
    /// Only people on this watchlist; may be repeated.
    #[arg(long = "watchlist", value_name = "LIST")]
    pub watchlists: Vec<String>,
    /// Only this kind: appeared, recognized, unknown, corrected, left, camera-state; may be repeated.
    #[arg(long = "kind", value_parser = parse::kind, value_name = "KIND")]
    pub kinds: Vec<EventKind>,
    /// Events that name somebody only with at least this confidence, 0 to 1.
    #[arg(long, value_parser = parse::fraction, value_name = "C")]
    pub min_confidence: Option<f32>,
}

impl Wanted {
    /// The filter in wire form.
    pub fn filter(&self) -> EventFilter {
        EventFilter {
            cameras: self.cameras.iter().map(|id| parse::resource("cameras", id)).collect(),
            camera_labels: parse::labels(&self.labels),
            people: self.people.iter().map(|id| parse::resource("people", id)).collect(),
            watchlists: self.watchlists.clone(),
            kinds: self.kinds.iter().map(|&kind| kind.into()).collect(),
            min_confidence: self.min_confidence.unwrap_or_default(),
        }
    }
}

/// Arguments of `watch`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Which events.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Start with past events: a time (2026-05-01T08:00:00Z) or a duration ago (10m).
    #[arg(long, value_parser = parse::moment, value_name = "T", conflicts_with = "resume")]
    pub since: Option<Moment>,
    /// Go on after the event with this resume token.
    #[arg(long, value_name = "TOKEN")]
    pub resume: Option<String>,
    /// End after this time, such as 20s.
    #[arg(long = "for", value_parser = parse::duration, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// End after this many events.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// End when the server goes away instead of connecting again.
    #[arg(long)]
    pub no_reconnect: bool,
}

/// Where the watch stands; outlives streams.
struct Cursor {
    /// Where the next stream starts.
    start: Start,
    /// Events still to be printed; nothing means no end.
    left: Option<u64>,
    /// Whether the present stream has brought anything.
    alive: bool,
}

/// Why a stream ended.
enum End {
    /// All wanted events are printed.
    Done,
    /// The server went away or ended the stream: may be tried again.
    Lost(Failure),
    /// Trying again would not help.
    Refused(Failure),
}

/// Runs `watch` until its end, or until `stop` resolves (Ctrl-C): then a hint how to go on is printed on stderr.
pub async fn run(args: Args, globals: &Globals, io: &mut Io<'_>, stop: impl Future<Output = ()>) -> Outcome {
    if args.count == Some(0) {
        return Ok(OK);
    }
    // With no start given the first stream starts "now"; an explicit time keeps that promise over an early outage.
    let now = crate::time::now();
    let mut cursor = Cursor {
        start: match (&args.resume, args.since) {
            (Some(token), _) => Start::ResumeToken(token.clone()),
            (None, Some(since)) => Start::StartTime(since.resolve(now)),
            (None, None) => Start::StartTime(parse::stamp(now)),
        },
        left: args.count,
        alive: false,
    };
    let from_now = args.resume.is_none() && args.since.is_none();
    let limit = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let stopped = tokio::select! {
        biased;
        () = stop => true,
        () = limit => false,
        outcome = follow(&args, globals, io, &mut cursor, from_now) => return outcome,
    };
    if let (true, Start::ResumeToken(token)) = (stopped, &cursor.start) {
        io.remark(format!("go on with: visage watch --resume {token}"))?;
    }
    Ok(OK)
}

async fn follow(args: &Args, globals: &Globals, io: &mut Io<'_>, cursor: &mut Cursor, mut from_now: bool) -> Outcome {
    let schedule = ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times();
    let mut pauses = schedule.build();
    let mut first = true;
    loop {
        cursor.alive = false;
        let end = attempt(args, globals, io, cursor, from_now).await;
        if cursor.alive {
            pauses = schedule.build();
            from_now = false;
        }
        let failure = match end {
            Ok(End::Done) => return Ok(OK),
            Ok(End::Lost(failure)) => failure,
            Ok(End::Refused(failure)) | Err(failure) => return Err(failure),
        };
        // Nobody there from the start is a mistake; afterwards it is an outage.
        if args.no_reconnect || (first && !cursor.alive && failure.exit == UNREACHABLE) {
            return Err(failure);
        }
        first = false;
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        io.remark(format!("{}; trying again in {:.1} s", failure.message, pause.as_secs_f64()))?;
        tokio::time::sleep(pause).await;
    }
}

/// Reads one stream to its end. An error is one of our own output.
async fn attempt(
    args: &Args,
    globals: &Globals,
    io: &mut Io<'_>,
    cursor: &mut Cursor,
    from_now: bool,
) -> Result<End, Failure> {
    let server = match connect(globals).await {
        Ok(server) => server,
        Err(failure) if failure.exit == UNREACHABLE => return Ok(End::Lost(failure)),
        Err(failure) => return Ok(End::Refused(failure)),
    };
    let address = parse::address(&globals.server);
    let request = StreamEventsRequest {
        filter: Some(args.wanted.filter()),
        start: (!from_now).then(|| cursor.start.clone()),
        heartbeat_interval: None,
    };
    let mut stream = match server.event().stream_events(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(end(status, &address)),
    };
    // The stream stands: from here on the next one may not start at "now" again.
    cursor.alive = true;
    loop {
        let answer = match stream.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(End::Lost(Failure::new(format!("the server at {address} ended the stream")))),
            Err(status) => return Ok(end(status, &address)),
        };
        let token = answer.resume_token;
        match answer.message {
            Some(Message::Event(event)) => {
                print_event(&event, Some(&token), io)?;
                if let Some(left) = &mut cursor.left {
                    *left = left.saturating_sub(1);
                }
            }
            Some(Message::Gap(gap)) if io.json => {
                io.object(&serde_json::json!({"gap": json::to_value("Gap", &gap)?, "resumeToken": token}))?;
            }
            Some(Message::Gap(gap)) => {
                let text = format!(
                    "events {} to {} were deleted before they were read",
                    gap.first_position, gap.last_position
                );
                let text = io.ink(Ink::Red, &text);
                io.line(text)?;
            }
            Some(Message::Heartbeat(_)) | None => {}
        }
        if !token.is_empty() {
            cursor.start = Start::ResumeToken(token);
        }
        if cursor.left == Some(0) {
            return Ok(End::Done);
        }
    }
}

/// Whether another stream may fare better.
fn end(status: Status, address: &str) -> End {
    let lost = match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => true,
        Code::DeadlineExceeded | Code::ResourceExhausted => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    };
    let failure = Failure::from(status).at(address);
    if lost { End::Lost(failure) } else { End::Refused(failure) }
}

/// Prints an event as one line and flushes; with `token` its JSON also holds `resumeToken`.
pub fn print_event(event: &Event, token: Option<&str>, io: &mut Io<'_>) -> Result<(), Failure> {
    if io.json {
        let mut value = json::to_value("Event", event)?;
        if let Some(fields) = value.as_object_mut() {
            fields.entry("position").or_insert_with(|| event.position.to_string().into());
            if let Some(token) = token {
                fields.insert("resumeToken".into(), token.into());
            }
        }
        return Ok(io.object(&value)?);
    }
    let line = human(event, io);
    io.line(line)?;
    Ok(io.out.flush()?)
}

fn human(event: &Event, io: &Io<'_>) -> String {
    let at = event.capture_time.as_ref().or(event.create_time.as_ref());
    let answer = event.r#match.clone().unwrap_or_default();
    let kind = EventKind::try_from(event.kind).unwrap_or_default();
    let ink = match kind {
        EventKind::Recognized => Ink::Green,
        EventKind::Unknown => Ink::Yellow,
        EventKind::Corrected => Ink::Red,
        EventKind::CameraState => Ink::Bold,
        EventKind::Appeared | EventKind::Left | EventKind::Unspecified => Ink::Dim,
    };
    let who = match kind {
        EventKind::CameraState => plain(&event.camera_state).to_lowercase(),
        EventKind::Appeared => String::new(),
        _ if answer.person.is_empty() => "unknown".to_owned(),
        _ if answer.display_name.is_empty() => parse::id(&answer.person).to_owned(),
        _ => plain(&answer.display_name),
    };
    let confidence =
        if answer.person.is_empty() { String::new() } else { format!("{:.0} %", answer.confidence * 100.0) };
    let dwell = event.dwell.as_ref().map(|dwell| format!("stayed {:.1} s", parse::seconds(dwell))).unwrap_or_default();
    let reason = plain(&event.reason);
    let liveness = event.face.as_ref().and_then(|face| face.liveness).filter(|_| kind != EventKind::Appeared);
    let liveness = liveness.map(|l| format!("liveness {l:.2}")).unwrap_or_default();
    let line = format!(
        "{}  {:<14}  {}  {who:<20}  {confidence:>5}  {}",
        parse::time_words(at),
        parse::id(&event.camera),
        io.ink(ink, &format!("{:<10}", parse::kind_word(event.kind))),
        [dwell, reason, liveness].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", "),
    );
    line.trim_end().to_owned()
}
