//! Ready when every latch is dropped; a part that is not up yet can't be forgotten.

use std::sync::Arc;

use tokio::sync::watch;

/// Held by a part until it is up.
#[derive(Clone)]
pub struct Latch(#[allow(dead_code)] Arc<watch::Sender<()>>);

/// Tells whether every latch is dropped.
#[derive(Clone)]
pub struct Readiness(watch::Receiver<()>);

/// A readiness with its first latch.
pub fn readiness() -> (Readiness, Latch) {
    let (tx, rx) = watch::channel(());
    (Readiness(rx), Latch(Arc::new(tx)))
}

impl Readiness {
    /// Whether every latch is dropped.
    pub fn is_ready(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits until every latch is dropped.
    pub async fn ready(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_only_after_the_last_latch() {
        let (mut ready, first) = readiness();
        let second = first.clone();
        assert!(!ready.is_ready());
        drop(first);
        assert!(!ready.is_ready());
        drop(second);
        ready.ready().await;
        assert!(ready.is_ready());
    }
}
