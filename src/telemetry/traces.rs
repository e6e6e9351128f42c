//! Spans to a collector by OTLP over gRPC, where one is named; else nothing of this runs.
//!
//! Spans wait in a bounded queue; a full one drops the newest. A collector that is away costs nothing but a counted drop and one line of the
//! log a minute.

use std::{fmt, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanKind, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{Layer, filter, registry::LookupSpan};

use super::spans_lost;

/// Spans that wait at most.
const QUEUE: usize = 4096;
/// Spans of one message at most.
const BATCH: usize = 512;
/// Spans wait this long for others.
const GATHER: Duration = Duration::from_millis(500);
/// The longest that a message may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same at the end of the server.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Traces that are being sent; [`Traces::end`] sends the last ones.
pub struct Traces {
    provider: SdkTracerProvider,
    stop: CancellationToken,
    sending: JoinHandle<()>,
}

impl Traces {
    /// Sends to `endpoint`, an `http` address such as `http://127.0.0.1:4317`, the share `sampling` (0 to 1) of all traces. Needs the async
    /// runtime. A collector that is not there is no error: it may come.
    ///
    /// # Errors
    /// When the address is none.
    pub fn start(endpoint: &str, sampling: f64) -> Result<Self, String> {
        let exporter = Otlp::builder().with_tonic().with_endpoint(endpoint).with_timeout(PATIENCE).build();
        let mut exporter = exporter.map_err(|error| format!("telemetry.otlp_endpoint: {error}"))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("visage").with_attribute(version).build();
        exporter.set_resource(&resource);
        let (spans, waiting) = mpsc::channel(QUEUE);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sampling))))
            .with_resource(resource)
            .with_span_processor(Queue(spans))
            .build();
        let stop = CancellationToken::new();
        let sending = tokio::spawn(send(exporter, waiting, stop.clone()));
        Ok(Self { provider, stop, sending })
    }

    /// Turns spans of this program into spans of the trace. Log lines within them go along.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("visage"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // What sends the spans must not make spans.
            .with_filter(filter::filter_fn(|of| {
                *of.level() <= tracing::Level::INFO && of.target().starts_with("visage")
            }))
    }

    /// Sends what waits, within two seconds.
    pub async fn end(self) {
        self.stop.cancel();
        if self.sending.await.is_err() {
            tracing::error!("the task that sends traces ended badly");
        }
    }
}

/// Where spans wait.
struct Queue(mpsc::Sender<SpanData>);

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        // A request is known by its method.
        if span.name == "request"
            && let Some(method) = span.attributes.iter().find(|a| a.key.as_str() == "method")
        {
            (span.name, span.span_kind) = (method.value.to_string().into(), SpanKind::Server);
        }
        if self.0.try_send(span).is_err() {
            spans_lost(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends batches until `stop`, then what is left.
async fn send(exporter: impl SpanExporter, mut waiting: mpsc::Receiver<SpanData>, stop: CancellationToken) {
    let mut complained = None;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let came = tokio::select! {
            came = waiting.recv_many(&mut batch, BATCH) => came,
            () = stop.cancelled() => break,
        };
        if came == 0 {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = stop.cancelled() => {}
        }
        while batch.len() < BATCH
            && let Ok(span) = waiting.try_recv()
        {
            batch.push(span);
        }
        give(&exporter, std::mem::take(&mut batch), PATIENCE, &mut complained).await;
    }
    waiting.close();
    let until = Instant::now() + FAREWELL;
    while let Ok(span) = waiting.try_recv() {
        batch.push(span);
    }
    if !batch.is_empty() {
        give(&exporter, batch, until.duration_since(Instant::now()), &mut complained).await;
    }
}

async fn give(
    exporter: &impl SpanExporter,
    batch: Vec<SpanData>,
    patience: Duration,
    complained: &mut Option<Instant>,
) {
    let count = batch.len();
    let error = match tokio::time::timeout(patience, exporter.export(batch)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", patience.as_secs()),
    };
    spans_lost(count as u64);
    if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
        *complained = Some(Instant::now());
        tracing::warn!(error, "traces could not be sent (telemetry.otlp_endpoint) and are dropped; told once a minute");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::error::OTelSdkError;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Collector {
        names: Arc<Mutex<Vec<String>>>,
        away: bool,
    }

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            if self.away {
                return Err(OTelSdkError::InternalFailure("away".into()));
            }
            self.names.lock().unwrap().extend(batch.into_iter().map(|span| span.name.into_owned()));
            Ok(())
        }
    }

    fn traces(collector: Collector, queue: usize) -> Traces {
        let (spans, waiting) = mpsc::channel(queue);
        let provider = SdkTracerProvider::builder().with_span_processor(Queue(spans)).build();
        let stop = CancellationToken::new();
        let sending = tokio::spawn(send(collector, waiting, stop.clone()));
        Traces { provider, stop, sending }
    }

    #[tokio::test]
    async fn spans_of_ours_are_sent_by_their_method_at_the_end_at_last() {
        let collector = Collector::default();
        let traces = traces(collector.clone(), QUEUE);
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            drop(tracing::info_span!(target: "visage::api", "request", method = "S/M"));
            drop(tracing::info_span!(target: "h2", "connection"));
            drop(tracing::debug_span!(target: "visage::api", "detail"));
        });
        traces.end().await;
        assert_eq!(*collector.names.lock().unwrap(), ["S/M"]);
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_counted_spans() {
        let dropped = || {
            let page = crate::telemetry::render();
            let line = page.lines().find_map(|l| l.strip_prefix("visage_trace_spans_dropped_total ")).unwrap();
            line.parse::<u64>().unwrap()
        };
        let before = dropped();
        let traces = traces(Collector { away: true, ..Collector::default() }, 4);
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..10 {
                drop(tracing::info_span!(target: "visage::x", "work"));
            }
        });
        traces.end().await;
        assert_eq!(dropped() - before, 10, "four waited and were refused, six found no place");
    }
}
