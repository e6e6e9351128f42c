//! Which addresses a camera may have: whoever may register cameras must not make the server talk to what is no camera.
//!
//! Pure rules over addresses; names are resolved elsewhere, and every address they lead to is judged here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use super::{CameraSpec, SpecError};

/// Where clouds answer questions about a machine, its passwords included.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Addresses of one cable, never routed.
const LINK_LOCAL: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
];

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// 0.0.0.0 or `::`.
    #[error("it is no address of a machine")]
    Unspecified,
    /// A group of receivers.
    #[error("it is a multicast address")]
    Multicast,
    /// Everybody on the cable.
    #[error("it is a broadcast address")]
    Broadcast,
    /// A cloud's metadata.
    #[error("it is a metadata address of clouds")]
    Metadata,
    /// Never routed.
    #[error("it is link-local; list its network in cameras.networks if the camera really is there")]
    LinkLocal,
    /// Not in the list.
    #[error("it is in none of cameras.networks")]
    NotListed,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write 10.0.0.0/8, 192.168.1.7 or fd00::/8")]
pub struct NoNetwork(pub String);

/// The networks in which cameras may be. The default allows everything but what never is a camera.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Option<Vec<IpNet>>);

impl Networks {
    /// Networks such as `10.0.0.0/8`, or single addresses. An empty list allows none.
    ///
    /// # Errors
    /// The first text that is no network.
    pub fn listed(texts: &[String]) -> Result<Self, NoNetwork> {
        let network = |text: &String| {
            let text = text.trim();
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        let parsed = texts.iter().map(|text| network(text).ok_or_else(|| NoNetwork(text.chars().take(60).collect())));
        Ok(Self(Some(parsed.collect::<Result<_, _>>()?)))
    }

    /// Whether a camera may have this address. IPv4 addresses inside of IPv6 ones are judged as what they are.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, address: IpAddr) -> Result<(), Barred> {
        if let Some(inner) = embedded(address) {
            self.judge(IpAddr::V4(inner))?;
            if address.to_canonical().is_ipv4() {
                return Ok(());
            }
        }
        self.judge(address)
    }

    fn judge(&self, address: IpAddr) -> Result<(), Barred> {
        if address.is_unspecified() || matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0) {
            return Err(Barred::Unspecified);
        }
        if address.is_multicast() {
            return Err(Barred::Multicast);
        }
        if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(Barred::Broadcast);
        }
        if METADATA.contains(&address) {
            return Err(Barred::Metadata);
        }
        let inside = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        if inside(&LINK_LOCAL) {
            // Only a list that means it: 0.0.0.0/0 does not.
            let meant = |network: &&IpNet| LINK_LOCAL.iter().any(|all| all.contains(*network));
            let listed = self.0.iter().flatten().filter(meant).any(|network| network.contains(&address));
            return if listed { Ok(()) } else { Err(Barred::LinkLocal) };
        }
        match &self.0 {
            Some(networks) if !inside(networks) => Err(Barred::NotListed),
            _ => Ok(()),
        }
    }

    /// What can be told of a camera before it is connected to: URLs with an address instead of a name.
    pub fn faults(&self, spec: &CameraSpec) -> Vec<SpecError> {
        let urls = [("url", Some(&spec.url)), ("substream_url", spec.substream.as_ref())];
        let barred = |(field, url): (&'static str, Option<&Url>)| {
            let address = literal(url?)?;
            let why = self.admits(address).err()?;
            Some(SpecError { field, message: format!("{address} is not connected to: {why}") })
        };
        urls.into_iter().filter_map(barred).collect()
    }
}

/// The address that a URL names; `None` for a host name.
pub fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        // The host of `rtsp` is opaque to `url`, so that addresses come as names.
        Host::Domain(name) => name.parse().ok(),
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64, 6to4.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let [a, b, c, d, .., y, z] = v6.segments();
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return Some(mapped);
    }
    match (a, b) {
        (0, 0) if c == 0 && d == 0 && !v6.is_loopback() && !v6.is_unspecified() => Some(pair(y, z)),
        (0x64, 0xff9b) => Some(pair(y, z)),
        (0x2002, _) => Some(pair(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(networks: &[&str]) -> Networks {
        Networks::listed(&networks.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn judged(networks: &Networks, address: &str) -> Result<(), Barred> {
        networks.admits(address.parse().unwrap())
    }

    #[test]
    fn without_a_list_everything_is_allowed_but_what_is_no_camera() {
        let open = Networks::default();
        for address in ["10.0.0.7", "127.0.0.1", "::1", "192.168.1.1", "8.8.8.8", "2001:db8::7", "fd12::1"] {
            assert_eq!(judged(&open, address), Ok(()), "{address}");
        }
        for (address, why) in [
            ("169.254.169.254", Barred::Metadata),
            ("::ffff:169.254.169.254", Barred::Metadata),
            ("64:ff9b::a9fe:a9fe", Barred::Metadata),
            ("2002:a9fe:a9fe::1", Barred::Metadata),
            ("::169.254.169.254", Barred::Metadata),
            ("fd00:ec2::254", Barred::Metadata),
            ("169.254.3.4", Barred::LinkLocal),
            ("fe80::1", Barred::LinkLocal),
            ("febf::1", Barred::LinkLocal),
            ("0.0.0.0", Barred::Unspecified),
            ("0.1.2.3", Barred::Unspecified),
            ("::", Barred::Unspecified),
            ("224.0.0.1", Barred::Multicast),
            ("ff02::1", Barred::Multicast),
            ("255.255.255.255", Barred::Broadcast),
        ] {
            assert_eq!(judged(&open, address), Err(why), "{address}");
        }
    }

    #[test]
    fn a_list_allows_what_is_in_it_and_nothing_else() {
        let own = listed(&["10.0.0.0/8", "192.168.1.7", "fd00::/8"]);
        for address in ["10.200.3.4", "192.168.1.7", "fd12::1", "::ffff:10.0.0.1"] {
            assert_eq!(judged(&own, address), Ok(()), "{address}");
        }
        for address in ["127.0.0.1", "192.168.1.8", "11.0.0.1", "::1", "2002:b00:1::1"] {
            assert_eq!(judged(&own, address), Err(Barred::NotListed), "{address}");
        }
        assert_eq!(judged(&own, "fd00:ec2::254"), Err(Barred::Metadata));
        assert_eq!(judged(&listed(&[]), "10.0.0.1"), Err(Barred::NotListed));
    }

    #[test]
    fn link_local_cameras_need_a_list_that_means_them() {
        assert_eq!(judged(&listed(&["0.0.0.0/0"]), "169.254.3.4"), Err(Barred::LinkLocal));
        let meant = listed(&["169.254.0.0/16", "fe80::/64"]);
        assert_eq!((judged(&meant, "169.254.3.4"), judged(&meant, "fe80::7")), (Ok(()), Ok(())));
        assert_eq!(judged(&meant, "169.254.169.254"), Err(Barred::Metadata));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for bad in ["10.0.0.0/33", "camera.local", "", "10.0.0"] {
            let error = Networks::listed(&[bad.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("is no network"), "{error}");
        }
    }

    #[test]
    fn addresses_are_found_in_urls_however_they_are_written() {
        let of = |text: &str| literal(&Url::parse(text).unwrap()).map(|address| address.to_string());
        assert_eq!(of("rtsp://169.254.169.254/x").as_deref(), Some("169.254.169.254"));
        assert_eq!(of("rtsp://[fe80::1]:554/x").as_deref(), Some("fe80::1"));
        assert_eq!(of("rtsp://camera.local/x"), None);
    }
}
