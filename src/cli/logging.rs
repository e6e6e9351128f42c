//! Logs on stderr: `RUST_LOG` decides, else the given level. Text for people, or an object of JSON a line for programs.

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::telemetry::Traces;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// An object of JSON a line, with the spans it was logged in: a request's carry `request_id`, `method` and `token`.
    Json,
}

/// Starts logging once for the process, and traces where there are some; a second call changes nothing.
///
/// `level` is `info` for servers and `warn` for clients; `RUST_LOG` wins over it.
pub fn init(level: &str, format: LogFormat, traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // A log that can't be written, such as on a full disk, ends nothing.
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(super::output::stderr_colour()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces.map(Traces::layer));
    // An error means that a subscriber stands already (tests): keep that one.
    let _ = subscriber.try_init();
}
