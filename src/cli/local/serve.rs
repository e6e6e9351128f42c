//! `visage serve`: the server.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;

use crate::{
    cli::logging::{self, LogFormat},
    config, server,
    telemetry::Traces,
};

/// Runs the server until Ctrl-C or SIGTERM.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of the database [env: VISAGE_DATA_DIR] [default: visage-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the gRPC listener [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address of the HTTP listener for metrics and health [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Allows listening beyond loopback without TLS or without tokens; without `auth.required = true` no token is asked for then.
    #[arg(long)]
    insecure: bool,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT", env = "VISAGE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// Prints the configuration with the origin of each value, and ends.
    #[arg(long)]
    print_config: bool,
}

/// Whether other machines reach a server that asks for no token.
fn exposed(config: &config::Config) -> bool {
    let server = &config.server;
    !config.tokens_required() && [server.listen, server.http].iter().any(|addr| !addr.ip().is_loopback())
}

/// Runs it.
///
/// # Errors
/// When the configuration is faulty, a part does not start or a listener fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut flags = Vec::new();
    if let Some(dir) = &args.data_dir {
        flags.push(("server.data_dir", config::load::Flag::Text(dir.display().to_string())));
    }
    if let Some(addr) = args.listen {
        flags.push(("server.listen", config::load::Flag::Text(addr.to_string())));
    }
    if let Some(addr) = args.http {
        flags.push(("server.http", config::load::Flag::Text(addr.to_string())));
    }
    if args.insecure {
        flags.push(("server.insecure", config::load::Flag::Bool(true)));
    }
    let loaded = config::load(args.config.as_deref(), &flags)?;
    if args.print_config {
        use std::io::Write;
        std::io::stdout().write_all(loaded.explain().as_bytes())?;
        return Ok(());
    }
    let telemetry = &loaded.config.telemetry;
    let traces = match telemetry.otlp_endpoint.as_str() {
        "" => None,
        endpoint => Some(Traces::start(endpoint, telemetry.otlp_sampling).map_err(anyhow::Error::msg)?),
    };
    logging::init("info", args.log_format, traces.as_ref());
    if exposed(&loaded.config) {
        tracing::warn!("--insecure: whoever reaches this server may do everything, since no token is asked for");
    }
    let served = server::run(&loaded.config, |server| {
        tracing::info!(grpc = %server.grpc, http = %server.http, data = %loaded.config.server.data_dir.display(), "visage serves");
    })
    .await;
    if let Some(traces) = traces {
        traces.end().await;
    }
    served.context("the server did not start or ended badly")
}
