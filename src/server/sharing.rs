//! This process's part in a cluster: a worker, or one who looks on; and the gallery that others change as well.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{elsewhere::Elsewhere, listeners::Tasks, start_error::StartError, worker::Worker};
use crate::{
    config::{Config, types::Role},
    identity::Gallery,
    ids::WorkerId,
    pipeline::{fleet::Fleet, outbox::Outbox},
    store::nats::{ClusterStore, registry::NatsRegistry, statuses::NatsStatuses},
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

/// Starts the tasks of this process's role.
///
/// # Errors
/// When this process has no name, or the cluster can't be used.
pub(super) async fn start(
    config: &Config,
    (store, fleet, outbox, gallery): (Arc<ClusterStore>, Fleet, Outbox, Gallery),
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> Result<Sharing, StartError> {
    let me: WorkerId = store.node().parse()?;
    let (settings, lease) = (&config.cluster, Duration::from_secs(config.cluster.lease_seconds));
    let registry = Arc::new(NatsRegistry::open(&store, me.clone(), lease, settings.replicas).await?);
    let statuses = Arc::new(NatsStatuses::open(&store, settings.replicas, lease * 3).await?);
    let (leaving, works) = (CancellationToken::new(), config.server.role != Role::Api);
    let (told, left) = watch::channel(!works);
    if works {
        let capacity = match settings.capacity {
            0 => available_parallelism().map_or(1.0, |cores| cores.get() as f64) * CAMERAS_A_CORE,
            cameras => cameras as f64,
        };
        tracing::info!(worker = %me, capacity, "this process runs cameras of the cluster");
        let worker = Worker {
            me,
            store: store.clone(),
            registry: registry.clone(),
            statuses: statuses.clone(),
            fleet: fleet.clone(),
            outbox,
            lease,
            capacity,
        };
        let (leaving, stop) = (leaving.clone(), stop.clone());
        tasks.spawn(async move {
            worker.run(leaving, told, stop).await;
            Ok(())
        });
    }
    let elsewhere = Elsewhere { store: store.clone(), registry, statuses, fleet, cameras: !works };
    tasks.spawn({
        let stop = stop.clone();
        async move {
            elsewhere.run(stop).await;
            Ok(())
        }
    });
    let (changes, stop) = (store.gallery_changes(), stop.clone());
    tasks.spawn(async move {
        gallery.follow(changes, stop).await;
        Ok(())
    });
    Ok(Sharing { leaving, left })
}
