//! Where a relay is found.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use mytunnel_carrier::websocket::Place;

use crate::carrier::Carrier;

/// A relay: the key it must prove, and the addresses it may be reached at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAddress {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
}

impl RelayAddress {
    /// Reads a relay's peer id and multiaddresses (`/ip4/…/udp/…/quic-v1`, `/dns/…/tcp/…`), as the coordinator lists
    /// them. A `/p2p/…` at the end of an address must name the same peer. Addresses of carriers that this version
    /// does not speak are passed over.
    ///
    /// # Errors
    /// [`RelayAddressError`]; also when no usable address is left.
    pub fn parse<A: AsRef<str>>(
        peer: &str,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, RelayAddressError> {
        let id: PeerId = peer.parse().map_err(|_| RelayAddressError::Peer(peer.to_owned()))?;
        if mytunnel_carrier::public_key(&id).is_none() {
            return Err(RelayAddressError::Key(peer.to_owned()));
        }
        let mut usable = Vec::new();
        for address in addresses {
            let address = bare(address.as_ref(), id)?;
            if carrier(&address).is_some() {
                usable.push(address);
            }
        }
        if usable.is_empty() {
            return Err(RelayAddressError::Unreachable(peer.to_owned()));
        }
        Ok(Self { peer: id, addresses: usable })
    }

    /// The same relay, by its addresses of one carrier; `None` if it has none.
    pub fn only(&self, carrier: Carrier) -> Option<Self> {
        let addresses = self.over(carrier);
        (!addresses.is_empty()).then_some(Self { peer: self.peer, addresses })
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    pub(crate) fn over(&self, wanted: Carrier) -> Vec<Multiaddr> {
        self.addresses.iter().filter(|address| carrier(address) == Some(wanted)).cloned().collect()
    }
}

/// Which carrier an address is for.
pub(crate) fn carrier(address: &Multiaddr) -> Option<Carrier> {
    if Place::of(address).is_some() {
        return Some(Carrier::WebSocket);
    }
    let mut parts = address.iter().skip(1);
    match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Udp(_), Some(Protocol::QuicV1), None | Some(Protocol::P2p(_))) => Some(Carrier::Quic),
        (Protocol::Tcp(_), None | Some(Protocol::P2p(_)), _) => Some(Carrier::Tcp),
        _ => None,
    }
}

/// The address without the peer at its end.
fn bare(text: &str, peer: PeerId) -> Result<Multiaddr, RelayAddressError> {
    let mut address: Multiaddr = text.parse().map_err(|_| RelayAddressError::Address(text.to_owned()))?;
    match mytunnel_carrier::address::peer(&address) {
        Some(other) if other != peer => Err(RelayAddressError::OtherPeer(text.to_owned())),
        Some(_) => {
            address.pop();
            Ok(address)
        }
        None => Ok(address),
    }
}

/// Why a relay's address is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayAddressError {
    /// Not a peer id.
    #[error("{0:?} is not a peer id")]
    Peer(String),
    /// The peer id does not contain a sound Ed25519 key.
    #[error("the peer id {0:?} is not that of an Ed25519 key")]
    Key(String),
    /// Not a multiaddress.
    #[error("{0:?} is not a multiaddress")]
    Address(String),
    /// The address names another peer than the relay.
    #[error("the address {0:?} belongs to another peer")]
    OtherPeer(String),
    /// No address that this version can dial.
    #[error("relay {0} has no address over QUIC, TCP or a WebSocket")]
    Unreachable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer id of an Ed25519 key.
    fn peer(seed: u8) -> String {
        let seed = mytunnel_keys::secret::Seed::from_bytes([seed; 32]);
        mytunnel_carrier::peer_id(&seed.public()).to_string()
    }

    #[test]
    fn addresses_are_sorted_by_carrier() {
        let id = peer(1);
        let relay = RelayAddress::parse(
            &id,
            [
                "/ip4/192.0.2.1/udp/4001/quic-v1".to_owned(),
                format!("/dns4/relay.example/tcp/4001/p2p/{id}"),
                "/ip4/192.0.2.1/udp/4001/webrtc-direct".to_owned(),
                "/ip4/192.0.2.1/tcp/443/wss".to_owned(),
            ],
        )
        .unwrap();
        let text = |carrier| relay.over(carrier).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(Carrier::Quic), ["/ip4/192.0.2.1/udp/4001/quic-v1"]);
        assert_eq!(text(Carrier::Tcp), ["/dns4/relay.example/tcp/4001"]);
        assert_eq!(text(Carrier::WebSocket), ["/ip4/192.0.2.1/tcp/443/wss"]);
        let only = relay.only(Carrier::Tcp).unwrap();
        assert_eq!((only.only(Carrier::Quic), only.only(Carrier::Tcp)), (None, Some(only.clone())));
    }

    #[test]
    fn what_is_no_relay_says_why() {
        let id = peer(1);
        let other = format!("/ip4/192.0.2.1/tcp/1/p2p/{}", peer(2));
        let parse = |peer: &str, address: &str| RelayAddress::parse(peer, [address]).unwrap_err();
        assert!(matches!(parse("x", "/ip4/192.0.2.1/tcp/1"), RelayAddressError::Peer(_)));
        assert!(matches!(parse(&id, "192.0.2.1:1"), RelayAddressError::Address(_)));
        assert!(matches!(parse(&id, &other), RelayAddressError::OtherPeer(_)));
        assert!(matches!(parse(&id, "/ip4/192.0.2.1/tcp/1/ws"), RelayAddressError::Unreachable(_)));
        let rsa = PeerId::random().to_string();
        assert!(matches!(parse(&rsa, "/ip4/192.0.2.1/tcp/1"), RelayAddressError::Key(_)));
    }
}
