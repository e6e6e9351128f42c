//! A disk that is full, fails, is read-only or gave damaged data: a clear state and message, and no event lost.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::sleep};
use tonic::Code;
use visage::{
    proto::v1::{CreatePersonRequest, Person},
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

use crate::support::{PATIENCE, Server, crowd, http_get, skipped, visage, visage_by};

/// Whoever is not seen for a moment has left.
const BRIEF: [(&str, &str); 2] = [("VISAGE_TRACK__MAX_LOST_MS", "300"), ("VISAGE_RETURNS__WITHIN_MS", "300")];

/// A value of `/metrics`; 0 before it was told.
async fn metric(server: &Server, name: &str) -> f64 {
    let page = http_get(server.http, "/metrics").await;
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what} never came");
        sleep(Duration::from_millis(100)).await;
    }
}

fn newcomer(id: &str) -> CreatePersonRequest {
    let person = Person { display_name: "Somebody".into(), ..Default::default() };
    CreatePersonRequest { person_id: id.into(), person: Some(person), validate_only: false }
}

/// Cameras at work, the disk breaks, more happens, the disk is mended: every event is there, in order, also those of the time in between.
async fn survives(server: Server, dir: &Path, breaks: impl AsyncFn(&Server), mends: impl AsyncFn(&Server), word: &str) {
    let text = format!("door={},codec=mjpeg,size=640x360,fps=8,period=1s", crowd(dir).display());
    let cameras = vec![SimCamera::parse(&text).unwrap()];
    let sim = Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap();
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    let mut feed = server.stream(None).await;
    server.add_camera("door", &sim.url("door")).await;
    let (first, _) = feed.next().await;

    breaks(&server).await;
    let broken = visage::time::now();
    until("a word about the disk", async || {
        let refused = server.people().await.create_person(newcomer("too-late")).await;
        // Whatever finds it first: the record of the change, or the change.
        let told = |message: &str| message.contains(word) || message.contains("audit log");
        refused.is_err_and(|status| status.code() == Code::Unavailable && told(status.message()))
    })
    .await;
    until("events that wait", async || metric(&server, "visage_events_waiting").await >= 5.0).await;
    let mended = visage::time::now();
    mends(&server).await;
    until("the end of waiting", async || metric(&server, "visage_events_waiting").await == 0.0).await;
    assert_eq!(metric(&server, "visage_events_lost_total").await, 0.0);
    server.people().await.create_person(newcomer("in-time")).await.unwrap();

    let (mut position, mut meanwhile) = (first.position, 0);
    loop {
        let (event, _) = feed.next().await;
        assert_eq!(event.position, position + 1, "a position was passed over or came twice");
        position = event.position;
        let created = event.create_time.unwrap();
        let created = visage::time::Timestamp::new(created.seconds, created.nanos).unwrap();
        if created > mended {
            break;
        }
        meanwhile += u32::from(created > broken);
    }
    assert!(meanwhile >= 5, "only {meanwhile} events of the time when nothing could be written");
    server.stop().await;
    sim.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_events_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let script = "mount -t tmpfs -o size=32m tmpfs \"$DATA\" && exec \"$@\"";
    let inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
    let able = Command::new(inside[0]).args(&inside[1..]).arg("true").env("DATA", &data).status().await;
    if !able.is_ok_and(|status| status.success()) {
        return skipped("a small disk can't be made here (unshare, mount): what happens when it is full is not tested");
    }
    let mut command = visage_by(&inside);
    command.envs(BRIEF).env("DATA", &data);
    let server = Server::start_as(command, &data).await;
    let filler = |server: &Server| {
        let root = PathBuf::from(format!("/proc/{}/root", server.pid()));
        root.join(data.strip_prefix("/").unwrap()).join("filler")
    };
    let fill = async |server: &Server| {
        let mut file = File::create(filler(server)).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    survives(server, dir.path(), fill, async |server| fs::remove_file(filler(server)).unwrap(), "disk").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_delays_events_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    // Files may not grow beyond a limit that is set while it runs: writes fail as those of a broken disk do.
    let mut command = visage_by(&["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    command.envs(BRIEF);
    let server = Server::start_as(command, &dir.path().join("data")).await;
    let limit = async |server: &Server, size: &str| {
        let done = Command::new("prlimit")
            .args(["--pid", &server.pid().to_string(), &format!("--fsize={size}:unlimited")])
            .status();
        assert!(done.await.unwrap().success());
    };
    survives(server, dir.path(), async |s| limit(s, "1").await, async |s| limit(s, "unlimited").await, "disk").await;
}

/// What a server says that can't start.
async fn refusal(mut command: Command, data: &Path) -> String {
    let out = command
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let out = tokio::time::timeout(PATIENCE, out.output()).await.expect("it did not end").unwrap();
    assert!(!out.status.success());
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_read_only_data_are_told_at_the_start_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data).await;
    server.know("barack-obama", "Barack Obama", "obama.jpg").await;
    server.stop().await;

    let script = "mount --bind \"$DATA\" \"$DATA\" && mount -o remount,ro,bind \"$DATA\" && exec \"$@\"";
    let inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
    let able = Command::new(inside[0]).args(&inside[1..]).arg("true").env("DATA", &data).status().await;
    if able.is_ok_and(|status| status.success()) {
        let mut command = visage_by(&inside);
        command.env("DATA", &data);
        let told = refusal(command, &data).await;
        assert!(told.contains(data.to_str().unwrap()) && told.contains("Read-only"), "{told}");
    } else {
        skipped("a read-only folder can't be made here (unshare, mount)");
    }

    let file = data.join("visage.db");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[4096..end].fill(0xA5);
    fs::write(&file, &bytes).unwrap();
    let told = refusal(visage(), &data).await;
    assert!(told.contains("visage.db") && told.contains("visage backup restore"), "{told}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "damaged data are evidence, and may be mended");
}
