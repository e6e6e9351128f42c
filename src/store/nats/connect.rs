//! The connection to the NATS servers; makes streams and buckets where they are missing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    Client, ConnectOptions, Event,
    connection::State,
    jetstream::{
        self, Context,
        object_store::{self, ObjectStore},
        stream::{self, Stream},
    },
};
use tokio::sync::watch;

use super::{
    ClusterSettings,
    bucket::Bucket,
    fault::{Fault, LIMIT},
};
use crate::{
    store::{StoreError, sqlite::replica::Source},
    vault::Vault,
};

/// NATS servers that were started together say for so long that they keep nothing: they elect who keeps what.
const ELECTION: Duration = Duration::from_secs(20);
/// Pause between attempts meanwhile.
const AGAIN: Duration = Duration::from_secs(1);
/// An event that comes again within this time with the same id is taken for the same one, by the servers themselves.
const DUPLICATES: Duration = Duration::from_secs(600);
/// Longest pause between attempts to reach a server again.
const RECONNECT: Duration = Duration::from_secs(2);

/// A connection with the cluster's streams and buckets.
pub(super) struct Cluster {
    client: Client,
    pub(super) js: Context,
    /// What names begin with.
    pub(super) name: String,
    /// Name of this node.
    pub(super) node: String,
    /// This run of this node: a process that is started anew is another.
    pub(super) instance: String,
    buckets: Vec<(Source, Bucket)>,
    pub(super) events: Stream,
    pub(super) pictures: ObjectStore,
    pub(super) picture_stream: Stream,
    /// Counts up with every connection.
    pub(super) connections: watch::Receiver<u64>,
}

fn cluster(what: &str, why: impl std::fmt::Display, advice: &str) -> StoreError {
    StoreError::Cluster(format!("{what}: {why}; {advice}"))
}

impl Cluster {
    /// Connects, and makes what is missing.
    ///
    /// # Errors
    /// With what to do: no server answers, refuses the credentials, or keeps no streams.
    pub(super) async fn connect(settings: &ClusterSettings, vault: &Arc<Vault>) -> Result<Self, StoreError> {
        let node = settings.node_name().ok_or_else(|| {
            StoreError::Cluster("this node has no name that can be used; give it one with cluster.node".into())
        })?;
        let (told, connections) = watch::channel(0_u64);
        let client = client(settings, &node, told).await?;
        let began = Instant::now();
        loop {
            let there = Self::prepare(settings, vault, (client.clone(), connections.clone()), node.clone()).await;
            match there {
                Err(error) if began.elapsed() < ELECTION => {
                    tracing::warn!(%error, "the cluster's state can't be used yet; it is tried again");
                    tokio::time::sleep(AGAIN).await;
                }
                there => return there,
            }
        }
    }

    async fn prepare(
        settings: &ClusterSettings,
        vault: &Arc<Vault>,
        (client, connections): (Client, watch::Receiver<u64>),
        node: String,
    ) -> Result<Self, StoreError> {
        let mut js = jetstream::new(client.clone());
        js.set_timeout(LIMIT);
        let account = js.query_account().await;
        account.map_err(|e| {
            let advice =
                "start it with `nats-server -js` (or `jetstream {}` in its configuration), version 2.11 or later";
            cluster("the NATS server keeps no streams (JetStream)", e, advice)
        })?;
        let copies = settings.replicas;
        let made = |what: String| {
            move |e: &dyn std::fmt::Display| {
                let advice = format!(
                    "cluster.replicas = {copies} needs as many NATS servers with JetStream, and room on their disks"
                );
                cluster(&format!("{what} can't be made"), e, &advice)
            }
        };
        let mut buckets = Vec::new();
        for source in Source::ALL.into_iter().filter(|s| *s != Source::Events) {
            let name = format!("{}-{}", settings.name, source.name());
            let fail = made(format!("the bucket {name}"));
            match js.get_stream(format!("KV_{name}")).await {
                Ok(stream) if stream.cached_info().config.num_replicas == copies => {}
                _ => drop(js.create_or_update_stream(bucket(&name, copies)).await.map_err(|e| fail(&e))?),
            }
            let store = js.get_key_value(&name).await.map_err(|e| fail(&e))?;
            buckets.push((source, Bucket::new(store, js.clone(), vault.clone())));
        }
        let name = format!("{}-events", settings.name);
        let config = stream::Config {
            name: name.clone(),
            subjects: vec![format!("{}.events.*", settings.name)],
            duplicate_window: DUPLICATES,
            num_replicas: copies,
            allow_direct: false,
            ..Default::default()
        };
        let fail = made(format!("the stream {name}"));
        match js.get_stream(&name).await {
            Ok(stream) if stream.cached_info().config.num_replicas == copies => {}
            _ => drop(js.create_or_update_stream(config).await.map_err(|e| fail(&e))?),
        }
        let events = js.get_stream(&name).await.map_err(|e| fail(&e))?;
        let name = format!("{}-pictures", settings.name);
        let fail = made(format!("the object store {name}"));
        let pictures = match js.get_object_store(&name).await {
            Ok(store) => store,
            Err(_) => {
                let config = object_store::Config { bucket: name.clone(), num_replicas: copies, ..Default::default() };
                js.create_object_store(config).await.map_err(|e| fail(&e))?
            }
        };
        let picture_stream = js.get_stream(format!("OBJ_{name}")).await.map_err(|e| fail(&e))?;
        if picture_stream.cached_info().config.num_replicas != copies {
            let config = stream::Config { num_replicas: copies, ..picture_stream.cached_info().config.clone() };
            js.update_stream(config).await.map_err(|e| fail(&e))?;
        }
        Ok(Self {
            client,
            js,
            name: settings.name.clone(),
            node,
            instance: uuid::Uuid::now_v7().simple().to_string(),
            buckets,
            events,
            pictures,
            picture_stream,
            connections,
        })
    }

    /// The connection itself.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The bucket of a source.
    pub(super) fn bucket(&self, source: Source) -> Result<&Bucket, Fault> {
        let found = self.buckets.iter().find(|(of, _)| *of == source);
        found.map(|(_, bucket)| bucket).ok_or_else(|| Fault::Failed(format!("{} are no bucket", source.name())))
    }

    /// Whether a server is connected: asking without one would only wait.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when none is.
    pub(super) fn connected(&self) -> Result<(), Fault> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err(Fault::unavailable("connection", "no server is connected")),
        }
    }

    /// The subject of a camera's events.
    pub(super) fn subject(&self, camera: &str) -> String {
        format!("{}.events.{camera}", self.name)
    }
}

/// The stream of a bucket, as the client would make it, but for one thing: messages may be deleted, so that an erasure can overwrite them.
fn bucket(name: &str, copies: usize) -> stream::Config {
    stream::Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: false,
        allow_direct: true,
        discard: stream::DiscardPolicy::New,
        num_replicas: copies,
        ..Default::default()
    }
}

async fn client(settings: &ClusterSettings, node: &str, told: watch::Sender<u64>) -> Result<Client, StoreError> {
    let mut options = ConnectOptions::new()
        .name(format!("visage {node}"))
        .connection_timeout(LIMIT)
        .request_timeout(Some(LIMIT))
        .ping_interval(Duration::from_secs(5))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            RECONNECT.min(Duration::from_millis(50 * u64::try_from(attempts).unwrap_or(u64::MAX).min(1000)))
        })
        .event_callback(move |event| {
            match &event {
                Event::Connected => told.send_modify(|connections| *connections += 1),
                Event::Disconnected => tracing::error!("no NATS server is connected; what is written waits"),
                Event::ServerError(error) => tracing::warn!(%error, "the NATS server complains"),
                _ => tracing::debug!(%event, "NATS"),
            }
            std::future::ready(())
        });
    if !settings.credentials.is_empty() {
        options = options.credentials_file(&settings.credentials).await.map_err(|e| {
            cluster(&format!("the credentials {} can't be read", settings.credentials), e, "see cluster.credentials")
        })?;
    }
    if !settings.ca.is_empty() {
        // The client's own error names no file.
        tokio::fs::metadata(&settings.ca).await.map_err(|e| {
            cluster(&format!("the authority's certificate {} can't be read", settings.ca), e, "see cluster.ca")
        })?;
        options = options.add_root_certificates(settings.ca.clone().into());
    }
    options.connect(&settings.servers[..]).await.map_err(|e| {
        let servers = settings.servers.join(", ");
        cluster(
            &format!("no NATS server can be used at {servers}"),
            e,
            "see whether it runs, and cluster.servers, cluster.credentials and cluster.ca",
        )
    })
}
