//! `visage bench pipeline`: the whole server under simulated cameras of known content, beside full decoding and the bare session.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    ledger::{self, Count},
    limit::{self, Limit},
    rig::{self, Phase, Rig, Scenario},
    setup::Setup,
    stage::{Encoding, Kind, Visits},
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        local::cast,
        output::Io,
        parse,
    },
    frame::scale,
    inference::{Input, manifest::ModelEntry},
    models::locate,
    simulator::{Bitrate, Codec},
};

/// Cameras settle for this long: three key frames and the first looks.
const SETTLE: Duration = Duration::from_secs(14);
/// How long the bare sessions run.
const BARE: Duration = Duration::from_secs(4);

/// Run the whole server under simulated RTSP cameras and compare it with full decoding and with the bare ONNX Runtime session.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The server runs as a process of its own; simulator and subscriber are not counted. The cameras are watched twice: with
`--decoding auto`, then with `--decoding all`. Idle cameras show somebody twice a minute, for 4 s and for 1.5 s,
all of them at once.

Examples:
  visage bench pipeline --scene idle --cameras 4 --seconds 60
  visage bench pipeline --scene busy --cameras 2 --json")]
pub struct Args {
    /// Number of cameras.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub cameras: u16,
    /// What they see.
    #[arg(long, value_enum, default_value_t = Kind::Mixed)]
    pub scene: Kind,
    /// How long each of the two ways of decoding is measured, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub seconds: u64,
    /// Measure `decoding = KEY_FRAMES` instead of AUTO: idle whatever the sizes of pictures tell.
    #[arg(long)]
    pub key_frames: bool,
    /// The streams.
    #[command(flatten)]
    pub streams: Streams,
}

/// How the simulated streams are encoded, and what the server runs with.
#[derive(Debug, Clone, clap::Args)]
pub struct Streams {
    /// Size of the pictures.
    #[arg(long, default_value = "1920x1080", value_name = "WxH", value_parser = super::scene::size)]
    pub frame: (u32, u32),
    /// Pictures a second.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub fps: u32,
    /// Encode H.265 instead of H.264.
    #[arg(long)]
    pub h265: bool,
    /// Most bits a second, as most cameras are set: less where less is needed, kbit/s.
    #[arg(long, default_value_t = 4000, value_name = "KBIT", value_parser = clap::value_parser!(u32).range(100..=50_000))]
    pub max_bitrate: u32,
    /// A constant bit rate instead, kbit/s: what is not needed is spent on noise, so that sizes of pictures tell little.
    #[arg(long, value_name = "KBIT", conflicts_with = "max_bitrate", value_parser = clap::value_parser!(u32).range(100..=50_000))]
    pub bitrate: Option<u32>,
    /// Serve a substream of this size beside each stream, and let the server watch it; the main stream alone is then measured, too.
    #[arg(long, value_name = "WxH", value_parser = super::scene::size)]
    pub substream: Option<(u32, u32)>,
    /// The cameras' promise: key frames, two seconds apart here, that it can spare are not decoded while nothing happens.
    #[arg(long, default_value = "2s", value_parser = parse::duration, value_name = "TIME")]
    pub max_detection_delay: Duration,
    /// The server's configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of the demo's pictures; empty searches `.cache/fixtures`.
    #[arg(long, value_name = "DIR")]
    pub fixtures: Option<PathBuf>,
}

impl Streams {
    fn encoding(&self) -> Encoding {
        let codec = if self.h265 { Codec::H265 } else { Codec::H264 };
        let bitrate = self.bitrate.map_or(Bitrate::AtMost(self.max_bitrate), Bitrate::Constant);
        Encoding { size: self.frame, fps: self.fps, codec, bitrate, substream: self.substream }
    }

    /// Simulator and server, with people enrolled and no camera yet.
    pub async fn rig(&self, busy: f32, visits: Visits) -> anyhow::Result<Rig> {
        let fixtures = rig::fixtures(self.fixtures.clone())?;
        let work = tempfile::tempdir().context("no temporary folder could be made")?;
        let cast = cast::prepare(&fixtures, work.path())?;
        // The pictures are read before the folder goes.
        let scenario = Scenario { busy, visits, max_detection_delay: self.max_detection_delay };
        Rig::start(scenario, self.encoding(), cast, self.config.as_deref()).await
    }

    /// The bare sessions of the two networks as the server runs them: detector at the size of these frames, embedder one face at a time.
    ///
    /// # Errors
    /// When models or runtime are missing.
    pub async fn bare(&self) -> Result<(Limit, Limit), Failure> {
        let setup = Setup::open(self.config.as_deref(), None)?;
        let frame = self.frame;
        let both = tokio::task::spawn_blocking(move || both(&setup, frame)).await;
        both.map_err(|e| Failure::new("the bare sessions were interrupted").because(&e))?
    }
}

fn both(setup: &Setup, frame: (u32, u32)) -> Result<(Limit, Limit), Failure> {
    let mut inference = setup.config.inference.clone();
    let library = locate::runtime_library(&inference.runtime_library).map_err(anyhow::Error::from)?;
    inference.runtime_library = library.display().to_string();
    let (detector, embedder) = setup.models()?;
    let input = |entry: &ModelEntry, size| {
        let mut input = Input::default();
        input.shape_for(1, size, entry.input.layout);
        input
    };
    let size = scale::fitted(frame.0, frame.1, inference.detector_size);
    let detect = limit::measure(&inference, &detector.path, &input(&detector.entry, size), BARE)?;
    let edges = (embedder.entry.input.width, embedder.entry.input.height);
    let embed = limit::measure(&inference, &embedder.path, &input(&embedder.entry, edges), BARE)?;
    Ok((detect, embed))
}

/// Percentiles.
#[derive(Debug, Clone, Copy, Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// One way of watching the cameras.
#[derive(Debug, Serialize)]
struct Side {
    cpu_percent_per_camera: f64,
    idle_cpu_percent_per_camera: Option<f64>,
    latency_ms: Latency,
    appearances: usize,
    missed: usize,
    named: usize,
    face_px_p50: f64,
}

/// One line of JSON.
#[derive(Debug, Serialize)]
struct Report {
    cameras: u16,
    scene: &'static str,
    seconds: f64,
    frames_per_s: f64,
    faces_per_s: f64,
    embeddings_per_s: f64,
    bare_detections_per_s: f64,
    bare_embeddings_per_s: f64,
    /// Achieved rate of inference over that of bare sessions on all cores.
    efficiency: f64,
    /// CPU time that bare sessions would have needed for the same inference, over the CPU time of the server (decoding included).
    cpu_efficiency: f64,
    cpu_percent_per_camera: f64,
    full_decode_cpu_percent_per_camera: f64,
    idle_cpu_percent_per_camera: Option<f64>,
    full_decode_idle_cpu_percent_per_camera: Option<f64>,
    /// Pictures decoded a second over the same time.
    idle_decoded_per_s_per_camera: Option<f64>,
    latency_ms: Latency,
    full_decode_latency_ms: Latency,
    appearances: usize,
    missed: usize,
    surplus: usize,
    wrong: usize,
    full_decode_missed: usize,
    overloaded: f64,
    named: usize,
    /// Median width of the faces that were decided about, pixels after alignment.
    face_px_p50: f64,
    /// The main stream alone, where there is a substream.
    main_alone: Option<Side>,
    rss_mib_per_camera: f64,
    rss_mib_without_cameras: f64,
}

fn latency([p50, p95, p99]: [f64; 3]) -> Latency {
    Latency { p50, p95, p99 }
}

/// Runs it.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let report = measure(&args, io).await?;
    if io.json {
        io.object(&report)?;
    } else {
        show(&report, io)?;
    }
    Ok(OK)
}

async fn measure(args: &Args, io: &mut Io<'_>) -> Result<Report, Failure> {
    let cameras = f64::from(args.cameras);
    io.remark("encoding the streams, starting the server")?;
    let mut rig = args.streams.rig(args.scene.busy(), Visits::AtOnce).await?;
    rig.settle(Duration::from_secs(2)).await?;
    let before = rig.reading()?;
    rig.settle(Duration::from_secs(5)).await?;
    let alone = super::meter::percent(&before, &rig.reading()?);
    io.remark(format!("{} cameras, key frames only while nothing happens", args.cameras))?;
    let decoding = if args.key_frames { "key-frames" } else { "auto" };
    rig.add_cameras(usize::from(args.cameras), decoding).await?;
    rig.settle(SETTLE).await?;
    let sparing = rig.measure(args.seconds).await?;
    let main_alone = if args.streams.substream.is_some() {
        io.remark("the main streams alone")?;
        rig.without_substreams().await?;
        rig.settle(SETTLE).await?;
        Some(rig.measure(args.seconds).await?)
    } else {
        None
    };
    io.remark("the same cameras, everything decoded")?;
    rig.decode("all").await?;
    rig.settle(SETTLE).await?;
    let full = rig.measure(args.seconds).await?;
    rig.stop().await?;
    io.remark("the bare sessions")?;
    let (detect, embed) = args.streams.bare().await?;

    let per_camera = |percent: f64| (percent - alone).max(0.0) / cameras;
    let shown: Count = ledger::total(&sparing.appearances);
    let (frames, embeddings) = (sparing.rate("visage_frames_total"), sparing.rate("visage_embeddings_total"));
    let inference = frames * detect.seconds + embeddings * embed.seconds;
    Ok(Report {
        cameras: args.cameras,
        scene: args.scene.word(),
        seconds: sparing.seconds,
        frames_per_s: frames,
        faces_per_s: sparing.rate("visage_faces_total"),
        embeddings_per_s: embeddings,
        bare_detections_per_s: detect.per_s,
        bare_embeddings_per_s: embed.per_s,
        efficiency: inference / cores(),
        cpu_efficiency: inference * 100.0 / sparing.cpu_percent.max(0.001),
        cpu_percent_per_camera: per_camera(sparing.cpu_percent),
        full_decode_cpu_percent_per_camera: per_camera(full.cpu_percent),
        idle_cpu_percent_per_camera: sparing.idle_cpu_percent.map(per_camera),
        full_decode_idle_cpu_percent_per_camera: full.idle_cpu_percent.map(per_camera),
        idle_decoded_per_s_per_camera: sparing.idle_decoded_per_s.map(|pictures| pictures / cameras),
        latency_ms: latency(sparing.latency_ms),
        full_decode_latency_ms: latency(full.latency_ms),
        appearances: shown.shown,
        missed: shown.missed,
        surplus: shown.surplus,
        wrong: shown.wrong,
        full_decode_missed: ledger::total(&full.appearances).missed,
        overloaded: overloaded(&sparing),
        named: sparing.named,
        face_px_p50: sparing.face_px,
        main_alone: main_alone.map(|phase| {
            let shown = ledger::total(&phase.appearances);
            Side {
                cpu_percent_per_camera: per_camera(phase.cpu_percent),
                idle_cpu_percent_per_camera: phase.idle_cpu_percent.map(per_camera),
                latency_ms: latency(phase.latency_ms),
                appearances: shown.shown,
                missed: shown.missed,
                named: phase.named,
                face_px_p50: phase.face_px,
            }
        }),
        rss_mib_per_camera: sparing.rss.saturating_sub(before.rss) as f64 / cameras / f64::from(1 << 20),
        rss_mib_without_cameras: before.rss as f64 / f64::from(1 << 20),
    })
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1, usize::from) as f64
}

/// Frames that were left out for lack of time, over those and the ones that were looked at or showed nothing new. Some of them were not due: it errs
/// towards too many.
pub fn overloaded(phase: &Phase) -> f64 {
    let count = |name: &str| phase.counters.get(name).copied().unwrap_or(0.0);
    let lost = count("visage_frames_skipped_total:overload") + count("visage_frames_skipped_total:replaced");
    let looked = count("visage_frames_total") + count("visage_frames_skipped_total:still");
    lost / (lost + looked).max(1.0)
}

fn show(r: &Report, io: &mut Io<'_>) -> anyhow::Result<()> {
    let mut table = io.table(&["", "auto", "everything decoded", "ratio"]);
    let idle = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1} %"));
    let ratio = |a: f64, b: f64| if a > 0.0 { format!("{:.1}", b / a) } else { "-".into() };
    let both = r.idle_cpu_percent_per_camera.zip(r.full_decode_idle_cpu_percent_per_camera);
    table.add_row([
        "CPU a camera (of one core)".to_owned(),
        format!("{:.1} %", r.cpu_percent_per_camera),
        format!("{:.1} %", r.full_decode_cpu_percent_per_camera),
        ratio(r.cpu_percent_per_camera, r.full_decode_cpu_percent_per_camera),
    ]);
    table.add_row([
        "CPU a camera while nobody is there".to_owned(),
        idle(r.idle_cpu_percent_per_camera),
        idle(r.full_decode_idle_cpu_percent_per_camera),
        both.map_or("-".into(), |(a, b)| ratio(a, b)),
    ]);
    let decoded = r.idle_decoded_per_s_per_camera.map_or("-".into(), |pictures| format!("{pictures:.1}"));
    table.add_row(["pictures decoded a second and camera, meanwhile".to_owned(), decoded, "all".into(), String::new()]);
    let times = |l: &Latency| format!("{:.0} / {:.0} / {:.0} ms", l.p50, l.p95, l.p99);
    table.add_row([
        "capture to event, p50 / p95 / p99".to_owned(),
        times(&r.latency_ms),
        times(&r.full_decode_latency_ms),
        String::new(),
    ]);
    table.add_row([
        "appearances missed".to_owned(),
        format!("{} of {}", r.missed, r.appearances),
        format!("{}", r.full_decode_missed),
        String::new(),
    ]);
    io.show(&table)?;
    let main_alone = r.main_alone.as_ref().map_or(String::new(), |side| {
        format!(
            "{:.1} % a camera, {} while nobody is there, {} of {} missed, {} named, {:.0} px wide",
            side.cpu_percent_per_camera,
            idle(side.idle_cpu_percent_per_camera),
            side.missed,
            side.appearances,
            side.named,
            side.face_px_p50
        )
    });
    io.pairs(&[
        ("cameras", format!("{} ({})", r.cameras, r.scene)),
        (
            "frames looked at",
            format!("{:.1} a second, {:.1} faces, {:.1} embedded", r.frames_per_s, r.faces_per_s, r.embeddings_per_s),
        ),
        (
            "bare session",
            format!("{:.1} detections or {:.1} embeddings a second", r.bare_detections_per_s, r.bare_embeddings_per_s),
        ),
        ("efficiency", format!("{:.2} of the bare sessions' rate on all cores", r.efficiency)),
        ("of the CPU used", format!("{:.2} would have been needed by bare sessions", r.cpu_efficiency)),
        ("frames lost to overload", format!("{:.1} %", r.overloaded * 100.0)),
        ("faces", format!("{} named, {:.0} px wide (median)", r.named, r.face_px_p50)),
        ("main streams alone", main_alone),
        ("events too many", r.surplus.to_string()),
        ("wrong names", r.wrong.to_string()),
        ("memory", format!("{:.1} MiB a camera, {:.0} MiB without", r.rss_mib_per_camera, r.rss_mib_without_cameras)),
    ])?;
    Ok(())
}
