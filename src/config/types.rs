//! The whole configuration: one section a room. Every key has a default; unknown keys are errors.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    access::{OidcSettings, audit::AuditSettings},
    api::limits::ApiLimits,
    camera::{Networks, StreamLimits, limits::MAX_PIXELS, networks::NoNetwork, supervisor::SupervisorSettings},
    identity::{DeciderSettings, UnknownSettings},
    inference::InferenceSettings,
    pipeline::{
        camera_loop::EventSettings,
        picture::{EnrollSettings, IdentitySettings},
    },
    store::{nats::ClusterSettings, qdrant::QdrantSettings},
    track::{LookSettings, TrackSettings, appearance::ReturnSettings},
    vault::VaultSettings,
};

/// `visage.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the state is kept.
    pub store: StoreMode,
    /// Addresses, data folder, shutdown.
    pub server: ServerSettings,
    /// The NATS servers, for `store = "cluster"`.
    pub cluster: ClusterSettings,
    /// Who may ask.
    pub auth: AuthSettings,
    /// What is recorded of it.
    pub audit: AuditSettings,
    /// Cameras and their supervision.
    pub cameras: CameraSettings,
    /// Where models are and which are used.
    pub models: ModelSettings,
    /// How networks are run.
    pub inference: InferenceSettings,
    /// Whether a face is living; experimental.
    pub liveness: LivenessSettings,
    /// How detections become tracks.
    pub track: TrackSettings,
    /// Which crops of a track are embedded.
    pub looks: LookSettings,
    /// When a face that comes back continues its appearance.
    pub returns: ReturnSettings,
    /// Thresholds.
    pub identity: IdentitySettings,
    /// When a track is decided.
    pub decider: DeciderSettings,
    /// Where face vectors are searched.
    pub gallery: GallerySettings,
    /// What a picture must have to be enrolled.
    pub enrollment: EnrollSettings,
    /// The key that what lies on the disk is sealed with.
    pub storage: VaultSettings,
    /// The event log.
    pub events: EventSettings,
    /// Faces that nobody knew.
    pub unknowns: UnknownSettings,
    /// What a client may send.
    pub limits: ApiLimits,
    /// Where traces go.
    pub telemetry: TelemetrySettings,
}

/// Where the state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// In the data folder of one process.
    #[default]
    Embedded,
    /// In NATS JetStream, shared by several processes.
    Cluster,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    #[default]
    All,
    /// Runs cameras; answers for itself only.
    Ingest,
    /// Answers; runs no camera.
    Api,
}

/// Section `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Collector of traces, OTLP over gRPC, such as `http://127.0.0.1:4317`; empty (the default) makes none.
    pub otlp_endpoint: String,
    /// Share of the traces that are sent, 0 to 1.
    pub otlp_sampling: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), otlp_sampling: 1.0 }
    }
}

/// Section `[server]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// What this process does.
    pub role: Role,
    /// Address of the gRPC listener.
    pub listen: SocketAddr,
    /// Address of the HTTP listener: `/metrics`, `/healthz`, `/readyz`.
    pub http: SocketAddr,
    /// Folder of the database.
    pub data_dir: PathBuf,
    /// Allows listening beyond loopback without TLS or without tokens.
    pub insecure: bool,
    /// Seconds that a shutdown may take before it is forced.
    pub grace_seconds: u64,
    /// Share of the cameras that are switched on which must stream for the server to be ready, 0 to 1; 0 asks for none.
    pub ready_cameras: f32,
    /// Encryption of both listeners.
    pub tls: TlsSettings,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            role: Role::All,
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: "visage-data".into(),
            insecure: false,
            grace_seconds: 10,
            ready_cameras: 0.0,
            tls: TlsSettings::default(),
        }
    }
}

/// Section `[server.tls]`: PEM files, read again when they change; all empty means no TLS.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The server's certificate, followed by those between it and its authority.
    pub certificate: String,
    /// Its private key.
    pub private_key: String,
    /// Authorities of client certificates; where it is set, gRPC clients must show one.
    pub client_ca: String,
}

impl TlsSettings {
    /// Whether the listeners speak TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate.is_empty()
    }
}

/// Section `[auth]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Whether requests must show a token; unset: where the server listens beyond loopback, unless `server.insecure` says otherwise.
    pub required: Option<bool>,
    /// Whose JWTs are let in beside tokens.
    pub oidc: OidcSettings,
}

impl Config {
    /// Whether requests must show a token.
    pub fn tokens_required(&self) -> bool {
        let server = &self.server;
        let reachable = [server.listen, server.http].iter().any(|addr| !addr.ip().is_loopback());
        self.auth.required.unwrap_or(reachable && !server.insecure)
    }
}

/// Section `[cameras]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CameraSettings {
    /// Most cameras.
    pub max: usize,
    /// Networks in which cameras may be, such as `10.0.0.0/8`; unset: everywhere but link-local, multicast and metadata addresses.
    pub networks: Option<Vec<String>>,
    /// Most pixels of a picture, width times height.
    pub max_pixels: u64,
    /// Time limits of supervision.
    pub supervisor: SupervisorSettings,
}

impl CameraSettings {
    /// What streams may be.
    ///
    /// # Errors
    /// The first of `networks` that is none.
    pub fn limits(&self) -> Result<StreamLimits, NoNetwork> {
        let networks = self.networks.as_deref().map(Networks::listed).transpose()?.unwrap_or_default();
        Ok(StreamLimits { networks, max_pixels: self.max_pixels })
    }
}

impl Default for CameraSettings {
    fn default() -> Self {
        Self { max: 1000, networks: None, max_pixels: MAX_PIXELS, supervisor: SupervisorSettings::default() }
    }
}

/// Section `[models]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Folder of the prepared models; empty searches `.cache/models` and the system's folders.
    pub dir: String,
    /// A manifest file with more models; empty takes the built-in one.
    pub manifest: String,
    /// Id of the detector.
    pub detector: String,
    /// Id of the embedder.
    pub embedder: String,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            dir: String::new(),
            manifest: String::new(),
            detector: "retinaface-mnet025".into(),
            embedder: "dlib-resnet".into(),
        }
    }
}

/// Section `[liveness]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LivenessSettings {
    /// Id of the liveness model; empty (the default) scores nothing.
    pub model: String,
}

/// Which back end searches face vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GalleryBackend {
    /// Exact search in memory over the embeddings kept in SQLite.
    #[default]
    Exact,
    /// A Qdrant server.
    Qdrant,
}

/// Section `[gallery]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GallerySettings {
    /// Back end.
    pub backend: GalleryBackend,
    /// Whether a picture of each enrolled face is kept: without it another model means enrolling everybody again.
    pub keep_crops: bool,
    /// For the Qdrant back end.
    pub qdrant: QdrantSettings,
}

impl Default for GallerySettings {
    fn default() -> Self {
        Self { backend: GalleryBackend::default(), keep_crops: true, qdrant: QdrantSettings::default() }
    }
}
