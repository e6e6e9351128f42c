//! Connections of a listener: counted in total and by address, and closed when they don't say anything soon.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::clients::Client;

/// Bytes that a connection must send in its first seconds: as many as HTTP/2 begins with. What follows has time limits of its own.
const GREETING: usize = 24;

/// Limits of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections in all.
    pub total: usize,
    /// Connections from one address.
    pub per_address: usize,
    /// In which time a connection must say something.
    pub greeting: Duration,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// In all.
    Total,
    /// From that address.
    Address,
}

impl TooMany {
    /// Its label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
        }
    }
}

#[derive(Default)]
struct Counted {
    total: usize,
    by_address: HashMap<Client, usize>,
}

/// The connections of a listener. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    limits: ConnectionLimits,
    counted: Arc<Mutex<Counted>>,
}

impl Connections {
    /// None yet.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, counted: Arc::default() }
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// When there are too many.
    pub fn take(&self, address: IpAddr) -> Result<Seat, TooMany> {
        let client = Client::at(Some(address));
        let mut counted = lock(&self.counted);
        if counted.total >= self.limits.total {
            return Err(TooMany::Total);
        }
        let of_address = counted.by_address.entry(client.clone()).or_default();
        if *of_address >= self.limits.per_address {
            return Err(TooMany::Address);
        }
        *of_address += 1;
        counted.total += 1;
        Ok(Seat { counted: self.counted.clone(), client })
    }

    /// A connection that was counted, with an eye on whether it speaks.
    pub fn guest<IO>(&self, io: IO, peer: SocketAddr, seat: Seat) -> Guest<IO> {
        let silence = Some(Box::pin(tokio::time::sleep(self.limits.greeting)));
        Guest { io, peer, heard: 0, silence, _seat: seat }
    }
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a connection, free again when it is dropped.
pub struct Seat {
    counted: Arc<Mutex<Counted>>,
    client: Client,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counted = lock(&self.counted);
        counted.total -= 1;
        if let Some(of_address) = counted.by_address.get_mut(&self.client) {
            *of_address -= 1;
            if *of_address == 0 {
                counted.by_address.remove(&self.client);
            }
        }
    }
}

/// A connection that is counted. Reading fails when it stays silent at its beginning.
pub struct Guest<IO> {
    io: IO,
    peer: SocketAddr,
    heard: usize,
    /// Until enough was heard.
    silence: Option<Pin<Box<Sleep>>>,
    _seat: Seat,
}

impl<IO> Guest<IO> {
    /// Where it comes from.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guest<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guest = self.get_mut();
        let before = into.filled().len();
        let read = Pin::new(&mut guest.io).poll_read(context, into);
        let Some(silence) = &mut guest.silence else { return read };
        guest.heard += into.filled().len() - before;
        if guest.heard >= GREETING {
            guest.silence = None;
        } else if read.is_pending() && silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said")));
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guest<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits { total: 3, per_address: 2, greeting: Duration::from_secs(10) };

    #[test]
    fn connections_are_counted_and_places_come_back() {
        let connections = Connections::new(LIMITS);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = connections.take(a).unwrap();
        let _second = connections.take(a).unwrap();
        assert_eq!(connections.take(a).err(), Some(TooMany::Address));
        let _third = connections.take(b).unwrap();
        assert_eq!(connections.take(b).err(), Some(TooMany::Total));
        drop(first);
        let _fourth = connections.take(b).unwrap();
        assert_eq!(lock(&connections.counted).by_address.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_sent_away_and_who_spoke_may_rest() {
        let connections = Connections::new(LIMITS);
        let peer: SocketAddr = "10.0.0.1:5".parse().unwrap();
        let guest = |io| connections.guest(io, peer, connections.take(peer.ip()).unwrap());
        for said in [0, GREETING - 1] {
            let (mut client, server) = duplex(100);
            client.write_all(&vec![b'x'; said]).await.unwrap();
            let mut bytes = Vec::new();
            let error = guest(server).read_to_end(&mut bytes).await.unwrap_err();
            assert_eq!((error.kind(), bytes.len()), (io::ErrorKind::TimedOut, said));
        }
        let (mut client, server) = duplex(100);
        client.write_all(&[b'x'; GREETING]).await.unwrap();
        let mut server = guest(server);
        let mut bytes = [0; GREETING];
        server.read_exact(&mut bytes).await.unwrap();
        let more = tokio::time::timeout(LIMITS.greeting * 10, server.read_exact(&mut bytes)).await;
        assert!(more.is_err(), "it was sent away after it had spoken");
    }
}
