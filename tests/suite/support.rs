//! A server as a process, a simulator in this process, clients, and waiting for what should happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tonic::{Streaming, transport::Channel};
use visage::{
    proto::v1::{
        camera_service_client::CameraServiceClient, event_service_client::EventServiceClient,
        person_service_client::PersonServiceClient, recognition_service_client::RecognitionServiceClient,
        server_service_client::ServerServiceClient, stream_events_response::Message, *,
    },
    simulator::{SimCamera, Simulator, SimulatorSettings},
};

/// The longest anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A test that can't run here says so past the test harness, which hides what passing tests print.
pub fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

pub fn fixtures() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/fixtures");
    assert!(dir.is_dir(), "{} is missing: run `make setup`", dir.display());
    dir
}

/// A fixture picture by file name.
pub fn picture(name: &str) -> PathBuf {
    let mut folders = vec![fixtures()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|n| n == name) {
                return path;
            }
        }
    }
    panic!("{name} is not among the fixtures: run `make setup`");
}

pub fn bytes(name: &str) -> bytes::Bytes {
    std::fs::read(picture(name)).unwrap().into()
}

/// A part of a fixture, written as PNG.
pub fn cut(name: &str, (x, y, w, h): (u32, u32, u32, u32), to: &Path) {
    image::open(picture(name)).unwrap().crop_imm(x, y, w, h).to_rgb8().save(to).unwrap();
}

/// A folder with copies of fixtures, for a simulated camera.
pub fn folder_of(dir: &Path, name: &str, pictures: &[&str]) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for p in pictures {
        std::fs::copy(picture(p), folder.join(p)).unwrap();
    }
    folder
}

/// A folder for a simulated camera that two people pass again and again, with nobody between them: each comes and goes, and events never end.
pub fn crowd(dir: &Path) -> PathBuf {
    let folder = folder_of(dir, "crowd", &["biden.jpg", "obama2.jpg"]);
    for nobody in ["c-nobody.png", "z-nobody.png"] {
        image::RgbImage::new(64, 36).save(folder.join(nobody)).unwrap();
    }
    folder
}

/// Simulated cameras `c0`, `c1` and so on, each with such a crowd: somebody new every second.
pub fn crowded_cameras(dir: &Path, count: usize) -> Simulator {
    let folder = crowd(dir);
    let camera = |i| format!("c{i}={},codec=mjpeg,size=640x360,fps=8,period=1s", folder.display());
    let cameras = (0..count).map(|i| SimCamera::parse(&camera(i)).unwrap()).collect();
    Simulator::start(SimulatorSettings { port: 0, cameras, ..Default::default() }).unwrap()
}

/// An address that nobody listens at, and no other test of this process was given.
pub fn free_addr() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    loop {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if GIVEN.lock().unwrap().insert(addr) {
            return addr;
        }
    }
}

/// A page of the HTTP listener.
pub async fn http_get(http: SocketAddr, path: &'static str) -> String {
    let page = move || ureq::get(format!("http://{http}{path}")).call()?.body_mut().read_to_string();
    tokio::task::spawn_blocking(page).await.unwrap().unwrap()
}

pub fn visage() -> Command {
    visage_by(&[])
}

/// The program, started by another: the words of its command line.
pub fn visage_by(before: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_visage");
    let mut command = Command::new(before.first().unwrap_or(&program));
    command.args(before.iter().skip(1)).args((!before.is_empty()).then_some(program));
    command.stdin(Stdio::null()).kill_on_drop(true).env_remove("VISAGE_SERVER").env("NO_COLOR", "1");
    command
}

/// A running server with its data folder.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    pub http: SocketAddr,
    pub data: PathBuf,
}

impl Server {
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    pub async fn start_with(data: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = visage();
        command.envs(env.iter().copied());
        Self::start_as(command, data).await
    }

    /// Started by a shell after `words`, which end in `exec`.
    pub async fn start_in_shell(data: &Path, words: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{words} \"$0\" \"$@\""), env!("CARGO_BIN_EXE_visage")]);
        command.stdin(Stdio::null()).kill_on_drop(true).env("NO_COLOR", "1");
        Self::start_as(command, data).await
    }

    /// `command` with the arguments of `serve`.
    pub async fn start_as(mut command: Command, data: &Path) -> Self {
        let (addr, http) = (free_addr(), free_addr());
        let child = command
            .args(["serve", "--listen", &addr.to_string(), "--http", &http.to_string()])
            .arg("--data-dir")
            .arg(data)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .spawn()
            .unwrap();
        let mut server = Self { child, addr, http, data: data.to_owned() };
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended at once: {status}");
            }
            if let Ok(channel) = server.try_channel().await
                && ServerServiceClient::new(channel).get_server_info(GetServerInfoRequest {}).await.is_ok()
            {
                return server;
            }
            assert!(Instant::now() < until, "the server does not answer");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    async fn try_channel(&self) -> Result<Channel, tonic::transport::Error> {
        Channel::from_shared(format!("http://{}", self.addr)).unwrap().connect().await
    }

    pub async fn channel(&self) -> Channel {
        self.try_channel().await.unwrap()
    }

    pub async fn cameras(&self) -> CameraServiceClient<Channel> {
        CameraServiceClient::new(self.channel().await)
    }

    pub async fn people(&self) -> PersonServiceClient<Channel> {
        PersonServiceClient::new(self.channel().await)
    }

    pub async fn recognition(&self) -> RecognitionServiceClient<Channel> {
        RecognitionServiceClient::new(self.channel().await)
    }

    pub async fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel().await)
    }

    /// A `visage` command against this server.
    pub fn cli(&self, args: &[&str]) -> Command {
        let mut command = visage();
        command.args(args).env("VISAGE_SERVER", format!("http://{}", self.addr));
        command
    }

    /// SIGTERM, then waits for a clean end.
    pub async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the server does not end").unwrap();
        assert!(status.success(), "the server ended with {status}");
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn add_person(&self, id: &str, name: &str) {
        let person = Person { display_name: name.into(), ..Default::default() };
        let request = CreatePersonRequest { person_id: id.into(), person: Some(person), validate_only: false };
        self.people().await.create_person(request).await.unwrap();
    }

    /// Enrols one picture; the answer.
    pub async fn enroll(&self, id: &str, image: bytes::Bytes) -> EnrollFacesResponse {
        let request = EnrollFacesRequest {
            person: format!("people/{id}"),
            image,
            source: "test".into(),
            allow_several_faces: false,
            force: false,
        };
        let mut answers =
            self.people().await.enroll_faces(tokio_stream::iter(vec![request])).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap()
    }

    /// A person with one enrolled fixture.
    pub async fn know(&self, id: &str, name: &str, fixture: &str) {
        self.add_person(id, name).await;
        let answer = self.enroll(id, bytes(fixture)).await;
        assert!(answer.face.is_some(), "{fixture} was refused: {}", answer.message);
    }

    pub async fn add_camera(&self, id: &str, url: &str) -> Camera {
        let camera = Camera { url: url.into(), ..Default::default() };
        let request = CreateCameraRequest { camera_id: id.into(), camera: Some(camera), validate_only: false };
        self.cameras().await.create_camera(request).await.unwrap().into_inner()
    }

    /// Waits until a camera is in a state; its status.
    pub async fn camera_in(&self, id: &str, state: CameraState) -> CameraStatus {
        let names = vec![format!("cameras/{id}")];
        let mut stream = self.cameras().await.watch_cameras(WatchCamerasRequest { names }).await.unwrap().into_inner();
        let mut last = None;
        let wait = async {
            while let Some(message) = stream.message().await.unwrap() {
                let status = message.camera.unwrap().status.unwrap();
                if status.state() == state {
                    return status;
                }
                last = Some(status);
            }
            panic!("the stream of states ended");
        };
        match timeout(PATIENCE, wait).await {
            Ok(status) => status,
            Err(_) => panic!("camera {id} never was {state:?}; last seen: {last:?}"),
        }
    }

    /// The names of all events of the log, by position.
    pub async fn log(&self) -> BTreeMap<u64, String> {
        let (mut client, mut all, mut page_token) = (self.events().await, BTreeMap::new(), String::new());
        loop {
            let request = ListEventsRequest { page_size: 1000, page_token, ..Default::default() };
            let page = client.list_events(request).await.unwrap().into_inner();
            for event in page.events {
                assert!(all.insert(event.position, event.name).is_none(), "the log has a position twice");
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }

    /// A stream of events from a start on.
    pub async fn stream(&self, start: Option<stream_events_request::Start>) -> EventFeed {
        let request = StreamEventsRequest { filter: None, start, heartbeat_interval: None };
        EventFeed(self.events().await.stream_events(request).await.unwrap().into_inner())
    }
}

/// Events with their resume tokens.
pub struct EventFeed(Streaming<StreamEventsResponse>);

impl EventFeed {
    /// The next event; heartbeats are passed over, gaps are a failure.
    pub async fn next(&mut self) -> (Event, String) {
        timeout(PATIENCE, async {
            loop {
                let message = self.0.message().await.unwrap().expect("the event stream ended");
                match message.message {
                    Some(Message::Event(event)) => return (event, message.resume_token),
                    Some(Message::Gap(gap)) => panic!("events were lost: {gap:?}"),
                    _ => {}
                }
            }
        })
        .await
        .expect("no event came")
    }

    /// The first event that `wanted` accepts, and those before it.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> (Vec<Event>, String) {
        let mut seen = Vec::new();
        let outcome = timeout(PATIENCE, async {
            loop {
                let (event, token) = self.next().await;
                let done = wanted(&event);
                seen.push(event);
                if done {
                    return token;
                }
            }
        })
        .await;
        match outcome {
            Ok(token) => (seen, token),
            Err(_) => {
                let told: Vec<String> = seen.iter().map(|e| format!("{:?} {:?}", e.kind(), e.r#match)).collect();
                panic!("what was waited for never came; seen: {told:#?}")
            }
        }
    }
}
