//! Noise and TLS as one upgrade: the dialling end proposes in its order of preference, the other end takes the first
//! that it has, and it has both.

use futures::{
    FutureExt as _, TryFutureExt as _,
    future::{BoxFuture, Either},
};
use libp2p::{
    PeerId,
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    identity::Keypair,
    noise, tls,
};

use futures::{AsyncRead, AsyncWrite};

/// What secures a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Noise XX with ChaCha20-Poly1305: fewest bytes and the cheapest handshake.
    Noise,
    /// TLS 1.3 as of the libp2p specification.
    Tls,
}

impl AsRef<str> for Suite {
    fn as_ref(&self) -> &str {
        match self {
            Self::Noise => "/noise",
            Self::Tls => "/tls/1.0.0",
        }
    }
}

/// Secures a connection and tells who is at the other end.
#[derive(Clone)]
pub(crate) struct Upgrade {
    noise: noise::Config,
    tls: tls::Config,
    order: [Suite; 2],
}

impl Upgrade {
    /// Proposes `first` before the other suite; accepts both.
    pub(crate) fn new(keypair: &Keypair, first: Suite) -> Result<Self, SecurityError> {
        let order = match first {
            Suite::Noise => [Suite::Noise, Suite::Tls],
            Suite::Tls => [Suite::Tls, Suite::Noise],
        };
        Ok(Self { noise: noise::Config::new(keypair)?, tls: tls::Config::new(keypair)?, order })
    }
}

impl UpgradeInfo for Upgrade {
    type Info = Suite;
    type InfoIter = std::array::IntoIter<Suite, 2>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.order.into_iter()
    }
}

/// A connection secured by either suite. TLS is the larger by far, and not what idle connections use.
pub(crate) type Secured<C> = Either<noise::Output<C>, Box<tls::TlsStream<C>>>;

impl<C> InboundConnectionUpgrade<C> for Upgrade
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = HandshakeError;
    type Future = BoxFuture<'static, Result<Self::Output, HandshakeError>>;

    fn upgrade_inbound(self, socket: C, suite: Suite) -> Self::Future {
        match suite {
            Suite::Noise => self
                .noise
                .upgrade_inbound(socket, "/noise")
                .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                .map_err(HandshakeError::Noise)
                .boxed(),
            Suite::Tls => self
                .tls
                .upgrade_inbound(socket, "/tls/1.0.0")
                .map_ok(|(peer, stream)| (peer, Either::Right(Box::new(stream))))
                .map_err(HandshakeError::Tls)
                .boxed(),
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for Upgrade
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = HandshakeError;
    type Future = BoxFuture<'static, Result<Self::Output, HandshakeError>>;

    fn upgrade_outbound(self, socket: C, suite: Suite) -> Self::Future {
        match suite {
            Suite::Noise => self
                .noise
                .upgrade_outbound(socket, "/noise")
                .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                .map_err(HandshakeError::Noise)
                .boxed(),
            Suite::Tls => self
                .tls
                .upgrade_outbound(socket, "/tls/1.0.0")
                .map_ok(|(peer, stream)| (peer, Either::Right(Box::new(stream))))
                .map_err(HandshakeError::Tls)
                .boxed(),
        }
    }
}

/// Why no security layer could be set up for a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// The static Noise key could not be signed.
    #[error("noise key cannot be signed")]
    Noise(#[from] noise::Error),
    /// The self-signed TLS certificate could not be made.
    #[error("tls certificate cannot be made")]
    Tls(#[from] tls::certificate::GenError),
}

/// Why a connection could not be secured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("noise handshake failed")]
    Noise(#[source] noise::Error),
    #[error("tls handshake failed")]
    Tls(#[source] tls::UpgradeError),
}
