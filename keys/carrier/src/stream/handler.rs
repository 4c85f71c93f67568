//! The part of the stream behaviour that lives in a connection's task: negotiates what openers ask for, and passes
//! accepted streams up.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    StreamExt as _,
    channel::{mpsc, oneshot},
};
use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{Config, OpenError, opener::Request};

/// A stream that the other end opened.
#[derive(Debug)]
pub struct Accepted {
    pub(super) protocol: StreamProtocol,
    pub(super) stream: Stream,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Handler {
    config: Arc<Config>,
    requests: mpsc::Receiver<Request>,
    opening: usize,
    /// Short: the connection negotiates only when [`Self::poll`] had nothing to say.
    accepted: VecDeque<Accepted>,
}

/// Where the stream goes once it is negotiated, and what was asked for.
type Asked = (StreamProtocol, oneshot::Sender<Result<Stream, OpenError>>);

type HandlerEvent = ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Asked, Accepted>;

impl Handler {
    pub(super) fn new(config: Arc<Config>, requests: mpsc::Receiver<Request>) -> Self {
        Self { config, requests, opening: 0, accepted: VecDeque::new() }
    }

    fn next_request(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEvent> {
        while self.opening < self.config.max_opening {
            let Poll::Ready(Some(Request { protocol, reply })) = self.requests.poll_next_unpin(cx) else {
                return Poll::Pending;
            };
            if reply.is_canceled() {
                continue;
            }
            self.opening += 1;
            let upgrade = ReadyUpgrade::new(protocol.clone());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(upgrade, (protocol, reply))
                    .with_timeout(self.config.timeout),
            });
        }
        // Each answer makes the swarm poll again, so that no waker is needed for a place among `max_opening`.
        Poll::Pending
    }

    fn answer(
        &mut self,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
        result: Result<Stream, OpenError>,
    ) {
        self.opening -= 1;
        if reply.send(result).is_err() {
            tracing::trace!("a stream was opened for a caller who left; it is reset");
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Accepted;
    type InboundProtocol = Accept;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Asked;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(Accept(self.config.clone()), ()).with_timeout(self.config.timeout)
    }

    fn connection_keep_alive(&self) -> bool {
        self.config.keep_alive
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEvent> {
        if let Some(accepted) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(accepted));
        }
        self.next_request(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {}
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`ConnectionEvent` is non-exhaustive; the rest is not ours"
    )]
    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Asked>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                ..
            }) => self.accepted.push_back(Accepted { protocol, stream }),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: (_, reply),
            }) => self.answer(reply, Ok(stream)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: (protocol, reply), error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => OpenError::Timeout,
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported(protocol),
                    StreamUpgradeError::Io(error) => OpenError::Io(error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.answer(reply, Err(error));
            }
            _ => {}
        }
    }
}

/// Accepts the configured protocols, and says which one it was.
#[derive(Debug, Clone)]
pub struct Accept(Arc<Config>);

impl UpgradeInfo for Accept {
    type Info = StreamProtocol;
    type InfoIter = Protocols;

    fn protocol_info(&self) -> Protocols {
        Protocols { config: self.0.clone(), next: 0 }
    }
}

/// The accepted protocols, without an allocation: the swarm asks for them at each poll of a connection.
#[derive(Debug)]
pub struct Protocols {
    config: Arc<Config>,
    next: usize,
}

impl Iterator for Protocols {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let protocol = self.config.accepts.get(self.next)?.clone();
        self.next += 1;
        Some(protocol)
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}
