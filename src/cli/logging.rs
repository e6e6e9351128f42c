//! Logs on stderr: `RUST_LOG` decides, else the given level.

use tracing_subscriber::EnvFilter;

/// Starts logging once for the process; a second call changes nothing.
///
/// `level` is `info` for servers and `warn` for clients; `RUST_LOG` wins over it.
pub fn init(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a subscriber stands already (tests): keep that one.
    let _ = subscriber.with_ansi(super::output::stderr_colour()).try_init();
}
