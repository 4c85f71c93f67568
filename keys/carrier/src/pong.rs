//! Answers pings: what the other end writes on a stream of libp2p's ping protocol is written back.
//!
//! libp2p's own behaviour answers, too, but after an answer it does not listen to the stream until something else wakes
//! the connection. Over TCP whatever arrives does; over QUIC nothing does, and a quiet connection is taken for dead.

use std::{
    convert::Infallible,
    fmt, io,
    task::{Context, Poll},
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{DeniedUpgrade, ReadyUpgrade},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound},
    },
};

/// The protocol.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// Length of a ping, which is answered with the same bytes.
pub const LENGTH: usize = 32;

/// See the [module documentation](self). Beside libp2p's behaviour it must be the earlier field: the first that takes a
/// protocol gets its streams.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Behaviour {}

/// Answers on one connection, on one stream at a time: a new one takes the place of the last.
#[derive(Default)]
pub struct Handler {
    answering: Option<BoxFuture<'static, io::Error>>,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("answering", &self.answering.is_some()).finish()
    }
}

async fn answer(mut stream: Stream) -> io::Error {
    match echo(&mut stream).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn echo(stream: &mut Stream) -> io::Result<Infallible> {
    loop {
        let mut ping = [0; LENGTH];
        stream.read_exact(&mut ping).await?;
        stream.write_all(&ping).await?;
        stream.flush().await?;
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Infallible>> {
        if let Some(answering) = &mut self.answering
            && let Poll::Ready(error) = answering.poll_unpin(cx)
        {
            tracing::trace!(%error, "no more pings");
            self.answering = None;
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
            protocol: mut stream, ..
        }) = event
        {
            stream.ignore_for_keep_alive();
            self.answering = Some(answer(stream).boxed());
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use futures::StreamExt as _;
    use libp2p::{
        Swarm,
        identity::Keypair,
        swarm::{SwarmEvent, dial_opts::DialOpts},
    };
    use tokio::{task::JoinSet, time::timeout};

    use super::*;
    use crate::{
        stream::{self, Opener},
        transport,
    };

    const SOON: Duration = Duration::from_secs(10);

    fn swarm<B: NetworkBehaviour>(behaviour: B) -> Swarm<B> {
        let keypair = Keypair::generate_ed25519();
        let transport = transport::transport(&keypair, &transport::Config::default()).unwrap();
        let config = transport::swarm_config(NonZeroUsize::new(16).unwrap(), SOON);
        Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
    }

    /// An opener of a connection over `address` to somebody with that behaviour; both ends run in `tasks`.
    async fn connected<B>(behaviour: B, address: &str, tasks: &mut JoinSet<()>) -> Opener
    where
        B: NetworkBehaviour<ToSwarm: Send> + Send,
    {
        let mut answering = swarm(behaviour);
        answering.listen_on(address.parse().unwrap()).unwrap();
        let at = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = answering.select_next_some().await {
                break address;
            }
        };
        let peer = *answering.local_peer_id();
        tasks.spawn(async move {
            loop {
                answering.select_next_some().await;
            }
        });
        let mut config = stream::Config::accepting([]);
        config.keep_alive = true;
        let mut asking = swarm(stream::Behaviour::new(config));
        asking.dial(DialOpts::peer_id(peer).addresses(vec![at]).build()).unwrap();
        let opener = loop {
            if let SwarmEvent::Behaviour(stream::Event::Opened { opener, .. }) =
                timeout(SOON, asking.select_next_some()).await.unwrap()
            {
                break opener;
            }
        };
        tasks.spawn(async move {
            loop {
                asking.select_next_some().await;
            }
        });
        opener
    }

    #[tokio::test]
    async fn a_quiet_connection_answers_every_ping() {
        for address in ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"] {
            let mut tasks = JoinSet::new();
            let opener = connected(Behaviour::default(), address, &mut tasks).await;
            let mut stream = opener.open(PROTOCOL).await.unwrap();
            for ping in 0..20 {
                stream.write_all(&[ping; LENGTH]).await.unwrap();
                stream.flush().await.unwrap();
                let mut answer = [0; LENGTH];
                timeout(SOON, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
                assert_eq!(answer, [ping; LENGTH]);
            }
        }
    }
}
