//! Looks, every few seconds, whether the server can do its work: a small real write, a question to the gallery, free space, cameras.
//!
//! Each look has a time limit: a disk or a server that hangs is a fault, not a reason to hang with it.

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    build::blocking,
    readiness::{Found, Health},
    stores::Stores,
};
use crate::{camera::CameraState, identity::Gallery, pipeline::fleet::Fleet, telemetry};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(4);
/// The longest that one look at a part may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// The same for a write, which waits behind others: a large change is no fault yet.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two beats of the heart.
const BEAT: Duration = Duration::from_secs(1);
/// With less space left the store counts as unwritable although a small write may still pass, bytes: it would not hold the next events.
const LEAST_FREE: u64 = 16 << 20;

/// Lets the heart beat until `stop`, and measures how late it is.
pub async fn beat(health: Health, stop: CancellationToken) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let asked = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        telemetry::heartbeat(asked.elapsed().saturating_sub(BEAT));
        health.beat();
    }
}

/// What is looked at.
pub struct Prober {
    /// Where to tell.
    pub health: Health,
    /// The store.
    pub store: Stores,
    /// The gallery.
    pub gallery: Gallery,
    /// The cameras.
    pub fleet: Fleet,
    /// Folder of the database.
    pub data_dir: PathBuf,
    /// Share of the cameras that are switched on that must stream, 0 to 1; 0 asks for none.
    pub ready_cameras: f32,
}

impl Prober {
    /// Looks again and again until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    /// Looks once. The networks are loaded, or there would be no prober.
    pub async fn look(&self) {
        let (store, gallery) = tokio::join!(self.store(), self.gallery());
        telemetry::event_log_position(*self.store.log().latest().borrow());
        self.health.tell([Found::Ok, store, gallery, self.cameras()]);
    }

    async fn store(&self) -> Found {
        match timeout(WRITE_PATIENCE, self.store.probe()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Found::Failed(format!("a write failed: {error}")),
            // A disk that hangs is not asked for its space: each question would take a thread along.
            Err(_) => return Found::Failed(format!("a write took longer than {} s", WRITE_PATIENCE.as_secs())),
        }
        let folder = self.data_dir.clone();
        match timeout(PATIENCE, blocking(move || rustix::fs::statvfs(&folder))).await {
            Ok(Ok(Ok(disk))) => {
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                telemetry::data_folder(free, disk.f_blocks.saturating_mul(disk.f_frsize));
                if free < LEAST_FREE {
                    return Found::Failed(format!("only {} MiB are left on the disk of the data folder", free >> 20));
                }
                Found::Ok
            }
            Ok(Ok(Err(error))) => Found::Failed(format!("the disk of the data folder can't be asked: {error}")),
            Ok(Err(_)) | Err(_) => Found::Failed("the disk of the data folder does not answer".into()),
        }
    }

    async fn gallery(&self) -> Found {
        match timeout(PATIENCE, self.gallery.reachable()).await {
            Ok(Ok(())) => Found::Ok,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the gallery does not answer");
                Found::Failed(format!("the index ({}) does not answer as it should", self.gallery.backend()))
            }
            Err(_) => Found::Failed(format!("the index ({}) does not answer in time", self.gallery.backend())),
        }
    }

    fn cameras(&self) -> Found {
        // Of a cluster, those of this process: each camera is counted once.
        let here = self.fleet.list().into_iter().filter(|camera| self.fleet.runs(&camera.spec.id));
        let states: Vec<CameraState> = here.map(|camera| camera.status.state).collect();
        let count = |state| states.iter().filter(|s| **s == state).count();
        for state in CameraState::ALL {
            telemetry::cameras_in(state.as_str(), count(state));
        }
        let streaming = count(CameraState::Streaming);
        quorum(self.ready_cameras, streaming, states.len() - count(CameraState::Disabled))
    }
}

/// Whether enough of the cameras that are switched on stream.
fn quorum(share: f32, streaming: usize, enabled: usize) -> Found {
    if share <= 0.0 {
        return Found::Off;
    }
    // The tolerance is for shares such as 0.7 of 10, which is a little more than 7 in binary.
    let needed = (f64::from(share) * enabled as f64 - 1e-6).ceil().max(0.0) as usize;
    if streaming >= needed {
        return Found::Ok;
    }
    Found::Failed(format!("{streaming} of {enabled} cameras stream, {needed} are needed (server.ready_cameras)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_cameras_stream() {
        assert_eq!(quorum(0.0, 0, 10), Found::Off);
        assert_eq!(quorum(0.5, 0, 0), Found::Ok);
        assert_eq!(quorum(0.5, 5, 10), Found::Ok);
        assert_eq!(quorum(0.7, 7, 10), Found::Ok);
        assert_eq!(quorum(1.0, 3, 3), Found::Ok);
        assert!(!quorum(0.5, 1, 3).passes());
        let Found::Failed(why) = quorum(0.5, 4, 10) else { panic!("4 of 10 are no half") };
        assert_eq!(why, "4 of 10 cameras stream, 5 are needed (server.ready_cameras)");
    }
}
