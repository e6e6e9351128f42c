//! How sure names were over the last hour: a mean that sinks before names become wrong or go missing.
//!
//! Cameras are moved, lights change, people grow beards: similarities of the right person sink towards the threshold. Sixty sums of a minute
//! each, so it costs the same whatever happens.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::series::Catalogue;

const MINUTES: usize = 60;

const EXCESS: &str = "visage_match_excess_hour_mean";
const CONFIDENCE: &str = "visage_match_confidence_hour_mean";
const COUNT: &str = "visage_matches_hour";

/// `(name, help)` in the order of [`Sum::figures`].
const TOLD: [(&str, &str); 3] = [
    (EXCESS, "Mean similarity above the threshold of appearances named in the last hour; none without any."),
    (CONFIDENCE, "Mean calibrated probability, 0 to 1, of appearances named in the last hour; none without any."),
    (COUNT, "Appearances named in the last hour."),
];

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    minute: u64,
    excess: f64,
    confidence: f64,
    count: u32,
}

impl Sum {
    /// No mean of nothing: a NaN would make every average over time one.
    fn figures(&self) -> [Option<f64>; 3] {
        let count = f64::from(self.count);
        let mean = |sum: f64| (self.count > 0).then(|| sum / count);
        [mean(self.excess), mean(self.confidence), Some(count)]
    }
}

#[derive(Debug)]
struct Hour {
    began: Instant,
    minutes: [Sum; MINUTES],
}

/// Names of the last hour. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Recent(Arc<Mutex<Hour>>);

impl Recent {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Hour { began: Instant::now(), minutes: [Sum::default(); MINUTES] })))
    }

    /// Lists it and has it told.
    pub(super) fn register(catalogue: &mut Catalogue) -> Self {
        let recent = Self::new();
        for (name, help) in TOLD {
            catalogue.describe(MetricType::Gauge, name, &[], help);
        }
        catalogue.registry.register_collector(Box::new(recent.clone()));
        recent
    }

    /// Somebody was named, `excess` above the threshold.
    pub(super) fn add(&self, excess: f32, confidence: f32) {
        self.add_at(self.age(), excess, confidence);
    }

    fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).began.elapsed()
    }

    fn add_at(&self, age: Duration, excess: f32, confidence: f32) {
        if !(excess.is_finite() && confidence.is_finite()) {
            return;
        }
        let minute = age.as_secs() / 60;
        let mut hour = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = &mut hour.minutes[minute as usize % MINUTES];
        if sum.minute != minute {
            *sum = Sum { minute, ..Sum::default() };
        }
        sum.excess += f64::from(excess);
        sum.confidence += f64::from(confidence);
        sum.count += 1;
    }

    fn at(&self, age: Duration) -> Sum {
        let minute = age.as_secs() / 60;
        let hour = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live = hour.minutes.iter().filter(|sum| sum.minute + MINUTES as u64 > minute);
        live.fold(Sum::default(), |all, sum| Sum {
            minute,
            excess: all.excess + sum.excess,
            confidence: all.confidence + sum.confidence,
            count: all.count + sum.count,
        })
    }
}

impl Collector for Recent {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for ((name, help), value) in TOLD.into_iter().zip(self.at(self.age()).figures()) {
            let told = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            if let Some(value) = value {
                ConstGauge::new(value).encode(told)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_the_last_hour() {
        let (recent, minute) = (Recent::new(), Duration::from_secs(60));
        assert_eq!(recent.at(Duration::ZERO).figures(), [None, None, Some(0.0)]);
        let told = |age| recent.at(age).figures().map(|figure| (figure.unwrap() * 1000.0).round());
        recent.add_at(Duration::ZERO, 0.2, 0.9);
        recent.add_at(minute * 30, 0.1, 0.7);
        recent.add_at(minute * 30, f32::NAN, 0.7);
        assert_eq!(told(minute * 59), [150.0, 800.0, 2000.0]);
        assert_eq!(told(minute * 60), [100.0, 700.0, 1000.0]);
        // The place of the first minute is taken again.
        recent.add_at(minute * 120, 0.3, 1.0);
        assert_eq!(told(minute * 120), [300.0, 1000.0, 1000.0]);
        assert_eq!(recent.at(minute * 300).figures()[2], Some(0.0));
    }
}
