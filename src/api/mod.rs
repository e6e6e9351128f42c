//! gRPC: one file a service, wire types stop in [`convert`], errors become statuses in `status`. No decisions about faces.

pub mod auth;
mod camera;
pub mod code;
pub mod convert;
pub mod door;
mod event;
mod exchange;
mod gallery;
mod guarded;
pub mod guest;
pub mod health;
mod info;
pub mod limits;
pub mod page;
mod person;
mod recognition;
mod report;
mod request;
mod status;
mod training;
mod unknown;

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, transport::Server};

use crate::{
    access::connections::Guest,
    event::EventLog,
    identity::{EmbeddingStore, Gallery},
    inference::Plan,
    pipeline::{fleet::Fleet, picture::PictureDesk, reembed::Mover, unknowns::Unknowns},
    proto::{
        DESCRIPTOR_SET,
        v1::{
            camera_service_server::CameraServiceServer, event_service_server::EventServiceServer,
            gallery_service_server::GalleryServiceServer, person_service_server::PersonServiceServer,
            recognition_service_server::RecognitionServiceServer, server_service_server::ServerServiceServer,
            unknown_service_server::UnknownServiceServer,
        },
    },
    time::Timestamp,
};
use door::Door;
use health::Serving;
use limits::ApiLimits;
pub use report::KeptFor;

/// Most bytes of the headers of a request; tokens and deadlines need a few hundred.
const HEADER_BYTES: u32 = 16 << 10;

/// Facts that do not change while the server runs.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Version of Visage.
    pub version: String,
    /// Version of GStreamer.
    pub gstreamer_version: String,
    /// Version of ONNX Runtime.
    pub onnxruntime_version: String,
    /// Embedder that the configuration names; the data folder may say another.
    pub configured_embedder: String,
    /// Execution provider.
    pub provider: &'static str,
    /// Inference threads.
    pub workers: usize,
    /// How the networks are run.
    pub plan: Plan,
    /// Why the provider is not the better one that `auto` tried; else empty.
    pub provider_fallback: String,
    /// Threads that decode one stream.
    pub decode_threads: u32,
    /// When the server started.
    pub started: Timestamp,
}

/// What the services work on. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Cameras.
    pub fleet: Fleet,
    /// Pictures.
    pub desk: PictureDesk,
    /// People.
    pub gallery: Gallery,
    /// Events.
    pub log: Arc<dyn EventLog>,
    /// Unknown faces.
    pub unknowns: Unknowns,
    /// Pictures and embeddings of enrolled faces.
    pub embeddings: Arc<dyn EmbeddingStore>,
    /// Moves the gallery to another model.
    pub mover: Mover,
    /// Facts.
    pub info: Arc<ServerFacts>,
    /// What a client may send.
    pub limits: ApiLimits,
    /// How long events are kept.
    pub kept_for: KeptFor,
    /// What the server can do at a moment, for gRPC's health.
    pub health: watch::Receiver<Serving>,
    /// Ends streams when the server drains.
    pub stop: CancellationToken,
}

/// Serves every service, health, reflection and gRPC-Web over connections as they come, until `stop`; streams then end with UNAVAILABLE and
/// can be resumed. Health says NOT_SERVING from `draining` on. All but health goes through the door.
///
/// # Errors
/// When the listener fails.
pub async fn serve<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connections: impl Stream<Item = io::Result<Guest<IO>>>,
    services: Services,
    door: Door,
    draining: CancellationToken,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let limits = services.limits.clone();
    macro_rules! service {
        ($server:ident) => {{
            $server::new(services.clone())
                .max_decoding_message_size(limits.message_bytes)
                .max_encoding_message_size(limits.message_bytes * 2)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
        }};
    }
    let cameras = service!(CameraServiceServer);
    let people = service!(PersonServiceServer);
    let recognition = service!(RecognitionServiceServer);
    let events = service!(EventServiceServer);
    let info = service!(ServerServiceServer);
    let unknowns = service!(UnknownServiceServer);
    let gallery = service!(GalleryServiceServer);
    let reflection = |name: &str| format!("the descriptor set of {name} is built in");
    let v1 = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let v1alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha();
    let (v1, v1alpha) = match (v1, v1alpha) {
        (Ok(v1), Ok(v1alpha)) => (Some(v1), Some(v1alpha)),
        (a, b) => {
            for error in [a.err(), b.err()].into_iter().flatten() {
                tracing::error!(%error, "reflection is off: {}", reflection("visage.v1"));
            }
            (None, None)
        }
    };
    let told = health::follow(reporter, services.health.clone(), draining, stop.clone());
    let serving = Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(u32::try_from(limits.requests_per_connection).unwrap_or(u32::MAX))
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(20)))
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(request::RequestLayer)
        .layer(tower::util::MapResponseLayer::new(status::limit_named))
        .layer(door::DoorLayer(door))
        .add_service(health_service)
        .add_optional_service(v1)
        .add_optional_service(v1alpha)
        .add_service(cameras)
        .add_service(people)
        .add_service(recognition)
        .add_service(events)
        .add_service(info)
        .add_service(unknowns)
        .add_service(gallery)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned());
    tokio::select! {
        ended = serving => ended,
        () = told => Ok(()),
    }
}
