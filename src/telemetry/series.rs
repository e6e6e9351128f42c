//! Series of one metric by the values of its labels, and the list of all metrics.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter, gauge, histogram},
    registry::{Metric, Registry},
};

/// A number that goes up and down.
pub(super) type Gauge = gauge::Gauge<f64, std::sync::atomic::AtomicU64>;

/// The name of the label that holds a camera's id.
const CAMERA: &str = "camera";

/// A histogram whose bounds are part of its type, so that each series has the same.
pub(super) trait Bounds: Send + Sync + 'static {
    /// Upper bounds, ascending.
    const BOUNDS: &'static [f64];
}

/// A histogram with the bounds of `B`.
pub(super) struct Histogram<B>(histogram::Histogram, std::marker::PhantomData<B>);

impl<B: Bounds> Default for Histogram<B> {
    fn default() -> Self {
        Self(histogram::Histogram::new(B::BOUNDS.iter().copied()), std::marker::PhantomData)
    }
}

impl<B> Clone for Histogram<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), std::marker::PhantomData)
    }
}

impl<B> fmt::Debug for Histogram<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<B> Histogram<B> {
    /// Takes a value in; what is no finite number is left out, since one would spoil the sum for ever.
    pub(super) fn observe(&self, value: f64) {
        if value.is_finite() {
            self.0.observe(value);
        }
    }
}

impl<B> EncodeMetric for Histogram<B> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl<B> TypedMetric for Histogram<B> {
    const TYPE: MetricType = MetricType::Histogram;
}

/// By the first label's value, then by those of the others.
type Values<M> = BTreeMap<String, BTreeMap<[&'static str; 2], M>>;

/// Series of one metric. The first label may hold anything that is bounded elsewhere (a camera's id); the others hold words of the code.
pub(super) struct Series<M> {
    labels: &'static [&'static str],
    values: Arc<RwLock<Values<M>>>,
}

impl<M> Clone for Series<M> {
    fn clone(&self) -> Self {
        Self { labels: self.labels, values: self.values.clone() }
    }
}

impl<M> fmt::Debug for Series<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series").field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl<M: Default> Series<M> {
    fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, values: Arc::default() }
    }

    /// Works on the series with these label values, which is made when it is not there.
    pub(super) fn with<R>(&self, first: &str, rest: [&'static str; 2], work: impl FnOnce(&M) -> R) -> R {
        if let Some(metric) = self.read().get(first).and_then(|more| more.get(&rest)) {
            return work(metric);
        }
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        work(values.entry(first.to_owned()).or_default().entry(rest).or_default())
    }

    /// Works on the series of a metric with one label.
    pub(super) fn of<R>(&self, first: &str, work: impl FnOnce(&M) -> R) -> R {
        self.with(first, ["", ""], work)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Values<M>> {
        self.values.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Series that can be dropped by their first label.
pub(super) trait Forget: Send + Sync {
    /// Drops every series with this value of the first label.
    fn forget(&self, first: &str);
}

impl<M: Send + Sync> Forget for Series<M> {
    fn forget(&self, first: &str) {
        self.values.write().unwrap_or_else(PoisonError::into_inner).remove(first);
    }
}

impl<M: EncodeMetric + TypedMetric + Default> EncodeMetric for Series<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (first, more) in self.read().iter() {
            for (rest, metric) in more {
                let values = std::iter::once(first.as_str()).chain(rest.iter().copied());
                let labels: Vec<(&str, &str)> = self.labels.iter().copied().zip(values).collect();
                metric.encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// What `/metrics` says about a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name; that of a counter ends in `_total`.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels, without the `le` of histograms.
    pub labels: &'static [&'static str],
    /// What it is, in a sentence.
    pub help: &'static str,
}

/// The registry while it is filled, with the list of what is in it.
#[derive(Default)]
pub(super) struct Catalogue {
    pub(super) registry: Registry,
    pub(super) list: Vec<Described>,
    pub(super) by_camera: Vec<Box<dyn Forget>>,
}

impl Catalogue {
    fn add<M: Metric + Clone>(
        &mut self,
        kind: MetricType,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        metric: M,
    ) -> M {
        self.describe(kind, name, labels, help);
        // The encoder adds the ending of counters and the full stop.
        self.registry.register(name.trim_end_matches("_total"), help.trim_end_matches('.'), metric.clone());
        metric
    }

    /// Lists a metric that a collector of its own tells.
    pub(super) fn describe(
        &mut self,
        kind: MetricType,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) {
        let kind = match kind {
            MetricType::Counter => "counter",
            MetricType::Histogram => "histogram",
            _ => "gauge",
        };
        self.list.push(Described { name, kind, labels, help });
    }

    /// One series without labels.
    pub(super) fn one<M: Metric + TypedMetric + Clone + Default>(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> M {
        self.add(M::TYPE, name, &[], help, M::default())
    }

    /// Series by labels, three at most. Those whose first label is the camera are forgotten with it.
    pub(super) fn by<M: Metric + TypedMetric + Default>(
        &mut self,
        labels: &'static [&'static str],
        name: &'static str,
        help: &'static str,
    ) -> Series<M> {
        let series = self.add(M::TYPE, name, labels, help, Series::new(labels));
        if labels.first() == Some(&CAMERA) {
            self.by_camera.push(Box::new(series.clone()));
        }
        series
    }
}

/// Series of a counter that are known beforehand begin at 0: what appears with its first increase has none.
pub(super) fn begin(series: &Series<Counter>, values: &[&str]) {
    values.iter().for_each(|value| series.of(value, |_| ()));
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    struct Sizes;
    impl Bounds for Sizes {
        const BOUNDS: &'static [f64] = &[1.0, 2.5];
    }

    fn text(catalogue: &Catalogue) -> String {
        let mut text = String::new();
        encode(&mut text, &catalogue.registry).unwrap();
        text
    }

    #[test]
    fn series_are_told_by_their_labels_and_go_with_their_camera() {
        let mut catalogue = Catalogue::default();
        let frames: Series<Counter> = catalogue.by(&["camera", "reason"], "x_frames_total", "Frames.");
        let sizes: Series<Histogram<Sizes>> = catalogue.by(&["camera"], "x_size", "Sizes.");
        let refused: Series<Counter> = catalogue.by(&["reason"], "x_refused_total", "Refused.");
        frames.with("door", ["still", ""], |c| c.inc_by(2));
        frames.with("gate", ["still", ""], Counter::inc);
        sizes.of("door", |h| [2.0, f64::NAN].into_iter().for_each(|v| h.observe(v)));
        begin(&refused, &["token"]);
        let before = text(&catalogue);
        for line in [
            "# TYPE x_frames_total counter",
            "x_frames_total{camera=\"door\",reason=\"still\"} 2",
            "x_size_bucket{camera=\"door\",le=\"2.5\"} 1",
            "x_size_sum{camera=\"door\"} 2.0",
            "x_refused_total{reason=\"token\"} 0",
        ] {
            assert!(before.lines().any(|l| l == line), "{line} is not in\n{before}");
        }
        catalogue.by_camera.iter().for_each(|series| series.forget("door"));
        let after = text(&catalogue);
        assert!(!after.contains("door") && after.contains("gate") && after.contains("x_refused_total{"), "{after}");
    }

    #[test]
    fn ten_thousand_cameras_leave_nothing_behind() {
        let mut catalogue = Catalogue::default();
        let frames: Series<Counter> = catalogue.by(&["camera"], "x_frames_total", "Frames.");
        for i in 0..10_000 {
            let camera = format!("camera-{i}");
            frames.of(&camera, Counter::inc);
            catalogue.by_camera.iter().for_each(|series| series.forget(&camera));
        }
        assert!(frames.read().is_empty());
    }
}
