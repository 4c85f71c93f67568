//! A wire on which every packet takes a while: a thread that carries frames between two devices. The kernels that tests
//! meet have no `netem`.

use std::{
    collections::VecDeque,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    os::unix::net::UnixStream,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
    },
};

use crate::lab::namespace::Namespace;

/// The largest frame of a device whose MTU is 1500.
const FRAME: usize = 2048;

/// Frames under way each way. More are lost, as in any queue.
const QUEUE: usize = 8192;

/// A running wire; it ends when this value is dropped.
#[derive(Debug)]
pub(super) struct Wire {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Carries frames between `one` and `other`, two devices of `namespace`, with a delay.
    pub(super) fn start(namespace: &Namespace, one: &str, other: &str, delay: Duration) -> Result<Self> {
        let [one, other] = namespace.inside(|| Ok([tap(one)?, tap(other)?]))?;
        let (stop, stopped) = UnixStream::pair()?;
        let mut ways = [Way::new(one.try_clone()?, other.try_clone()?), Way::new(other, one)];
        let thread = std::thread::spawn(move || while carry(&mut ways, &stopped, delay) {});
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && let Err(reason) = thread.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(reason);
        }
    }
}

/// One direction.
struct Way {
    from: OwnedFd,
    to: OwnedFd,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Way {
    fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self { from, to, under_way: VecDeque::new() }
    }

    fn take_in(&mut self, due: Instant) {
        let mut frame = [0; FRAME];
        while let Ok(length) = recv(self.from.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            if self.under_way.len() < QUEUE {
                self.under_way.push_back((due, frame[..length].to_vec()));
            }
        }
    }

    fn give_out(&mut self, now: Instant) {
        while self.under_way.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, frame)) = self.under_way.pop_front() else { return };
            // A device that is down loses what it is given.
            let _ = send(self.to.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT);
        }
    }
}

/// Waits for what comes next and does it; `false` once it is to stop.
fn carry(ways: &mut [Way; 2], stopped: &UnixStream, delay: Duration) -> bool {
    let next = ways.iter().filter_map(|way| way.under_way.front()).map(|(due, _)| *due).min();
    let wait = next.map_or(PollTimeout::NONE, |due| {
        // Rounded up: a wait of nothing would turn in circles.
        let wait = due.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    });
    let mut watched = [ways[0].from.as_fd(), ways[1].from.as_fd(), stopped.as_fd()]
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
    match poll(&mut watched, wait) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(_) => return false,
    }
    if watched[2].any().unwrap_or(true) {
        return false;
    }
    let now = Instant::now();
    for way in ways {
        way.take_in(now + delay);
        way.give_out(now);
    }
    true
}

/// Every frame that comes in at a device, and a way out of it.
fn tap(device: &str) -> Result<OwnedFd> {
    let tap = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    bind(tap.as_raw_fd(), &link_address(device)?).with_context(|| format!("tapping {device}"))?;
    Ok(tap)
}

fn link_address(device: &str) -> Result<LinkAddr> {
    getifaddrs()?
        .filter(|found| found.interface_name == device)
        .find_map(|found| found.address?.as_link_addr().copied())
        .with_context(|| format!("there is no device {device}"))
}
