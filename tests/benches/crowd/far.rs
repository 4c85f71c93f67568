//! A line to the relay on which everything takes a while, in a network namespace of this process's own: a pair of devices, and a thread
//! that turns the frames round which leave by one of them. Whoever dials another address that leads into the line
//! reaches it, and seems to come from that address, so that each node can have a network of its own.

use std::{
    collections::VecDeque,
    io::Write as _,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
        socket, sockopt::RcvBufForce,
    },
};

/// Frames that may wait to be turned round, in bytes: all nodes dial at one moment.
const QUEUE: usize = 64 << 20;

/// The largest frame of a device whose MTU is 1500.
const FRAME: usize = 2048;

/// Where frames are turned round.
const TURN: [u8; 6] = [2, 0, 0, 0, 0, 2];

const LINES: &str = "link set lo up
link add near address 02:00:00:00:00:01 type veth peer name turn address 02:00:00:00:00:02
addr add 10.9.0.1/24 dev near
link set near up
link set turn up
neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 nud permanent dev near
route add 10.128.0.0/9 via 10.9.0.2 dev near
";

/// The address by which node number `number` reaches the relay: no two are of one network.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).unwrap_or(0);
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 7)) + ((number % (1 << 15)) << 8))
}

/// Takes this process, which may have one thread, and whatever it starts into the namespace. Gives the address at which the relay is to listen.
pub(crate) fn lay(round_trip: Duration) -> Result<Ipv4Addr> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace cannot be made: run as root")?;
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("ip")?;
    ip.stdin.take().context("standard input is piped")?.write_all(LINES.as_bytes())?;
    ensure!(ip.wait()?.success(), "{LINES}");
    // Frames are to be as they are on a wire: whole, each with its checksum.
    for device in ["near", "turn"] {
        let off = Command::new("ethtool").args(["-K", device, "tx", "off"]).stdout(Stdio::null()).status();
        ensure!(off.context("ethtool")?.success(), "ethtool -K {device} tx off");
    }
    let device = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&device, RcvBufForce, &QUEUE)?;
    bind(device.as_raw_fd(), &link("turn")?)?;
    std::thread::spawn(move || turn_round(&device, round_trip / 2));
    Ok(Ipv4Addr::new(10, 9, 0, 1))
}

fn link(device: &str) -> Result<LinkAddr> {
    getifaddrs()?
        .filter(|found| found.interface_name == device)
        .find_map(|found| found.address?.as_link_addr().copied())
        .with_context(|| format!("there is no device {device}"))
}

/// Gives each frame back once it has been under way for long enough, as an answer from whom it was meant for.
fn turn_round(device: &OwnedFd, delay: Duration) {
    let mut under_way = VecDeque::<(Instant, Vec<u8>)>::new();
    let mut frame = [0; FRAME];
    loop {
        let wait = under_way.front().map_or(PollTimeout::NONE, |(due, _)| {
            let wait = due.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut [PollFd::new(device.as_fd(), PollFlags::POLLIN)], wait);
        let now = Instant::now();
        while let Ok(length) = recv(device.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            if let Some(frame) = turned(&frame[..length]) {
                under_way.push_back((now + delay, frame));
            }
        }
        while under_way.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, frame)) = under_way.pop_front() else { break };
            let _ = send(device.as_raw_fd(), &frame, MsgFlags::empty());
        }
    }
}

/// The same frame of IPv4 the other way round, if it is one that came to be turned. No checksum changes by that.
fn turned(frame: &[u8]) -> Option<Vec<u8>> {
    const DESTINATION: std::ops::Range<usize> = 0..6;
    const SOURCE: std::ops::Range<usize> = 6..12;
    if frame.len() < 34 || frame.get(12..14) != Some(&[8, 0]) || frame.get(DESTINATION) != Some(&TURN) {
        return None;
    }
    let mut turned = frame.to_vec();
    turned[DESTINATION].copy_from_slice(&frame[SOURCE]);
    turned[SOURCE].copy_from_slice(&frame[DESTINATION]);
    turned[26..30].copy_from_slice(&frame[30..34]);
    turned[30..34].copy_from_slice(&frame[26..30]);
    Some(turned)
}
