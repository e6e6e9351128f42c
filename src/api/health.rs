//! gRPC's own health: per service, as readiness tells it, and withdrawn while the server drains.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// What the parts of the server can do at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// Every check passes.
    pub ready: bool,
    /// The networks are loaded.
    pub models: bool,
    /// The store writes.
    pub store: bool,
    /// Faces can be searched.
    pub gallery: bool,
}

type Need = fn(&Serving) -> bool;

/// Services with what they need; "" is the server as a whole.
const SERVICES: [(&str, Need); 8] = [
    ("", |s| s.ready),
    ("visage.v1.CameraService", |s| s.store),
    ("visage.v1.PersonService", |s| s.store),
    ("visage.v1.EventService", |s| s.store),
    ("visage.v1.UnknownService", |s| s.store),
    ("visage.v1.GalleryService", |s| s.store && s.gallery),
    ("visage.v1.RecognitionService", |s| s.models && s.gallery),
    // It tells what is wrong, so it serves as long as anything does.
    ("visage.v1.ServerService", |_| true),
];

/// Tells each service's status as it changes; never ends. From `draining` on nothing serves; with `stop` those who watch are let go,
/// since their streams would hold the listener for ever.
pub(super) async fn follow(
    mut reporter: HealthReporter,
    mut serving: watch::Receiver<Serving>,
    draining: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        let now = *serving.borrow_and_update();
        for (service, need) in SERVICES {
            reporter.set_service_status(service, status(!draining.is_cancelled() && need(&now))).await;
        }
        if draining.is_cancelled() {
            stop.cancelled().await;
            for (service, _) in SERVICES {
                reporter.clear_service_status(service).await;
            }
            std::future::pending::<()>().await;
        }
        tokio::select! {
            () = draining.cancelled() => {}
            changed = serving.changed() => if changed.is_err() {
                draining.cancelled().await;
            },
        }
    }
}

fn status(serves: bool) -> ServingStatus {
    if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_service_has_a_status() {
        let set = prost_reflect::DescriptorPool::decode(crate::proto::DESCRIPTOR_SET).unwrap();
        let served: BTreeSet<String> = set.services().map(|service| service.full_name().to_owned()).collect();
        let told: BTreeSet<String> =
            SERVICES.iter().map(|(name, _)| (*name).to_owned()).filter(|name| !name.is_empty()).collect();
        assert_eq!(told, served);
    }
}
