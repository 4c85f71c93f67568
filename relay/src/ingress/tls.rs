//! TLS towards visitors: the client hello is read first, so that what asks for another protocol than HTTP can be led
//! elsewhere before a certificate is chosen.

use std::{io, sync::Arc};

use mytunnel_carrier::websocket::Entrance;
use mytunnel_keys::wire::LANE_ALPN;
use rustls::{ServerConfig, crypto::aws_lc_rs, server::ResolvesServerCert};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

use super::{
    Shared,
    hello::{Hello, Replayed},
    passthrough::{self, Passed, Unheard},
};
use crate::{
    access_log::AccessLog,
    acme::{Acme, CHALLENGE_PROTOCOL},
    crowds::Crowds,
    lanes::{Door, LaneError},
    ports::PortRange,
    tally::Tally,
};

/// Why a visitor's handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the handshake failed")]
    Io(#[from] io::Error),
    /// A fast lane of a node came to a listener that has none.
    #[error("no fast lane is offered here")]
    NoLane,
    /// A fast lane was refused.
    #[error("the fast lane was refused")]
    Lane(#[from] LaneError),
    /// Whose TLS it is was not heard in time.
    #[error("it is not known whose TLS it is")]
    Unheard(#[from] Unheard),
}

/// TLS 1.2 and 1.3 with `certificates`, resumption by tickets.
pub(crate) fn config(certificates: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// HTTP/2 as visitors ask for it (RFC 9113 §3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// What a connection turned out to be.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A visitor, ready to speak HTTP.
    Visitor(Box<TlsStream<TcpStream>>),
    /// A fast lane of a node, which has gone where its tunnel finds it.
    Lane,
    /// The authority, which has looked whether a name is ours.
    Challenge,
    /// A visitor whose TLS ends behind the relay.
    Passed(Passed),
}

/// Who else comes to the listener for visitors, and what certificates are waited for.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The door for fast lanes of nodes.
    pub(crate) lanes: Option<Door>,
    /// Where certificates come from when they are first needed.
    pub(crate) acme: Option<Acme>,
    /// Who notes down every request.
    pub(crate) access_log: AccessLog,
    /// Ports of tunnels, at the same hosts.
    pub(crate) ports: Option<PortRange>,
    /// Where places are held.
    pub(crate) crowds: Crowds,
    /// Where it is counted what happens.
    pub(crate) tally: Tally,
    /// Where WebSockets of nodes go.
    pub(crate) nodes: Option<Entrance>,
}

/// Performs one handshake, unless the connection is one that somebody behind the relay shakes hands on.
pub(crate) async fn accept(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    Beside { lanes, acme, .. }: &Beside,
    shared: &Shared,
) -> Result<Accepted, HandshakeError> {
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), Hello::new(stream));
    let StartHandshake { accepted, io, .. } = acceptor.await?;
    let (stream, hello) = io.into_parts();
    let start = StartHandshake::from_parts(accepted, stream);
    if asks(&start, LANE_ALPN) {
        lanes.as_ref().ok_or(HandshakeError::NoLane)?.enter(start).await?;
        return Ok(Accepted::Lane);
    }
    // Also an authority's look at such a name is not for us.
    let asked = start.client_hello().server_name().map(str::to_owned);
    if let Some(label) = passthrough::label(shared, asked.as_deref()).await? {
        return Ok(Accepted::Passed(Passed { stream: Replayed::new(start.io, hello), label }));
    }
    let visitor = finish(start, config, acme.as_ref()).await?;
    Ok(visitor.map_or(Accepted::Challenge, |stream| Accepted::Visitor(Box::new(stream))))
}

/// Performs one handshake where there is nobody but visitors and the authority, for whom there is nothing more to see.
pub(super) async fn accept_inside<S>(
    stream: S,
    config: &Arc<ServerConfig>,
    acme: Option<&Acme>,
) -> Result<Option<TlsStream<S>>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    finish(start, config, acme).await
}

/// Nothing comes of a handshake by which the authority looks whether a name is ours.
async fn finish<S>(
    start: StartHandshake<S>,
    config: &Arc<ServerConfig>,
    acme: Option<&Acme>,
) -> Result<Option<TlsStream<S>>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(acme) = acme {
        if asks(&start, CHALLENGE_PROTOCOL) {
            // All there is to see is in the handshake.
            start.into_stream(acme.challenge()).await?.shutdown().await?;
            return Ok(None);
        }
        let name = start.client_hello().server_name().map(str::to_owned);
        if let Some(name) = name {
            acme.ready(&name).await;
        }
    }
    Ok(Some(start.into_stream(Arc::clone(config)).await?))
}

fn asks<S: AsyncRead + AsyncWrite + Unpin>(start: &StartHandshake<S>, wanted: &[u8]) -> bool {
    let hello = start.client_hello();
    hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == wanted))
}
