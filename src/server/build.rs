//! Settings → parts: opens the store, loads the models, starts the engine, the gallery, the cameras and the listeners.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    embedder,
    listeners::{self, Tasks},
    probe::{self, Prober},
    readiness::Health,
    retention::Retention,
    sharing::{Parts, Sharing},
    start_error::StartError,
    stores::Stores,
    tls::Tls,
};
use crate::{
    access::{Audit, Gate, Oidc, TokenStore, clients::Clients},
    api::{KeptFor, ServerFacts, Services, door::Door},
    camera,
    config::Config,
    face::{EngineInUse, FaceEngine},
    frame::still::StillLimits,
    identity::{AlikeRange, Gallery, GallerySettings},
    pipeline::{
        camera_loop::LoopParts,
        fleet::{Fleet, FleetParts},
        outbox::{Outbox, OutboxLimits},
        picture::PictureDesk,
        reembed::Mover,
        unknowns::Unknowns,
    },
    telemetry, time,
};

/// Everything that still pictures need: engine, gallery and desk over a data folder.
pub struct Recognition {
    /// The store.
    pub store: Stores,
    /// The networks in use.
    pub engine: EngineInUse,
    /// The gallery.
    pub gallery: Gallery,
    /// Questions about pictures.
    pub desk: PictureDesk,
}

impl Recognition {
    /// Opens the store, loads the models, repairs the index.
    ///
    /// # Errors
    /// With the part that failed and what to do.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let store = Stores::open(config).await?;
        let embeddings = store.embeddings();
        let model = embedder::in_use(config, &*embeddings).await?;
        let engine = {
            let (settings, model) = (config.clone(), model.clone());
            blocking(move || embedder::engine(&settings, &model, None)).await??
        };
        let index = embedder::index(config, engine.embedder()).await?;
        embedder::empty_index_in_work(config, &*embeddings, &model).await;
        let people = store.gallery();
        let settings = GallerySettings {
            route: config.identity.decision,
            alike: engine.embedder().embedder.as_ref().map(AlikeRange::of),
            require_legal_basis: config.enrollment.require_legal_basis,
        };
        let gallery = Gallery::open(people, index, model, settings).await?;
        let engine = EngineInUse::new(engine);
        let limits = StillLimits { bytes: config.limits.picture_bytes, pixels: config.limits.picture_pixels };
        let desk = PictureDesk::new(
            engine.clone(),
            gallery.clone(),
            limits,
            config.limits.faces_per_picture,
            embedder::thresholds(config),
            config.enrollment.clone(),
            config.gallery.keep_crops,
        );
        Ok(Self { store, engine, gallery, desk })
    }

    /// Stops the networks and closes the store.
    pub async fn close(self) {
        self.engine.now().shutdown().await;
        drop((self.desk, self.gallery));
        self.store.close().await;
    }
}

/// A server whose parts run; [`Server::drain`] ends it in order.
pub struct Server {
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Readiness and health say no from here on.
    draining: CancellationToken,
    cameras_stop: CancellationToken,
    stop: CancellationToken,
    fleet: Fleet,
    outbox: Outbox,
    /// In a cluster: this process's part in it.
    sharing: Option<Sharing>,
    /// What a shutdown may take in all.
    grace: Duration,
    recognition: Recognition,
    mover: Mover,
    audit: Audit,
    tasks: Tasks,
}

impl Server {
    /// Starts everything. The listeners are bound first, so a taken port fails before anything else happens.
    ///
    /// # Errors
    /// With the part that failed and what to do.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        telemetry::start();
        let grpc_listener = listeners::bind("gRPC", config.server.listen, "listen").await?;
        let http_listener = listeners::bind("HTTP", config.server.http, "http").await?;
        let addr_of = |l: &TcpListener| l.local_addr().map_err(|e| StartError::Serve(e.to_string()));
        let (grpc, http) = (addr_of(&grpc_listener)?, addr_of(&http_listener)?);
        let (draining, cameras_stop, stop) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let health = Health::new(draining.clone());
        let tls = if config.server.tls.is_on() {
            let settings = config.server.tls.clone();
            Some(blocking(move || Tls::load(&settings)).await??)
        } else {
            None
        };
        let metrics_gate = config.tokens_required().then(|| Arc::new(OnceLock::new()));
        let gate_later = metrics_gate.clone();
        let limits = &config.limits;
        listeners::serve_http(&mut tasks, http_listener, tls.as_ref(), limits, health.clone(), gate_later, &stop);
        tasks.spawn({
            let (health, stop) = (health.clone(), stop.clone());
            async move {
                probe::beat(health, stop).await;
                Ok(())
            }
        });

        let recognition = Recognition::open(config).await?;
        // The store holds the folder by now.
        let audit = Audit::open(&config.server.data_dir, &config.audit).await?;
        let gate = match metrics_gate {
            Some(cell) => {
                let gate = open_gate(recognition.store.tokens(), config).await?;
                tasks.spawn({
                    let (gate, stop) = (gate.clone(), stop.clone());
                    async move {
                        gate.tend(stop).await;
                        Ok(())
                    }
                });
                Some(cell.get_or_init(|| gate).clone())
            }
            None => None,
        };
        let limits = config.cameras.limits()?;
        let networks = limits.networks.clone();
        let opener = blocking(move || camera::gst_opener_within(limits))
            .await?
            .map_err(|e| StartError::Gstreamer(e.to_string()))?;
        let log = recognition.store.log();
        let limits = OutboxLimits {
            events: config.events.max_waiting,
            picture_bytes: config.events.max_waiting_mib.saturating_mul(1 << 20),
        };
        let kept_for = KeptFor { events: config.events.retention_days, pictures: config.events.picture_retention_days };
        let outbox = Outbox::new(log.clone(), limits);
        tasks.spawn({
            let (outbox, stop) = (outbox.clone(), stop.clone());
            async move {
                outbox.run(stop).await;
                Ok(())
            }
        });
        let unknowns = Unknowns::new(
            recognition.store.unknowns(),
            log.clone(),
            recognition.gallery.clone(),
            recognition.desk.clone(),
            config.unknowns.clone(),
        );
        let sharing = match recognition.store.cluster() {
            Some(store) => Some(Parts::open(config, store).await?),
            None => None,
        };
        let fleet = Fleet::start(
            FleetParts {
                far: sharing.as_ref().map(Parts::far),
                store: recognition.store.cameras(),
                opener,
                networks,
                supervisor: config.cameras.supervisor.clone(),
                loops: LoopParts {
                    engine: recognition.engine.clone(),
                    gallery: recognition.gallery.clone(),
                    desk: recognition.desk.clone(),
                    outbox: outbox.clone(),
                    track: config.track.clone(),
                    looks: config.looks.clone(),
                    returns: config.returns.clone(),
                    decider: config.decider.clone(),
                    identity: embedder::thresholds(config),
                    events: config.events.clone(),
                    keep_unknowns: config.unknowns.keep,
                },
                max: config.cameras.max,
            },
            cameras_stop.clone(),
        )
        .await?;
        tasks.spawn({
            let retention = Retention {
                log: log.clone(),
                kept: kept_for,
                unknowns: unknowns.clone(),
                gallery: recognition.gallery.clone(),
            };
            let stop = stop.clone();
            async move {
                retention.run(stop).await;
                Ok(())
            }
        });
        tasks.spawn({
            let (gallery, stop) = (recognition.gallery.clone(), stop.clone());
            async move {
                gallery.tend(stop).await;
                Ok(())
            }
        });
        tasks.spawn({
            let (unknowns, stop) = (unknowns.clone(), stop.clone());
            async move {
                unknowns.run(stop).await;
                Ok(())
            }
        });
        let sharing = sharing.map(|parts| {
            let uses = (fleet.clone(), outbox.clone(), recognition.gallery.clone());
            parts.start(config, uses, &recognition.engine.now().plan().trials, &mut tasks, &stop)
        });
        let mover = Mover::new(
            recognition.gallery.clone(),
            recognition.engine.clone(),
            recognition.store.embeddings(),
            Arc::new(embedder::Loader(config.clone())),
            embedder::thresholds(config),
            stop.clone(),
        );
        let services = Services {
            fleet: fleet.clone(),
            desk: recognition.desk.clone(),
            gallery: recognition.gallery.clone(),
            log,
            unknowns,
            embeddings: recognition.store.embeddings(),
            mover: mover.clone(),
            info: Arc::new(facts(&recognition.engine.now(), config)),
            limits: config.limits.clone(),
            kept_for,
            health: health.serving(),
            stop: stop.clone(),
        };
        let prober = Prober {
            health,
            store: recognition.store.clone(),
            gallery: recognition.gallery.clone(),
            fleet: fleet.clone(),
            data_dir: config.server.data_dir.clone(),
            ready_cameras: config.server.ready_cameras,
        };
        // Before the API listens, so that nobody is told what was not looked at.
        prober.look().await;
        let door = Door { gate, clients: Clients::new(config.limits.client()), audit: audit.clone() };
        listeners::serve_grpc(&mut tasks, grpc_listener, tls.as_ref(), services, door, (&draining, &stop));
        if let Some(tls) = tls {
            let stop = stop.clone();
            tasks.spawn(async move {
                tls.follow(stop).await;
                Ok(())
            });
        }
        tasks.spawn({
            let stop = stop.clone();
            async move {
                prober.run(stop).await;
                Ok(())
            }
        });
        let grace = Duration::from_secs(config.server.grace_seconds);
        Ok(Self {
            grpc,
            http,
            draining,
            cameras_stop,
            stop,
            fleet,
            outbox,
            sharing,
            grace,
            recognition,
            mover,
            audit,
            tasks,
        })
    }

    /// Waits for `stop`, or for a part to end on its own.
    ///
    /// # Errors
    /// When a part ended on its own.
    pub async fn serve_until(&mut self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        tokio::select! {
            () = stop => Ok(()),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(error)) => Err(StartError::Serve(error.to_string())),
                Some(Ok(Ok(()))) | None => Err(StartError::Serve("it ended without being told to".into())),
            },
        }
    }

    /// Ends in order: readiness, cameras (their last events are written), subscribers and listeners, networks, store. Says every
    /// few seconds who is late.
    ///
    /// # Errors
    /// When a listener failed meanwhile.
    pub async fn drain(mut self) -> Result<(), StartError> {
        self.draining.cancel();
        if let Some(sharing) = &self.sharing {
            tracing::info!("stopping: handing cameras over");
            if tokio::time::timeout(self.grace / 2, sharing.hand_over()).await.is_err() {
                tracing::warn!("not every camera was handed over in time; others take the rest when they notice");
            }
        }
        tracing::info!("stopping: cameras");
        self.cameras_stop.cancel();
        late("cameras", self.fleet.shutdown()).await;
        let written = tokio::time::timeout(self.grace / 2, late("events", self.outbox.drain())).await;
        tracing::info!("stopping: listeners");
        self.stop.cancel();
        let mut result = Ok(());
        let tasks = &mut self.tasks;
        late("listeners", async {
            while let Some(ended) = tasks.join_next().await {
                let ended = ended.unwrap_or_else(|error| Err(StartError::Serve(error.to_string())));
                if result.is_ok() {
                    result = ended;
                }
            }
        })
        .await;
        // After the last call has ended.
        late("the audit log", self.audit.close()).await;
        late("the gallery's move", self.mover.shutdown()).await;
        drop(self.fleet);
        tracing::info!("stopping: networks and store");
        late("networks and store", self.recognition.close()).await;
        match written {
            Ok(()) => result,
            Err(_) => Err(StartError::Unwritten(self.outbox.waiting())),
        }
    }
}

/// The gate, and a word when it lets nobody in.
async fn open_gate(tokens: Arc<dyn TokenStore>, config: &Config) -> Result<Gate, StartError> {
    let settings = &config.auth.oidc;
    let oidc = if settings.is_on() { Some(Oidc::open(settings).await?) } else { None };
    let gate = Gate::open(tokens, oidc).await?;
    if !gate.lets_somebody_in() {
        let folder = config.server.data_dir.display();
        tracing::warn!(
            "a token is asked for and none is there yet: `visage token create NAME --role admin --data-dir {folder}` makes the first one"
        );
    }
    Ok(gate)
}

async fn late<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(Duration::from_secs(3), &mut work).await {
            Ok(value) => return value,
            Err(_) => tracing::warn!("still waiting for {what}"),
        }
    }
}

fn facts(engine: &FaceEngine, config: &Config) -> ServerFacts {
    ServerFacts {
        version: env!("CARGO_PKG_VERSION").into(),
        gstreamer_version: camera::gstreamer_version(),
        onnxruntime_version: engine.runtime_version(),
        provider: engine.provider(),
        configured_embedder: config.models.embedder.clone(),
        workers: engine.workers(),
        plan: engine.plan().clone(),
        provider_fallback: engine.provider_fallback().to_owned(),
        decode_threads: camera::DECODE_THREADS,
        started: time::now(),
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| StartError::Serve(e.to_string()))
}
