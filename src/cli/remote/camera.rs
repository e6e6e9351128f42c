//! `visage camera`: cameras of a running server.

use std::path::PathBuf;

use super::{
    camera_change::{Clearable, Secret, Settings, clear},
    client::{Connection, connect},
};
use crate::{
    cli::{
        Globals,
        error::{Failure, OK, Outcome},
        json,
        output::{Ink, Io, cell, plain, state_words},
        parse, picture_file,
    },
    proto::v1::{
        Camera, CameraStatus, CaptureSnapshotRequest, CreateCameraRequest, DeleteCameraRequest, GetCameraRequest,
        ListCamerasRequest, MainStream, UpdateCameraRequest, WatchCamerasRequest,
    },
};

/// Subcommands of `camera`.
#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant)] // parsed once
pub enum Command {
    /// Register a camera and start it.
    Add {
        /// Id of the camera: 1 to 63 of a-z, 0-9 and -.
        id: String,
        /// Stream URL: rtsp:// or rtsps://.
        url: String,
        /// How the camera is watched.
        #[command(flatten)]
        settings: Settings,
        /// Register it switched off.
        #[arg(long)]
        disabled: bool,
        /// Only check; change nothing.
        #[arg(long)]
        validate_only: bool,
    },
    /// List all cameras with their state.
    List,
    /// Show one camera.
    Get {
        /// Id of the camera.
        id: String,
    },
    /// Change a camera; what is not named stays.
    Update {
        /// Id of the camera.
        id: String,
        /// New stream URL. Another scheme, host or port drops the stored user name and password: give them again.
        #[arg(long)]
        url: Option<String>,
        /// How the camera is watched.
        #[command(flatten)]
        settings: Settings,
        /// Take away what was set; may be repeated, or name several: --clear labels,regions.
        #[arg(long = "clear", value_enum, value_delimiter = ',', value_name = "FIELD")]
        cleared: Vec<Clearable>,
        /// Switch it on.
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Switch it off.
        #[arg(long)]
        disable: bool,
        /// Be refused if somebody changed the camera since this etag.
        #[arg(long)]
        etag: Option<String>,
    },
    /// Stop and forget cameras; their past events stay.
    Remove {
        /// Ids of the cameras.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Print the state of cameras, then every change.
    Watch {
        /// Ids of the cameras; none means all.
        ids: Vec<String>,
        /// End after this many lines.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Save the newest frame of a camera as JPEG.
    Snapshot {
        /// Id of the camera.
        id: String,
        /// File to write; - is stdout.
        #[arg(short = 'o', long, value_name = "FILE")]
        out: PathBuf,
        /// Draw boxes and names.
        #[arg(long)]
        annotate: bool,
    },
}

/// Runs a subcommand of `camera`.
pub async fn run(command: Command, globals: &Globals, io: &mut Io<'_>) -> Outcome {
    let server = connect(globals).await?;
    match command {
        Command::Add { id, url, settings, disabled, validate_only } => {
            let mut camera = Camera { url, enabled: Some(!disabled), ..Camera::default() };
            settings.apply(&mut camera, Secret::from_environment())?;
            let request = CreateCameraRequest { camera_id: id, camera: Some(camera), validate_only };
            let camera = server.camera().create_camera(request).await?.into_inner();
            let word = if validate_only { "valid" } else { "added" };
            report(io, word, &camera)
        }
        Command::List => list(&server, io).await,
        Command::Get { id } => {
            let request = GetCameraRequest { name: parse::resource("cameras", &id) };
            let camera = server.camera().get_camera(request).await?.into_inner();
            show(io, &camera)
        }
        Command::Update { id, url, settings, cleared, enable, disable, etag } => {
            let name = parse::resource("cameras", &id);
            let mut camera = Camera { name, etag: etag.unwrap_or_default(), ..Camera::default() };
            let mut paths = settings.apply(&mut camera, Secret::from_environment())?;
            clear(&mut paths, cleared.into_iter().map(Clearable::path))?;
            if let Some(url) = url {
                camera.url = url;
                paths.push("url".into());
            }
            if enable || disable {
                camera.enabled = Some(enable);
                paths.push("enabled".into());
            }
            if paths.is_empty() {
                return Err(Failure::usage("nothing to change").hint("see `visage camera update --help`"));
            }
            let update_mask = Some(prost_types::FieldMask { paths });
            let request = UpdateCameraRequest { camera: Some(camera), update_mask };
            let camera = server.camera().update_camera(request).await?.into_inner();
            report(io, "changed", &camera)
        }
        Command::Remove { ids } => {
            for id in ids {
                let name = parse::resource("cameras", &id);
                server.camera().delete_camera(DeleteCameraRequest { name: name.clone() }).await?;
                match io.json {
                    true => io.object(&serde_json::json!({"removed": name}))?,
                    false => io.line(format!("removed {id}"))?,
                }
            }
            Ok(OK)
        }
        Command::Watch { ids, count } => watch(&server, &ids, count, io).await,
        Command::Snapshot { id, out, annotate } => {
            let request = CaptureSnapshotRequest { name: parse::resource("cameras", &id), annotate };
            let answer = server.camera().capture_snapshot(request).await?.into_inner();
            picture_file::write(&out, &answer.jpeg, io.out)?;
            let at = parse::time_words(answer.capture_time.as_ref());
            io.remark(format!("{} ({} bytes, captured {at})", out.display(), answer.jpeg.len()))?;
            Ok(OK)
        }
    }
}

fn report(io: &mut Io<'_>, word: &str, camera: &Camera) -> Outcome {
    match io.json {
        true => io.object(&json::to_value("Camera", camera)?)?,
        false => io.line(format!("{word} {} ({})", parse::id(&camera.name), plain(&camera.url)))?,
    }
    Ok(OK)
}

async fn list(server: &Connection, io: &mut Io<'_>) -> Outcome {
    let mut cameras: Vec<Camera> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListCamerasRequest { page_size: 0, page_token };
        let page = server.camera().list_cameras(request).await?.into_inner();
        cameras.extend(page.cameras);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if io.json {
        for camera in &cameras {
            io.object(&json::to_value("Camera", camera)?)?;
        }
        return Ok(OK);
    }
    if cameras.is_empty() {
        io.remark("no cameras; add one with `visage camera add ID URL`")?;
        return Ok(OK);
    }
    let mut table = io.table(&["id", "state", "fps in", "looked at", "size", "codec", "faces", "reason", "url"]);
    for camera in &cameras {
        let status = camera.status.clone().unwrap_or_default();
        let (state, ink) = state_words(status.state);
        let (number, size) = (|fps: f32| format!("{fps:.1}"), size_words(&status));
        table.add_row(vec![
            cell(parse::id(&camera.name), None),
            cell(state, Some(ink)),
            cell(number(status.fps_in), None),
            cell(number(status.fps_sampled), None),
            cell(size, None),
            cell(plain(&status.codec), None),
            cell(status.active_tracks.to_string(), None),
            cell(plain(&status.reason), None),
            cell(plain(&camera.url), Some(Ink::Dim)),
        ]);
    }
    io.show(&table)?;
    Ok(OK)
}

fn size_words(status: &CameraStatus) -> String {
    status.resolution.as_ref().map(|size| format!("{}x{}", size.width, size.height)).unwrap_or_default()
}

fn main_words(main: &MainStream) -> String {
    let (state, _) = state_words(main.state);
    let size = main.resolution.as_ref().map(|size| format!("{}x{}", size.width, size.height)).unwrap_or_default();
    let decoding = if main.decoding { "decoded" } else { "left encoded" };
    [state, size.as_str(), &plain(&main.codec), decoding, &plain(&main.reason)].join(" ").trim().to_owned()
}

fn show(io: &mut Io<'_>, camera: &Camera) -> Outcome {
    if io.json {
        io.object(&json::to_value("Camera", camera)?)?;
        return Ok(OK);
    }
    let status = camera.status.clone().unwrap_or_default();
    let (state, ink) = state_words(status.state);
    let mut skipped: Vec<_> = status.frames_skipped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    skipped.sort();
    let millis = |span: Option<&prost_types::Duration>| {
        span.map(|span| format!("{:.1} ms", parse::seconds(span) * 1000.0)).unwrap_or_default()
    };
    let main = status.main_stream.as_ref().map(main_words).unwrap_or_default();
    let only = if status.key_frames_only { " (key frames only: nothing happens)" } else { "" };
    let rates = format!(
        "{:.1} in, {:.1} decoded{only}, {:.1} looked at",
        status.fps_in, status.fps_decoded, status.fps_sampled
    );
    io.pairs(&[
        ("id", parse::id(&camera.name).into()),
        ("display name", plain(&camera.display_name)),
        ("url", plain(&camera.url)),
        ("substream", plain(&camera.substream_url)),
        ("main stream", main),
        ("labels", plain(&parse::label_words(&camera.labels))),
        ("watchlists", plain(&camera.watchlists.join(", "))),
        ("state", io.ink(ink, state)),
        ("reason", plain(&status.reason)),
        ("since", parse::time_words(status.since.as_ref())),
        ("next attempt", parse::time_words(status.next_retry.as_ref())),
        ("picture", format!("{} {}", size_words(&status), plain(&status.codec)).trim().into()),
        ("frames a second", rates),
        ("frames", format!("{} in, {} looked at", status.frames_received, status.frames_sampled)),
        ("skipped", skipped.join(", ")),
        ("key frames every", millis(status.key_frame_interval.as_ref())),
        ("decoding takes", millis(status.decode_latency.as_ref())),
        ("detection takes", millis(status.detection_latency.as_ref())),
        ("woken", status.wakes.to_string()),
        ("reconnects", status.reconnects.to_string()),
        ("faces now", status.active_tracks.to_string()),
        ("etag", plain(&camera.etag)),
    ])?;
    Ok(OK)
}

async fn watch(server: &Connection, ids: &[String], count: Option<u64>, io: &mut Io<'_>) -> Outcome {
    let names = ids.iter().map(|id| parse::resource("cameras", id)).collect();
    let mut stream = server.camera().watch_cameras(WatchCamerasRequest { names }).await?.into_inner();
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0
        && let Some(change) = stream.message().await?
    {
        left -= 1;
        if io.json {
            io.object(&json::to_value("WatchCamerasResponse", &change)?)?;
            continue;
        }
        let camera = change.camera.unwrap_or_default();
        let status = camera.status.unwrap_or_default();
        let (state, ink) = if change.removed { ("removed", Ink::Dim) } else { state_words(status.state) };
        let at = parse::time_words(status.since.as_ref());
        let (state, reason) = (io.ink(ink, &format!("{state:<10}")), plain(&status.reason));
        io.line(format!("{at:<20}  {:<16}  {state}  {reason}", parse::id(&camera.name)).trim_end())?;
        io.out.flush()?;
    }
    Ok(OK)
}
