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
    inference::plan::Trial,
    pipeline::{fleet::Fleet, outbox::Outbox},
    store::nats::{ClusterStore, frames::NatsFrames, registry::NatsRegistry, statuses::NatsStatuses},
};

/// Pictures a second that a camera has searched, with somebody there now and then (`visage bench capacity`).
const SEARCHES_A_CAMERA: f64 = 5.0;
/// Cameras a core where nothing was measured.
const CAMERAS_A_CORE: f64 = 5.0;

/// Cameras that this machine takes, by the trial at the start. In steps of half an octave: a short trial is noisy, and each change of a weight moves
/// cameras.
fn measured(trials: &[Trial], cores: usize) -> f64 {
    let fastest = trials.iter().map(|trial| trial.pictures_per_s).filter(|rate| rate.is_finite()).fold(0.0, f64::max);
    if fastest <= 0.0 {
        return cores.max(1) as f64 * CAMERAS_A_CORE;
    }
    let cameras = (fastest / SEARCHES_A_CAMERA).max(1.0);
    ((cameras.log2() * 2.0).round() / 2.0).exp2()
}

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
        trials: &[Trial],
        tasks: &mut Tasks,
        stop: &CancellationToken,
    ) -> Sharing {
        let Self { me, store, registry, statuses, frames } = self;
        let (leaving, works) = (CancellationToken::new(), config.server.role != Role::Api);
        let (told, left) = watch::channel(!works);
        if works {
            let capacity = match config.cluster.capacity {
                0 => measured(trials, available_parallelism().map_or(1, |cores| cores.get())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::plan::Way;

    #[test]
    fn a_machine_takes_what_it_measured_and_noise_changes_nothing() {
        let at = |pictures_per_s: f64| {
            let way = Way { sessions: 2, threads: 1, batch: 1 };
            measured(
                &[Trial { way, run_ms: 10.0, pictures_per_s }, Trial { way, run_ms: 20.0, pictures_per_s: 1.0 }],
                2,
            )
        };
        assert_eq!(at(80.0), 16.0);
        assert_eq!((at(74.0), at(90.0)), (16.0, 16.0));
        assert!((at(160.0) - 32.0).abs() < 1e-9 && at(2.0) == 1.0);
        assert_eq!((measured(&[], 4), at(f64::NAN)), (20.0, 1.0));
    }
}
