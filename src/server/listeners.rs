//! The two listeners: bound, their connections counted and encrypted where TLS is on, served in tasks.

use std::net::SocketAddr;

use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use super::{
    StartError,
    accept::{Acceptor, Connection},
    http,
    readiness::Health,
    tls::{Listener, Tls},
};
use crate::api::{self, Services, door::Door, limits::ApiLimits};

/// What runs until the server ends; whoever holds it awaits them all.
pub(super) type Tasks = JoinSet<Result<(), StartError>>;

/// Connections that wait to be served, at most; the next wait in the system's queue.
const CONNECTIONS_WAITING: usize = 16;

/// Accepts connections in a task of its own; what comes out of it.
fn accepted(tasks: &mut Tasks, acceptor: Acceptor, stop: &CancellationToken) -> mpsc::Receiver<Connection> {
    let (sender, connections) = mpsc::channel(CONNECTIONS_WAITING);
    let stop = stop.clone();
    tasks.spawn(async move {
        acceptor.run(sender, stop).await;
        Ok(())
    });
    connections
}

/// Serves health and metrics.
pub(super) fn serve_http(
    tasks: &mut Tasks,
    listener: TcpListener,
    tls: Option<&Tls>,
    limits: &ApiLimits,
    health: Health,
    gate: http::MetricsGate,
    stop: &CancellationToken,
) {
    let tls = tls.map(Tls::watch);
    let acceptor =
        Acceptor { listener, which: Listener::Http, tls, limits: limits.of_listener(limits.http_connections) };
    let connections = accepted(tasks, acceptor, stop);
    let (head, ended) = (limits.greeting(), stop.clone());
    tasks.spawn(async move {
        http::serve(connections, head, health, gate, ended).await;
        Ok(())
    });
}

/// Serves the API.
pub(super) fn serve_grpc(
    tasks: &mut Tasks,
    listener: TcpListener,
    tls: Option<&Tls>,
    services: Services,
    door: Door,
    (draining, stop): (&CancellationToken, &CancellationToken),
) {
    let limits = services.limits.of_listener(services.limits.connections);
    let acceptor = Acceptor { listener, which: Listener::Grpc, tls: tls.map(Tls::watch), limits };
    let connections = ReceiverStream::new(accepted(tasks, acceptor, stop)).map(Ok);
    let (draining, ended) = (draining.clone(), stop.clone());
    tasks.spawn(async move {
        let served = api::serve(connections, services, door, draining, ended);
        served.await.map_err(|e| StartError::Serve(e.to_string()))
    });
}

/// Takes an address; `flag` is the one that names another.
///
/// # Errors
/// When it can't be taken.
pub(super) async fn bind(what: &'static str, addr: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Listen { what, addr, flag, source })
}
