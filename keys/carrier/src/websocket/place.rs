//! Where a relay takes WebSockets, as libp2p writes it: `/ip4/192.0.2.1/tcp/443/tls/sni/mytunnel.example/ws`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Host, port and name of a relay for WebSockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    host: Host,
    port: u16,
    /// The host that the relay is asked for, where that is not its address.
    name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String, Family),
}

/// Which addresses of a name are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    pub(super) const fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

impl Place {
    /// Reads an address, which may end with a peer. `None` if it is one of another kind.
    pub fn of(address: &Multiaddr) -> Option<Self> {
        let parts: Vec<Protocol<'_>> = address.iter().collect();
        let [first, Protocol::Tcp(port), rest @ ..] = parts.as_slice() else { return None };
        let (name, path) = match rest {
            [Protocol::Wss(path)]
            | [Protocol::Wss(path), Protocol::P2p(_)]
            | [Protocol::Tls, Protocol::Ws(path)]
            | [Protocol::Tls, Protocol::Ws(path), Protocol::P2p(_)] => (None, path),
            [Protocol::Tls, Protocol::Sni(name), Protocol::Ws(path)]
            | [Protocol::Tls, Protocol::Sni(name), Protocol::Ws(path), Protocol::P2p(_)] => {
                (Some(name.clone().into_owned()), path)
            }
            _ => return None,
        };
        (path == "/").then_some(Self { host: Host::of(first)?, port: *port, name })
    }

    /// The place of a relay that is at `host`, the host of another address of its, and serves `name` at this port.
    pub fn beside(host: &Multiaddr, port: u16, name: &str) -> Option<Multiaddr> {
        let first = host.iter().next()?;
        let is_somewhere = match Host::of(&first)? {
            Host::Ip(ip) => !ip.is_unspecified(),
            Host::Name(..) => true,
        };
        let tls = Multiaddr::from(first).with(Protocol::Tcp(port)).with(Protocol::Tls);
        is_somewhere.then(|| tls.with(Protocol::Sni(name.into())).with(Protocol::Ws("/".into())))
    }

    /// The host of the relay for TLS and HTTP.
    pub(super) fn name(&self) -> String {
        match (&self.name, &self.host) {
            (Some(name), _) | (None, Host::Name(name, _)) => name.clone(),
            (None, Host::Ip(ip)) => ip.to_string(),
        }
    }

    /// As the relay is asked for it, without the port of HTTPS.
    pub(super) fn authority(&self) -> String {
        let name = self.name();
        match (self.port, name.contains(':')) {
            (443, false) => name,
            (port, false) => format!("{name}:{port}"),
            (port, true) => format!("[{name}]:{port}"),
        }
    }

    pub(super) const fn host(&self) -> &Host {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }
}

impl Host {
    #[expect(clippy::wildcard_enum_match_arm, reason = "libp2p's list of protocols grows")]
    fn of(first: &Protocol<'_>) -> Option<Self> {
        match first {
            Protocol::Ip4(ip) => Some(Self::Ip((*ip).into())),
            Protocol::Ip6(ip) => Some(Self::Ip((*ip).into())),
            Protocol::Dns(name) => Some(Self::Name(name.clone().into_owned(), Family::Any)),
            Protocol::Dns4(name) => Some(Self::Name(name.clone().into_owned(), Family::V4)),
            Protocol::Dns6(name) => Some(Self::Name(name.clone().into_owned(), Family::V6)),
            _ => None,
        }
    }
}

/// As a proxy is asked for it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name, _) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn place(address: &str) -> Option<Place> {
        Place::of(&address.parse().unwrap())
    }

    #[test]
    fn a_place_has_a_host_a_port_and_the_name_that_is_asked_for() {
        let peer = PeerId::random();
        let sni = place(&format!("/ip4/192.0.2.1/tcp/443/tls/sni/relay.test/ws/p2p/{peer}")).unwrap();
        assert_eq!((sni.to_string().as_str(), sni.name().as_str()), ("192.0.2.1:443", "relay.test"));
        let v6 = place("/ip6/2001:db8::1/tcp/8443/wss").unwrap();
        assert_eq!((v6.to_string().as_str(), v6.name().as_str()), ("[2001:db8::1]:8443", "2001:db8::1"));
        let dns = place("/dns4/relay.test/tcp/443/tls/ws").unwrap();
        assert_eq!((dns.to_string().as_str(), dns.name().as_str()), ("relay.test:443", "relay.test"));
        assert_eq!(dns.host, Host::Name("relay.test".to_owned(), Family::V4));
    }

    #[test]
    fn what_is_another_way_is_no_place() {
        for address in [
            "/ip4/192.0.2.1/tcp/443",
            "/ip4/192.0.2.1/tcp/443/ws",
            "/ip4/192.0.2.1/tcp/443/tls",
            "/ip4/192.0.2.1/udp/443/quic-v1",
            "/ip4/192.0.2.1/tcp/443/tls/sni/relay.test",
            "/ip4/192.0.2.1/tcp/443/tls/ws/p2p-circuit",
            "/tcp/443/tls/ws",
        ] {
            assert_eq!(place(address), None, "{address}");
        }
    }

    #[test]
    fn a_relay_has_one_beside_each_host_that_it_is_reached_at() {
        let beside = |host: &str| Place::beside(&host.parse().unwrap(), 443, "relay.test");
        let found = beside("/ip4/192.0.2.1/udp/4001/quic-v1").unwrap();
        assert_eq!(found.to_string(), "/ip4/192.0.2.1/tcp/443/tls/sni/relay.test/ws");
        assert_eq!(Place::of(&found).unwrap().name(), "relay.test");
        assert!(beside("/dns/relay.test/tcp/4001").is_some());
        assert_eq!(beside("/ip4/0.0.0.0/tcp/4001"), None);
    }
}
