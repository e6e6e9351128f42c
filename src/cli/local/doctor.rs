//! `visage doctor`: what this machine needs, what is missing, and the command that mends it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;

use crate::cli::{
    error::{FAILED, Failure, OK, Outcome},
    output::{Ink, Io, cell},
};

/// Free space below which the event log is in danger, MiB.
const LEAST_FREE_MIB: u64 = 1024;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server's data directory.
    #[arg(long, default_value = "./visage-data", value_name = "DIR", env = "VISAGE_DATA_DIR")]
    pub data_dir: PathBuf,
    /// The ONNX Runtime library.
    #[arg(long, default_value = ".cache/onnxruntime/libonnxruntime.so", value_name = "FILE", env = "VISAGE_RUNTIME")]
    pub runtime: PathBuf,
    /// The folder of models.
    #[arg(long, default_value = ".cache/models", value_name = "DIR", env = "VISAGE_MODELS_DIR")]
    pub models: PathBuf,
    /// Address that `visage serve` will listen on for gRPC.
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub listen: String,
    /// Address that `visage serve` will listen on for HTTP.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub http: String,
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
    /// The command that mends it; empty when nothing is wrong.
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
    let mut findings = elements();
    findings.push(runtime(&args.runtime));
    findings.extend(models(&args.models));
    findings.push(data_dir(&args.data_dir));
    findings.push(port("gRPC port", &args.listen, "--listen"));
    findings.push(port("HTTP port", &args.http, "--http"));
    findings.push(disk(&args.data_dir));
    findings
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

/// A GStreamer element that cameras need, what for, and Debian's package.
struct Element {
    name: &'static str,
    purpose: &'static str,
    package: &'static str,
}

const ELEMENTS: [Element; 11] = [
    Element { name: "rtspsrc", purpose: "RTSP", package: "gstreamer1.0-plugins-good" },
    Element { name: "rtph264depay", purpose: "H.264", package: "gstreamer1.0-plugins-good" },
    Element { name: "rtph265depay", purpose: "H.265", package: "gstreamer1.0-plugins-good" },
    Element { name: "rtpjpegdepay", purpose: "MJPEG", package: "gstreamer1.0-plugins-good" },
    Element { name: "jpegdec", purpose: "MJPEG", package: "gstreamer1.0-plugins-good" },
    Element { name: "h264parse", purpose: "H.264", package: "gstreamer1.0-plugins-bad" },
    Element { name: "h265parse", purpose: "H.265", package: "gstreamer1.0-plugins-bad" },
    Element { name: "avdec_h264", purpose: "H.264", package: "gstreamer1.0-libav" },
    Element { name: "avdec_h265", purpose: "H.265", package: "gstreamer1.0-libav" },
    Element { name: "videoconvert", purpose: "pictures", package: "gstreamer1.0-plugins-base" },
    Element { name: "appsink", purpose: "pictures", package: "gstreamer1.0-plugins-base" },
];

/// Plugins and codecs: the one place that asks GStreamer.
fn elements() -> Vec<Finding> {
    const CHECK: &str = "GStreamer";
    if let Err(error) = gstreamer::init() {
        let mend = "sudo apt-get install gstreamer1.0-plugins-base gstreamer1.0-plugins-good";
        return vec![Finding::bad(CHECK, Verdict::Missing, error.to_string(), mend)];
    }
    let mut findings = vec![Finding::ok(CHECK, gstreamer::version_string().to_string())];
    let missing = ELEMENTS.iter().filter(|element| gstreamer::ElementFactory::find(element.name).is_none());
    findings.extend(missing.map(|Element { name, purpose, package }| {
        let found = format!("no element {name} (for {purpose})");
        Finding::bad("plugin", Verdict::Missing, found, format!("sudo apt-get install {package}"))
    }));
    if findings.len() == 1 {
        findings.push(Finding::ok("plugins", format!("all {} elements", ELEMENTS.len())));
    }
    findings
}

/// The runtime library: there, and a shared library of this system.
fn runtime(path: &Path) -> Finding {
    use std::io::Read;
    const CHECK: &str = "ONNX Runtime";
    let mut magic = [0u8; 4];
    match fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if &magic == b"\x7fELF" => Finding::ok(CHECK, path.display().to_string()),
        Ok(()) => {
            Finding::bad(CHECK, Verdict::Missing, format!("{} is no shared library", path.display()), "make setup")
        }
        Err(error) => Finding::bad(CHECK, Verdict::Missing, format!("{}: {error}", path.display()), "make setup"),
    }
}

/// The models of the default set-up.
fn models(dir: &Path) -> Vec<Finding> {
    ["retinaface-mnet025", "dlib-resnet"]
        .map(|id| {
            let path = dir.join(format!("{id}.onnx"));
            match fs::metadata(&path) {
                Ok(facts) if facts.len() > 0 => Finding::ok("model", format!("{id} ({} KiB)", facts.len() >> 10)),
                _ => {
                    let found = format!("no {}", path.display());
                    Finding::bad("model", Verdict::Missing, found, format!("visage models pull {id}"))
                }
            }
        })
        .into()
}

/// Whether the data directory, or the folder that it will be made in, can be written.
fn data_dir(dir: &Path) -> Finding {
    const CHECK: &str = "data directory";
    let place = existing(dir);
    if !place.is_dir() {
        let found = format!("{} is not a folder", place.display());
        return Finding::bad(CHECK, Verdict::Missing, found, "choose another with --data-dir");
    }
    match tempfile::Builder::new().prefix(".visage-doctor").tempfile_in(&place) {
        Ok(_) if place == dir => Finding::ok(CHECK, dir.display().to_string()),
        Ok(_) => Finding::ok(CHECK, format!("{} (will be made)", dir.display())),
        Err(error) => {
            let found = format!("{} cannot be written: {error}", place.display());
            let mend = format!("sudo chown \"$USER\" {}", place.display());
            Finding::bad(CHECK, Verdict::Missing, found, mend)
        }
    }
}

/// `path`, or the nearest folder above it that exists.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if found.as_os_str().is_empty() { PathBuf::from(".") } else { found.to_owned() }
}

/// Whether an address is free to listen on.
fn port(check: &str, address: &str, option: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(check, format!("{address} is free")),
        Err(error) => {
            let mend = format!("visage serve {option} 127.0.0.1:PORT, or stop what listens there");
            Finding::bad(check, Verdict::Warning, format!("{address}: {error}"), mend)
        }
    }
}

/// Free space where the data will be. The standard library cannot tell, `df` can.
fn disk(dir: &Path) -> Finding {
    const CHECK: &str = "disk space";
    let place = existing(dir);
    let answer = Command::new("df").args(["-Pk", "--"]).arg(&place).output();
    let free = answer.ok().and_then(|answer| free_mib(&String::from_utf8_lossy(&answer.stdout)));
    match free {
        None => Finding::bad(CHECK, Verdict::Warning, "unknown: df gave no answer", "df -h ."),
        Some(free) if free >= LEAST_FREE_MIB => Finding::ok(CHECK, format!("{:.1} GiB free", free as f64 / 1024.0)),
        Some(free) => {
            let found = format!("only {free} MiB free at {}", place.display());
            Finding::bad(CHECK, Verdict::Warning, found, "choose a larger disk with --data-dir")
        }
    }
}

/// The free space in the answer of `df -Pk`, MiB.
fn free_mib(answer: &str) -> Option<u64> {
    answer.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok().map(|kib| kib >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_things_fail_and_say_how_to_mend() {
        let dir = tempfile::tempdir().unwrap();
        let mut findings = models(dir.path());
        findings.push(runtime(&dir.path().join("libonnxruntime.so")));
        findings.push(data_dir(&dir.path().join("a/b")));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, json: false, colour: false, progress: false };
        assert_eq!(report(&findings, &mut io), Ok(FAILED));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("visage models pull dlib-resnet") && text.contains("make setup"), "{text}");
        assert!(text.contains("(will be made)") && text.ends_with("3 required things are missing\n"), "{text}");
    }

    #[test]
    fn a_taken_port_is_a_warning() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert_eq!(port("gRPC port", &address, "--listen").verdict, Verdict::Warning);
        drop(taken);
    }

    #[test]
    fn a_file_is_no_data_directory_and_text_no_library() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "text").unwrap();
        assert_eq!(data_dir(file.path()).verdict, Verdict::Missing);
        assert!(runtime(file.path()).found.ends_with("is no shared library"));
    }

    #[test]
    fn free_space_is_read_from_df() {
        let answer = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 100 10 4194304 1% /\n";
        assert_eq!(free_mib(answer), Some(4096));
        assert_eq!(free_mib("nonsense"), None);
    }
}
