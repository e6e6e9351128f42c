//! `visage doctor`: what this machine needs to serve as configured, what is missing, and the command that mends it.
//!
//! Settings come from the layers of `visage serve`; nothing is changed. One file a field of checks: `streams`, `recognition`,
//! `places`, `collector`.

mod collector;
mod places;
mod recognition;
mod streams;

use std::{net::SocketAddr, path::PathBuf};

use serde::Serialize;

use super::configured;
use crate::{
    cli::{
        error::{FAILED, Failure, OK, Outcome},
        output::{Ink, Io, cell},
    },
    config::{self, Config, ConfigError, load::Flag},
};

/// Arguments of `doctor`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// The server's configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "VISAGE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The server's data directory [env: VISAGE_DATA_DIR] [default: visage-data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address that `visage serve` will listen on for gRPC [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address that `visage serve` will listen on for HTTP [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something works less well.
    Warning,
    /// Visage cannot run so.
    Missing,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What mends it; empty when nothing is wrong.
    pub mend: String,
}

impl Finding {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, found: found.into(), mend: String::new() }
    }

    fn bad(check: &str, verdict: Verdict, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check: check.into(), verdict, found: found.into(), mend: mend.into() }
    }
}

/// Runs `doctor`. Exit code 1 when something required is missing.
pub async fn run(args: Args, io: &mut Io<'_>) -> Outcome {
    let task = tokio::task::spawn_blocking(move || examine(&args));
    let findings = task.await.map_err(|e| Failure::new("the checks were interrupted").because(&e))?;
    report(&findings, io)
}

fn examine(args: &Args) -> Vec<Finding> {
    let (finding, config) = settings(args);
    let mut findings = vec![finding];
    findings.extend(streams::check());
    // Without settings the rest would judge a server that nobody asked for.
    if let Some(config) = config {
        findings.extend(recognition::check(&config, args.config.as_deref()));
        findings.extend(places::check(&config.server));
        findings.extend(collector::check(&config.telemetry));
    }
    findings
}

/// The settings that `visage serve` would use, and what there is to say of them.
fn settings(args: &Args) -> (Finding, Option<Config>) {
    const CHECK: &str = "configuration";
    let mut flags = Vec::new();
    flags.extend(args.data_dir.as_deref().map(|dir| ("server.data_dir", configured::path(dir))));
    flags.extend(args.listen.map(|addr| ("server.listen", Flag::Text(addr.to_string()))));
    flags.extend(args.http.map(|addr| ("server.http", Flag::Text(addr.to_string()))));
    let file = args.config.as_deref();
    let error = match config::load(file, &flags) {
        Ok(loaded) => {
            let source = file.map_or_else(|| "no file: defaults".to_owned(), |file| file.display().to_string());
            return (Finding::ok(CHECK, source), Some(loaded.config));
        }
        Err(ConfigError::Faults(faults)) => faults.join("; "),
        Err(error) => error.to_string(),
    };
    match configured::load(file, &flags) {
        Ok(config) => {
            let mend =
                "set what it names (docs/security.md), listen on 127.0.0.1 behind a proxy, or visage serve --insecure";
            (Finding::bad(CHECK, Verdict::Warning, error, mend), Some(config))
        }
        Err(_) => {
            let mend = "correct it; `visage serve --print-config` shows every key";
            (Finding::bad(CHECK, Verdict::Missing, error, mend), None)
        }
    }
}

fn report(findings: &[Finding], io: &mut Io<'_>) -> Outcome {
    let missing = findings.iter().filter(|finding| finding.verdict == Verdict::Missing).count();
    let exit = if missing == 0 { OK } else { FAILED };
    if io.json {
        for finding in findings {
            io.object(finding)?;
        }
        return Ok(exit);
    }
    let mut table = io.table(&["check", "result", "found", "mend it with"]);
    for finding in findings {
        let (word, ink) = match finding.verdict {
            Verdict::Ok => ("ok", Ink::Green),
            Verdict::Warning => ("warning", Ink::Yellow),
            Verdict::Missing => ("missing", Ink::Red),
        };
        table.add_row(vec![
            cell(finding.check.clone(), None),
            cell(word, Some(ink)),
            cell(finding.found.clone(), None),
            cell(finding.mend.clone(), None),
        ]);
    }
    io.show(&table)?;
    io.line("")?;
    match missing {
        0 => io.line("ready")?,
        1 => io.line("1 required thing is missing")?,
        n => io.line(format!("{n} required things are missing"))?,
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Args) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("visage.toml");
        fs::write(&path, text).unwrap();
        let args = Args { config: Some(path), ..Args::default() };
        (dir, args)
    }

    #[test]
    fn missing_things_fail_and_say_how_to_mend() {
        let findings = [
            Finding::ok("configuration", "no file: defaults"),
            Finding::bad("model", Verdict::Missing, "no x.onnx", "visage models pull x"),
            Finding::bad("gRPC port", Verdict::Warning, "taken", "stop it"),
        ];
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, json: false, colour: false, progress: false };
        assert_eq!(report(&findings, &mut io), Ok(FAILED));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("visage models pull x") && text.ends_with("1 required thing is missing\n"), "{text}");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, json: true, colour: false, progress: false };
        assert_eq!(report(&findings[..1], &mut io), Ok(OK));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["verdict"], "ok");
    }

    #[test]
    fn the_file_decides_what_is_looked_at() {
        let (_dir, args) = file("[server]\ndata_dir = \"/nowhere/data\"\nlisten = \"127.0.0.1:7001\"\n");
        let args = Args { http: Some(SocketAddr::from(([127, 0, 0, 1], 7002))), ..args };
        let (finding, config) = settings(&args);
        let server = config.unwrap().server;
        assert_eq!(finding.verdict, Verdict::Ok);
        assert_eq!((server.data_dir, server.listen.port(), server.http.port()), ("/nowhere/data".into(), 7001, 7002));
    }

    #[test]
    fn a_faulty_file_is_missing_and_an_open_address_is_a_warning() {
        let (_dir, args) = file("[server]\nlissten = \"127.0.0.1:1\"\n");
        let (finding, config) = settings(&args);
        assert!(config.is_none() && finding.verdict == Verdict::Missing, "{finding:?}");
        assert!(finding.found.contains("server.listen"), "{finding:?}");
        let (_dir, args) = file("[server]\nlisten = \"0.0.0.0:50051\"\n");
        let (finding, config) = settings(&args);
        assert!(config.is_some() && finding.verdict == Verdict::Warning, "{finding:?}");
    }
}
