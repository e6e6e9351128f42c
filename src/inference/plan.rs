//! How the networks are run on this machine: sessions, threads, batches. What the settings leave open is tried out for a moment at the
//! start ([`super::trial`]); the decision is pure.

use super::{InferenceSettings, Provider};

/// Most sessions that are started unasked.
const MOST_WORKERS: usize = 8;
/// Sessions in flight on a graphics card: one runs while the next one's pictures are made ready.
const GPU_WORKERS: usize = 2;
/// Batches that are tried on a graphics card.
const GPU_BATCHES: [usize; 4] = [1, 4, 8, 16];
/// Batch on a graphics card where nothing was tried.
const GPU_BATCH: usize = 8;
/// Several threads a session must be so much faster to be chosen: a trial this short is no better, and one thread each never waits for
/// another.
const CLEARLY: f64 = 1.15;
/// The smallest batch that comes so near to the fastest is chosen: larger ones only make everybody wait.
const NEARLY: f64 = 0.90;
/// No batch is chosen that takes longer, milliseconds.
const LONGEST_MS: f64 = 100.0;

/// A way to run the detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Sessions at once.
    pub sessions: usize,
    /// Threads of each.
    pub threads: usize,
    /// Pictures of a run.
    pub batch: usize,
}

/// How a way did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// The way.
    pub way: Way,
    /// Milliseconds of a run, median.
    pub run_ms: f64,
    /// Pictures a second, all sessions together.
    pub pictures_per_s: f64,
}

/// How the networks are run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Threads that own a session of each network.
    pub workers: usize,
    /// Threads inside one run.
    pub intra_threads: usize,
    /// Largest batch.
    pub max_batch: usize,
    /// How long a batch waits to fill up, milliseconds.
    pub batch_wait_ms: u64,
    /// Why, in words.
    pub reason: String,
    /// What was tried; empty where the settings say it all.
    pub trials: Vec<Trial>,
}

/// Ways worth trying; none where the settings leave nothing open, or there is no choice.
pub fn ways(settings: &InferenceSettings, provider: Provider, cores: usize) -> Vec<Way> {
    if provider.is_gpu() {
        let open = settings.max_batch == 0;
        return GPU_BATCHES.into_iter().filter(|_| open).map(|batch| Way { sessions: 1, threads: 1, batch }).collect();
    }
    let cores = cores.min(MOST_WORKERS);
    if settings.workers != 0 || settings.intra_threads != 0 || cores < 2 {
        return Vec::new();
    }
    let way = |sessions, threads| Way { sessions, threads, batch: 1 };
    vec![way(cores, 1), way(cores.div_ceil(2), 2)]
}

/// The plan: what the settings say, and for the rest what the trials say or, without any, what is usual.
pub fn decide(settings: &InferenceSettings, provider: Provider, cores: usize, trials: Vec<Trial>) -> Plan {
    let or = |value: usize, plan: usize| if value == 0 { plan } else { value };
    let (workers, intra_threads, max_batch, reason) = if provider.is_gpu() {
        let (batch, reason) = gpu_batch(settings, &trials);
        (or(settings.workers, GPU_WORKERS), or(settings.intra_threads, 1), batch, reason)
    } else {
        let (workers, threads, reason) = cpu_threads(settings, cores, &trials);
        (workers, threads, or(settings.max_batch, 1), reason)
    };
    Plan { workers, intra_threads, max_batch, batch_wait_ms: settings.batch_wait_ms, reason, trials }
}

fn cpu_threads(settings: &InferenceSettings, cores: usize, trials: &[Trial]) -> (usize, usize, String) {
    let usual = cores.clamp(1, MOST_WORKERS);
    match (settings.workers, settings.intra_threads) {
        (0, 0) => {}
        (0, threads) => {
            return ((cores / threads).clamp(1, MOST_WORKERS), threads, "threads a session as configured".into());
        }
        (workers, 0) => return (workers, 1, "workers as configured, one thread each".into()),
        (workers, threads) => return (workers, threads, "as configured".into()),
    }
    let best = |several: bool| {
        let of_kind = trials.iter().filter(|t| (t.way.threads > 1) == several && t.pictures_per_s.is_finite());
        of_kind.max_by(|a, b| a.pictures_per_s.total_cmp(&b.pictures_per_s))
    };
    let (Some(single), Some(several)) = (best(false), best(true)) else {
        let why = if cores < 2 { "one core" } else { "nothing was measured: one session a core, one thread each" };
        return (usual, 1, why.into());
    };
    let words =
        |t: &Trial| format!("{} x {} thread(s): {:.1} pictures/s", t.way.sessions, t.way.threads, t.pictures_per_s);
    let chosen = if several.pictures_per_s > single.pictures_per_s * CLEARLY { several } else { single };
    let reason = format!(
        "measured {}, {}; several threads a session must be 15 % faster to be chosen",
        words(single),
        words(several)
    );
    (chosen.way.sessions, chosen.way.threads, reason)
}

fn gpu_batch(settings: &InferenceSettings, trials: &[Trial]) -> (usize, String) {
    if settings.max_batch != 0 {
        return (settings.max_batch, "batch as configured".into());
    }
    let fit: Vec<&Trial> = trials.iter().filter(|t| t.run_ms <= LONGEST_MS && t.pictures_per_s.is_finite()).collect();
    let fastest = fit.iter().map(|t| t.pictures_per_s).fold(0.0, f64::max);
    let enough = fit.iter().filter(|t| t.pictures_per_s >= fastest * NEARLY).min_by_key(|t| t.way.batch);
    match (enough, trials.is_empty()) {
        (Some(t), _) => {
            let reason = format!(
                "batch {} gave {:.0} pictures/s in {:.1} ms a run, at least 90 % of the fastest of those tried",
                t.way.batch, t.pictures_per_s, t.run_ms
            );
            (t.way.batch, reason)
        }
        (None, true) => (GPU_BATCH, "nothing was measured: the usual batch".into()),
        (None, false) => (1, format!("no batch ran in {LONGEST_MS:.0} ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(workers: usize, intra_threads: usize, max_batch: usize) -> InferenceSettings {
        InferenceSettings { workers, intra_threads, max_batch, ..InferenceSettings::default() }
    }

    fn trial(sessions: usize, threads: usize, batch: usize, run_ms: f64) -> Trial {
        let way = Way { sessions, threads, batch };
        Trial { way, run_ms, pictures_per_s: (sessions * batch) as f64 * 1000.0 / run_ms }
    }

    #[test]
    fn what_is_configured_is_done_and_nothing_tried() {
        for (workers, threads, cores, want) in
            [(3, 0, 16, (3, 1)), (0, 4, 16, (4, 4)), (2, 5, 2, (2, 5)), (0, 3, 2, (1, 3)), (0, 1, 64, (8, 1))]
        {
            let settings = settings(workers, threads, 0);
            assert!(ways(&settings, Provider::Cpu, cores).is_empty());
            let plan = decide(&settings, Provider::Cpu, cores, Vec::new());
            assert_eq!((plan.workers, plan.intra_threads, plan.max_batch), (want.0, want.1, 1), "{plan:?}");
            assert!(plan.reason.contains("configured"), "{plan:?}");
        }
        assert!(ways(&settings(0, 0, 5), Provider::Cuda, 8).is_empty());
        assert_eq!(decide(&settings(0, 0, 5), Provider::Cuda, 8, Vec::new()).max_batch, 5);
        assert_eq!(decide(&settings(0, 0, 5), Provider::Cpu, 1, Vec::new()).max_batch, 5);
    }

    #[test]
    fn several_threads_are_chosen_where_they_are_clearly_faster() {
        let open = settings(0, 0, 0);
        let tried = ways(&open, Provider::Cpu, 4);
        assert_eq!(tried.iter().map(|w| (w.sessions, w.threads)).collect::<Vec<_>>(), [(4, 1), (2, 2)]);
        for (several_ms, want) in [(12.0, (4, 1)), (10.5, (4, 1)), (8.0, (2, 2)), (f64::NAN, (4, 1))] {
            // Four sessions of 20 ms are as fast as two of 10.
            let plan = decide(&open, Provider::Cpu, 4, vec![trial(4, 1, 1, 20.0), trial(2, 2, 1, several_ms)]);
            assert_eq!((plan.workers, plan.intra_threads), want, "{plan:?}");
        }
        let reason = decide(&open, Provider::Cpu, 4, vec![trial(4, 1, 1, 20.0), trial(2, 2, 1, 8.0)]).reason;
        assert!(reason.contains("4 x 1 thread(s): 200.0") && reason.contains("2 x 2 thread(s): 250.0"), "{reason}");
    }

    #[test]
    fn without_trials_a_plan_is_made_as_well() {
        let open = settings(0, 0, 0);
        assert!(ways(&open, Provider::Cpu, 1).is_empty());
        for (cores, workers) in [(0, 1), (1, 1), (6, 6), (64, 8)] {
            let plan = decide(&open, Provider::Cpu, cores, Vec::new());
            assert_eq!((plan.workers, plan.intra_threads, plan.max_batch), (workers, 1, 1));
        }
        let plan = decide(&open, Provider::Tensorrt, 8, Vec::new());
        assert_eq!((plan.workers, plan.intra_threads, plan.max_batch), (2, 1, 8));
    }

    #[test]
    fn the_smallest_batch_that_is_nearly_the_fastest_is_chosen() {
        let open = settings(0, 0, 0);
        assert_eq!(ways(&open, Provider::Cuda, 8).iter().map(|w| w.batch).collect::<Vec<_>>(), [1, 4, 8, 16]);
        let batch = |ms: [f64; 4]| {
            let trials = GPU_BATCHES.into_iter().zip(ms).map(|(batch, ms)| trial(1, 1, batch, ms)).collect();
            decide(&open, Provider::Cuda, 8, trials).max_batch
        };
        assert_eq!(batch([2.0, 3.0, 5.6, 11.0]), 4, "1333, 1429 and 1455 a second: 4 is enough");
        assert_eq!(batch([2.0, 3.0, 4.0, 11.0]), 8);
        assert_eq!(batch([2.0, 8.0, 16.0, 32.0]), 1);
        assert_eq!(batch([60.0, 90.0, 101.0, 102.0]), 4, "the larger ones take too long");
        assert_eq!(batch([200.0; 4]), 1);
    }
}
