//! A router's settings as rules for nftables.
//!
//! The kernel's own NAT maps for each endpoint anew. The cones are made with three maps that fill themselves after the
//! translation: which outside port an inside one has (`eim`), the way back (`rev`), and whom each was used to send to
//! (`peers`).

use super::{Egress, Kind, Nat, UDP_SECONDS};
use crate::lab::segment::{Location, Subnet};

/// All rules of the router at `wan` before `lan`.
pub(crate) fn ruleset(nat: &Nat, wan: Location, lan: Subnet) -> String {
    let (outside, inside) = (wan.address(), lan.network());
    let egress = egress(nat.egress);
    let before = rules(&inbound(nat, &outside.to_string()));
    let after = rules(&outbound(nat, &inside, &outside.to_string()));
    let learn = rules(&learning(nat, &outside.to_string()));
    let sets = if is_cone(nat.kind) { sets() } else { String::new() };
    let guard = guard(nat.kind);
    format!(
        r#"
table ip nat
delete table ip nat
table ip nat {{
  {sets}
  chain before {{ type nat hook prerouting priority dstnat;
    {before}
  }}
  chain after {{ type nat hook postrouting priority srcnat;
    {after}
  }}
  chain learn {{ type filter hook postrouting priority 150;
    {learn}
  }}
  chain through {{ type filter hook forward priority filter;
    iifname "wan" oifname "lan" ct state invalid drop
    {egress}
    {guard}
  }}
  # A packet to the router itself that is answered, even by a reset, is tracked, and takes the endpoint that a host
  # behind it needs for its own punch: its mapping would get another port.
  chain here {{ type filter hook input priority filter;
    iifname "wan" ct state established,related accept
    iifname "wan" icmp type echo-request accept
    iifname "wan" drop
  }}
}}
table ip6 guard
delete table ip6 guard
table ip6 guard {{
  chain through {{ type filter hook forward priority filter;
    {egress}
    iifname "wan" ct state established,related accept
    iifname "wan" icmpv6 type {{ packet-too-big, time-exceeded, destination-unreachable }} accept
    iifname "wan" drop
  }}
}}
"#
    )
}

/// TCP and UDP, which have ports.
const L4: &str = "meta l4proto { tcp, udp }";

fn rules(lines: &[String]) -> String {
    lines.join("\n    ")
}

fn is_cone(kind: Kind) -> bool {
    matches!(kind, Kind::FullCone | Kind::Restricted | Kind::PortRestricted)
}

fn sets() -> String {
    let kept = format!("flags dynamic,timeout; timeout {UDP_SECONDS}s; size 65535;");
    format!(
        "map eim {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; {kept} }}
  map rev {{ type inet_proto . inet_service : ipv4_addr . inet_service; {kept} }}
  set peers {{ type inet_proto . inet_service . ipv4_addr; {kept} }}"
    )
}

fn inbound(nat: &Nat, outside: &str) -> Vec<String> {
    let back = "dnat ip to meta l4proto . th dport map @rev";
    let mut lines = Vec::new();
    match nat.kind {
        Kind::FullCone => lines.push(format!(r#"iifname "wan" ip daddr {outside} {L4} {back}"#)),
        Kind::Restricted => lines.push(format!(
            r#"iifname "wan" ip daddr {outside} {L4} meta l4proto . th dport . ip saddr @peers {back}"#
        )),
        Kind::Routed | Kind::Firewall | Kind::PortRestricted | Kind::Symmetric => {}
    }
    if nat.hairpin && is_cone(nat.kind) {
        lines.push(format!(r#"iifname "lan" ip daddr {outside} {L4} {back}"#));
    }
    lines
}

fn outbound(nat: &Nat, inside: &str, outside: &str) -> Vec<String> {
    let known = "snat ip to ip saddr . meta l4proto . th sport map @eim";
    let mut lines = Vec::new();
    if is_cone(nat.kind) {
        lines.push(format!(r#"oifname "wan" {L4} {known}"#));
    }
    match (nat.kind, nat.random_ports) {
        (Kind::Routed | Kind::Firewall, _) => {}
        (Kind::Symmetric, _) | (_, true) => lines.push(r#"oifname "wan" masquerade fully-random"#.to_owned()),
        (_, false) => lines.push(r#"oifname "wan" masquerade"#.to_owned()),
    }
    if nat.hairpin && is_cone(nat.kind) {
        lines.push(format!(r#"oifname "lan" ct status dnat ip saddr {inside} {L4} {known}"#));
        lines.push(format!(r#"oifname "lan" ct status dnat ip saddr {inside} snat ip to {outside}"#));
    }
    lines
}

fn learning(nat: &Nat, outside: &str) -> Vec<String> {
    if !is_cone(nat.kind) {
        return Vec::new();
    }
    let mut ways = vec![r#"oifname "wan""#.to_owned()];
    if nat.hairpin {
        ways.push(format!(r#"oifname "lan" ct status dnat ip saddr {outside}"#));
    }
    let mut lines = Vec::new();
    for way in ways {
        lines.push(format!(
            "{way} {L4} ct direction original update @eim {{ ct original ip saddr . meta l4proto . \
             ct original proto-src : ip saddr . th sport }}"
        ));
        lines.push(format!(
            "{way} {L4} ct direction original update @rev {{ meta l4proto . th sport : \
             ct original ip saddr . ct original proto-src }}"
        ));
    }
    lines.push(format!(
        r#"oifname "wan" {L4} ct direction original update @peers {{ meta l4proto . th sport . ip daddr }}"#
    ));
    lines
}

fn egress(egress: Egress) -> String {
    match egress {
        Egress::All => String::new(),
        Egress::Tcp => r#"iifname "lan" oifname "wan" meta l4proto udp drop"#.to_owned(),
        Egress::UdpAndTcp(ports) => tcp_to(ports),
        Egress::TcpTo(ports) => {
            format!("iifname \"lan\" oifname \"wan\" meta l4proto udp drop\n    {}", tcp_to(ports))
        }
    }
}

fn tcp_to(ports: &[u16]) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!(r#"iifname "lan" oifname "wan" tcp dport != {{ {} }} drop"#, ports.join(", "))
}

fn guard(kind: Kind) -> &'static str {
    match kind {
        Kind::Routed => "",
        Kind::Firewall | Kind::FullCone | Kind::Restricted | Kind::PortRestricted | Kind::Symmetric => {
            r#"iifname "wan" ct state established,related accept
    iifname "wan" ct status dnat accept
    iifname "wan" drop"#
        }
    }
}
