//! Ports for programs that are started again at the same address, or that cannot be told to take any.
//!
//! A port that the system chose (by binding port 0) and that is given back may be somebody else's a moment later:
//! each connection and each listener of the other tests takes one from the same range. These lie below that range,
//! and each is given once.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what systems choose from (32768 and up on Linux, 49152 elsewhere) and what a relay gives to TCP
/// tunnels; above those that browsers refuse.
const FIRST: u16 = 11_000;
const COUNT: u16 = 8_000;

/// A port at which nobody listens, by TCP or UDP, and which no other caller of this process gets.
pub fn free() -> Result<u16> {
    static BEGIN: OnceLock<u16> = OnceLock::new();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at once begin at different places.
    let begin = *BEGIN.get_or_init(|| u16::try_from(std::process::id() % 80).unwrap_or(0) * 100);
    for _ in 0..COUNT {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let at = (Ipv4Addr::UNSPECIFIED, port);
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::from(ErrorKind::AddrInUse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_is_given_once_and_only_if_nobody_listens_there() -> Result<()> {
        let ports = [free()?, free()?, free()?];
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[2] + 1));
        assert_ne!(free()?, ports[2] + 1);
        Ok(())
    }
}
