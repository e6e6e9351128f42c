//! The connection to the server: address, time limits, token.

use std::{path::Path, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::health_client::HealthClient;

use crate::{
    cli::{Globals, error::Failure, parse},
    proto::v1::{
        camera_service_client::CameraServiceClient, event_service_client::EventServiceClient,
        gallery_service_client::GalleryServiceClient, person_service_client::PersonServiceClient,
        recognition_service_client::RecognitionServiceClient, server_service_client::ServerServiceClient,
        unknown_service_client::UnknownServiceClient,
    },
};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which HTTP/2 asks whether the server is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Largest message: an annotated picture with room to spare, bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// Puts the token into each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A channel that authenticates.
pub type Link = InterceptedService<Channel, Bearer>;

/// An open connection, from which the clients of the services come.
#[derive(Clone)]
pub struct Connection {
    channel: Channel,
    bearer: Bearer,
}

macro_rules! service {
    ($(#[$doc:meta])* $name:ident, $client:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> $client<Link> {
            $client::with_interceptor(self.channel.clone(), self.bearer.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE)
        }
    };
}

impl Connection {
    service!(/** Cameras. */ camera, CameraServiceClient);
    service!(/** People. */ person, PersonServiceClient);
    service!(/** Pictures. */ recognition, RecognitionServiceClient);
    service!(/** Events. */ event, EventServiceClient);
    service!(/** Unknown faces. */ unknown, UnknownServiceClient);
    service!(/** The gallery as a whole. */ gallery, GalleryServiceClient);
    service!(/** The server. */ server, ServerServiceClient);
    service!(/** Whether it serves. */ health, HealthClient);
}

/// Connects to the server that the options name. Exit code 5 if there is none, 2 if the address or token is malformed.
pub async fn connect(globals: &Globals) -> Result<Connection, Failure> {
    let address = parse::address(&globals.server);
    let bearer = match &globals.token {
        // The error is not shown: it might quote the token.
        Some(token) => Some(
            format!("Bearer {token}")
                .parse::<MetadataValue<Ascii>>()
                .map_err(|_| Failure::usage("the token holds characters that cannot be sent"))?,
        ),
        None => None,
    }
    .map(|mut value| {
        value.set_sensitive(true);
        value
    });
    let mut endpoint = Endpoint::from_shared(address.clone())
        .map_err(|e| Failure::usage(format!("{address:?} is no server address")).because(&e).hint("write host:port"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    if address.starts_with("https://") {
        endpoint = endpoint
            .tls_config(tls(globals).await?)
            .map_err(|e| Failure::usage("the certificate is unusable").because(&e))?;
    }
    let channel = endpoint.connect().await.map_err(|e| Failure::unreachable(&address, &e))?;
    Ok(Connection { channel, bearer: Bearer(bearer) })
}

async fn tls(globals: &Globals) -> Result<ClientTlsConfig, Failure> {
    let Some(path) = &globals.ca_file else {
        return Err(Failure::usage("https needs the certificate of the authority that signed the server's").hint(
            "name it with --ca-file or VISAGE_CA_FILE; for a public authority /etc/ssl/certs/ca-certificates.crt",
        ));
    };
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path).await?));
    Ok(match (&globals.client_certificate, &globals.client_key) {
        (Some(certificate), Some(key)) => {
            config.identity(Identity::from_pem(read(certificate).await?, read(key).await?))
        }
        _ => config,
    })
}

async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    tokio::fs::read(path).await.map_err(|e| Failure::usage(format!("cannot read {}", path.display())).because(&e))
}
