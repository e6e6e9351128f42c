//! Ways to run a network, tried out for a moment: what [`super::plan`] decides on.

use std::{
    sync::{Barrier, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    GraphSource, InferenceSettings, Input, Network, NetworkError, OrtSession, Provider,
    manifest::Layout,
    ort::Environment,
    plan::{Trial, Way},
};

/// Longest side of the input that is tried, pixels.
const LARGEST: u32 = 1280;
/// How long each way runs, in each round.
const ROUND: Duration = Duration::from_millis(80);
/// Ways take turns so often, so that something else on the machine slows all of them.
const ROUNDS: usize = 3;

/// A network, a provider and an input size: trials of the same are not repeated, least of all beside cameras that are being watched.
#[derive(PartialEq)]
struct Subject {
    graph: GraphSource,
    provider: Provider,
    device: u32,
    size: u32,
}

/// The last trials of this process.
static LAST: Mutex<Option<(Subject, Vec<Trial>)>> = Mutex::new(None);

/// Tries ways to run a detector on empty pictures of `settings.detector_size` in 16:9. Blocks for about a quarter of a second a way, and loads as
/// many sessions as the ways have.
///
/// # Errors
/// When a session can't be loaded or run.
pub fn tried(
    environment: &Environment,
    graph: &GraphSource,
    layout: Layout,
    settings: &InferenceSettings,
    ways: &[Way],
) -> Result<Vec<Trial>, NetworkError> {
    // A size without a limit (`original`) is tried at a common one.
    let (provider, device, size) = (settings.provider, settings.device, settings.detector_size.min(LARGEST));
    let subject = Subject { graph: graph.clone(), provider, device, size };
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, trials)) = last.as_ref().filter(|(known, trials)| *known == subject && trials.len() == ways.len()) {
        return Ok(trials.clone());
    }
    let mut loaded = Vec::with_capacity(ways.len());
    for way in ways {
        let settings = InferenceSettings { intra_threads: way.threads, ..settings.clone() };
        let mut input = Input::default();
        input.shape_for(way.batch, (size, (size * 9 / 16).max(1)), layout);
        let sessions = (0..way.sessions).map(|_| {
            let mut session = OrtSession::load(environment, graph, &settings)?;
            // The first run of a shape plans its memory.
            session.run(&input, &mut |_| Ok(()))?;
            Ok(session)
        });
        let sessions = sessions.collect::<Result<Vec<_>, NetworkError>>()?;
        loaded.push((input, sessions));
    }
    let mut runs = vec![(Vec::new(), 0.0); ways.len()];
    for _ in 0..ROUNDS {
        for ((input, sessions), (times, seconds)) in loaded.iter_mut().zip(&mut runs) {
            let (found, took) = together(sessions, input)?;
            times.extend(found);
            *seconds += took;
        }
    }
    let trial = |(way, (mut times, seconds)): (&Way, (Vec<f64>, f64))| {
        times.sort_by(f64::total_cmp);
        let run_ms = times.get(times.len() / 2).map_or(f64::INFINITY, |s| s * 1e3);
        Trial { way: *way, run_ms, pictures_per_s: (times.len() * way.batch) as f64 / seconds }
    };
    let trials: Vec<Trial> = ways.iter().zip(runs).map(trial).collect();
    *last = Some((subject, trials.clone()));
    Ok(trials)
}

/// Runs sessions beside each other for a round; seconds of each run, and of all together.
fn together(sessions: &mut [OrtSession], input: &Input) -> Result<(Vec<f64>, f64), NetworkError> {
    let start = Barrier::new(sessions.len() + 1);
    let work = |session: &mut OrtSession| {
        start.wait();
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < ROUND {
            let one = Instant::now();
            session.run(input, &mut |_| Ok(()))?;
            times.push(one.elapsed().as_secs_f64());
        }
        Ok::<_, NetworkError>(times)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = sessions.iter_mut().map(|session| scope.spawn(|| work(session))).collect();
        start.wait();
        let began = Instant::now();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| NetworkError::Run("a trial ended in a panic".into()))??);
        }
        Ok((all, began.elapsed().as_secs_f64()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inference::environment;

    #[test]
    fn every_way_is_tried_and_trials_are_remembered() {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache");
        let (library, model) =
            (cache.join("onnxruntime/libonnxruntime.so"), cache.join("models/retinaface-mnet025.onnx"));
        if !library.is_file() || !model.is_file() {
            crate::telemetry::skipped("ONNX Runtime or retinaface-mnet025 is not here; run `make test`");
            return;
        }
        let (environment, model) = (environment(&library).unwrap(), GraphSource::from(model.as_path()));
        let settings = InferenceSettings { detector_size: 160, ..InferenceSettings::default() };
        let ways = [Way { sessions: 2, threads: 1, batch: 1 }, Way { sessions: 1, threads: 2, batch: 3 }];
        let trials = tried(&environment, &model, Layout::Nchw, &settings, &ways).unwrap();
        assert_eq!(trials.iter().map(|t| t.way).collect::<Vec<_>>(), ways);
        assert!(trials.iter().all(|t| t.run_ms > 0.0 && t.pictures_per_s > 0.0), "{trials:?}");
        assert_eq!(tried(&environment, &model, Layout::Nchw, &settings, &ways).unwrap(), trials);
        assert!(
            tried(&environment, &GraphSource::from(Path::new("/nowhere.onnx")), Layout::Nchw, &settings, &ways)
                .is_err()
        );
    }
}
