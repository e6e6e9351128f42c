//! The raw limit: bare sessions of ONNX Runtime on all cores, one thread each, with a ready input.

use std::{
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::bare::Bare;
use crate::{
    cli::error::Failure,
    inference::{InferenceSettings, Input},
};

/// What bare sessions reach.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Runs a second of all cores together.
    pub per_s: f64,
    /// CPU seconds of one run.
    pub seconds: f64,
}

/// Runs a model alone on all cores for `time`. Blocks.
///
/// # Errors
/// When the model can't be loaded or run.
pub fn measure(settings: &InferenceSettings, model: &Path, input: &Input, time: Duration) -> Result<Limit, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = InferenceSettings { intra_threads: 1, ..settings.clone() };
    let sessions: Vec<Bare> =
        (0..cores).map(|_| Bare::load(&settings, &model.into(), input.clone())).collect::<Result<_, _>>()?;
    let (stop, together) = (AtomicBool::new(false), Barrier::new(cores + 1));
    let (runs, elapsed) = std::thread::scope(|scope| {
        let working: Vec<_> = sessions
            .into_iter()
            .map(|mut session| {
                let (stop, together) = (&stop, &together);
                scope.spawn(move || {
                    let warm = (0..3).try_for_each(|_| session.run());
                    together.wait();
                    warm?;
                    let mut runs = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        session.run()?;
                        runs += 1;
                    }
                    Ok::<u64, Failure>(runs)
                })
            })
            .collect();
        together.wait();
        let begun = Instant::now();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let runs: Result<Vec<u64>, Failure> = working
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|_| Err(Failure::new("a thread of the bare sessions panicked"))))
            .collect();
        (runs, begun.elapsed())
    });
    let runs: u64 = runs?.iter().sum();
    let per_s = runs as f64 / elapsed.as_secs_f64();
    Ok(Limit { per_s, seconds: cores as f64 / per_s.max(1e-9) })
}
