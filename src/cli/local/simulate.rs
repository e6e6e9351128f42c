//! `visage simulate`: serves simulated RTSP cameras until it is told to end.

/// Serve simulated RTSP cameras from videos, pictures or a test pattern.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SOURCE is a video file (looped), a picture or a folder of them (each walks in and out), or `pattern`.
Options follow after a comma: codec=h264|h265|mjpeg, size=1280x720, fps=15, bitrate=4000 (kbit/s) or max-bitrate=4000,
substream=640x360 (the same, smaller, as NAME-sub), period=7s (pictures),
and faults: stall-after=20s, stall-for=10s, drop-every=30s, gone-after=1m, gone-for=10s,
restart-every=1m, restart-for=5s.

Examples:
  visage simulate door=clip.mp4
  visage simulate lobby=people/,codec=h265,fps=10 test=pattern,drop-every=30s
  visage simulate --user viewer --password secret door=clip.mp4")]
pub struct Args {
    /// TCP port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8554)]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    bind: String,
    /// User name that clients must give.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// Password that clients must give.
    #[arg(long, requires = "user", env = "VISAGE_SIMULATE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// PEM file with certificate and private key: serve rtsps instead of rtsp.
    #[arg(long, value_name = "FILE")]
    tls: Option<std::path::PathBuf>,
    /// Print one JSON object a camera instead of its URL: {"name", "url"}.
    #[arg(long)]
    json: bool,
    /// A camera: NAME=SOURCE[,OPTION=VALUE...].
    #[arg(required = true, value_name = "NAME=SOURCE")]
    cameras: Vec<String>,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// Cameras that cannot be understood or read, a port in use, a missing plugin.
#[cfg(feature = "simulator")]
pub async fn run(args: Args) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use std::io::Write as _;

    use crate::simulator::{Credentials, SimCamera, Simulator, SimulatorSettings, TlsIdentity};

    // Listened for from the beginning: encoding may take a while, and the first Ctrl-C counts.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let cameras = args.cameras.iter().map(|text| SimCamera::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = cameras
        .iter()
        .flat_map(|c| std::iter::once(c.name.clone()).chain(c.substream.map(|_| format!("{}-sub", c.name))))
        .collect();
    let credentials = args.user.zip(args.password).map(|(user, password)| Credentials { user, password });
    let tls = match &args.tls {
        Some(path) => {
            let pem = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
            Some(TlsIdentity(pem))
        }
        None => None,
    };
    let (bind, port) = (args.bind, args.port);
    let settings = SimulatorSettings { bind, port, credentials, tls, cameras, ..SimulatorSettings::default() };
    let mut starting = tokio::task::spawn_blocking(move || Simulator::start(settings));
    let simulator = tokio::select! {
        started = &mut starting => started.context("the simulator's start panicked")??,
        _ = terminate.recv() => return Ok(()),
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let mut out = std::io::stdout().lock();
    for name in &names {
        let url = simulator.url(name);
        if args.json {
            writeln!(out, "{}", serde_json::json!({ "name": name, "url": url }))?;
        } else {
            writeln!(out, "{url}")?;
        }
    }
    out.flush()?;
    drop(out);
    tokio::select! {
        _ = terminate.recv() => {}
        ended = tokio::signal::ctrl_c() => ended?,
    }
    tokio::task::spawn_blocking(move || simulator.stop()).await.context("the simulator's end panicked")
}

/// Says that this build has no simulator.
///
/// # Errors
/// Always.
#[cfg(not(feature = "simulator"))]
pub async fn run(_: Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no simulator: build it with `--features simulator`")
}
