//! The kinds of NAT there are, by what RFC 4787 tells them apart: to whom one mapping serves, and whom it lets in.

mod ruleset;

use std::io::{Error, Result as IoResult};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use std::os::fd::AsRawFd as _;

pub(crate) use ruleset::ruleset;

/// What a router does with what passes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: hosts behind it have addresses that anybody reaches.
    Routed,
    /// No translation, and in comes only what was asked for.
    Firewall,
    /// One mapping for everybody, and everybody may come in by it.
    FullCone,
    /// One mapping for everybody; in comes who was sent something, from whichever port.
    Restricted,
    /// One mapping for everybody; in comes who was sent something, from that port.
    PortRestricted,
    /// A mapping for each endpoint that is sent something.
    Symmetric,
}

/// What hosts behind a router may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Egress {
    All,
    /// No UDP.
    Tcp,
    /// UDP, and TCP to these ports alone.
    UdpAndTcp(&'static [u16]),
    /// TCP to these ports alone.
    TcpTo(&'static [u16]),
}

/// A router's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nat {
    kind: Kind,
    /// Whether a mapping has a port of its own instead of the one inside.
    random_ports: bool,
    /// Whether hosts behind it reach each other by their outside addresses.
    hairpin: bool,
    egress: Egress,
}

impl Nat {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, random_ports: false, hairpin: false, egress: Egress::All }
    }

    pub(crate) fn with_random_ports(self) -> Self {
        Self { random_ports: true, ..self }
    }

    pub(crate) fn with_hairpin(self) -> Self {
        Self { hairpin: true, ..self }
    }

    pub(crate) fn with_egress(self, egress: Egress) -> Self {
        Self { egress, ..self }
    }

    pub(crate) fn is_routed(&self) -> bool {
        matches!(self.kind, Kind::Routed | Kind::Firewall)
    }
}

/// Seconds for which a mapping of UDP outlives its last packet: the two minutes that RFC 4787 asks for at least.
const UDP_SECONDS: u32 = 120;

/// Settings below `/proc/sys/net` that belong to a router.
pub(crate) fn timeouts(_: &Nat) -> [(&'static str, String); 2] {
    ["netfilter/nf_conntrack_udp_timeout", "netfilter/nf_conntrack_udp_timeout_stream"]
        .map(|key| (key, UDP_SECONDS.to_string()))
}

/// Takes away every tracked connection of the namespace that the calling thread is in.
pub(crate) fn forget_connections() -> Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(netlink.as_raw_fd(), &delete_all_connections(), MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    acknowledged(&answer[..length]).context("connection tracking does not forget")
}

/// `IPCTNL_MSG_CT_DELETE` of the subsystem `CTNETLINK`, for all, to be acknowledged.
fn delete_all_connections() -> [u8; 20] {
    let mut message = [0; 20];
    message[..4].copy_from_slice(&20u32.to_ne_bytes());
    message[4..6].copy_from_slice(&0x0102u16.to_ne_bytes());
    message[6..8].copy_from_slice(&0x0005u16.to_ne_bytes());
    message[8..12].copy_from_slice(&1u32.to_ne_bytes());
    message
}

/// Reads the error that an acknowledgement carries; that there was nothing to delete is none.
fn acknowledged(answer: &[u8]) -> Result<()> {
    const NOTHING_THERE: i32 = 2;
    let code = answer.get(16..20).context("no acknowledgement")?;
    let code = i32::from_ne_bytes(code.try_into()?).saturating_neg();
    let outcome: IoResult<()> =
        if code == 0 || code == NOTHING_THERE { Ok(()) } else { Err(Error::from_raw_os_error(code)) };
    ensure!(outcome.is_ok(), "{outcome:?}");
    Ok(())
}
