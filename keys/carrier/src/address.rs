//! Addresses of a relay: from a socket to what libp2p listens on, and from a host name to what it can dial.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::net::lookup_host;

/// The QUIC and the TCP address of one socket address.
pub fn listen_on(socket: SocketAddr) -> [Multiaddr; 2] {
    let quic = Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1);
    let tcp = Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()));
    [quic, tcp]
}

/// The IP address that an address begins with.
#[expect(clippy::wildcard_enum_match_arm, reason = "libp2p's list of protocols grows")]
pub fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// The socket address that an address without a host name begins with, and what its port belongs to.
#[expect(clippy::wildcard_enum_match_arm, reason = "libp2p's list of protocols grows")]
pub fn socket(address: &Multiaddr) -> Option<(SocketAddr, Transport)> {
    let (port, transport) = match address.iter().nth(1)? {
        Protocol::Udp(port) => (port, Transport::Udp),
        Protocol::Tcp(port) => (port, Transport::Tcp),
        _ => return None,
    };
    Some((SocketAddr::new(ip(address)?, port), transport))
}

/// What a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and QUIC over it.
    Udp,
    /// TCP.
    Tcp,
}

/// The peer that an address ends with.
pub fn peer(address: &Multiaddr) -> Option<PeerId> {
    let Some(Protocol::P2p(peer)) = address.iter().last() else { return None };
    Some(peer)
}

/// Replaces a leading host name by its addresses; an address without one is returned as it is.
///
/// # Errors
/// Those of the system's resolver.
pub async fn resolve(address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
    let (host, family): (_, fn(&IpAddr) -> bool) = match address.iter().next() {
        Some(Protocol::Dns(host)) => (host.into_owned(), |_| true),
        Some(Protocol::Dns4(host)) => (host.into_owned(), IpAddr::is_ipv4),
        Some(Protocol::Dns6(host)) => (host.into_owned(), IpAddr::is_ipv6),
        _ => return Ok(vec![address.clone()]),
    };
    let found = lookup_host((host, 0)).await?.map(|socket| socket.ip()).filter(family);
    Ok(found.map(|ip| address.iter().skip(1).fold(Multiaddr::from(ip), Multiaddr::with)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    #[test]
    fn one_socket_is_two_addresses() {
        let [quic, tcp] = listen_on("[::1]:4001".parse().unwrap());
        assert_eq!(quic, parse("/ip6/::1/udp/4001/quic-v1"));
        assert_eq!(tcp, parse("/ip6/::1/tcp/4001"));
        assert_eq!(ip(&quic), Some("::1".parse().unwrap()));
        assert_eq!(peer(&tcp), None);
        let at = "[::1]:4001".parse().unwrap();
        assert_eq!([socket(&quic), socket(&tcp)], [Some((at, Transport::Udp)), Some((at, Transport::Tcp))]);
        assert_eq!(socket(&parse("/dns/relay.test/tcp/4001")), None);
    }

    #[test]
    fn the_last_part_names_the_peer() {
        let id = PeerId::random();
        assert_eq!(peer(&parse(&format!("/ip4/127.0.0.1/tcp/1/p2p/{id}"))), Some(id));
        assert_eq!(peer(&parse(&format!("/ip4/127.0.0.1/tcp/1/p2p/{id}/p2p-circuit"))), None);
    }

    #[tokio::test]
    async fn host_names_become_addresses_of_the_family_asked_for() {
        let found = resolve(&parse("/dns4/localhost/tcp/4001")).await.unwrap();
        assert_eq!(found.first(), Some(&parse("/ip4/127.0.0.1/tcp/4001")));
        assert!(found.iter().all(|address| ip(address).is_some_and(|ip| ip.is_ipv4())));

        let plain = parse("/ip4/192.0.2.1/udp/1/quic-v1");
        assert_eq!(resolve(&plain).await.unwrap(), [plain]);
    }
}
