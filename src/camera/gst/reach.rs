//! Why a camera can't be reached: GStreamer says only "could not open resource", the system knows more.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use url::Url;

use crate::camera::source::{Cause, SourceEnd};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn address(url: &Url) -> Option<(String, u16)> {
    // An IPv6 address stands in brackets in a URL, and without them everywhere else.
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(if url.scheme() == "rtsps" { 322 } else { 554 });
    Some((host, port))
}

/// Refuses a host that has no address.
///
/// # Errors
/// [`Cause::Dns`].
pub(super) async fn resolve(url: &Url) -> Result<(), SourceEnd> {
    let Some((host, port)) = address(url) else { return Ok(()) };
    let found = timeout(PATIENCE, lookup_host((host.as_str(), port))).await;
    let any = found.ok().and_then(Result::ok).is_some_and(|addresses| addresses.count() > 0);
    if any { Ok(()) } else { Err(SourceEnd::new(Cause::Dns, "")) }
}

/// Tells a refused connection from an unreachable or silent host by trying it once more.
pub(super) async fn refine(end: SourceEnd, url: &Url) -> SourceEnd {
    if end.cause != Cause::Refused {
        return end;
    }
    let Some((host, port)) = address(url) else { return end };
    let cause = match timeout(PATIENCE, TcpStream::connect((host.as_str(), port))).await {
        Err(_) => Cause::ConnectTimeout,
        // The port is open, so it was the handshake that failed.
        Ok(Ok(_)) if url.scheme() == "rtsps" => Cause::Tls,
        Ok(Ok(_)) => Cause::Other,
        Ok(Err(e)) => match e.kind() {
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Cause::Unreachable,
            ErrorKind::TimedOut => Cause::ConnectTimeout,
            _ => Cause::Refused,
        },
    };
    SourceEnd { cause, ..end }
}
