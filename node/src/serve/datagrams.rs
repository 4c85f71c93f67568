//! A UDP tunnel's pipe: one visitor's datagrams to the target and back. The relay ends it when the visitor is silent.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
};

use mytunnel_carrier::{chunk::Chunk, datagram, greeting::Transport};
use mytunnel_keys::wire::PipeStatus;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use super::{Patience, Pipe, PipeError, http_pipe::HttpPipe, pulse::Pulse, refuse, stream::greeted};
use crate::target::{
    Target,
    dial::{DialError, TIMEOUT},
};

thread_local! {
    /// Takes a datagram from the system before its length is known.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; datagram::MAX]);
}

/// A server that takes datagrams.
#[derive(Debug)]
pub(crate) struct Peer {
    host: Option<String>,
    port: NonZeroU16,
}

impl Peer {
    /// # Errors
    /// [`DialError::NoServer`] for what takes no datagrams.
    pub(super) fn new(target: &Target) -> Result<Self, DialError> {
        match target {
            Target::Port(port) => Ok(Self { host: None, port: *port }),
            Target::Tcp { host, port } => Ok(Self { host: Some(host.clone()), port: *port }),
            Target::Tls { .. } | Target::Unix(_) | Target::Folder(_) | Target::File(_) => {
                Err(DialError::NoServer)
            }
        }
    }

    pub(super) async fn serve(
        &self,
        mut pipe: impl Pipe,
        mut first: Chunk,
        patience: Patience,
        pulse: Arc<Pulse>,
    ) -> Result<(), PipeError> {
        let (_, length) = greeted(&mut pipe, &mut first, Transport::Datagrams, patience).await?;
        first.consume(length);
        let socket = match timeout(TIMEOUT, self.connect()).await.unwrap_or(Err(DialError::Timeout)) {
            Ok(socket) => socket,
            Err(error) => {
                refuse(pipe, PipeStatus::TargetUnreachable, patience).await?;
                return Err(PipeError::Target(error));
            }
        };
        pipe.write_all(&[PipeStatus::Connected as u8]).await?;
        pipe.flush().await?;
        pulse.down();
        let (from_visitor, to_visitor) = tokio::io::split(HttpPipe::new(pipe, first, pulse));
        tokio::select! {
            ended = to_target(from_visitor, &socket) => ended,
            ended = to_relay(&socket, to_visitor) => ended,
        }
        .map_err(PipeError::Pipe)
    }

    async fn connect(&self) -> Result<UdpSocket, DialError> {
        let address = match &self.host {
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.get())),
            Some(host) => {
                let mut found =
                    lookup_host((host.as_str(), self.port.get())).await.map_err(DialError::Connect)?;
                found.next().ok_or(DialError::Connect(io::ErrorKind::NotFound.into()))?
            }
        };
        let any = if address.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let socket = UdpSocket::bind(any).await.map_err(DialError::Connect)?;
        socket.connect(address).await.map_err(DialError::Connect)?;
        Ok(socket)
    }
}

/// Nothing listens there at the moment, which its next datagram may find otherwise.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

async fn to_target(mut from: impl AsyncRead + Unpin, socket: &UdpSocket) -> io::Result<()> {
    let mut bytes = Vec::new();
    while datagram::read(&mut from, &mut bytes).await? {
        match socket.send(&bytes).await {
            Err(error) if !is_passing(&error) => tracing::debug!(%error, "a datagram was lost"),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

async fn to_relay(socket: &UdpSocket, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        socket.readable().await?;
        let received = SCRATCH.with_borrow_mut(|scratch| {
            socket.try_recv(scratch).map(|length| scratch.get(..length).unwrap_or_default().to_vec())
        });
        match received {
            Ok(bytes) => {
                datagram::write(&mut to, &bytes).await?;
                to.flush().await?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
