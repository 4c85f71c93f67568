//! The tests of TCP, with several connections from one port.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Behaviour, PATIENCE, filtering, mapping};
use crate::lab::Host;

/// How the NATs before `host` treat connections from one port of it, seen from two public hosts.
pub(crate) fn behaviour(host: &Host, servers: [&Host; 2]) -> Result<Behaviour> {
    let listening = [[listen(servers[0])?, listen(servers[0])?], [listen(servers[1])?, listen(servers[1])?]];
    // Connections live until the end: what is closed may be mapped anew.
    let mut kept = Vec::new();
    let port = free_port(host)?;
    let mut seen = Vec::new();
    for (server, ports) in servers.iter().zip(&listening) {
        let [one, other] = ports.each_ref().map(|listener| seen_by(host, port, server, listener));
        let (one, other) = (one?, other?);
        seen.push([one.1, other.1]);
        kept.extend([one.0, other.0]);
    }
    let seen = seen.try_into().ok().context("two servers")?;
    let mapping = mapping(&seen);
    let keeps_port = seen[0][0].port() == port;

    let port = free_port(host)?;
    let _waiting = listen_at(host, port)?;
    let (connection, outside) = seen_by(host, port, servers[0], &listening[0][0])?;
    kept.push(connection);
    let lets_in = |from: &Host| Ok::<_, anyhow::Error>(connect(from, 0, outside)?.is_some());
    let filtering = filtering(lets_in(servers[0])?, lets_in(servers[1])?);
    Ok(Behaviour { mapping, filtering, keeps_port })
}

/// Whether two hosts get a connection when both dial where the other was seen, at once and again.
pub(crate) fn punch(one: &Host, other: &Host, server: &Host, limit: Duration) -> Result<bool> {
    let meeting = listen(server)?;
    let hosts = [one, other];
    let ports = [free_port(one)?, free_port(other)?];
    let (_first, first) = seen_by(one, ports[0], server, &meeting)?;
    let (_second, second) = seen_by(other, ports[1], server, &meeting)?;
    let towards = [second, first];
    let listeners = [listen_at(one, ports[0])?, listen_at(other, ports[1])?];
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    let started = Instant::now();
    let mut connected = [false; 2];
    while started.elapsed() < limit && connected != [true; 2] {
        let dials = [0, 1].map(|side| dial(hosts[side], ports[side], towards[side]));
        let [first, second] = dials;
        for (side, dial) in [first?, second?].iter().enumerate() {
            connected[side] |=
                completes(dial, Duration::from_millis(100))? || listeners[side].accept().is_ok();
        }
    }
    Ok(connected == [true; 2])
}

type Seen = ([Socket; 2], SocketAddr);

/// Connects from a port to a server, and returns both ends and whom the server saw.
fn seen_by(host: &Host, port: u16, server: &Host, listener: &Socket) -> Result<Seen> {
    let to = server.at(local(listener))?;
    let connection = connect(host, port, to)?.context("the server cannot be reached")?;
    let (accepted, from) = listener.accept()?;
    Ok(([connection, accepted], from.as_socket().context("an address")?))
}

fn connect(host: &Host, port: u16, to: SocketAddr) -> Result<Option<Socket>> {
    let socket = dial(host, port, to)?;
    Ok(completes(&socket, PATIENCE)?.then_some(socket))
}

/// Begins to connect.
fn dial(host: &Host, port: u16, to: SocketAddr) -> Result<Socket> {
    let socket = bound(host, port)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
        // What else is wrong, `completes` finds out.
        Ok(()) | Err(_) => {}
    }
    Ok(socket)
}

/// Whether a connection that was begun stands in time.
fn completes(socket: &Socket, patience: Duration) -> Result<bool> {
    let started = Instant::now();
    loop {
        if socket.take_error()?.is_some() {
            return Ok(false);
        }
        match socket.peer_addr() {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return Err(error.into()),
        }
        if started.elapsed() > patience {
            return Ok(false);
        }
        std::thread::yield_now();
    }
}

fn free_port(host: &Host) -> Result<u16> {
    Ok(local(&bound(host, 0)?)?.port())
}

fn listen(host: &Host) -> Result<Socket> {
    listen_at(host, 0)
}

fn listen_at(host: &Host, port: u16) -> Result<Socket> {
    let socket = bound(host, port)?;
    socket.listen(8)?;
    Ok(socket)
}

/// A socket that shares its port with others of this process.
fn bound(host: &Host, port: u16) -> Result<Socket> {
    host.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))?;
        Ok(socket)
    })
}

fn local(socket: &Socket) -> std::io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| ErrorKind::Unsupported.into())
}
