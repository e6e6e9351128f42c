//! What a client may send, and how much of everything it may ask for: section `[limits]`. Enforced before anything is decoded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::{clients::ClientLimits, connections::ConnectionLimits};

/// Input limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiLimits {
    /// Most bytes of a message.
    pub message_bytes: usize,
    /// Most bytes of a picture.
    pub picture_bytes: usize,
    /// Most pixels of a picture.
    pub picture_pixels: u64,
    /// Most faces of a picture.
    pub faces_per_picture: usize,
    /// Most pictures of one enrolment stream.
    pub pictures_per_enrolment: usize,
    /// Most requests at one time on one connection.
    pub requests_per_connection: usize,
    /// Requests a second that a client may make over time; a client is a token, or an address where none is asked for.
    pub requests_per_second: u32,
    /// Requests that a client may make at once after a rest.
    pub request_burst: u32,
    /// Requests of a client that are answered at one time.
    pub requests_per_client: usize,
    /// Streams of a client that stand at one time.
    pub streams_per_client: usize,
    /// Connections of the gRPC listener.
    pub connections: usize,
    /// Connections of the HTTP listener.
    pub http_connections: usize,
    /// Connections of a listener from one address.
    pub connections_per_address: usize,
    /// Seconds in which a connection must have said what it wants: its TLS handshake, its first bytes, the head of an HTTP/1 request.
    pub greeting_seconds: u64,
}

impl ApiLimits {
    /// Those of each client.
    pub fn client(&self) -> ClientLimits {
        ClientLimits {
            requests_per_second: self.requests_per_second,
            request_burst: self.request_burst,
            requests: self.requests_per_client,
            streams: self.streams_per_client,
        }
    }

    /// The time in which a connection must have said what it wants.
    pub fn greeting(&self) -> Duration {
        Duration::from_secs(self.greeting_seconds)
    }

    /// Those of a listener that takes `total` connections.
    pub fn of_listener(&self, total: usize) -> ConnectionLimits {
        ConnectionLimits { total, per_address: self.connections_per_address, greeting: self.greeting() }
    }
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            message_bytes: 48 << 20,
            picture_bytes: 20 << 20,
            picture_pixels: 50_000_000,
            faces_per_picture: 200,
            pictures_per_enrolment: 10_000,
            requests_per_connection: 256,
            requests_per_second: 1000,
            request_burst: 2000,
            requests_per_client: 256,
            streams_per_client: 1024,
            connections: 2048,
            http_connections: 256,
            connections_per_address: 512,
            greeting_seconds: 10,
        }
    }
}
