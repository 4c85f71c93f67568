//! The networks that this machine is in.

use std::net::IpAddr;

use if_addrs::IfAddr;
use ipnet::IpNet;

/// Asks the system, which knows without waiting. Without an answer there are none.
pub(super) fn of_this_machine() -> Vec<IpNet> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "the system does not tell this machine's networks");
        Vec::new()
    });
    let network = |(ip, prefix): (IpAddr, u8)| IpNet::new(ip, prefix).ok();
    let of = |address: &IfAddr| match address {
        IfAddr::V4(address) => (address.ip.into(), address.prefixlen),
        IfAddr::V6(address) => (address.ip.into(), address.prefixlen),
    };
    interfaces.iter().filter_map(|interface| network(of(&interface.addr))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn every_machine_is_in_its_own() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!(of_this_machine().iter().any(|network| network.contains(&loopback)));
    }
}
