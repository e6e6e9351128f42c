//! `visage bench simulate`: a cluster of any size on a made clock: what moves when workers come, go and stand still, and what it costs.

use std::time::Duration;

use serde::Serialize;

use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::{Io, cell},
    },
    cluster::simulation::{ClusterSize, Measured, Simulation},
};

/// Arguments of `bench simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Registered cameras.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub cameras: u32,
    /// Workers.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=5_000))]
    pub workers: u32,
    /// Seconds of a lease, as cluster.lease_seconds.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub lease: u64,
    /// Longest time of a message between two machines, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=2_000))]
    pub network: u64,
    /// Start of the random numbers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// One thing that happened, and what came of it.
#[derive(Debug, Serialize)]
struct Row {
    change: String,
    /// Cameras that one worker tells the events of, at the end.
    watched: usize,
    /// Cameras of the fullest and of the emptiest worker.
    most: usize,
    fewest: usize,
    #[serde(flatten)]
    measured: Measured,
}

#[derive(Debug, Serialize)]
struct Report {
    cameras: u32,
    workers: u32,
    lease_s: u64,
    rows: Vec<Row>,
}

/// What happens to a cluster that began with so many workers.
type Change = fn(&mut Simulation, usize);

/// What a cluster goes through, with the time that is watched afterwards in leases.
fn story(workers: usize) -> Vec<(String, u32, Change)> {
    let tenth = (workers / 10).max(1);
    vec![
        ("all workers start".into(), 6, |_, _| {}),
        ("nothing".into(), 6, |_, _| {}),
        ("one worker dies".into(), 6, |cluster, _| cluster.kill(0)),
        (format!("{tenth} workers die at once"), 6, |cluster, workers| {
            (1..=(workers / 10).max(1)).for_each(|place| cluster.kill(place));
        }),
        ("a worker comes".into(), 6, |cluster, _| {
            cluster.add();
        }),
        ("a worker ends in order".into(), 6, |cluster, workers| cluster.drain(workers - 1)),
        ("a worker stands still for three leases".into(), 8, |cluster, workers| {
            let still = cluster.lease() * 3;
            cluster.pause(workers / 2, still);
        }),
        ("NATS is away for two leases".into(), 8, |cluster, _| {
            let away = cluster.lease() * 2;
            cluster.outage(away);
        }),
    ]
}

/// Runs `bench simulate`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let lease = Duration::from_secs(args.lease);
    let size = ClusterSize {
        cameras: args.cameras as usize,
        workers: args.workers as usize,
        lease,
        network: (Duration::from_millis(1), Duration::from_millis(args.network)),
        connect: (Duration::from_millis(500), Duration::from_secs(2)),
        seed: args.seed,
    };
    let simulated = move || {
        let mut cluster = Simulation::new(size);
        let mut rows = Vec::new();
        for (change, leases, happens) in story(size.workers) {
            happens(&mut cluster, size.workers);
            cluster.run(lease * leases);
            let ((most, fewest), measured) = (cluster.spread(), cluster.measure());
            rows.push(Row { change, watched: cluster.watched(), most, fewest, measured });
        }
        rows
    };
    let rows = tokio::task::spawn_blocking(simulated).await.map_err(|e| Failure::new(e.to_string()))?;
    let report = Report { cameras: args.cameras, workers: args.workers, lease_s: args.lease, rows };
    if io.json {
        io.object(&report)?;
        return Ok(OK);
    }
    io.line(format!("{} cameras, {} workers, leases of {} s", args.cameras, args.workers, args.lease))?;
    let headings = [
        "what happens",
        "moved",
        "longest gap s",
        "watched",
        "cameras a worker",
        "requests/s",
        "deliveries/s",
        "refused",
    ];
    let mut table = io.table(&headings);
    for row in report.rows {
        let m = row.measured;
        let texts = [
            row.change,
            m.moved.to_string(),
            format!("{:.1}", m.longest_gap_s),
            row.watched.to_string(),
            format!("{} to {}", row.fewest, row.most),
            format!("{:.0}", m.requests_per_s),
            format!("{:.0}", m.deliveries_per_s),
            m.fenced.to_string(),
        ];
        table.add_row(texts.map(|text| cell(text, None)));
    }
    io.show(&table)?;
    Ok(OK)
}
