//! `visage bench capacity`: how many cameras this machine holds, by running more and more of them until it falls behind.

use std::time::Duration;

use serde::Serialize;

use super::{
    ledger, meter,
    pipeline::{Streams, overloaded},
    rig::Rig,
    stage::Visits,
};
use crate::cli::{
    error::{Failure, OK, Outcome},
    output::Io,
    parse,
};

/// Cameras settle for this long after some were added.
const SETTLE: Duration = Duration::from_secs(14);
/// More than this share of frames lost to overload is falling behind.
const LOST: f64 = 0.02;
/// Share of the cores that a plan may fill: above it latency is at the mercy of chance.
const FILL: f64 = 0.85;

/// Search for the number of cameras that this machine holds without falling behind, and say what limits it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Simulator and subscriber run on the same machine: the number that was held in fact is therefore smaller than the plan, which is
what the cores hold by themselves at the measured cost.

Example:
  visage bench capacity --busy 0.2 --seconds 30")]
pub struct Args {
    /// Share of cameras that show up to three people all the time; the others show nobody but for two short visits a minute.
    #[arg(long, default_value_t = 0.2, value_parser = parse::fraction)]
    pub busy: f32,
    /// How long each number of cameras is measured, seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub seconds: u64,
    /// Let all cameras of a kind see their visitors at the same moment, as when a bell rings, instead of seven groups at times of their own.
    #[arg(long)]
    pub at_once: bool,
    /// Most cameras that are tried.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=512))]
    pub most: u16,
    /// Most runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=20))]
    pub runs: u8,
    /// Longest time from capture to event (95th percentile) that counts as keeping up, such as 3s.
    #[arg(long, default_value = "3s", value_parser = parse::duration, value_name = "TIME")]
    pub latency: Duration,
    /// The streams.
    #[command(flatten)]
    pub streams: Streams,
}

/// One number of cameras.
#[derive(Debug, Clone, Serialize)]
struct Run {
    cameras: usize,
    held: bool,
    cpu_percent: f64,
    simulator_cpu_percent: f64,
    inference_cpu_percent: f64,
    latency_p95_ms: f64,
    lost_percent: f64,
    frames_per_s: f64,
    appearances: usize,
    missed: usize,
    rss_mib: f64,
}

/// The plan, as one line of JSON.
#[derive(Debug, Serialize)]
struct Plan {
    cores: usize,
    busy: f32,
    /// All cameras of a kind saw their visitors at the same moment.
    at_once: bool,
    /// Most cameras that were run and held, simulator beside them.
    held: usize,
    /// Cameras that the cores hold without the simulator, filled to 85 %.
    planned: usize,
    /// What limits: `detection`, `decoding` or `memory`.
    limit: &'static str,
    cpu_percent_per_camera: f64,
    inference_share: f64,
    rss_mib_per_camera: f64,
    runs: Vec<Run>,
}

/// Runs it.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let plan = search(&args, io).await?;
    if io.json {
        io.object(&plan)?;
        return Ok(OK);
    }
    let mut table = io.table(&["cameras", "held", "CPU", "inference", "simulator", "p95", "lost", "missed"]);
    for run in &plan.runs {
        table.add_row([
            run.cameras.to_string(),
            if run.held { "yes" } else { "no" }.to_owned(),
            format!("{:.0} %", run.cpu_percent),
            format!("{:.0} %", run.inference_cpu_percent),
            format!("{:.0} %", run.simulator_cpu_percent),
            format!("{:.0} ms", run.latency_p95_ms),
            format!("{:.1} %", run.lost_percent),
            format!("{} of {}", run.missed, run.appearances),
        ]);
    }
    io.show(&table)?;
    io.pairs(&[
        ("held", format!("{} cameras, simulator beside them", plan.held)),
        ("plan", format!("{} cameras on {} cores", plan.planned, plan.cores)),
        ("limited by", plan.limit.to_owned()),
        ("a camera", format!("{:.1} % of a core, {:.1} MiB", plan.cpu_percent_per_camera, plan.rss_mib_per_camera)),
        ("inference", format!("{:.0} % of the CPU used", plan.inference_share * 100.0)),
    ])?;
    Ok(OK)
}

async fn search(args: &Args, io: &mut Io<'_>) -> Result<Plan, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    io.remark("the bare sessions, then the streams and the server")?;
    let (detect, embed) = args.streams.bare().await?;
    let visits = if args.at_once { Visits::AtOnce } else { Visits::Spread };
    let mut rig = args.streams.rig(args.busy, visits).await?;
    rig.settle(Duration::from_secs(5)).await?;
    let before = rig.reading()?;
    let mut runs: Vec<Run> = Vec::new();
    let mut cameras = 2;
    while runs.len() < usize::from(args.runs) {
        io.remark(format!("{cameras} cameras"))?;
        let run = one(&mut rig, args, cameras, (detect.seconds, embed.seconds)).await?;
        runs.push(run);
        match next(&runs, cores, usize::from(args.most)) {
            // Cameras are only added: a smaller number is run on a fresh server.
            Some(fewer) if fewer < cameras => {
                rig.stop().await?;
                rig = args.streams.rig(args.busy, visits).await?;
                cameras = fewer;
            }
            Some(more) => cameras = more,
            None => break,
        }
    }
    rig.stop().await?;
    Ok(plan(args, cores, before.rss, runs))
}

async fn one(rig: &mut Rig, args: &Args, cameras: usize, costs: (f64, f64)) -> anyhow::Result<Run> {
    rig.add_cameras(cameras, "auto").await?;
    rig.settle(SETTLE).await?;
    let simulator = meter::read(std::process::id())?;
    let phase = rig.measure(args.seconds).await?;
    let simulator = meter::percent(&simulator, &meter::read(std::process::id())?);
    let shown = ledger::total(&phase.appearances);
    let inference = phase.rate("visage_frames_total") * costs.0 + phase.rate("visage_embeddings_total") * costs.1;
    let lost = overloaded(&phase);
    Ok(Run {
        cameras,
        held: lost <= LOST && phase.latency_ms[1] <= args.latency.as_secs_f64() * 1000.0,
        cpu_percent: phase.cpu_percent,
        simulator_cpu_percent: simulator,
        inference_cpu_percent: inference * 100.0,
        latency_p95_ms: phase.latency_ms[1],
        lost_percent: lost * 100.0,
        frames_per_s: phase.rate("visage_frames_total"),
        appearances: shown.shown,
        missed: shown.missed,
        rss_mib: phase.rss as f64 / f64::from(1 << 20),
    })
}

/// The next number of cameras to try: what the last run's cost promises, between the most that was held and the fewest that was not.
fn next(runs: &[Run], cores: usize, most: usize) -> Option<usize> {
    let held = runs.iter().filter(|r| r.held).map(|r| r.cameras).max().unwrap_or(0);
    let fell = runs.iter().filter(|r| !r.held).map(|r| r.cameras).min();
    let last = runs.last()?;
    let (low, high) = (held + 1, fell.map_or(most, |fell| fell - 1).min(most));
    if low > high {
        return None;
    }
    let cost = (last.cpu_percent + last.simulator_cpu_percent) / last.cameras as f64;
    let promised = (cores as f64 * 100.0 * FILL / cost.max(0.01)) as usize;
    let middle = fell.map_or(promised, |_| (low + high).div_ceil(2));
    Some(middle.clamp(low, high))
}

fn plan(args: &Args, cores: usize, rss: u64, runs: Vec<Run>) -> Plan {
    let best = runs.iter().filter(|r| r.held).max_by_key(|r| r.cameras).or(runs.first());
    let (cost, inference, memory) = best.map_or((f64::NAN, 0.0, 0.0), |r| {
        let own = (r.rss_mib - rss as f64 / f64::from(1 << 20)).max(0.0) / r.cameras as f64;
        (r.cpu_percent / r.cameras as f64, r.inference_cpu_percent / r.cpu_percent.max(0.001), own)
    });
    let by_cpu = cores as f64 * 100.0 * FILL / cost.max(0.001);
    let by_memory = available_mib().map_or(f64::INFINITY, |free| free * FILL / memory.max(0.001));
    Plan {
        cores,
        busy: args.busy,
        at_once: args.at_once,
        held: runs.iter().filter(|r| r.held).map(|r| r.cameras).max().unwrap_or(0),
        planned: by_cpu.min(by_memory) as usize,
        limit: match () {
            () if by_memory < by_cpu => "memory",
            () if inference > 0.5 => "detection",
            () => "decoding",
        },
        cpu_percent_per_camera: cost,
        inference_share: inference,
        rss_mib_per_camera: memory,
        runs,
    }
}

/// Memory that is free or can be freed, MiB.
fn available_mib() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cameras: usize, held: bool, percent: f64) -> Run {
        Run {
            cameras,
            held,
            cpu_percent: percent,
            simulator_cpu_percent: 0.0,
            inference_cpu_percent: percent * 0.7,
            latency_p95_ms: 0.0,
            lost_percent: 0.0,
            frames_per_s: 0.0,
            appearances: 0,
            missed: 0,
            rss_mib: 0.0,
        }
    }

    #[test]
    fn the_search_follows_the_cost_and_closes_in() {
        assert_eq!(next(&[run(2, true, 20.0)], 2, 64), Some(17));
        assert_eq!(next(&[run(2, true, 20.0), run(17, false, 190.0)], 2, 64), Some(10));
        assert_eq!(next(&[run(2, true, 20.0)], 2, 8), Some(8));
        assert_eq!(next(&[run(5, true, 90.0), run(6, false, 120.0)], 2, 64), None);
        assert_eq!(next(&[run(1, false, 90.0)], 2, 64), None);
    }
}
