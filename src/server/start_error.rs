//! Why a server does not start, or ends badly.

use std::{net::SocketAddr, path::PathBuf};

use super::tls::TlsError;
use crate::{
    access::{OidcRefusal, TokenStoreError, audit::AuditError},
    camera::networks::NoNetwork,
    face::FaceError,
    identity::GalleryError,
    models::ModelError,
    pipeline::fleet::FleetError,
    store::StoreError,
};

/// Why the server did not start: the part, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A model is missing or wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model id of the configuration is none.
    #[error(transparent)]
    Id(#[from] crate::ids::IdError),
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A replica of a cluster in the embedded mode: what is written there would be in no cluster.
    #[error(
        "the data folder {0} holds a node's replica of a cluster; set store = \"cluster\", or choose another with --data-dir"
    )]
    Replica(PathBuf),
    /// The networks.
    #[error(transparent)]
    Face(#[from] FaceError),
    /// The gallery.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The registered cameras.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Where cameras may be.
    #[error("cameras.networks: {0}")]
    Networks(#[from] NoNetwork),
    /// GStreamer.
    #[error("GStreamer could not be started: {0}")]
    Gstreamer(String),
    /// A listener.
    #[error("{what} address {addr} can't be used: {source}; choose another with --{flag}")]
    Listen {
        /// Which listener.
        what: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// Its flag.
        flag: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file of `[auth.oidc]`.
    #[error("auth.oidc: {0}")]
    Oidc(#[from] OidcRefusal),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokenStoreError),
    /// A listener failed while serving.
    #[error("a listener failed: {0}")]
    Serve(String),
    /// The data folder took no more.
    #[error("{0} events were never written: the data folder took nothing until the end")]
    Unwritten(usize),
    /// Draining was cut short.
    #[error("the server was ended before it had drained: {0}; events since the last one written may be missing")]
    Forced(&'static str),
}
