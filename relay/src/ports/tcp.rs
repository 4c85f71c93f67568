//! The connections of one TCP tunnel: copied to its node and back unread, each half ending on its own. A connection that
//! does not end properly at one end is reset at the other.

use std::{net::SocketAddr, time::Duration};

use mytunnel_carrier::{
    chunk::Chunk,
    splice::{Deaf, Ended, splice},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::line::{Meter, Place, Turned, Way};

/// How long accepting rests when the system is out of sockets.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// When a silent visitor is asked whether it is still there, and how often, before it is given up.
const SILENCE: Duration = Duration::from_secs(60);
const PROBES: (Duration, u32) = (Duration::from_secs(15), 4);

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Early {
    #[error(transparent)]
    Turned(#[from] Turned),
    #[error("the tunnel was closed, or has other gates")]
    Cut,
    #[error("the visitor failed")]
    Visitor(#[source] io::Error),
    #[error("the node failed, or its target does not accept")]
    Node(#[source] io::Error),
}

/// Takes connections until `closed`, which cuts them.
pub(super) async fn serve(listener: TcpListener, way: Way, closed: CancellationToken) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            () = closed.cancelled() => break,
            Some(ended) = visitors.join_next(), if !visitors.is_empty() => drop(super::resume(ended)),
            accepted = listener.accept() => match accepted {
                // By the port first: no tunnel's visitors take the places of all.
                Ok((stream, visitor)) if visitors.len() >= way.house.limits.visitors_per_tunnel => {
                    tracing::debug!(%visitor, "too many visitors of one tunnel");
                    reset(&stream);
                }
                Ok((stream, visitor)) => match way.place(visitor) {
                    Some(place) => {
                        visitors.spawn(visit(stream, visitor, way.clone(), place));
                    }
                    None => reset(&stream),
                },
                Err(error) if is_visitors_fault(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept visitors of a tcp tunnel");
                    sleep(EXHAUSTED).await;
                }
            },
        }
    }
    visitors.shutdown().await;
}

async fn visit(mut stream: TcpStream, visitor: SocketAddr, way: Way, _place: Place) {
    if let Err(early) = carry(&mut stream, visitor, &way).await {
        tracing::debug!(%visitor, error = &early as &dyn std::error::Error, "connection reset");
        reset(&stream);
    }
}

async fn carry(stream: &mut TcpStream, visitor: SocketAddr, way: &Way) -> Result<(), Early> {
    prepare(stream).map_err(Early::Visitor)?;
    let mut line = way.lead(visitor).await?;
    let mut first = Chunk::take();
    first.push(&way.greeting(visitor, stream.local_addr().ok()));
    let mut meter = Meter::of(&line.tunnel);
    let held = (Chunk::take(), first);
    let ended = tokio::select! {
        ended = splice(&mut line.node, stream, held, Deaf::HasFailed, &mut meter) => ended,
        () = line.cut.cancelled() => return Err(Early::Cut),
    };
    match ended {
        Ended::Properly => {
            // Both ends have said so: what is still under way may arrive.
            lingering(stream).map_err(Early::Visitor)
        }
        Ended::OriginFailed(error) => Err(Early::Visitor(error)),
        Ended::PipeLost(error) => Err(Early::Node(error)),
    }
}

/// Until it has ended properly, a connection that is dropped, by whomever, is one that is reset.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_zero_linger()?;
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBES.0).with_retries(PROBES.1);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn lingering(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// A visitor is not to take what came so far for the whole.
fn reset(stream: &TcpStream) {
    // Gone already is as good.
    let _ = stream.set_zero_linger();
}

fn is_visitors_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
