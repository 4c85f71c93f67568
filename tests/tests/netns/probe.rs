//! What kind of NAT a host is behind, found out as RFC 5780 does, and whether two hosts can punch through theirs: with
//! bare sockets, so that the lab is judged by something that knows neither its rules nor the product.

mod tcp;
mod udp;

pub(crate) use {
    tcp::{behaviour as tcp_behaviour, punch as punch_tcp},
    udp::{behaviour as udp_behaviour, punch as punch_udp},
};

use std::time::Duration;

/// After this a packet that has not come does not come: a lab's paths take microseconds.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whom one mapping serves, or whom a NAT lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everybody.
    Any,
    /// One address at all its ports.
    Address,
    /// One port of one address.
    Endpoint,
}

/// How a NAT behaves towards a host behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behaviour {
    pub(crate) mapping: Scope,
    pub(crate) filtering: Scope,
    pub(crate) keeps_port: bool,
}

/// What two public hosts with two ports each saw of one socket tells whom its mapping serves.
fn mapping<T: PartialEq>(seen: &[[T; 2]; 2]) -> Scope {
    let [[first, second], [third, fourth]] = seen;
    match (first == second && third == fourth, first == third) {
        (true, true) => Scope::Any,
        (true, false) => Scope::Address,
        (false, _) => Scope::Endpoint,
    }
}

/// Who was let in, of the same port's address and of another address, tells whom a NAT lets in.
fn filtering(same_address: bool, other_address: bool) -> Scope {
    match (same_address, other_address) {
        (_, true) => Scope::Any,
        (true, false) => Scope::Address,
        (false, false) => Scope::Endpoint,
    }
}
