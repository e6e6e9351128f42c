//! Connections of both listeners: accepted, counted, their handshakes beside each other, bounded in number and time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken};

use super::tls::{Configurations, Listener};
use crate::{
    access::connections::{ConnectionLimits, Connections, Guest, Seat},
    telemetry,
};

/// Handshakes at once; who comes then waits in the system's queue.
const HANDSHAKES: usize = 256;
/// A rest after a failure to accept, such as too many open files.
const REST: Duration = Duration::from_millis(500);

/// A connection that may be served.
pub type Connection = Guest<Either<TcpStream, TlsStream<TcpStream>>>;

/// Accepts the connections of one listener.
pub struct Acceptor {
    /// Where they come.
    pub listener: TcpListener,
    /// Which listener that is.
    pub which: Listener,
    /// How they are encrypted; `None`: not at all.
    pub tls: Option<watch::Receiver<Arc<Configurations>>>,
    /// How many there may be.
    pub limits: ConnectionLimits,
}

impl Acceptor {
    /// Hands out connections whose handshake succeeded, until `stop` or until nobody takes them.
    pub async fn run(self, connections: mpsc::Sender<Connection>, stop: CancellationToken) {
        let counted = Connections::new(self.limits);
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            if handshakes.len() >= HANDSHAKES {
                tokio::select! {
                    _ = handshakes.join_next() => continue,
                    () = stop.cancelled() => return,
                }
            }
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = connections.closed() => return,
                () = stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            match counted.take(peer.ip()) {
                Ok(seat) => drop(handshakes.spawn(self.welcome(stream, peer, seat, &counted, connections.clone()))),
                // Closed at once: an answer would cost what the limit saves.
                Err(why) => {
                    telemetry::connection_refused(self.which.as_str(), why.as_str());
                    tracing::debug!(%peer, reason = why.as_str(), "a connection too many was closed");
                }
            }
        }
    }

    /// The handshake of one connection, in the time that it has.
    fn welcome(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        seat: Seat,
        counted: &Connections,
        connections: mpsc::Sender<Connection>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let acceptor = self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().of(self.which)));
        let (limit, counted) = (self.limits.greeting, counted.clone());
        async move {
            // Small messages must not wait for more.
            let _ = stream.set_nodelay(true);
            let stream = match acceptor {
                None => Either::Left(stream),
                Some(acceptor) => match timeout(limit, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => Either::Right(stream),
                    Ok(Err(error)) => return tracing::debug!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
                },
            };
            // Nobody takes it when the server ends.
            drop(connections.send(counted.guest(stream, peer, seat)).await);
        }
    }
}
