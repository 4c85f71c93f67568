//! Which router leads out of the network of an address.

use std::net::Ipv4Addr;

/// A default route, as Linux tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    gateway: Ipv4Addr,
    metric: u32,
}

/// Flags of a route (`route.h`): it is up, and leads by a gateway.
const UP_BY_GATEWAY: u32 = 0x3;

/// The router that packets from this address to the internet take; none where the system does not tell, which so far Linux alone does.
pub(super) fn of(local: Ipv4Addr) -> Option<Ipv4Addr> {
    let gateway = default_gateway()?;
    let is_next_to_it = if_addrs::get_if_addrs().ok()?.into_iter().any(|interface| match interface.addr {
        if_addrs::IfAddr::V4(address) => {
            let mask = address.netmask.to_bits();
            address.ip == local && local.to_bits() & mask == gateway.to_bits() & mask
        }
        if_addrs::IfAddr::V6(_) => false,
    });
    is_next_to_it.then_some(gateway)
}

#[cfg(target_os = "linux")]
fn default_gateway() -> Option<Ipv4Addr> {
    best(&std::fs::read_to_string("/proc/net/route").ok()?)
}

#[cfg(not(target_os = "linux"))]
fn default_gateway() -> Option<Ipv4Addr> {
    None
}

/// The default route of the lowest metric in the kernel's table, whose numbers are hexadecimal and in the machine's order of bytes.
#[cfg(any(target_os = "linux", test))]
fn best(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
        let (destination, gateway, flags) = (number()?, number()?, number()?);
        let (_references, _uses) = (number()?, number()?);
        let metric = fields.next()?.parse().ok()?;
        let mask = u32::from_str_radix(fields.next()?, 16).ok()?;
        let is_default = (destination, mask) == (0, 0) && flags & UP_BY_GATEWAY == UP_BY_GATEWAY;
        is_default.then_some(Route { gateway: Ipv4Addr::from(gateway.to_ne_bytes()), metric })
    });
    routes.min_by_key(|route| route.metric).map(|route| route.gateway)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn row(destination: &str, gateway: [u8; 4], flags: u32, metric: u32, mask: &str) -> String {
        let gateway = u32::from_ne_bytes(gateway);
        format!("eth0\t{destination}\t{gateway:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn the_default_route_of_the_lowest_metric_is_taken() {
        let none = "00000000";
        let table = [
            HEAD.to_owned(),
            row("0000A8C0", [0; 4], 1, 0, "00FFFFFF"),
            row(none, [192, 168, 0, 1], 3, 600, none),
            row(none, [10, 0, 0, 1], 3, 100, none),
            row(none, [10, 0, 0, 2], 1, 1, none),
            row(none, [10, 0, 0, 3], 2, 1, none),
            row(none, [10, 0, 0, 4], 3, 1, "00000080"),
        ];
        assert_eq!(best(&table.concat()), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(best(HEAD), None);
        assert_eq!(best(""), None);
    }

    proptest! {
        #[test]
        fn whatever_a_table_says_nothing_breaks(table in "[0-9A-Fa-f \t\neth]{0,200}") {
            let _ = best(&table);
        }
    }
}
