//! What stands before the payload of a TCP or UDP tunnel's pipe: who the visitor is.
//!
//! It is a header of the PROXY protocol, version 2 (HAProxy, `proxy-protocol.txt` §2.2), of 28 or 52 bytes. Being the first
//! payload of the pipe it makes the node dial its target at once, so that servers which speak first (SSH, SMTP, MySQL) can;
//! and a server that understands the protocol can be given it as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, on behalf of somebody else.
const PROXY: u8 = 0x21;
/// Bytes before the addresses.
const FIXED: usize = 16;
/// Bytes of the addresses and ports, by family.
const IPV4: usize = 12;
const IPV6: usize = 36;

/// The longest header that is written or read, in bytes.
pub const MAX: usize = FIXED + IPV6;

/// How a visitor came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By a TCP connection.
    Stream,
    /// By UDP datagrams.
    Datagrams,
}

/// Who came, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// How.
    pub transport: Transport,
    /// The visitor's address.
    pub visitor: SocketAddr,
    /// The address that the visitor came to.
    pub relay: SocketAddr,
}

/// The bytes are no header that this reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pipe does not begin with a header of the PROXY protocol")]
pub struct NoGreeting;

impl Greeting {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let transport = match self.transport {
            Transport::Stream => 1,
            Transport::Datagrams => 2,
        };
        let mut bytes = Vec::with_capacity(MAX);
        bytes.extend(SIGNATURE);
        bytes.push(PROXY);
        match (self.visitor.ip().to_canonical(), self.relay.ip().to_canonical()) {
            (IpAddr::V4(visitor), IpAddr::V4(relay)) => {
                bytes.extend([0x10 | transport, 0, 12]);
                bytes.extend(visitor.octets());
                bytes.extend(relay.octets());
            }
            (visitor, relay) => {
                bytes.extend([0x20 | transport, 0, 36]);
                bytes.extend(as_v6(visitor).octets());
                bytes.extend(as_v6(relay).octets());
            }
        }
        bytes.extend(self.visitor.port().to_be_bytes());
        bytes.extend(self.relay.port().to_be_bytes());
        bytes
    }

    /// Reads it from the first bytes of a pipe, and says how many it took; `None` while there are too few.
    ///
    /// # Errors
    /// When the bytes begin with something else.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, NoGreeting> {
        let known = bytes.len().min(SIGNATURE.len());
        if bytes[..known] != SIGNATURE[..known] {
            return Err(NoGreeting);
        }
        let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else { return Ok(None) };
        let transport = match fixed[13] & 0x0f {
            1 => Transport::Stream,
            2 => Transport::Datagrams,
            _ => return Err(NoGreeting),
        };
        let length = match (fixed[12], fixed[13] >> 4, u16::from_be_bytes([fixed[14], fixed[15]])) {
            (PROXY, 1, 12) => IPV4,
            (PROXY, 2, 36) => IPV6,
            _ => return Err(NoGreeting),
        };
        let Some(addresses) = rest.get(..length) else { return Ok(None) };
        let (visitor, relay) = addresses_of(addresses).ok_or(NoGreeting)?;
        Ok(Some((Self { transport, visitor, relay }, FIXED + length)))
    }
}

fn addresses_of(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (ips, ports) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (visitor, relay) = ips.split_at_checked(ips.len() / 2)?;
    let [a, b, c, d] = ports.try_into().ok()?;
    let address = |ip: &[u8], port: [u8; 2]| {
        let ip = match ip.len() {
            4 => IpAddr::V4(<[u8; 4]>::try_from(ip).ok()?.into()),
            _ => IpAddr::V6(<[u8; 16]>::try_from(ip).ok()?.into()),
        };
        Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(port)))
    };
    Some((address(visitor, [a, b])?, address(relay, [c, d])?))
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(visitor: &str, relay: &str, transport: Transport) -> Greeting {
        Greeting { transport, visitor: visitor.parse().unwrap(), relay: relay.parse().unwrap() }
    }

    #[test]
    fn it_is_the_header_that_others_read() {
        let bytes = greeting("192.0.2.7:40000", "198.51.100.1:22", Transport::Stream).encode();
        let expected = [
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".as_slice(),
            &[192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0, 22],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn it_comes_back_as_it_was_and_leaves_the_payload() {
        for one in [
            greeting("192.0.2.7:40000", "198.51.100.1:22", Transport::Stream),
            greeting("[2001:db8::1]:1", "[2001:db8::2]:65535", Transport::Datagrams),
            greeting("192.0.2.7:1", "[2001:db8::2]:2", Transport::Stream),
        ] {
            let mut bytes = one.encode();
            let length = bytes.len();
            assert!(length <= MAX);
            for cut in 0..length {
                assert_eq!(Greeting::decode(&bytes[..cut]), Ok(None), "{cut}");
            }
            bytes.extend(b"payload");
            assert_eq!(Greeting::decode(&bytes), Ok(Some((one, length))));
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_that_it_is() {
        let mapped = greeting("[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.8]:2", Transport::Stream);
        let plain = greeting("192.0.2.7:1", "192.0.2.8:2", Transport::Stream);
        assert_eq!(mapped.encode(), plain.encode());
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(Greeting::decode(b"GET / HTTP/1.1"), Err(NoGreeting));
        let good = greeting("192.0.2.7:1", "192.0.2.8:2", Transport::Stream).encode();
        for (at, byte) in [(0, 1), (11, 0), (12, 0x20), (12, 0x11), (13, 0x10), (13, 0x31), (15, 13), (14, 1)]
        {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Greeting::decode(&bad), Err(NoGreeting), "{at}");
        }
    }
}
