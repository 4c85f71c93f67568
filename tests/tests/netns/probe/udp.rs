//! The tests of UDP.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Behaviour, PATIENCE, filtering, mapping};
use crate::lab::Host;

/// How the NATs before `host` treat a socket of it, seen from two public hosts.
pub(crate) fn behaviour(host: &Host, servers: [&Host; 2]) -> Result<Behaviour> {
    let listening = [[servers[0].udp()?, servers[0].udp()?], [servers[1].udp()?, servers[1].udp()?]];
    let socket = host.udp()?;
    let mut seen = Vec::new();
    for (server, ports) in servers.iter().zip(&listening) {
        let [one, other] = ports.each_ref().map(|port| seen_by(&socket, server, port));
        seen.push([one?, other?]);
    }
    let seen = seen.try_into().ok().context("two servers")?;
    let mapping = mapping(&seen);
    let keeps_port = seen[0][0].port() == socket.local_addr()?.port();

    let fresh = host.udp()?;
    let outside = seen_by(&fresh, servers[0], &listening[0][0])?;
    let lets_in = |from: &UdpSocket| -> Result<bool> {
        from.send_to(b"in", outside)?;
        Ok(heard(&fresh, PATIENCE)?.is_some())
    };
    let (same, other) = (lets_in(&listening[0][1])?, lets_in(&listening[1][0])?);
    Ok(Behaviour { mapping, filtering: filtering(same, other), keeps_port })
}

/// Whether packets pass between two hosts after both have sent to where the other was seen, and both answer to where a
/// packet really came from.
pub(crate) fn punch(one: &Host, other: &Host, server: &Host, limit: Duration) -> Result<bool> {
    let meeting = server.udp()?;
    let sockets = [one.udp()?, other.udp()?];
    let mut towards = [seen_by(&sockets[1], server, &meeting)?, seen_by(&sockets[0], server, &meeting)?];
    let mut heard_each = [false; 2];
    let started = Instant::now();
    while started.elapsed() < limit && heard_each != [true; 2] {
        for side in [0, 1] {
            // Sending may be refused for what an earlier packet met.
            let _ = sockets[side].send_to(b"punch", towards[side]);
        }
        for side in [0, 1] {
            if let Some(from) = heard(&sockets[side], Duration::from_millis(25))? {
                heard_each[side] = true;
                towards[side] = from;
            }
        }
    }
    Ok(heard_each == [true; 2])
}

/// Packets that may be lost on their way: a network that has just been made does not carry every first one.
const TRIES: usize = 4;

/// Sends from a socket to a server's port, and returns whom that one saw.
fn seen_by(socket: &UdpSocket, server: &Host, port: &UdpSocket) -> Result<SocketAddr> {
    // What came late of an earlier one.
    while heard(port, AT_ONCE)?.is_some() {}
    for _ in 0..TRIES {
        socket.send_to(b"who am I", server.at(port.local_addr())?)?;
        if let Some(from) = heard(port, PATIENCE)? {
            return Ok(from);
        }
    }
    bail!("the server hears nothing")
}

/// The shortest time that can be waited.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Whom a packet came from, if one comes in time.
fn heard(socket: &UdpSocket, patience: Duration) -> Result<Option<SocketAddr>> {
    socket.set_read_timeout(Some(patience))?;
    Ok(socket.recv_from(&mut [0; 64]).ok().map(|(_, from)| from))
}
