//! Section `[gallery.qdrant]`: where the server is, and how a new collection lies there.

use qdrant_client::qdrant::{CreateCollectionBuilder, ScalarQuantizationBuilder, VectorParamsBuilder};
use serde::{Deserialize, Serialize};

use crate::{camera::spec::Secret, identity::GalleryError};

/// Where the Qdrant server is and how it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QdrantSettings {
    /// The server's gRPC address; `https` for TLS with the system's root certificates. No user name or password in it.
    pub url: String,
    /// Sent as header `api-key`; empty for a server without keys. Printable ASCII.
    pub api_key: Secret,
    /// Collections are named `<prefix>_<model>`.
    pub collection_prefix: String,
    /// Longest time for connecting and for each call, in milliseconds; at least 1.
    pub timeout_ms: u64,
    /// Parts that a new collection is shared out in over the nodes of a Qdrant cluster; 0 leaves it to Qdrant.
    pub shards: u32,
    /// Copies of each part; 0 leaves it to Qdrant. A write counts once most copies have it.
    pub replicas: u32,
    /// Whether a new collection searches in bytes, a quarter of the memory, and compares the best candidates exactly.
    pub quantised: bool,
}

impl Default for QdrantSettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:6334".into(),
            api_key: Secret::default(),
            collection_prefix: "visage".into(),
            timeout_ms: 5000,
            shards: 0,
            replicas: 0,
            quantised: false,
        }
    }
}

/// How a new collection lies in a Qdrant cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) shards: u32,
    pub(super) replicas: u32,
    pub(super) quantised: bool,
}

impl Layout {
    pub(super) fn collection(self, name: &str, vectors: VectorParamsBuilder) -> CreateCollectionBuilder {
        let mut collection = CreateCollectionBuilder::new(name).vectors_config(vectors);
        if self.shards > 0 {
            collection = collection.shard_number(self.shards);
        }
        if self.replicas > 0 {
            collection = collection.replication_factor(self.replicas).write_consistency_factor(self.replicas / 2 + 1);
        }
        if self.quantised {
            // Of the values' range all but the outermost hundredth.
            let bytes = ScalarQuantizationBuilder::default().quantile(0.99);
            collection = collection.quantization_config(bytes);
        }
        collection
    }
}

/// What the client would only notice later, and then with the key in its message.
pub(super) fn check(settings: &QdrantSettings) -> Result<(), GalleryError> {
    let refuse = |why: &str| Err(GalleryError::Storage(why.to_owned()));
    let Ok(url) = url::Url::parse(&settings.url) else {
        return refuse("the Qdrant URL is not a URL; it looks like http://127.0.0.1:6334");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return refuse("the Qdrant URL needs http:// or https:// and a host, as in http://127.0.0.1:6334");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the Qdrant URL has a user name or password in it; Qdrant takes a key only: set api_key");
    }
    if !settings.api_key.expose().bytes().all(|b| b.is_ascii_graphic()) {
        return refuse("the Qdrant api_key has characters that can't be sent: use printable ASCII without spaces");
    }
    if settings.shards > 1000 || settings.replicas > 100 {
        return refuse(
            "the Qdrant shards or replicas are too many: use at most 1000 and 100, or 0 to leave it to Qdrant",
        );
    }
    if settings.timeout_ms == 0 {
        return refuse("the Qdrant timeout_ms is 0: use at least 1");
    }
    Ok(())
}
