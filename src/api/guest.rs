//! Where a request comes from, as connections tell it to services.

use std::net::SocketAddr;

use tonic::transport::server::Connected;

use crate::access::connections::Guest;

/// Address of the caller; an extension of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl<IO> Connected for Guest<IO> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer())
    }
}
