//! The fast lane's end at the node: TLS connections to the relay, opened ahead, each good for one pipe.
//!
//! How many is decided by [`Plan`]. A lane that cannot be had costs nothing but the attempt: the relay then uses streams
//! of the node's own connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mytunnel_keys::id::TunnelId;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{self, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    serve::{self, Patience, PipeError, pulse::Pulses, table::Service},
    state::lanes::{End, Plan},
};

/// Time for connecting and for the handshake.
const SETUP: Duration = Duration::from_secs(10);

/// Where lanes lead and how they are secured.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// The relay's port for lanes, on the address over which the node reaches it.
    pub(crate) relay: SocketAddr,
    /// Shows the node's key, accepts the relay's only.
    pub(crate) config: Arc<ClientConfig>,
}

/// The tunnel that lanes are for.
#[derive(Debug, Clone)]
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    pub(crate) service: Arc<Service>,
    pub(crate) pulses: Pulses,
}

/// Keeps lanes open for one tunnel until `closed`, which cuts them.
pub(crate) async fn keep(way: Way, tunnel: Tunnel, closed: CancellationToken) {
    let mut lanes = JoinSet::new();
    let (taken, mut takings) = mpsc::channel(64);
    let mut plan = Plan::new(Instant::now().into_std());
    loop {
        let now = Instant::now();
        while plan.open_one(now.into_std()) {
            lanes.spawn(lane(way.clone(), tunnel.clone(), taken.clone()));
        }
        let next = plan.next_attempt(now.into_std()).map(Instant::from_std);
        tokio::select! {
            () = closed.cancelled() => break,
            Some(()) = takings.recv() => plan.on_taken(Instant::now().into_std()),
            () = tunnel.service.used() => plan.on_traffic(Instant::now().into_std()),
            Some(ended) = lanes.join_next() => {
                plan.on_end(ended.unwrap_or(End::Unopened), Instant::now().into_std());
            }
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
    lanes.shutdown().await;
}

/// One lane from its first packet to its end.
async fn lane(way: Way, tunnel: Tunnel, taken: mpsc::Sender<()>) -> End {
    let stream = match timeout(SETUP, open(&way, tunnel.id)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no lane");
            return End::Unopened;
        }
        Err(_) => return End::Unopened,
    };
    let mut was_taken = false;
    let on_first_use = || {
        was_taken = true;
        // Full or gone, the plan has more than enough to count.
        let _ = taken.try_send(());
    };
    let pulse = tunnel.pulses.begin();
    let served = serve::serve_lane(stream, &tunnel.service, Patience::default(), pulse, on_first_use).await;
    match served {
        _ if was_taken => End::Used,
        Err(PipeError::Idle) => End::Aged,
        Ok(()) | Err(_) => End::Unwanted,
    }
}

async fn open(way: &Way, tunnel: TunnelId) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(way.relay).await?;
    stream.set_nodelay(true)?;
    // No name is sent or checked: the key is the identity.
    let name = ServerName::IpAddress(way.relay.ip().into());
    let mut lane = TlsConnector::from(Arc::clone(&way.config)).connect(name, stream).await?;
    lane.write_all(tunnel.as_bytes()).await?;
    lane.flush().await?;
    Ok(lane)
}

#[cfg(test)]
mod tests;
