//! How a pipeline is left: on a thread of its own, waited for a little.
//!
//! Leaving the states joins the threads of a pipeline. The one that reads can't be interrupted in the middle of a message, so a camera that
//! sends half a message and then a byte now and then could hold up its own supervisor, and with it an update or the shutdown.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gstreamer::{Pipeline, State, prelude::*};
use tokio::sync::oneshot;

use crate::ids::CameraId;

/// How long a teardown is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A stream: its camera and URL.
pub(super) type StreamKey = (CameraId, String);

/// Streams whose last pipeline could not be left yet: they are not opened a second time.
#[derive(Clone, Default)]
pub(super) struct Leaving(Arc<Mutex<BTreeSet<StreamKey>>>);

impl Leaving {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<StreamKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a stream's last pipeline is still there.
    pub(super) fn holds(&self, stream: &StreamKey) -> bool {
        self.lock().contains(stream)
    }

    /// Leaves a pipeline; returns when that is done, or when it took too long to be waited for.
    pub(super) async fn leave(&self, stream: StreamKey, pipeline: Pipeline) {
        self.lock().insert(stream.clone());
        let (done, left) = oneshot::channel();
        let (leaving, key, spare) = (self.clone(), stream.clone(), pipeline.clone());
        let spawned = std::thread::Builder::new().name("teardown".into()).spawn(move || {
            stop(&pipeline, &key);
            drop(pipeline);
            leaving.lock().remove(&key);
            let _ = done.send(());
        });
        if let Err(error) = spawned {
            tracing::error!(camera = %stream.0, %error, "no thread could be started to tear a pipeline down");
            stop(&spare, &stream);
            self.lock().remove(&stream);
            return;
        }
        drop(spare);
        if tokio::time::timeout(PATIENCE, left).await.is_err() {
            tracing::warn!(camera = %stream.0, "the connection hangs in the middle of a message and is left to end by itself");
        }
    }
}

/// Leaves the states. Blocks.
pub(super) fn stop(pipeline: &Pipeline, stream: &StreamKey) {
    if let Err(error) = pipeline.set_state(State::Null) {
        tracing::warn!(camera = %stream.0, %error, "a pipeline could not be stopped");
    }
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
}
