//! Times → figures: medians, percentiles, and how sure a ratio is.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::error::Failure;

/// Resamplings of a ratio's interval.
const RESAMPLED: usize = 400;

/// A percentile (`share` from 0 to 1) of times in seconds, nearest rank; 0 for none.
pub fn percentile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

/// The median of times.
pub fn median(times: &[f64]) -> f64 {
    percentile(times, 0.5)
}

/// Runs of ours and of the bare network, taken in turns.
#[derive(Debug, Default)]
pub struct Pairs {
    /// Seconds of each run of ours.
    pub ours: Vec<f64>,
    /// Seconds of each run of the bare network.
    pub bare: Vec<f64>,
}

/// What pairs of runs say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Compared {
    /// Things a second, ours, at the median run.
    pub ours_per_s: f64,
    /// Things a second of the bare network, at the median run.
    pub bare_per_s: f64,
    /// Ours over bare: the median of the bare runs over that of ours.
    pub efficiency: f64,
    /// Where the efficiency lies with 95 % confidence (bootstrap over pairs): lower end.
    pub efficiency_low: f64,
    /// Upper end.
    pub efficiency_high: f64,
    /// Milliseconds of ours, median.
    pub ours_ms: f64,
    /// Milliseconds of the bare network, median.
    pub bare_ms: f64,
    /// Milliseconds of ours, 95th percentile.
    pub ours_p95_ms: f64,
    /// Milliseconds of the bare network, 95th percentile.
    pub bare_p95_ms: f64,
    /// Pairs of runs.
    pub pairs: usize,
}

impl Pairs {
    /// Runs ours and the bare network in turns for `seconds`, after `warm_up` calls of each that don't count; who begins takes turns, too. A call
    /// makes `runs` runs, whose mean is taken as the time of one. With the last answer of ours.
    ///
    /// # Errors
    /// The first of either.
    pub async fn alternate<T>(
        seconds: f64,
        warm_up: usize,
        runs: usize,
        mut ours: impl AsyncFnMut() -> Result<T, Failure>,
        mut bare: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(Self, T), Failure> {
        let mut answer = ours().await?;
        bare()?;
        for _ in 1..warm_up {
            answer = ours().await?;
            bare()?;
        }
        let (start, mut pairs) = (Instant::now(), Self::default());
        while pairs.ours.len() < 5 || start.elapsed().as_secs_f64() < seconds {
            let first = pairs.bare.len().is_multiple_of(2);
            for mine in [first, !first] {
                let began = Instant::now();
                let times = if mine {
                    answer = ours().await?;
                    &mut pairs.ours
                } else {
                    bare()?;
                    &mut pairs.bare
                };
                times.push(began.elapsed().as_secs_f64() / runs.max(1) as f64);
            }
        }
        Ok((pairs, answer))
    }

    /// The figures, for runs of `batch` things each.
    pub fn compared(&self, batch: usize) -> Compared {
        let (ours, bare) = (median(&self.ours), median(&self.bare));
        let n = self.ours.len().min(self.bare.len());
        let mut dice = fastrand::Rng::with_seed(1);
        let mut one = || {
            let chosen: Vec<usize> = (0..n).map(|_| dice.usize(0..n)).collect();
            let of = |times: &[f64]| median(&chosen.iter().map(|i| times[*i]).collect::<Vec<_>>());
            of(&self.bare) / of(&self.ours)
        };
        let ratios: Vec<f64> = (0..if n > 0 { RESAMPLED } else { 0 }).map(|_| one()).collect();
        Compared {
            ours_per_s: batch as f64 / ours,
            bare_per_s: batch as f64 / bare,
            efficiency: bare / ours,
            efficiency_low: percentile(&ratios, 0.025),
            efficiency_high: percentile(&ratios, 0.975),
            ours_ms: ours * 1e3,
            bare_ms: bare * 1e3,
            ours_p95_ms: percentile(&self.ours, 0.95) * 1e3,
            bare_p95_ms: percentile(&self.bare, 0.95) * 1e3,
            pairs: n,
        }
    }
}

/// Median seconds of `work`, run for about `budget` and at least five times after one run that does not count.
pub fn timed(budget: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 5 || start.elapsed() < budget {
        let began = Instant::now();
        work();
        times.push(began.elapsed().as_secs_f64());
    }
    median(&times)
}

/// A figure with three digits that count, for tables.
pub fn short(value: f64) -> String {
    let digits = (2 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_of_a_run_is_the_mean_of_those_of_a_call() {
        let call = Duration::from_millis(2);
        let ours = async || {
            std::thread::sleep(call);
            Ok(())
        };
        let bare = || {
            std::thread::sleep(call);
            Ok(())
        };
        let (pairs, ()) = Pairs::alternate(0.01, 1, 1000, ours, bare).await.unwrap();
        let each = call.as_secs_f64();
        for times in [&pairs.ours, &pairs.bare] {
            // A call that takes a thousand times as long would be needed to reach the time of one.
            assert!(times.iter().all(|time| (each / 1000.0..each).contains(time)), "{times:?}");
        }
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((median(&times), percentile(&times, 0.99), percentile(&times, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!((percentile(&times, 0.0), median(&[])), (1.0, 0.0));
    }

    #[test]
    fn one_slow_run_does_not_change_the_efficiency() {
        let mut pairs = Pairs { ours: vec![0.02; 20], bare: vec![0.019; 20] };
        (pairs.ours[3], pairs.bare[7]) = (5.0, 9.0);
        let found = pairs.compared(4);
        assert!((found.efficiency - 0.95).abs() < 1e-9 && (found.ours_per_s - 200.0).abs() < 1e-6, "{found:?}");
        assert!(found.efficiency_low <= found.efficiency && found.efficiency <= found.efficiency_high);
        assert_eq!(found.pairs, 20);
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!([1234.5, 12.345, 0.012_345, 0.0].map(short), ["1234", "12.3", "0.0123", "0.000000"]);
    }
}
