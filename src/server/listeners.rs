//! The two listeners: bound, encrypted where TLS is on, served in tasks.

use std::net::SocketAddr;

use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::sync::CancellationToken;

use super::{
    StartError, http,
    readiness::Health,
    tls::{self, Tls},
};
use crate::{
    access::Gate,
    api::{self, Services},
};

/// What runs until the server ends; whoever holds it awaits them all.
pub(super) type Tasks = JoinSet<Result<(), StartError>>;

/// Connections that are encrypted and wait to be served, at most; the next handshakes wait.
const CONNECTIONS_WAITING: usize = 16;

/// Handshakes of a listener in a task of their own; what comes out of them.
fn handshakes(
    tasks: &mut Tasks,
    listener: TcpListener,
    which: tls::Listener,
    tls: &Tls,
    stop: &CancellationToken,
) -> mpsc::Receiver<tls::Connection> {
    let (sender, connections) = mpsc::channel(CONNECTIONS_WAITING);
    let (configurations, stop) = (tls.watch(), stop.clone());
    tasks.spawn(async move {
        tls::accept(listener, which, configurations, sender, stop).await;
        Ok(())
    });
    connections
}

/// Serves health and metrics.
pub(super) fn serve_http(
    tasks: &mut Tasks,
    listener: TcpListener,
    tls: Option<&Tls>,
    health: Health,
    gate: http::MetricsGate,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let failed = |e: std::io::Error| StartError::Serve(e.to_string());
    let ended = stop.clone();
    match tls {
        Some(tls) => {
            let addr = listener.local_addr().map_err(failed)?;
            let connections = handshakes(tasks, listener, tls::Listener::Http, tls, stop);
            let listener = http::TlsListener { addr, connections };
            tasks.spawn(async move { http::serve(listener, health, gate, ended).await.map_err(failed) });
        }
        None => {
            tasks.spawn(async move { http::serve(listener, health, gate, ended).await.map_err(failed) });
        }
    }
    Ok(())
}

/// Serves the API.
pub(super) fn serve_grpc(
    tasks: &mut Tasks,
    listener: TcpListener,
    tls: Option<&Tls>,
    services: Services,
    gate: Option<Gate>,
    (draining, stop): (&CancellationToken, &CancellationToken),
) {
    let (draining, ended) = (draining.clone(), stop.clone());
    match tls {
        Some(tls) => {
            let connections = handshakes(tasks, listener, tls::Listener::Grpc, tls, stop);
            let connections = ReceiverStream::new(connections).map(|(stream, _)| Ok(stream));
            tasks.spawn(async move {
                let served = api::serve(connections, services, gate, draining, ended);
                served.await.map_err(|e| StartError::Serve(e.to_string()))
            });
        }
        None => {
            let connections = TcpListenerStream::new(listener);
            tasks.spawn(async move {
                let served = api::serve(connections, services, gate, draining, ended);
                served.await.map_err(|e| StartError::Serve(e.to_string()))
            });
        }
    }
}

/// Takes an address; `flag` is the one that names another.
///
/// # Errors
/// When it can't be taken.
pub(super) async fn bind(what: &'static str, addr: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Listen { what, addr, flag, source })
}
