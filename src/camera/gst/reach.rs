//! Where a camera is: its name resolved, every address judged, and why it can't be reached (GStreamer says only "could not open
//! resource", the system knows more).

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use url::Url;

use crate::camera::{
    networks::Networks,
    source::{Cause, SourceEnd},
};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn host_and_port(url: &Url) -> Option<(String, u16)> {
    // An IPv6 address stands in brackets in a URL, and without them everywhere else.
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(if url.scheme() == "rtsps" { 322 } else { 554 });
    Some((host, port))
}

/// The address to connect to: the name is looked up once, here, so that it can't mean another machine later.
///
/// # Errors
/// [`Cause::Dns`] without an address, [`Cause::Barred`] when none is allowed; with several that are, why the last one can't be reached.
pub(super) async fn resolve(url: &Url, networks: &Networks) -> Result<SocketAddr, SourceEnd> {
    let dns = || SourceEnd::new(Cause::Dns, "");
    let (host, port) = host_and_port(url).ok_or_else(dns)?;
    let found = timeout(PATIENCE, lookup_host((host.as_str(), port))).await;
    let found: Vec<SocketAddr> = found.ok().and_then(Result::ok).ok_or_else(dns)?.collect();
    let allowed = allowed(&found, networks)?;
    match allowed.as_slice() {
        [] => Err(dns()),
        [only] => Ok(*only),
        several => first_open(several).await,
    }
}

/// The addresses that are allowed, IPv4 first.
fn allowed(found: &[SocketAddr], networks: &Networks) -> Result<Vec<SocketAddr>, SourceEnd> {
    let mut allowed: Vec<SocketAddr> = found.iter().filter(|at| networks.admits(at.ip()).is_ok()).copied().collect();
    allowed.dedup();
    allowed.sort_by_key(SocketAddr::is_ipv6);
    let barred = found.iter().find_map(|at| Some((at.ip(), networks.admits(at.ip()).err()?)));
    match barred {
        Some((address, why)) if allowed.is_empty() => Err(SourceEnd::new(Cause::Barred, format!("{address}: {why}"))),
        _ => Ok(allowed),
    }
}

/// The first address that somebody listens at: cameras seldom listen at all that a name leads to.
async fn first_open(addresses: &[SocketAddr]) -> Result<SocketAddr, SourceEnd> {
    let mut last = SourceEnd::new(Cause::Dns, "");
    for address in addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(*address),
            Ok(Err(error)) => last = SourceEnd::new(cause(&error), ""),
            Err(_) => last = SourceEnd::new(Cause::ConnectTimeout, ""),
        }
    }
    Err(last)
}

fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Cause::Unreachable,
        ErrorKind::TimedOut => Cause::ConnectTimeout,
        _ => Cause::Refused,
    }
}

/// Tells a refused connection from an unreachable or silent host by trying it once more.
pub(super) async fn refine(end: SourceEnd, url: &Url, address: SocketAddr) -> SourceEnd {
    if end.cause != Cause::Refused {
        return end;
    }
    let cause = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Err(_) => Cause::ConnectTimeout,
        // The port is open, so it was the handshake that failed.
        Ok(Ok(_)) if url.scheme() == "rtsps" => Cause::Tls,
        Ok(Ok(_)) => Cause::Other,
        Ok(Err(e)) => cause(&e),
    };
    SourceEnd { cause, ..end }
}

/// How GStreamer is told to connect to one address and no other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    /// The URL to ask for.
    pub(super) location: String,
    /// The address to connect to whatever the URL says, also after a redirection.
    pub(super) proxy: Option<String>,
}

impl Pinned {
    /// `verified`: the certificate must name the host, which keeps everybody else away and needs the name.
    pub(super) fn new(url: &Url, address: SocketAddr, verified: bool) -> Self {
        let named = crate::camera::networks::literal(url).is_none();
        if named && verified {
            return Self { location: url.to_string(), proxy: None };
        }
        match address.ip() {
            // rtspsrc connects to its "proxy" and speaks RTSP with it as with the camera, so the name stays in what is asked for.
            IpAddr::V4(ip) => Self { location: url.to_string(), proxy: Some(format!("{ip}:{}", address.port())) },
            // It can't read an IPv6 address there.
            IpAddr::V6(ip) => {
                let host = format!("[{ip}]");
                let authority = &url[url::Position::BeforeHost..url::Position::AfterHost];
                Self { location: url.as_str().replacen(authority, &host, 1), proxy: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_as_good_as_its_allowed_addresses() {
        let open = Networks::default();
        let at = |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        let found = at(&["[fd00::7]:554", "169.254.169.254:554", "10.0.0.7:554"]);
        assert_eq!(allowed(&found, &open).unwrap(), at(&["10.0.0.7:554", "[fd00::7]:554"]));
        let end = allowed(&at(&["169.254.169.254:554"]), &open).unwrap_err();
        assert_eq!(end.cause, Cause::Barred);
        assert!(end.reason().message.contains("169.254.169.254: it is a metadata address"), "{}", end.reason().message);
        assert!(allowed(&[], &open).unwrap().is_empty());
    }

    #[tokio::test]
    async fn numbers_that_only_resolvers_read_are_judged_as_well() {
        for host in ["2852039166", "0xa9.0xfe.0xa9.0xfe", "169.254.43518", "[::ffff:a9fe:a9fe]"] {
            let end = resolve(&url(&format!("rtsp://{host}/latest")), &Networks::default()).await.unwrap_err();
            assert!(matches!(end.cause, Cause::Barred | Cause::Dns), "{host}: {end:?}");
        }
        let own = Networks::listed(&["10.0.0.0/8".to_owned()]).unwrap();
        assert_eq!(resolve(&url("rtsp://localhost:1/x"), &own).await.unwrap_err().cause, Cause::Barred);
    }

    #[test]
    fn the_connection_goes_where_it_was_judged() {
        let (v4, v6): (SocketAddr, SocketAddr) = ("10.0.0.7:8554".parse().unwrap(), "[fd00::7]:554".parse().unwrap());
        let pinned = Pinned::new(&url("rtsp://door.local:8554/main?x=1"), v4, false);
        assert_eq!(pinned.location, "rtsp://door.local:8554/main?x=1");
        assert_eq!(pinned.proxy.as_deref(), Some("10.0.0.7:8554"));
        let pinned = Pinned::new(&url("rtsp://door.local/door.local"), v6, false);
        assert_eq!((pinned.location.as_str(), pinned.proxy), ("rtsp://[fd00::7]/door.local", None));
        let pinned = Pinned::new(&url("rtsps://door.local/x"), v4, true);
        assert_eq!((pinned.location.as_str(), pinned.proxy), ("rtsps://door.local/x", None));
        assert!(Pinned::new(&url("rtsps://10.0.0.7/x"), v4, true).proxy.is_some());
    }
}
