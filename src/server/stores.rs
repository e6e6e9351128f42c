//! The one store behind all ports: the data folder's, or the cluster's.

use std::sync::Arc;

use super::{build::blocking, start_error::StartError};
use crate::{
    access::TokenStore,
    camera::CameraStore,
    config::{
        Config,
        types::{Role, StoreMode},
    },
    event::EventLog,
    identity::{EmbeddingStore, GalleryStore, UnknownStore},
    store::{
        nats::{ClusterStore, Holds},
        sqlite::SqliteStore,
    },
};

/// Where the state is. Cheap to clone.
#[derive(Clone)]
pub enum Stores {
    /// In the data folder.
    Embedded(Arc<SqliteStore>),
    /// In the cluster; the data folder holds a replica.
    Cluster(Arc<ClusterStore>),
}

macro_rules! port {
    ($(#[$doc:meta])* $name:ident, $port:ty) => {
        $(#[$doc])*
        pub fn $name(&self) -> Arc<$port> {
            match self {
                Self::Embedded(store) => store.clone(),
                Self::Cluster(store) => store.clone(),
            }
        }
    };
}

impl Stores {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// When the folder or the cluster can't be used.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let (data_dir, storage) = (config.server.data_dir.clone(), config.storage.clone());
        Ok(match config.store {
            StoreMode::Embedded => {
                let store = blocking(move || SqliteStore::open(&data_dir, &storage)).await??;
                if store.is_replica().await? {
                    store.close().await;
                    return Err(StartError::Replica(config.server.data_dir.clone()));
                }
                Self::Embedded(Arc::new(store))
            }
            StoreMode::Cluster => {
                let holds = if config.server.role == Role::Ingest { Holds::AllButEvents } else { Holds::Everything };
                Self::Cluster(ClusterStore::open(&config.cluster, &data_dir, &storage, holds).await?)
            }
        })
    }

    port!(/** People and faces. */ gallery, dyn GalleryStore);
    port!(/** Embeddings by model. */ embeddings, dyn EmbeddingStore);
    port!(/** Registered cameras. */ cameras, dyn CameraStore);
    port!(/** Events. */ log, dyn EventLog);
    port!(/** Unknown faces. */ unknowns, dyn UnknownStore);
    port!(/** Tokens. */ tokens, dyn TokenStore);

    /// The cluster's store, where it is one.
    pub fn cluster(&self) -> Option<&Arc<ClusterStore>> {
        match self {
            Self::Embedded(_) => None,
            Self::Cluster(store) => Some(store),
        }
    }

    /// Whether it can be written, and keeps up.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn probe(&self) -> Result<(), String> {
        match self {
            Self::Embedded(store) => store.probe().await,
            Self::Cluster(store) => store.probe().await,
        }
    }

    /// Closes it.
    pub async fn close(&self) {
        match self {
            Self::Embedded(store) => store.close().await,
            Self::Cluster(store) => store.close().await,
        }
    }
}
