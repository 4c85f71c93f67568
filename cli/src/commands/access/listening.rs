//! Where a private share is reached on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mytunnel_keys::wire::peer::Carries;
use mytunnel_node::{Door, Outcome};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::failure::{Failure, chain};

/// A free port, of this machine alone.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An address that is kept for a share of which it is not known yet what it carries.
pub(super) struct Held {
    streams: std::net::TcpListener,
    datagrams: std::net::UdpSocket,
}

impl Held {
    /// Both have to be free: a guest's ticket would be used up by the time it is known which of them is needed.
    pub(super) fn take(wanted: SocketAddr) -> Result<Self, Failure> {
        let take = || {
            let (streams, datagrams) =
                (std::net::TcpListener::bind(wanted)?, std::net::UdpSocket::bind(wanted)?);
            streams.set_nonblocking(true)?;
            datagrams.set_nonblocking(true)?;
            Ok(Self { streams, datagrams })
        };
        take().map_err(|error| failed(wanted, &error))
    }
}

/// Opens the local address; whatever comes there is led to the share.
pub(super) async fn listen(
    (wanted, held): (Option<SocketAddr>, Option<Held>),
    carries: Carries,
    door: Door,
    serving: &mut JoinSet<Outcome>,
) -> Result<String, Failure> {
    let wanted = wanted.unwrap_or(ANYWHERE);
    let failed = |error: std::io::Error| failed(wanted, &error);
    let bound = match carries {
        Carries::Streams | Carries::Web => {
            let listener = match held {
                Some(held) => TcpListener::from_std(held.streams),
                None => TcpListener::bind(wanted).await,
            };
            let listener = listener.map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            serving.spawn(async move {
                door.serve(listener).await;
                Outcome::Done
            });
            bound
        }
        Carries::Datagrams => {
            let socket = match held {
                Some(held) => UdpSocket::from_std(held.datagrams),
                None => UdpSocket::bind(wanted).await,
            };
            let socket = socket.map_err(failed)?;
            let bound = socket.local_addr().map_err(failed)?;
            serving.spawn(async move {
                door.serve_datagrams(socket).await;
                Outcome::Done
            });
            bound
        }
    };
    Ok(bound.to_string())
}

fn failed(wanted: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::local(
        format!("cannot listen at {wanted}: {}", chain(error)),
        "Choose another address with --bind, or leave it away for a free port.",
    )
}
