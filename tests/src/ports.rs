//! Ports for programs that are started again at the same address, or that cannot be told to take any.
//!
//! A port that the system chose (by binding port 0) and that is given back may be somebody else's a moment later:
//! each connection and each listener of the other tests takes one from the same range. These lie below that range, in
//! blocks that belong to one process while it runs.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Below what systems choose from by default (32768 and up on Linux, 49152 elsewhere) and what a relay gives to TCP
/// tunnels; above those that browsers refuse.
const ALL: Range<u16> = 11_000..19_000;

/// Ports in a block, of which the first is held by who has the block.
const BLOCK: u16 = 200;

/// What this process has of its blocks: those that it holds, and what is left of the newest.
struct Own {
    held: Vec<TcpListener>,
    left: Range<u16>,
}

static OWN: Mutex<Own> = Mutex::new(Own { held: Vec::new(), left: 0..0 });

/// A port of this machine's IPv4 addresses at which nobody listens, by TCP or UDP, and that no other caller gets, nor
/// another process that asks here.
///
/// # Errors
/// `AddrInUse` if all blocks are somebody's.
pub fn free() -> Result<u16> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        for port in own.left.by_ref() {
            let at = (Ipv4Addr::UNSPECIFIED, port);
            if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
                return Ok(port);
            }
        }
        let blocks = ALL.step_by(usize::from(BLOCK));
        let claim = |first: u16| Some((TcpListener::bind((Ipv4Addr::UNSPECIFIED, first)).ok()?, first));
        let (listener, first) = { blocks }.find_map(claim).ok_or(Error::from(ErrorKind::AddrInUse))?;
        own.held.push(listener);
        own.left = first + 1..first + BLOCK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_is_given_once_and_only_if_nobody_listens_there() -> Result<()> {
        let mut ports = vec![free()?];
        // More than a block: the next one goes on.
        let (mut taken, mut tcp, mut udp) = (Vec::new(), None, None);
        while ports.len() < usize::from(BLOCK) + 50 {
            let port = free()?;
            assert!(ALL.contains(&port) && !ports.contains(&port) && !taken.contains(&port), "{port}");
            ports.push(port);
            if ports.len() == 10 {
                tcp = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1))?);
                udp = Some(UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 2))?);
                taken = vec![port + 1, port + 2];
            }
        }
        assert!(tcp.is_some() && udp.is_some());
        Ok(())
    }
}
