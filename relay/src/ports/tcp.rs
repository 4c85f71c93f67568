//! The connections of one TCP tunnel: copied to its node and back unread, each half ending on its own. A connection that
//! does not end properly at one end is reset at the other.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::line::{Place, Way};
use crate::{
    access_log::Session,
    line::{self, Early, reset},
};

/// How long accepting rests when the system is out of sockets.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Takes connections until the relay stops, and serves them until `closed`, which cuts them.
pub(super) async fn serve(listener: TcpListener, way: Way, closed: CancellationToken) {
    let mut visitors = JoinSet::new();
    let mut listener = Some(listener);
    let draining = way.house.draining.clone();
    loop {
        tokio::select! {
            () = closed.cancelled() => break,
            Some(ended) = visitors.join_next(), if !visitors.is_empty() => drop(super::resume(ended)),
            () = draining.begun(), if listener.is_some() => listener = None,
            accepted = accept(listener.as_ref()) => match accepted {
                // By the port first: no tunnel's visitors take the places of all.
                Ok((stream, visitor)) if visitors.len() >= way.house.limits.visitors_per_tunnel => {
                    tracing::debug!(%visitor, "too many visitors of one tunnel");
                    reset(&stream);
                }
                Ok((stream, visitor)) => match way.place(visitor, visitors.len()) {
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

/// Nobody, where there is no listener any more.
async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => pending().await,
    }
}

async fn visit(mut stream: TcpStream, visitor: SocketAddr, way: Way, _place: Place) {
    let _waited_for = way.house.draining.line();
    let session = way.session(visitor);
    let ended = carry(&mut stream, visitor, &way, session.as_ref()).await;
    line::note(session.as_ref(), &ended);
    if let Err(early) = ended {
        tracing::debug!(%visitor, error = &early as &dyn std::error::Error, "connection reset");
        reset(&stream);
    }
}

async fn carry(
    stream: &mut TcpStream,
    visitor: SocketAddr,
    way: &Way,
    session: Option<&Session>,
) -> Result<(), Early> {
    line::prepare(stream).map_err(Early::Visitor)?;
    let greeting = way.greeting(visitor, stream.local_addr().ok());
    let mut line = way.lead(visitor, &greeting).await?;
    let moved = Arc::clone(&line.moved);
    tokio::select! {
        // After a stall of this process, what has come meanwhile moves first.
        biased;
        ended = line.carry(stream, &greeting, session) => ended?,
        () = way.house.draining.is_quiet(&moved) => return Err(Early::Stopped),
    }
    line::settle(stream).map_err(Early::Visitor)
}

fn is_visitors_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
