//! Connections made and lost again and again leave nothing behind: no thread, no file, no memory, no flood of complaints, hardly any CPU.
//! `make reconnects TIMES=1000` runs it for long.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use visage::{
    camera::{
        gst_opener,
        source::{OpenRequest, SourceOpener},
        spec::{SamplingPolicy, TlsPolicy, Transport, parse_url},
    },
    simulator::{Fault, SimCamera, Simulator, SimulatorSettings},
};

/// Reconnects where `VISAGE_RECONNECTS` says nothing.
const TIMES: u64 = 60;
/// Cameras that are connected to at the same time.
const CAMERAS: u64 = 4;
/// Says that this process is the one that is measured.
const WORKER: &str = "VISAGE_RECONNECTS_WORKER";

/// Threads, open files, MiB in memory, CPU seconds of this process.
fn measure() -> (usize, usize, f64, f64) {
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: f64 = kib.split_whitespace().next().unwrap().parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything: user and system time are the 12th and 13th, in hundredths.
    let ticks: f64 =
        stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|t| t.parse::<f64>().unwrap()).sum();
    (count("/proc/self/task"), count("/proc/self/fd"), kib / 1024.0, ticks / 100.0)
}

/// Waits until no thread of ended streams is there any more.
async fn settled() -> (usize, usize, f64, f64) {
    let (until, mut last) = (Instant::now() + Duration::from_secs(10), measure());
    loop {
        sleep(Duration::from_millis(1500)).await;
        let now = measure();
        if (now.0, now.1) == (last.0, last.1) || Instant::now() > until {
            return now;
        }
        last = now;
    }
}

fn request(camera: &str, url: &str) -> OpenRequest {
    let (url, credentials) = parse_url(url).unwrap();
    OpenRequest {
        camera: camera.parse().unwrap(),
        url,
        credentials,
        transport: Transport::Tcp,
        tls: TlsPolicy::Verify,
        sampling: SamplingPolicy::default(),
        attention: Arc::default(),
        on_demand: false,
    }
}

/// Is dropped by the camera while it connects: what the camera is doing then must not go on for ever.
async fn dropped_early(opener: &dyn SourceOpener, request: &OpenRequest, simulator: &Simulator, millis: u64) {
    // The connection before may hang in half a message still.
    let Ok(source) = opener.open(request).await else { return sleep(Duration::from_millis(500)).await };
    sleep(Duration::from_millis(millis)).await;
    simulator.fault(request.camera.as_str(), Fault::Drop).unwrap();
    source.close().await;
}

/// Connects, sees a frame, and is dropped by the camera or leaves by itself.
async fn reconnect(opener: &dyn SourceOpener, request: &OpenRequest, simulator: &Simulator, dropped: bool) {
    for _ in 0..60 {
        let Ok(mut source) = opener.open(request).await else {
            sleep(Duration::from_millis(500)).await;
            continue;
        };
        let first = timeout(Duration::from_secs(20), source.next()).await.expect("neither frame nor end");
        let plays = first.is_ok();
        if plays && dropped {
            simulator.fault(request.camera.as_str(), Fault::Drop).unwrap();
            let until_end = async { while source.next().await.is_ok() {} };
            timeout(Duration::from_secs(20), until_end).await.expect("the end was not noticed");
        }
        source.close().await;
        if plays {
            return;
        }
    }
    panic!("the camera never played");
}

async fn work(times: u64) -> Value {
    let cameras: Vec<_> =
        (0..CAMERAS).map(|i| SimCamera::parse(&format!("c{i}=pattern,size=320x240,fps=15")).unwrap()).collect();
    let simulator = Arc::new(Simulator::start(SimulatorSettings { cameras, ..Default::default() }).unwrap());
    let opener = gst_opener().unwrap();
    let complaints = Arc::new(AtomicU64::new(0));
    let counted = complaints.clone();
    gstreamer::glib::log_set_default_handler(move |_, level, message| {
        use gstreamer::glib::LogLevel::{Critical, Error, Warning};
        if matches!(level, Error | Critical | Warning) && counted.fetch_add(1, Ordering::Relaxed) < 5 {
            println!("GLib: {message}");
        }
    });
    let rounds = |count: u64| {
        let tasks = (0..CAMERAS).map(|i| {
            let (opener, simulator) = (opener.clone(), simulator.clone());
            let share = count / CAMERAS + u64::from(i < count % CAMERAS);
            tokio::spawn(async move {
                let name = format!("c{i}");
                let request = request(&name, &simulator.url(&name));
                for round in 0..share {
                    match round % 4 {
                        3 => dropped_early(&*opener, &request, &simulator, (round / 4) % 24).await,
                        kind => reconnect(&*opener, &request, &simulator, kind == 2).await,
                    }
                }
            })
        });
        futures::future::join_all(tasks)
    };
    // What is made once, such as thread pools and plugins, is there after some.
    rounds(40).await.into_iter().for_each(|ended| ended.unwrap());
    let (threads_before, fds_before, rss_before, cpu_before) = settled().await;
    rounds(times).await.into_iter().for_each(|ended| ended.unwrap());
    let (threads_after, fds_after, rss_after, cpu_after) = settled().await;
    let mib = |mib: f64| (mib * 10.0).round() / 10.0;
    json!({
        "reconnects": times, "threads_before": threads_before, "threads_after": threads_after, "fds_before": fds_before,
        "fds_after": fds_after, "rss_mib_before": mib(rss_before), "rss_mib_after": mib(rss_after),
        "cpu_s": mib(cpu_after - cpu_before), "complaints": complaints.load(Ordering::Relaxed),
    })
}

/// In a process of its own: other tests have threads and files, too.
#[tokio::test(flavor = "multi_thread")]
async fn reconnects_leave_nothing_behind() {
    let times = std::env::var("VISAGE_RECONNECTS").ok().map_or(TIMES, |times| times.parse().unwrap());
    if let Some(path) = std::env::var_os(WORKER) {
        let result = work(times).await;
        std::fs::write(path, result.to_string()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("result.json");
    let name = "camera_faults_reconnects::reconnects_leave_nothing_behind";
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(WORKER, &path)
        .env("VISAGE_RECONNECTS", times.to_string())
        .kill_on_drop(true)
        .status()
        .await
        .unwrap();
    assert!(status.success(), "the measured process failed");
    let result: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    if let Ok(report) = std::env::var("VISAGE_RECONNECTS_REPORT") {
        std::fs::write(report, format!("{result}\n")).unwrap();
    }
    println!("{result}");
    let number = |key: &str| result[key].as_f64().unwrap();
    let grown = |key: &str| number(&format!("{key}_after")) - number(&format!("{key}_before"));
    assert!(grown("threads") <= 4.0 && grown("fds") <= 4.0, "threads or files are left: {result}");
    assert!(grown("rss_mib") <= 40.0 + times as f64 * 0.01, "memory is left: {result}");
    // rtspsrc forgets the number of its last event now and then; a client that spins would complain a million times a second.
    assert!(number("complaints") <= times as f64, "GLib complains without end: {result}");
    assert!(number("cpu_s") <= 10.0 + times as f64 * 0.3, "reconnects burn CPU: {result}");
}
