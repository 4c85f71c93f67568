//! Proxies in front of us, and whom they speak for.
//!
//! A header that names a client is worth what its sender is worth. It is believed of the peers that the operator named
//! and of nobody else; of a chain of such proxies it is believed as far back as the chain reaches.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use http::{HeaderMap, HeaderValue};
use mytunnel_keys::network::Network;
use serde::Deserialize;

use super::head::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// One address or network of trusted proxies, as an operator writes it: `10.0.0.7` or `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ProxyNetwork(Network);

/// Why a text names no network of proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyNetworkError {
    /// Neither an address nor a network.
    #[error("write an address or a network, such as 10.0.0.7 or 10.0.0.0/8")]
    Malformed,
    /// All addresses there are.
    #[error("whoever trusts every address lets visitors choose theirs: name the proxies")]
    Everybody,
}

impl FromStr for ProxyNetwork {
    type Err = ProxyNetworkError;

    fn from_str(text: &str) -> Result<Self, ProxyNetworkError> {
        let network: Network = text.parse().map_err(|_| ProxyNetworkError::Malformed)?;
        if network.is_everything() {
            return Err(ProxyNetworkError::Everybody);
        }
        Ok(Self(network))
    }
}

impl TryFrom<String> for ProxyNetwork {
    type Error = ProxyNetworkError;

    fn try_from(text: String) -> Result<Self, ProxyNetworkError> {
        text.parse()
    }
}

impl fmt::Display for ProxyNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The proxies that are believed; by default none is.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[ProxyNetwork]>);

impl FromIterator<ProxyNetwork> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = ProxyNetwork>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl TrustedProxies {
    /// Whether this peer is believed about others.
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.0.contains(peer))
    }

    /// Who asks, for a request with these headers on a connection from `peer`: the last address in `X-Forwarded-For`
    /// that is not a trusted proxy's own. What stands before that, anybody may have written.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut hops = headers.get_all(X_FORWARDED_FOR).iter().rev().flat_map(|value| {
            let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
            text.rsplit(',')
        });
        while self.trust(client) {
            match hops.next().and_then(address) {
                Some(before) => client = before,
                // The proxy does not know, or says what nobody can read: then it is the one we know.
                None => break,
            }
        }
        client
    }

    /// Whether the client came over TLS, as the proxy beside us says; `None` if it says nothing.
    pub(crate) fn is_secure(headers: &HeaderMap) -> Option<bool> {
        let said = headers.get_all(X_FORWARDED_PROTO).iter().next_back()?.as_bytes();
        let last = said.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        match last {
            _ if last.eq_ignore_ascii_case(b"https") => Some(true),
            _ if last.eq_ignore_ascii_case(b"http") => Some(false),
            _ => None,
        }
    }

    /// The host that the client asked for, as the proxy beside us says.
    pub(crate) fn host(headers: &HeaderMap) -> Option<HeaderValue> {
        let mut said = headers.get_all(X_FORWARDED_HOST).iter();
        match (said.next(), said.next()) {
            (Some(host), None) if super::host::parse(host.as_bytes()).is_ok() => Some(host.clone()),
            _ => None,
        }
    }
}

/// One hop: `192.0.2.1`, `2001:db8::1`, and with a port as some write it, `192.0.2.1:80` or `[2001:db8::1]:80`.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches([' ', '\t']);
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let plain = bare.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    plain.or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        networks.iter().map(|text| text.parse::<ProxyNetwork>().unwrap()).collect()
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap())).collect()
    }

    fn client(networks: &[&str], peer: &str, lines: &[&str]) -> String {
        proxies(networks).client(peer.parse().unwrap(), &headers(lines)).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_named() {
        assert_eq!(client(&[], "127.0.0.1", &["192.0.2.1"]), "127.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "198.51.100.1", &["192.0.2.1"]), "198.51.100.1");
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_client() {
        let trusted = &["10.0.0.0/8", "2001:db8:aa::/48", "127.0.0.1"];
        assert_eq!(client(trusted, "127.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(trusted, "127.0.0.1", &["203.0.113.9, 192.0.2.1 ,\t10.0.0.2"]), "192.0.2.1");
        assert_eq!(client(trusted, "10.1.1.1", &["203.0.113.9", "192.0.2.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(client(trusted, "2001:db8:aa::1", &["2001:db8:bb::1"]), "2001:db8:bb::1");
        assert_eq!(client(trusted, "::ffff:127.0.0.1", &["::ffff:192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(trusted, "127.0.0.1", &["192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(client(trusted, "127.0.0.1", &["[2001:db8:bb::1]:4711"]), "2001:db8:bb::1");
        assert_eq!(client(trusted, "127.0.0.1", &["[2001:db8:bb::1]"]), "2001:db8:bb::1");
    }

    #[test]
    fn where_the_chain_breaks_the_last_known_hop_is_the_client() {
        let trusted = &["10.0.0.0/8"];
        for lines in [&[][..], &[""], &["unknown"], &["192.0.2.1, "], &["192.0.2.1, _hidden"]] {
            assert_eq!(client(trusted, "10.0.0.1", lines), "10.0.0.1", "{lines:?}");
        }
        assert_eq!(client(trusted, "10.0.0.1", &["192.0.2.1, nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client(trusted, "10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        let mut odd = headers(&["192.0.2.1"]);
        odd.append(X_FORWARDED_FOR, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(proxies(trusted).client("10.0.0.1".parse().unwrap(), &odd).to_string(), "10.0.0.1");
    }

    #[test]
    fn the_scheme_is_what_the_nearest_proxy_says() {
        let said = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (X_FORWARDED_PROTO, HeaderValue::from_str(line).unwrap()));
            TrustedProxies::is_secure(&lines.collect())
        };
        assert_eq!(said(&["https"]), Some(true));
        assert_eq!(said(&["https", "http"]), Some(false));
        assert_eq!(said(&["http, HTTPS "]), Some(true));
        assert_eq!((said(&[]), said(&["ftp"])), (None, None));
    }

    #[test]
    fn a_network_is_an_address_or_a_cidr_and_never_everybody() {
        let parse = |text: &str| text.parse::<ProxyNetwork>().map(|network| network.to_string());
        assert_eq!(parse("10.1.2.3/8").unwrap(), "10.0.0.0/8");
        assert_eq!(parse(" 2001:db8::1 ").unwrap(), "2001:db8::1/128");
        assert_eq!(parse("::ffff:10.0.0.1").unwrap(), "10.0.0.1/32");
        assert_eq!(parse("::ffff:10.0.0.0/104").unwrap(), "10.0.0.0/8");
        for everybody in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"] {
            assert_eq!(parse(everybody), Err(ProxyNetworkError::Everybody));
        }
        for bad in ["", "10.0.0.0/33", "proxy.example", "10.0.0.1:80", "10.0.0"] {
            assert_eq!(parse(bad), Err(ProxyNetworkError::Malformed), "{bad}");
        }
    }

    /// Addresses of which about half are proxies'.
    fn hop() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 3]>().prop_map(|[b, c, d]| IpAddr::from([10, b, c, d])),
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ]
    }

    proptest! {
        #[test]
        fn what_an_untrusted_peer_writes_changes_nothing(
            peer in hop(),
            chain in prop::collection::vec(hop(), 0..6),
            lie in "[ -~]{0,64}",
        ) {
            let trusted = proxies(&["10.0.0.0/8"]);
            let said: Vec<String> = chain.iter().map(ToString::to_string).collect();
            let honest = headers(&[&said.join(", ")]);
            // The same chain as honest proxies write it, behind what the client wrote.
            let lied = headers(&[&lie, &said.join(",")]);
            let client = trusted.client(peer, &honest);

            let mut walked = std::iter::once(&peer).chain(chain.iter().rev()).map(IpAddr::to_canonical);
            let first_stranger = walked.find(|address| !trusted.trust(*address));
            if let Some(stranger) = first_stranger {
                prop_assert_eq!(client, stranger);
                prop_assert_eq!(trusted.client(peer, &lied), stranger);
            } else {
                let farthest = chain.first().copied().unwrap_or(peer);
                prop_assert_eq!(client, farthest.to_canonical());
            }
            prop_assert_eq!(TrustedProxies::default().client(peer, &lied), peer.to_canonical());
        }

        #[test]
        fn no_header_is_too_odd(peer in hop(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let map: HeaderMap = [(X_FORWARDED_FOR, value)].into_iter().collect();
            let client = proxies(&["10.0.0.0/8"]).client(peer, &map);
            prop_assert_eq!(client, client.to_canonical());
        }
    }
}
