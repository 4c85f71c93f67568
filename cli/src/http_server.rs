//! A coordinator's API on a socket of its own, where no relay's ingress stands in front of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mytunnel_coordinator::{ClientAddress, Coordinator};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at once: each relay has two, and people are few.
const CONNECTIONS: usize = 1024;
/// Time to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Rest after an accept that failed, which it does when the process is out of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Serves until cancelled, then lets requests under way end.
pub(crate) async fn serve(listener: TcpListener, coordinator: Arc<Coordinator>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, from, place)) = accepted else { continue };
        let (coordinator, stop) = (Arc::clone(&coordinator), stop.clone());
        connections.spawn(async move {
            converse(stream, from, coordinator, stop).await;
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, from)) => Some((stream, from, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept");
            tokio::time::sleep(REST).await;
            None
        }
    }
}

async fn converse(
    stream: TcpStream,
    from: SocketAddr,
    coordinator: Arc<Coordinator>,
    stop: CancellationToken,
) {
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let coordinator = Arc::clone(&coordinator);
        request.extensions_mut().insert(ClientAddress(from.ip()));
        async move { Ok::<_, Infallible>(coordinator.handle(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
