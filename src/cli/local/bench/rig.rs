//! The whole server under simulated cameras: a server process of its own, so that what it costs is told apart from simulator and subscriber.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};

use super::{
    ledger::{Count, Ledger},
    meter::{self, Reading},
    stage::{self, Encoding, Visits},
};
use crate::{
    cli::local::{
        cast::Cast,
        processes::{Visage, free_port},
    },
    simulator::Simulator,
    time,
};

/// A camera is idle this long after somebody left: it has noticed.
const QUIET: Duration = Duration::from_secs(8);
/// Nobody may come for this long, or a stretch in which nobody was there would end too late: it is judged once a second.
const AHEAD: Duration = Duration::from_secs(2);
/// Events of the last frames are waited for this long.
const LATE_EVENTS: Duration = Duration::from_secs(3);

/// What the cameras see and how they are watched.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Share of busy cameras.
    pub busy: f32,
    /// When they see their visitors.
    pub visits: Visits,
    /// The cameras' promise.
    pub max_detection_delay: Duration,
}

/// Simulator, server and subscriber.
pub struct Rig {
    simulator: Simulator,
    visage: Visage,
    server: u32,
    http: u16,
    events: Lines<BufReader<ChildStdout>>,
    watch: Child,
    scenario: Scenario,
    cameras: usize,
    substreams: bool,
    _data: tempfile::TempDir,
}

/// What one stretch of time showed.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Its length, seconds.
    pub seconds: f64,
    /// CPU of the server, per cent of one core.
    pub cpu_percent: f64,
    /// The same over the seconds in which no camera showed anybody; `None` when there were none.
    pub idle_cpu_percent: Option<f64>,
    /// Pictures that were decoded a second over the same seconds, of all cameras.
    pub idle_decoded_per_s: Option<f64>,
    /// Resident memory of the server at the end, bytes.
    pub rss: u64,
    /// Counters of the server over the phase: sums over cameras by metric and, for skipped frames, reason.
    pub counters: BTreeMap<String, f64>,
    /// Appearances, by camera.
    pub appearances: BTreeMap<String, Count>,
    /// Median, 95th and 99th percentile of capture → receipt by the subscriber, milliseconds.
    pub latency_ms: [f64; 3],
    /// Median width of the faces that were named or stayed unknown, pixels after alignment; 0 without any.
    pub face_px: f64,
    /// RECOGNIZED events.
    pub named: usize,
}

/// The stretches of a phase in which no camera showed anybody.
#[derive(Default)]
struct Idle {
    /// Their length, CPU of the server, both in seconds, and pictures decoded.
    wall: f64,
    cpu: f64,
    decoded: f64,
    /// Where the one began that goes on.
    since: Option<(Reading, BTreeMap<String, f64>)>,
}

impl Idle {
    fn add(&mut self, (from, before): (Reading, BTreeMap<String, f64>), to: &Reading, after: &BTreeMap<String, f64>) {
        let decoded = |counters: &BTreeMap<String, f64>| {
            let count = |name: &str| counters.get(name).copied().unwrap_or(0.0);
            count("visage_frames_received_total") - count("visage_frames_skipped_total:idle")
        };
        self.wall += to.at.duration_since(from.at).as_secs_f64();
        self.cpu += to.cpu.saturating_sub(from.cpu).as_secs_f64();
        self.decoded += decoded(after) - decoded(&before);
    }

    fn per_second(&self, sum: f64) -> Option<f64> {
        (self.wall > 0.0).then(|| sum / self.wall)
    }
}

impl Phase {
    /// A counter a second.
    pub fn rate(&self, name: &str) -> f64 {
        self.counters.get(name).copied().unwrap_or(0.0) / self.seconds.max(0.001)
    }
}

impl Rig {
    /// Encodes the streams, starts the server and enrols people.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(
        scenario: Scenario,
        encoding: Encoding,
        cast: Cast,
        config: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let gallery = cast.gallery.display().to_string();
        let simulator = tokio::task::spawn_blocking(move || stage::start(scenario.busy, encoding, &cast)).await??;
        let data = tempfile::tempdir().context("no temporary folder could be made")?;
        let (grpc, http) = (free_port()?, free_port()?);
        let mut visage = Visage::new(format!("http://127.0.0.1:{grpc}"))?;
        let mut serve = vec!["serve".to_owned(), "--data-dir".into(), data.path().display().to_string()];
        serve.extend(["--listen".into(), format!("127.0.0.1:{grpc}"), "--http".into(), format!("127.0.0.1:{http}")]);
        if let Some(config) = config {
            serve.extend(["--config".into(), config.display().to_string()]);
        }
        visage.start(&serve, 0, "").await?;
        visage.ready(Duration::from_secs(120)).await?;
        let server = visage.last_id().context("the server ended")?;
        visage.run(&["enroll", "--from-dir", &gallery]).await?;
        let mut watch = visage.pipe(&["watch", "--json", "--no-reconnect"])?;
        let stdout = watch.stdout.take().context("the subscriber has no output")?;
        let events = BufReader::new(stdout).lines();
        Ok(Self {
            simulator,
            visage,
            server,
            http,
            events,
            watch,
            scenario,
            cameras: 0,
            substreams: encoding.substream.is_some(),
            _data: data,
        })
    }

    /// The server's cost at this moment.
    ///
    /// # Errors
    /// When it has ended.
    pub fn reading(&self) -> anyhow::Result<Reading> {
        meter::read(self.server)
    }

    /// Registers cameras until there are `cameras`.
    ///
    /// # Errors
    /// When the server refuses one.
    pub async fn add_cameras(&mut self, cameras: usize, decoding: &str) -> anyhow::Result<()> {
        let delay = format!("{}ms", self.scenario.max_detection_delay.as_millis());
        for index in self.cameras..cameras {
            let url = self.simulator.url(&self.stream(index));
            let camera = id(index);
            let mut add = vec!["camera", "add", &camera, &url, "--decoding", decoding, "--max-detection-delay", &delay];
            let small = format!("{url}-sub");
            if self.substreams {
                add.extend(["--substream", &small]);
            }
            self.visage.run(&add).await?;
        }
        self.cameras = self.cameras.max(cameras);
        Ok(())
    }

    /// Takes the substreams away: everything is done on the main streams.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn without_substreams(&mut self) -> anyhow::Result<()> {
        self.substreams = false;
        for index in 0..self.cameras {
            self.visage.run(&["camera", "update", &id(index), "--substream", ""]).await?;
        }
        Ok(())
    }

    /// Changes how all cameras are decoded.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn decode(&self, decoding: &str) -> anyhow::Result<()> {
        for index in 0..self.cameras {
            self.visage.run(&["camera", "update", &id(index), "--decoding", decoding]).await?;
        }
        Ok(())
    }

    /// Lets the cameras settle: the first key frames, the first looks.
    pub async fn settle(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        // Events are read all the time, or the subscriber would be a slow one.
        while timeout_at(until, self.events.next_line()).await.is_ok_and(|line| line.is_ok_and(|l| l.is_some())) {}
        sleep_until(until).await;
        Ok(())
    }

    /// Measures for `seconds`.
    ///
    /// # Errors
    /// When the server or the subscriber ends.
    pub async fn measure(&mut self, seconds: u64) -> anyhow::Result<Phase> {
        let begun = time::now();
        let position = |stream: String| self.simulator.position(&stream).map(|at| (stream, at));
        let positions: BTreeMap<_, _> = self.streams().into_iter().filter_map(position).collect();
        let before = self.counters().await?;
        let first = self.reading()?;
        let mut ledger = Ledger::default();
        let mut idle = Idle::default();
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < until {
            tokio::select! {
                line = self.events.next_line() => ledger.take(&serde_json::from_str(&line?.context("the event stream ended")?)?),
                _ = second.tick() => match (idle.since.take(), self.nobody()) {
                    (None, true) => idle.since = Some((self.reading()?, self.counters().await?)),
                    (Some(since), false) => idle.add(since, &self.reading()?, &self.counters().await?),
                    (since, _) => idle.since = since,
                },
            }
        }
        let end = self.reading()?;
        let after = self.counters().await?;
        if let Some(since) = idle.since.take() {
            idle.add(since, &end, &after);
        }
        let ended = time::now();
        let late = Instant::now() + LATE_EVENTS;
        while let Ok(line) = timeout_at(late, self.events.next_line()).await {
            ledger.take(&serde_json::from_str(&line?.context("the event stream ended")?)?);
        }
        let counters = after.into_iter().map(|(name, value)| {
            let since = before.get(&name).copied().unwrap_or(0.0);
            (name, value - since)
        });
        let mut appearances = BTreeMap::new();
        for index in 0..self.cameras {
            let stream = self.stream(index);
            let (Some(truth), Some(at)) = (self.simulator.truth(&stream), positions.get(&stream)) else { continue };
            let origin = begun.checked_sub(*at).context("the clock stands before its beginning")?;
            let length = Duration::try_from_secs_f64(time::seconds_between(begun, ended)).unwrap_or_default();
            appearances.insert(id(index), ledger.count(&id(index), truth, origin, (*at, *at + length)));
        }
        Ok(Phase {
            seconds: end.at.duration_since(first.at).as_secs_f64(),
            cpu_percent: meter::percent(&first, &end),
            idle_cpu_percent: idle.per_second(idle.cpu * 100.0),
            idle_decoded_per_s: idle.per_second(idle.decoded),
            rss: end.rss,
            counters: counters.collect(),
            appearances,
            latency_ms: ledger.latency_ms(),
            face_px: ledger.face_px(),
            named: ledger.named(),
        })
    }

    /// Ends server, subscriber and simulator.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let ended: std::io::Result<ExitStatus> = async {
            self.watch.start_kill()?;
            self.watch.wait().await
        }
        .await;
        ended.context("the subscriber could not be ended")?;
        self.visage.stop().await;
        tokio::task::spawn_blocking(move || self.simulator.stop()).await.context("the simulator's end panicked")
    }

    fn stream(&self, index: usize) -> String {
        stage::stream(index, self.scenario.busy, self.scenario.visits)
    }

    /// The streams that the cameras show.
    fn streams(&self) -> BTreeSet<String> {
        (0..self.cameras).map(|index| self.stream(index)).collect()
    }

    /// Whether no camera shows anybody, did lately, or will in a moment.
    fn nobody(&self) -> bool {
        self.streams().iter().all(|stream| {
            let Some(at) = self.simulator.position(stream) else { return true };
            !stage::somebody(&self.simulator, stream, at + AHEAD, QUIET + AHEAD)
        })
    }

    /// Counters of the server, summed over cameras.
    async fn counters(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let url = format!("http://127.0.0.1:{}/metrics", self.http);
        let read = move || ureq::get(&url).call()?.body_mut().read_to_string();
        let text = tokio::task::spawn_blocking(read).await?.context("the server's metrics can't be read")?;
        let sums = sums(&text);
        ensure!(!sums.is_empty(), "the server tells no metrics");
        Ok(sums)
    }
}

async fn sleep_until(until: Instant) {
    sleep(until.saturating_duration_since(Instant::now())).await;
}

fn id(index: usize) -> String {
    format!("bench-{index}")
}

/// Sums of `visage_…_total` by name; those with a reason by name and reason, as `NAME:REASON`, too.
fn sums(metrics: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines().filter(|l| l.starts_with("visage_")) {
        let Some((key, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        if !name.ends_with("_total") {
            continue;
        }
        *sums.entry(name.to_owned()).or_insert(0.0) += value;
        for label in ["reason", "outcome"] {
            let word = labels.split_once(&format!("{label}=\"")).and_then(|(_, rest)| rest.split('"').next());
            if let Some(word) = word {
                *sums.entry(format!("{name}:{word}")).or_insert(0.0) += value;
            }
        }
    }
    sums
}

/// The demo's pictures.
///
/// # Errors
/// When they are not there.
pub fn fixtures(dir: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match dir {
        Some(dir) => Ok(dir),
        None => crate::models::locate::cache_dir("fixtures").context("the pictures are missing; run `make setup`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_cameras_and_by_reason() {
        let text = "# HELP x\nvisage_frames_total{camera=\"a\"} 3\nvisage_frames_total{camera=\"b\"} 4\n\
                    visage_frames_skipped_total{camera=\"a\",reason=\"still\"} 5\nvisage_camera_up{camera=\"a\"} 1\n";
        let sums = sums(text);
        assert_eq!(sums["visage_frames_total"], 7.0);
        assert_eq!(sums["visage_frames_skipped_total:still"], 5.0);
        assert!(!sums.contains_key("visage_camera_up"));
    }
}
