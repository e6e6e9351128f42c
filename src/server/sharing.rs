//! This process's part in a cluster: a worker, or one who looks on; and the gallery that others change as well.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{elsewhere::Elsewhere, listeners::Tasks, start_error::StartError, worker::Worker};
use crate::{
    camera::{FarFrame, FarFrames},
    config::{Config, types::Role},
    identity::Gallery,
    ids::{CameraId, WorkerId},
    pipeline::{fleet::Fleet, outbox::Outbox},
    store::nats::{ClusterStore, frames::NatsFrames, registry::NatsRegistry, statuses::NatsStatuses},
};

/// Cameras a core, where the settings name no number: 1080p at 25 frames a second with somebody there now and then (`visage bench capacity`).
const CAMERAS_A_CORE: f64 = 5.0;

/// The part of a process in its cluster.
pub(super) struct Sharing {
    leaving: CancellationToken,
    /// Whether no camera is left here, or nobody is there to take them.
    left: watch::Receiver<bool>,
}

impl Sharing {
    /// Gives the cameras to other workers, which tell their events before this one stops.
    pub(super) async fn hand_over(&self) {
        self.leaving.cancel();
        let mut left = self.left.clone();
        // An end of the worker is an end, too.
        let _ = left.wait_for(|left| *left).await;
    }
}

/// What a process needs of its cluster, before it runs.
pub(super) struct Parts {
    me: WorkerId,
    store: Arc<ClusterStore>,
    registry: Arc<NatsRegistry>,
    statuses: Arc<NatsStatuses>,
    frames: Arc<NatsFrames>,
}

impl Parts {
    /// # Errors
    /// When this process has no name, or the cluster can't be used.
    pub(super) async fn open(config: &Config, store: &Arc<ClusterStore>) -> Result<Self, StartError> {
        let (me, copies): (WorkerId, _) = (store.node().parse()?, config.cluster.replicas);
        let lease = Duration::from_secs(config.cluster.lease_seconds);
        let registry = Arc::new(NatsRegistry::open(store, me.clone(), lease, copies).await?);
        let statuses = Arc::new(NatsStatuses::open(store, copies, lease * 3).await?);
        let frames = Arc::new(NatsFrames::new(store, registry.clone()));
        Ok(Self { me, store: store.clone(), registry, statuses, frames })
    }

    /// Who is asked for frames of other workers' cameras.
    pub(super) fn far(&self) -> Arc<dyn FarFrames> {
        self.frames.clone()
    }

    /// Starts the tasks of this process's role.
    pub(super) fn start(
        self,
        config: &Config,
        (fleet, outbox, gallery): (Fleet, Outbox, Gallery),
        tasks: &mut Tasks,
        stop: &CancellationToken,
    ) -> Sharing {
        let Self { me, store, registry, statuses, frames } = self;
        let (leaving, works) = (CancellationToken::new(), config.server.role != Role::Api);
        let (told, left) = watch::channel(!works);
        if works {
            let capacity = match config.cluster.capacity {
                0 => available_parallelism().map_or(1.0, |cores| cores.get() as f64) * CAMERAS_A_CORE,
                cameras => cameras as f64,
            };
            tracing::info!(worker = %me, capacity, "this process runs cameras of the cluster");
            let worker = Worker {
                me: me.clone(),
                store: store.clone(),
                registry: registry.clone(),
                statuses: statuses.clone(),
                fleet: fleet.clone(),
                outbox,
                lease: Duration::from_secs(config.cluster.lease_seconds),
                capacity,
            };
            let (leaving, ends) = (leaving.clone(), stop.clone());
            run(tasks, async move { worker.run(leaving, told, ends).await });
            let (fleet, ends) = (fleet.clone(), stop.clone());
            run(tasks, async move {
                let newest = |camera: CameraId| {
                    let fleet = fleet.clone();
                    async move {
                        // Asked of this one by mistake, it would be asked again and again.
                        if !fleet.runs(&camera) {
                            return Err("its worker has just changed; try again".to_owned());
                        }
                        let shot = fleet.snapshot(&camera, false).await.map_err(|e| e.to_string())?;
                        Ok(FarFrame { captured: shot.captured, jpeg: shot.jpeg })
                    }
                };
                frames.answer(&me, newest, ends).await;
            });
        }
        // Workers that only work don't listen to how each other's cameras fare: with hundreds of them that is most of what is said.
        if config.server.role != Role::Ingest {
            let elsewhere = Elsewhere { store: store.clone(), registry, statuses, fleet, cameras: !works };
            let ends = stop.clone();
            run(tasks, async move { elsewhere.run(ends).await });
        }
        let (changes, ends) = (store.gallery_changes(), stop.clone());
        run(tasks, async move { gallery.follow(changes, ends).await });
        Sharing { leaving, left }
    }
}

/// A task that fails in no way that would end the server.
fn run(tasks: &mut Tasks, work: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        work.await;
        Ok(())
    });
}
