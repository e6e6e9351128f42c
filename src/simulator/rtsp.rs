//! The RTSP server of a simulator, on its own thread and main context, and its faults at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as gst_rtsp_server;
use gstreamer_rtsp_server::prelude::*;

use super::access::{self, Credentials, TlsIdentity};
use super::encode::{init, need};
use super::feed::{Camera, lock};
use super::scene::SceneTruth;
use super::{SimCamera, SimulatorError, prepare};

mod clients;
mod faults;

pub use faults::Fault;

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
    clients: clients::Clients,
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
    pub fn start(mut settings: SimulatorSettings) -> Result<Self, SimulatorError> {
        // A substream stands behind its camera, whose timeline it shares.
        let with_small = |camera: SimCamera| {
            let small = camera.small();
            std::iter::once(camera).chain(small)
        };
        settings.cameras = settings.cameras.into_iter().flat_map(with_small).collect();
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
        for (camera, prepared) in settings.cameras.iter().zip(prepare::all(&settings)) {
            let (clip, truth) = prepared.inspect_err(|_| source.destroy())?;
            for (name, ahead) in camera.names() {
                let main: Option<&Served> = name.strip_suffix("-sub").and_then(|main| cameras.get(main));
                let camera = Arc::new(match main {
                    Some(main) => main.camera.beside(clip.clone()),
                    None => Camera::new(clip.clone(), ahead),
                });
                let factory = factory(&camera, &alive, guarded);
                mounts.add_factory(&format!("/{name}"), factory.clone());
                cameras.insert(name.to_owned(), Served { camera, factory, truth: truth.clone() });
            }
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
            clients: clients::Clients::default(),
            alive,
        });
        clients::watch(&shared.server, &shared);
        for camera in &settings.cameras {
            faults::schedule(&shared, &camera.name, camera.faults);
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

    /// Time on the camera's timeline, which runs since its first client played; loops counted in.
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

fn check(settings: &SimulatorSettings) -> Result<(), SimulatorError> {
    if settings.cameras.is_empty() {
        return Err(SimulatorError::NoCamera);
    }
    let mut names = BTreeSet::new();
    for camera in &settings.cameras {
        camera.check().map_err(|problem| SimulatorError::Spec { text: camera.name.clone(), problem })?;
        for (name, _) in camera.names() {
            if !names.insert(name) {
                return Err(SimulatorError::DuplicateName(name.to_owned()));
            }
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
