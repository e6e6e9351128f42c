//! The RTSP server of a simulator, on its own thread and main context, and its faults at run time.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as gst_rtsp_server;
use gstreamer_rtsp_server::prelude::*;

use super::access::{self, Credentials, TlsIdentity};
use super::clip::EncodedClip;
use super::encode::{EncodeSettings, encode_frames, init, need};
use super::feed::{Camera, lock};
use super::render::Painter;
use super::scene::{Scene, SceneTruth};
use super::{Codec, FaultPlan, SimCamera, SimSource, SimulatorError, file, folder, pattern};

const DEFAULT_SIZE: (u32, u32) = (1280, 720);
const DEFAULT_FPS: u32 = 15;
/// Longest wait for clients and medias to end when the simulator stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What to serve and where.
#[derive(Debug, Clone)]
pub struct SimulatorSettings {
    /// Address to listen on.
    pub bind: String,
    /// TCP port; 0 takes a free one.
    pub port: u16,
    /// Asked of every client when given.
    pub credentials: Option<Credentials>,
    /// Ask for Basic instead of Digest authentication.
    pub basic: bool,
    /// Certificate and private key, both PEM in one text: serve `rtsps` instead of `rtsp`.
    pub tls: Option<TlsIdentity>,
    /// The cameras.
    pub cameras: Vec<SimCamera>,
    /// Most bytes one encoded camera may hold.
    pub memory_limit: usize,
}

impl Default for SimulatorSettings {
    /// 127.0.0.1, a free port, no password, no camera, 256 MiB a camera.
    fn default() -> Self {
        let bind = "127.0.0.1".to_owned();
        Self { bind, port: 0, credentials: None, basic: false, tls: None, cameras: Vec::new(), memory_limit: 256 << 20 }
    }
}

/// Something that goes wrong on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// On: connections stay open and nothing is sent. Off: sending goes on at the present moment. A client that
    /// connects during a stall gets one picture.
    Stall(bool),
    /// Disconnects the camera's clients; they may come back at once.
    Drop,
    /// On: the whole server (all cameras) drops its clients and refuses connections. Off: back on the same port.
    Refuse(bool),
    /// Refuses connections for this long, then comes back on the same port (all cameras).
    Restart(Duration),
    /// On: drops the camera's clients and answers 404. Off: the camera is back.
    Gone(bool),
}

/// Running simulated cameras; dropping it stops them.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Served {
    camera: Arc<Camera>,
    factory: gst_rtsp_server::RTSPMediaFactory,
    truth: Option<SceneTruth>,
}

#[derive(Debug)]
struct Shared {
    server: gst_rtsp_server::RTSPServer,
    mounts: gst_rtsp_server::RTSPMountPoints,
    context: glib::MainContext,
    bind: String,
    port: u16,
    tls: bool,
    listening: Mutex<Option<glib::Source>>,
    cameras: BTreeMap<String, Served>,
    clients: Mutex<Vec<(glib::WeakRef<gst_rtsp_server::RTSPClient>, String)>>,
    alive: Arc<Alive>,
}

/// Clients and medias that live on threads of the RTSP library.
#[derive(Debug, Default)]
struct Alive {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Alive {
    fn add(&self) {
        *lock(&self.count) += 1;
    }

    fn remove(&self) {
        let mut count = lock(&self.count);
        *count = count.saturating_sub(1);
        self.changed.notify_all();
    }

    fn wait_for_none(&self) -> bool {
        let wait = self.changed.wait_timeout_while(lock(&self.count), FAREWELL, |count| *count > 0);
        wait.map_or(true, |(count, _)| *count == 0)
    }
}

impl Simulator {
    /// Encodes every source, then listens. Blocks while encoding: seconds for files and pictures.
    ///
    /// # Errors
    /// Bad names or values, sources that cannot be read, missing plugins, too large clips, an address in use.
    pub fn start(settings: SimulatorSettings) -> Result<Self, SimulatorError> {
        init()?;
        need("appsrc", "gstreamer1.0-plugins-base")?;
        need("rtph264pay", "gstreamer1.0-plugins-good")?;
        check(&settings)?;
        let server = gst_rtsp_server::RTSPServer::new();
        let mounts = gst_rtsp_server::RTSPMountPoints::new();
        server.set_mount_points(Some(&mounts));
        server.set_address(&settings.bind);
        server.set_service(&settings.port.to_string());
        if let Some(pool) = server.thread_pool() {
            // A thread a client: one that hangs does not hold up the others.
            pool.set_property("max-threads", -1_i32);
        }
        let guarded = settings.credentials.is_some() || settings.tls.is_some();
        if guarded {
            server.set_auth(Some(&access::auth(&settings)?));
        }
        let context = glib::MainContext::new();
        // The port is taken before the long work of encoding; the mounts are filled before the loop runs.
        let source = listen(&server, &context, &settings.bind, settings.port)?;
        let port = u16::try_from(server.bound_port()).unwrap_or(settings.port);
        server.set_service(&port.to_string());
        let alive = Arc::new(Alive::default());
        let mut cameras = BTreeMap::new();
        for (camera, prepared) in settings.cameras.iter().zip(prepare_all(&settings)) {
            let (clip, truth) = prepared.inspect_err(|_| source.destroy())?;
            let camera_served = Arc::new(Camera::new(clip));
            let factory = factory(&camera_served, &alive, guarded);
            mounts.add_factory(&format!("/{}", camera.name), factory.clone());
            cameras.insert(camera.name.clone(), Served { camera: camera_served, factory, truth });
        }
        let shared = Arc::new(Shared {
            server,
            mounts,
            context: context.clone(),
            bind: settings.bind.clone(),
            port,
            tls: settings.tls.is_some(),
            listening: Mutex::new(Some(source)),
            cameras,
            clients: Mutex::default(),
            alive,
        });
        watch_clients(&shared);
        for camera in &settings.cameras {
            schedule(&shared, &camera.name, camera.faults);
        }
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (running, own) = (main_loop.clone(), context.clone());
        let thread = std::thread::Builder::new()
            .name("simulator".into())
            .spawn(move || {
                if let Err(error) = own.with_thread_default(|| running.run()) {
                    tracing::error!(%error, "the simulator's loop could not run");
                }
            })
            .map_err(|error| SimulatorError::Start(error.to_string()))?;
        Ok(Self { shared, context, main_loop, thread: Some(thread) })
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// The URL of a camera, without credentials; an unknown name gives a URL that answers 404.
    pub fn url(&self, name: &str) -> String {
        let host = match self.shared.bind.as_str() {
            "0.0.0.0" | "::" => "127.0.0.1".to_owned(),
            bind if bind.contains(':') => format!("[{bind}]"),
            bind => bind.to_owned(),
        };
        let scheme = if self.shared.tls { "rtsps" } else { "rtsp" };
        format!("{scheme}://{host}:{}/{name}", self.shared.port)
    }

    /// The names of the cameras, sorted.
    pub fn names(&self) -> Vec<String> {
        self.shared.cameras.keys().cloned().collect()
    }

    /// Who is visible when and where, for folders and scenes; times are those of [`Simulator::position`].
    pub fn truth(&self, name: &str) -> Option<&SceneTruth> {
        self.shared.cameras.get(name)?.truth.as_ref()
    }

    /// Time on the camera's timeline: since its first client played, loops counted in.
    pub fn position(&self, name: &str) -> Option<Duration> {
        self.shared.cameras.get(name)?.camera.position()
    }

    /// Makes something go wrong, or right again.
    ///
    /// # Errors
    /// An unknown camera; a port that meanwhile belongs to someone else (`Refuse(false)`).
    pub fn fault(&self, name: &str, fault: Fault) -> Result<(), SimulatorError> {
        self.shared.fault(name, fault)
    }

    /// Disconnects every client, waits for their threads to end (at most 5 s) and joins the own one.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.close();
        for (name, served) in &self.shared.cameras {
            served.camera.stall(false);
            self.shared.mounts.remove_factory(&format!("/{name}"));
        }
        if !self.shared.alive.wait_for_none() {
            tracing::warn!("simulated cameras: some clients did not end in time");
        }
        let main_loop = self.main_loop.clone();
        // From within the loop, so that a loop that has not begun yet is ended too.
        self.context.invoke(move || main_loop.quit());
        if thread.join().is_err() {
            tracing::error!("the simulator's thread panicked");
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn fault(self: &Arc<Self>, name: &str, fault: Fault) -> Result<(), SimulatorError> {
        let served = self.cameras.get(name).ok_or_else(|| SimulatorError::UnknownCamera(name.to_owned()))?;
        match fault {
            Fault::Stall(on) => served.camera.stall(on),
            Fault::Drop => self.drop_clients(|camera| camera == name),
            Fault::Refuse(true) => self.close(),
            Fault::Refuse(false) => self.open()?,
            Fault::Restart(down) => {
                self.close();
                self.after(down, |shared| shared.open_again());
            }
            Fault::Gone(true) => {
                self.mounts.remove_factory(&format!("/{name}"));
                self.drop_clients(|camera| camera == name);
            }
            Fault::Gone(false) => self.mounts.add_factory(&format!("/{name}"), served.factory.clone()),
        }
        Ok(())
    }

    /// Closes the server's socket and all connections.
    fn close(&self) {
        if let Some(source) = lock(&self.listening).take() {
            source.destroy();
        }
        for client in self.server.client_filter(None) {
            client.close();
        }
    }

    fn open(&self) -> Result<(), SimulatorError> {
        let mut listening = lock(&self.listening);
        if listening.is_none() {
            *listening = Some(listen(&self.server, &self.context, &self.bind, self.port)?);
        }
        Ok(())
    }

    /// Opens, and tries again while the port is taken.
    fn open_again(self: &Arc<Self>) {
        if let Err(error) = self.open() {
            tracing::warn!(%error, "simulated cameras: trying again");
            self.after(Duration::from_millis(500), |shared| shared.open_again());
        }
    }

    fn drop_clients(&self, which: impl Fn(&str) -> bool) {
        let mut chosen = Vec::new();
        lock(&self.clients).retain(|(client, camera)| match client.upgrade() {
            Some(client) if which(camera) => {
                chosen.push(client);
                false
            }
            Some(_) => true,
            None => false,
        });
        // Outside the lock: closing calls back.
        chosen.iter().for_each(|client| client.close());
    }

    /// Runs `act` once on the simulator's thread after `delay`, if it still exists then.
    fn after(self: &Arc<Self>, delay: Duration, act: impl Fn(&Arc<Self>) + Send + 'static) {
        let weak = Arc::downgrade(self);
        self.timer(delay, move || {
            weak.upgrade().inspect(|shared| act(shared));
            glib::ControlFlow::Break
        });
    }

    fn timer(&self, delay: Duration, act: impl FnMut() -> glib::ControlFlow + Send + 'static) {
        let source = glib::timeout_source_new(delay, None, glib::Priority::DEFAULT, act);
        source.attach(Some(&self.context));
    }
}

fn check(settings: &SimulatorSettings) -> Result<(), SimulatorError> {
    if settings.cameras.is_empty() {
        return Err(SimulatorError::NoCamera);
    }
    for (index, camera) in settings.cameras.iter().enumerate() {
        camera.check().map_err(|problem| SimulatorError::Spec { text: camera.name.clone(), problem })?;
        if settings.cameras.iter().take(index).any(|other| other.name == camera.name) {
            return Err(SimulatorError::DuplicateName(camera.name.clone()));
        }
    }
    Ok(())
}

fn listen(
    server: &gst_rtsp_server::RTSPServer,
    context: &glib::MainContext,
    bind: &str,
    port: u16,
) -> Result<glib::Source, SimulatorError> {
    let fail = |reason: String| SimulatorError::Bind { bind: bind.to_owned(), port, reason };
    // The server's own bind would share a port with a listener that allows it; ask the system first.
    if port != 0 {
        let address = if bind.contains(':') { format!("[{bind}]:{port}") } else { format!("{bind}:{port}") };
        std::net::TcpListener::bind(address).map_err(|error| fail(error.to_string()))?;
    }
    let id = server.attach(Some(context)).map_err(|_| fail("the address is in use or not of this machine".into()))?;
    context.find_source_by_id(&id).ok_or_else(|| fail("the listener vanished".into()))
}

/// Encodes all cameras, as many at once as there are cores.
fn prepare_all(settings: &SimulatorSettings) -> Vec<Result<(EncodedClip, Option<SceneTruth>), SimulatorError>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut prepared = Vec::new();
    for few in settings.cameras.chunks(cores) {
        std::thread::scope(|scope| {
            let working: Vec<_> =
                few.iter().map(|camera| scope.spawn(move || prepare(camera, settings.memory_limit))).collect();
            prepared.extend(working.into_iter().map(|work| {
                work.join().unwrap_or_else(|_| Err(SimulatorError::Encode("the encoding thread panicked".into())))
            }));
        });
    }
    prepared
}

fn prepare(camera: &SimCamera, memory_limit: usize) -> Result<(EncodedClip, Option<SceneTruth>), SimulatorError> {
    let size = camera.size.unwrap_or(DEFAULT_SIZE);
    let fps = camera.fps.unwrap_or(DEFAULT_FPS);
    let codec = camera.codec.unwrap_or(Codec::H264);
    let settings = EncodeSettings { name: camera.name.clone(), size, fps, codec, memory_limit };
    match &camera.source {
        SimSource::File(path) => Ok((file::load(camera, path, memory_limit)?, None)),
        SimSource::Folder { path, period } => draw(&settings, &folder::scene(path, size, fps, *period)?),
        SimSource::Scene(scene) => draw(&EncodeSettings { size: scene.size, fps: scene.fps, ..settings }, scene),
        SimSource::Pattern => {
            let frames = fps.saturating_mul(pattern::LOOP.as_secs() as u32);
            Ok((encode_frames(&settings, frames, |at, pixels| pattern::draw(size, at, pixels))?, None))
        }
    }
}

fn draw(settings: &EncodeSettings, scene: &Scene) -> Result<(EncodedClip, Option<SceneTruth>), SimulatorError> {
    if scene.frames() == 0 {
        return Err(SimulatorError::Scene("it lasts no time: give it a duration".into()));
    }
    let painter = Painter::new(scene);
    let clip = encode_frames(settings, scene.frames(), |at, pixels| painter.draw(at, pixels))?;
    Ok((clip, Some(scene.truth())))
}

fn factory(camera: &Arc<Camera>, alive: &Arc<Alive>, guarded: bool) -> gst_rtsp_server::RTSPMediaFactory {
    let factory = gst_rtsp_server::RTSPMediaFactory::new();
    factory.set_launch(&format!("( appsrc name=source ! {} name=pay0 pt=96 )", camera.clip.codec.payloader()));
    factory.set_shared(true);
    if guarded {
        access::grant(&factory);
    }
    let (camera, alive) = (camera.clone(), alive.clone());
    factory.connect_media_configure(move |_, media| {
        alive.add();
        let alive = alive.clone();
        media.connect_unprepared(move |_| alive.remove());
        let playing = camera.clone();
        media.connect_new_state(move |_, state| {
            // GST_STATE_PLAYING
            if state == 4 {
                playing.start_timeline();
            }
        });
        let source = media.element().downcast::<gst::Bin>().ok().and_then(|bin| bin.by_name("source"));
        if let Some(source) = source.and_then(|source| source.downcast::<gst_app::AppSrc>().ok()) {
            camera.attach(&source);
        }
    });
    factory
}

/// Notes which client looks at which camera, and when it has ended.
fn watch_clients(shared: &Arc<Shared>) {
    let weak: Weak<Shared> = Arc::downgrade(shared);
    shared.server.connect_client_connected(move |_, client| {
        let Some(shared) = weak.upgrade() else { return };
        shared.alive.add();
        let alive = shared.alive.clone();
        client.connect_closed(move |_| alive.remove());
        let weak = weak.clone();
        client.connect_describe_request(move |client, context| {
            let Some(shared) = weak.upgrade() else { return };
            let Some(uri) = context.uri().map(|uri| uri.request_uri().to_string()) else { return };
            let camera = uri.split('?').next().and_then(|uri| uri.rsplit('/').find(|part| !part.is_empty()));
            let mut clients = lock(&shared.clients);
            clients.retain(|(client, _)| client.upgrade().is_some());
            if let Some(camera) = camera {
                clients.push((client.downgrade(), camera.to_owned()));
            }
        });
    });
}

/// Sets the timers of a camera's fault plan.
fn schedule(shared: &Arc<Shared>, name: &str, plan: FaultPlan) {
    let once = |delay: Option<Duration>, fault: Fault| {
        let Some(delay) = delay else { return };
        let name = name.to_owned();
        shared.after(delay, move |shared| report(shared, &name, fault));
    };
    let again = |every: Option<Duration>, fault: Fault| {
        let Some(every) = every else { return };
        let (name, weak) = (name.to_owned(), Arc::downgrade(shared));
        shared.timer(every, move || match weak.upgrade() {
            Some(shared) => {
                report(&shared, &name, fault);
                glib::ControlFlow::Continue
            }
            None => glib::ControlFlow::Break,
        });
    };
    let sum = |a: Option<Duration>, b: Option<Duration>| Some(a? + b?);
    once(plan.stall_after, Fault::Stall(true));
    once(sum(plan.stall_after, plan.stall_for), Fault::Stall(false));
    once(plan.gone_after, Fault::Gone(true));
    once(sum(plan.gone_after, plan.gone_for), Fault::Gone(false));
    again(plan.drop_every, Fault::Drop);
    again(plan.restart_every, Fault::Restart(plan.restart_for.unwrap_or(Duration::from_secs(2))));
}

fn report(shared: &Arc<Shared>, name: &str, fault: Fault) {
    match shared.fault(name, fault) {
        Ok(()) => tracing::info!(camera = name, ?fault, "simulated fault"),
        Err(error) => tracing::warn!(camera = name, ?fault, %error, "simulated fault failed"),
    }
}
