//! `visage bench match`: the gallery's search at several sizes, beside a bare scan of the same vectors.

use std::{hint::black_box, time::Instant};

use fastrand::Rng;
use serde::Serialize;

use super::{
    figures::{median, percentile, short},
    setup::Setup,
};
use crate::{
    cli::{
        error::{Failure, OK, Outcome},
        output::{Io, cell},
    },
    face::{Distance, Embedding},
    identity::{EnrolledFace, SearchQuery, VectorIndex},
    ids::{ModelId, PersonId},
    store::{
        exact::{ExactIndex, scan},
        qdrant::{QdrantIndex, QdrantSettings},
    },
    time::Timestamp,
};

/// Sizes where none are asked for.
const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// People that a decision asks for, as the server does.
const CANDIDATES: usize = 10;
/// Length of a look's noise beside its person's direction, which is 1: looks of one person have a cosine near 0.74.
const NOISE: f32 = 0.6;
/// Faces put into the index at once.
const CHUNK: usize = 10_000;

/// Arguments of `bench match`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Faces in the gallery, several separated by commas [default: 1000, 10000, 100000 and 1000000, as memory allows].
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub faces: Vec<usize>,
    /// Faces of each person.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub per_person: usize,
    /// Values of an embedding [default: those of the embedder].
    #[arg(long, value_name = "N")]
    pub dim: Option<usize>,
    /// Searches to measure.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub probes: usize,
    /// Measure the Qdrant server at this gRPC address as well, in a collection of its own that is emptied afterwards.
    #[arg(long, value_name = "URL")]
    pub qdrant: Option<String>,
    /// Embedder whose dimension and distance count [default: models.embedder].
    #[arg(long, value_name = "ID")]
    pub embedder: Option<ModelId>,
    /// The server's configuration file (TOML): section `[models]` counts.
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<std::path::PathBuf>,
}

/// What one index of one size did.
#[derive(Debug, Serialize)]
struct Row {
    backend: &'static str,
    faces: usize,
    people: usize,
    dim: usize,
    distance: Distance,
    /// Seconds to fill the index.
    build_s: f64,
    /// Growth of this process's resident memory while the index was filled, bytes; null for a server's.
    memory_bytes: Option<u64>,
    search_p50_ms: f64,
    search_p99_ms: f64,
    /// The same vectors in one block, compared and nothing else, milliseconds.
    scan_p50_ms: f64,
    scan_p99_ms: f64,
    /// Scan over search, medians.
    efficiency: f64,
    /// Share of probes for whom the index names the person that the plain scan finds nearest.
    recall_at_1: f64,
    probes: usize,
}

/// Vectors of unit length, some of each person around the person's own direction.
struct Synthetic {
    dim: usize,
    per_person: usize,
    values: Vec<f32>,
}

impl Synthetic {
    fn new(faces: usize, per_person: usize, dim: usize) -> Self {
        let mut values = Vec::with_capacity(faces * dim);
        for face in 0..faces {
            look(face / per_person, face as u64, dim, &mut values);
        }
        Self { dim, per_person, values }
    }

    fn row(&self, face: usize) -> &[f32] {
        &self.values[face * self.dim..(face + 1) * self.dim]
    }

    /// The face most like a probe; of unit vectors the largest dot product is the least distance. `out` is memory to use.
    fn nearest(&self, probe: &[f32], out: &mut [f32]) -> usize {
        scan::nearness(Distance::Cosine, probe, &self.values, |_| true, out);
        out.iter()
            .enumerate()
            .fold((f32::NEG_INFINITY, 0), |best, (face, near)| if *near > best.0 { (*near, face) } else { best })
            .1
    }
}

/// A look of a person, of unit length, appended to `out`.
fn look(person: usize, seed: u64, dim: usize, out: &mut Vec<f32>) {
    // Sums of four even numbers are near enough to Gaussian, and quick.
    let even = |dice: &mut Rng| (0..4).map(|_| dice.f32()).sum::<f32>() - 2.0;
    // Neighbouring seeds give similar numbers at first: they are spread over all bits (Steele et al., SplitMix, OOPSLA 2014).
    let dice = |seed: u64| {
        let z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng::with_seed(z ^ (z >> 31))
    };
    let (mut person, mut own) = (dice(person as u64), dice(seed ^ 0x5555_0000_0000_0000));
    let start = out.len();
    out.extend((0..dim).map(|_| even(&mut person) + NOISE * even(&mut own)));
    let norm = out[start..].iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    out[start..].iter_mut().for_each(|v| *v /= norm);
}

fn person(number: usize) -> Result<PersonId, Failure> {
    Ok(format!("p{number}").parse().map_err(anyhow::Error::from)?)
}

/// A number of kibibytes from a file of `/proc`; `None` on systems without it.
fn proc_bytes(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn resident() -> Option<u64> {
    proc_bytes("/proc/self/status", "VmRSS")
}

/// Runs `bench match`.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let setup = Setup::open(args.config.as_deref(), args.embedder.as_ref())?;
    let entry = setup.embedder_entry()?;
    let spec = entry.embedder.as_ref();
    let spec = spec.ok_or_else(|| Failure::usage(format!("model {} is no embedder", entry.id)))?;
    let (dim, model, distance) = (args.dim.unwrap_or(spec.size), entry.id.clone(), spec.distance);
    if !(2..=4096).contains(&dim) || args.per_person == 0 || !(1..=100_000).contains(&args.probes) {
        return Err(Failure::usage("give --dim 2 to 4096, --per-person at least 1, --probes 1 to 100000"));
    }
    if let Some(bad) = args.faces.iter().find(|n| !(1..=100_000_000).contains(*n)) {
        return Err(Failure::usage(format!("--faces {bad}: give 1 to 100000000")));
    }
    let sizes: &[usize] = if args.faces.is_empty() { &SIZES } else { &args.faces };
    let mut rows = Vec::new();
    for &faces in sizes {
        // The vectors twice (the index, the bare scan), and ids beside them.
        let needed = faces as u64 * (dim as u64 * 8 + 300);
        if let Some(free) = proc_bytes("/proc/meminfo", "MemAvailable").filter(|free| needed > free / 4 * 3) {
            let text = format!("{faces} faces need about {} MiB, {} MiB are free", needed >> 20, free >> 20);
            if !args.faces.is_empty() {
                return Err(Failure::new(text).hint("give fewer --faces or a smaller --dim"));
            }
            io.remark(format!("left out: {text}"))?;
            continue;
        }
        let data = Synthetic::new(faces, args.per_person, dim);
        let exact = ExactIndex::new(model.clone(), dim, distance);
        rows.push(measure(&exact, &data, &model, distance, args.probes, true).await?);
        if let Some(url) = &args.qdrant {
            let settings = QdrantSettings {
                url: url.clone(),
                collection_prefix: "visage_bench".into(),
                timeout_ms: 60_000,
                ..QdrantSettings::default()
            };
            let index = QdrantIndex::connect(&settings, &model, dim, distance).await.map_err(anyhow::Error::from)?;
            let row = measure(&index, &data, &model, distance, args.probes, false).await;
            index.clear().await.map_err(anyhow::Error::from)?;
            rows.push(row?);
        }
        if io.json {
            for row in rows.drain(..) {
                io.object(&row)?;
            }
        }
    }
    if !io.json {
        let headings =
            ["index", "faces", "p50 ms", "p99 ms", "scan p50 ms", "efficiency", "recall@1", "MiB", "filled in s"];
        let mut table = io.table(&headings);
        for row in rows {
            let texts = [
                row.backend.to_owned(),
                row.faces.to_string(),
                short(row.search_p50_ms),
                short(row.search_p99_ms),
                short(row.scan_p50_ms),
                format!("{:.2}", row.efficiency),
                format!("{:.4}", row.recall_at_1),
                row.memory_bytes.map_or_else(|| "-".into(), |bytes| (bytes >> 20).to_string()),
                short(row.build_s),
            ];
            table.add_row(texts.map(|text| cell(text, None)));
        }
        io.line(format!("{dim} values, {} faces a person, {} probes, one at a time", args.per_person, args.probes))?;
        io.show(&table)?;
    }
    Ok(OK)
}

/// Fills an index and searches it, in turns with the bare scan.
async fn measure(
    index: &dyn VectorIndex,
    data: &Synthetic,
    model: &ModelId,
    distance: Distance,
    probes: usize,
    here: bool,
) -> Result<Row, Failure> {
    let faces = data.values.len() / data.dim;
    let people = faces.div_ceil(data.per_person);
    let embedding = |values: &[f32]| Embedding { model: model.clone(), distance, values: values.into() };
    let (before, mut build) = (resident(), 0.0);
    for from in (0..faces).step_by(CHUNK) {
        let face = |i: usize| {
            Ok::<_, Failure>(EnrolledFace {
                id: format!("f{i}").parse().map_err(anyhow::Error::from)?,
                person: person(i / data.per_person)?,
                embedding: embedding(data.row(i)),
                quality: 1.0,
                source: String::new(),
                created: Timestamp::UNIX_EPOCH,
            })
        };
        let chunk: Vec<EnrolledFace> = (from..faces.min(from + CHUNK)).map(face).collect::<Result<_, _>>()?;
        let began = Instant::now();
        index.upsert(&chunk).await.map_err(anyhow::Error::from)?;
        build += began.elapsed().as_secs_f64();
    }
    let memory = resident().zip(before).map(|(after, before)| after.saturating_sub(before)).filter(|_| here);
    let query = SearchQuery { limit: CANDIDATES, people: None };
    let (mut searches, mut scans, mut right) = (Vec::new(), Vec::new(), 0);
    let mut near = vec![0.0; faces];
    for i in 0..probes + 3 {
        let mut values = Vec::with_capacity(data.dim);
        look(i * 7919 % people, u64::MAX - i as u64, data.dim, &mut values);
        let probe = embedding(&values);
        let began = Instant::now();
        let hits = index.search(&probe, &query).await.map_err(anyhow::Error::from)?;
        let search = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let nearest = black_box(data.nearest(black_box(&values), &mut near));
        let scan = began.elapsed().as_secs_f64();
        // The first few only warm up.
        if i >= 3 {
            searches.push(search);
            scans.push(scan);
            let wanted = person(nearest / data.per_person)?;
            right += usize::from(hits.first().is_some_and(|hit| hit.person == wanted));
        }
    }
    Ok(Row {
        backend: index.backend(),
        faces,
        people,
        dim: data.dim,
        distance,
        build_s: build,
        memory_bytes: memory,
        search_p50_ms: median(&searches) * 1e3,
        search_p99_ms: percentile(&searches, 0.99) * 1e3,
        scan_p50_ms: median(&scans) * 1e3,
        scan_p99_ms: percentile(&scans, 0.99) * 1e3,
        efficiency: median(&scans) / median(&searches),
        recall_at_1: right as f64 / probes as f64,
        probes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_of_a_person_are_alike_and_others_are_not() {
        let data = Synthetic::new(40, 4, 128);
        let dot = |a, b| Distance::Cosine.similarity(a, b);
        assert!((dot(data.row(0), data.row(0)) - 1.0).abs() < 1e-4);
        let (mut same, mut other) = (0.0, 0.0);
        for i in 0..10 {
            same += dot(data.row(4 * i), data.row(4 * i + 1)) / 10.0;
            other += dot(data.row(4 * i), data.row((4 * i + 4) % 40)) / 10.0;
        }
        assert!((same - 0.735).abs() < 0.05 && other.abs() < 0.1, "{same} {other}");
    }

    #[tokio::test]
    async fn the_exact_index_agrees_with_the_plain_scan() {
        for distance in [Distance::Cosine, Distance::Euclidean] {
            let model: ModelId = "m".parse().unwrap();
            let index = ExactIndex::new(model.clone(), 20, distance);
            let row = measure(&index, &Synthetic::new(203, 5, 20), &model, distance, 30, true).await.unwrap();
            assert_eq!((row.recall_at_1, row.faces, row.people, row.probes), (1.0, 203, 41, 30));
        }
    }
}
