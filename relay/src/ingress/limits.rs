//! What one visitor, one address and one tunnel may take from the relay.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{credit::Least, locked};

/// Bounds of the ingress. Everything a stranger can make grow has its line here.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request or response head.
    pub head_bytes: usize,
    /// Fields of a head.
    pub head_fields: usize,
    /// Bytes of a request's body for a tunnel; 0 for no bound.
    pub body_bytes: u64,
    /// From the first byte of a head (or from the connection's start) to its last.
    pub head_timeout: Duration,
    /// How long a connection may stay between two requests.
    pub idle_timeout: Duration,
    /// How long neither a byte of the request nor the head of the response may come.
    pub response_timeout: Duration,
    /// Bytes a second that a visitor must at least send, on average, of a body that the tunnel's server waits for; 0
    /// for no such bound.
    pub upload_rate: u32,
    /// How far a visitor may fall behind that rate: also how long it may pause.
    pub upload_grace: Duration,
    /// How long a visitor may take no byte of a response that waits for it.
    pub stall_timeout: Duration,
    /// Bytes a second that a visitor must at least take, on average, of a response that waits for it; the exchanges of an
    /// HTTP/2 connection share it; 0 for no such bound.
    pub download_rate: u32,
    /// How far a visitor may fall behind that rate.
    pub download_grace: Duration,
    /// How long a connection of HTTP/2 may send nothing before it is asked whether anybody is there, and how long that
    /// may take: the question waits behind all that was sent before it.
    pub ping_interval: Duration,
    /// See [`ping_interval`](Self::ping_interval).
    pub ping_timeout: Duration,
    /// For which a body is held back whose visitor waits to be told to go on: not every server says so (RFC 9110 §10.1.1).
    pub continue_patience: Duration,
    /// How long nothing may go through a connection whose TLS ends behind the relay.
    pub tls_idle_timeout: Duration,
    /// How long a request waits for a node that is away.
    pub away_patience: Duration,
    /// How long shutdown waits for requests in flight.
    pub drain_timeout: Duration,
    /// Bytes that one connection buffers in each direction. A stalled visitor holds this and the pipe's window.
    pub buffer_bytes: usize,
    /// Visitor connections in total; a network takes one more only while it has fewer than are free.
    pub connections: usize,
    /// Visitor connections of one address (IPv6: of one /64).
    pub connections_per_address: u32,
    /// Exchanges in flight of one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Requests in flight of one address.
    pub requests_per_address: u32,
    /// Requests in flight of one tunnel.
    pub requests_per_tunnel: usize,
    /// Requests in flight of one key, over all its tunnels.
    pub requests_per_key: usize,
    /// Requests that one address may begin in a second; 0 for no bound.
    pub requests_per_second_per_address: u32,
    /// Requests that may begin in a second at one tunnel; 0 for no bound.
    pub requests_per_second_per_tunnel: u32,
    /// Requests that may begin in a second at all tunnels of one key; 0 for no bound.
    pub requests_per_second_per_key: u32,
    /// Idle pipes kept for one tunnel.
    pub idle_pipes_per_tunnel: usize,
    /// How long a pipe is kept idle.
    pub pipe_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            head_fields: 100,
            body_bytes: 0,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(120),
            upload_rate: 256,
            upload_grace: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(300),
            download_rate: 256,
            download_grace: Duration::from_secs(300),
            ping_interval: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(600),
            continue_patience: Duration::from_secs(1),
            tls_idle_timeout: Duration::from_secs(3600),
            away_patience: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            buffer_bytes: 64 * 1024,
            connections: 16 * 1024,
            connections_per_address: 4 * 1024,
            streams_per_connection: 100,
            requests_per_address: 640,
            requests_per_tunnel: 2 * 1024,
            requests_per_key: 4 * 1024,
            requests_per_second_per_address: 0,
            requests_per_second_per_tunnel: 0,
            requests_per_second_per_key: 0,
            idle_pipes_per_tunnel: 512,
            pipe_idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The least rate of uploads.
    pub(crate) fn upload(&self) -> Least {
        Least { rate: self.upload_rate, grace: self.upload_grace }
    }

    /// The least rate of what goes to a visitor.
    pub(crate) fn download(&self) -> Least {
        Least { rate: self.download_rate, grace: self.download_grace }
    }
}

/// Who is connected from where, an IPv6 host by its /64. An address is held as long as it has a connection, so the
/// table is bounded by the number of connections.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<HashMap<IpAddr, Arc<Counts>>>>);

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU32,
    requests: AtomicU32,
    /// Connections that are passed on as they came, each of which takes one of a tunnel's places for requests.
    passed: AtomicU32,
}

impl Addresses {
    /// Counts a connection of `address`; `None` when it has as many as it may have.
    pub fn connect(&self, address: IpAddr, limit: u32) -> Option<AddressSeat> {
        let key = owner(address);
        let mut addresses = locked(&self.0);
        let taken = addresses.get(&key).map_or(0, |counts| counts.connections.load(Ordering::Relaxed));
        if taken >= limit {
            return None;
        }
        let counts = addresses.entry(key).or_default();
        counts.connections.fetch_add(1, Ordering::Relaxed);
        Some(AddressSeat { addresses: self.clone(), key, counts: Arc::clone(counts) })
    }

    /// Connections and requests of all.
    pub(crate) fn count(&self) -> (usize, usize) {
        let number = |count: &AtomicU32| usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let addresses = locked(&self.0);
        let counts = addresses.values().map(|counts| (number(&counts.connections), number(&counts.requests)));
        counts.fold((0, 0), |(connections, requests), (more, and)| (connections + more, requests + and))
    }
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub struct AddressSeat {
    addresses: Addresses,
    key: IpAddr,
    counts: Arc<Counts>,
}

impl AddressSeat {
    /// Takes a place for a request of this address. Each `true` needs one [`leave`](Self::leave).
    pub(crate) fn enter(&self, limit: u32) -> bool {
        enter(&self.counts.requests, limit)
    }

    pub(crate) fn leave(&self) {
        self.counts.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a place for this connection among those of the address that are passed on as they came. Each `true` needs one
    /// [`leave_passed`](Self::leave_passed).
    pub(crate) fn enter_passed(&self, limit: u32) -> bool {
        enter(&self.counts.passed, limit)
    }

    pub(crate) fn leave_passed(&self) {
        self.counts.passed.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for AddressSeat {
    fn drop(&mut self) {
        let mut addresses = locked(&self.addresses.0);
        if self.counts.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            addresses.remove(&self.key);
        }
    }
}

fn enter(places: &AtomicU32, limit: u32) -> bool {
    let entered = places.fetch_add(1, Ordering::Relaxed) < limit;
    if !entered {
        places.fetch_sub(1, Ordering::Relaxed);
    }
    entered
}

/// One customer of an IPv6 provider has at least a /64 to itself.
pub(crate) fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What one customer of a provider, or one party with a few servers, has: an IPv4 /24, an IPv6 /48.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xff).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 80 << 80).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let addresses = Addresses::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = addresses.connect(one, 2).unwrap();
        let second = addresses.connect("::ffff:192.0.2.1".parse().unwrap(), 2).unwrap();
        assert!(addresses.connect(one, 2).is_none());
        assert!(addresses.connect(other, 2).is_some());
        drop(first);
        let third = addresses.connect(one, 2).unwrap();
        assert!(second.enter(1) && !third.enter(1));
        second.leave();
        assert!(third.enter(1));
        assert!(second.enter_passed(1) && !third.enter_passed(1), "who is passed on has places of its own");
        second.leave_passed();
        assert!(third.enter_passed(1));
        drop((second, third));
        assert!(addresses.connect(one, 0).is_none());
        assert!(locked(&addresses.0).is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let addresses = Addresses::default();
        let _first = addresses.connect("2001:db8::1".parse().unwrap(), 1).unwrap();
        assert!(addresses.connect("2001:db8::ffff:2".parse().unwrap(), 1).is_none());
        assert!(addresses.connect("2001:db8:0:1::1".parse().unwrap(), 1).is_some());
    }
}
