//! How bytes get from one peer to another: QUIC, and TCP secured by Noise or TLS under yamux, with every window,
//! limit and time-out set on purpose.

use std::{num::NonZeroUsize, time::Duration};

use futures::{AsyncRead, AsyncWrite, future::Either};
use libp2p::{
    PeerId, Transport,
    core::{
        ConnectedPoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, OrTransport, timeout::TransportTimeout},
        upgrade::Version,
    },
    identity::Keypair,
    quic, relay, swarm, tcp,
};

use crate::{address, mux, security};
pub use crate::{
    mux::Windows,
    security::{SecurityError, Suite},
};

/// Settings of [`transport`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// What a dialler proposes first for TCP. Default Noise.
    pub suite: Suite,
    /// Windows of a TCP connection.
    pub windows: Windows,
    /// Streams that the other end may have open on a QUIC connection. Default 1,024.
    pub quic_streams: u32,
    /// Bytes of one QUIC stream that may wait for a reader who stalls. Default 1 MiB.
    pub quic_stream_window: u32,
    /// Bytes of all streams of a QUIC connection that may wait. Default 64 MiB, so that 60 stalled readers leave
    /// room for others.
    pub quic_window: u32,
    /// Interval at which a silent QUIC connection proves that it lives. Default 5 s.
    pub quic_keep_alive: Duration,
    /// Silence after which a QUIC connection is dead. Default 10 s.
    pub quic_idle: Duration,
    /// Time from the first byte to a secured, multiplexed connection. Default 5 s.
    pub handshake: Duration,
    /// The same once the machine of a peer that we dial has answered over TCP, of [`with_circuits`]. Default 15 s: a relay to which a fleet comes back is
    /// waited for.
    pub answered: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            suite: Suite::Noise,
            windows: Windows::default(),
            quic_streams: 1024,
            quic_stream_window: 1 << 20,
            quic_window: 64 << 20,
            quic_keep_alive: Duration::from_secs(5),
            quic_idle: Duration::from_secs(10),
            handshake: Duration::from_secs(5),
            answered: Duration::from_secs(15),
        }
    }
}

/// Connections that the kernel keeps until they are taken from it, if it may keep so many (`net.core.somaxconn`): those of a fleet that comes back at
/// one moment. Who finds no room knocks again after a second, or three.
const BACKLOG: u32 = 8192;

/// What libp2p's swarm takes as its transport.
pub type PeerTransport = Boxed<(PeerId, StreamMuxerBox)>;

/// QUIC and TCP for the holder of `keypair`.
///
/// # Errors
/// [`SecurityError`] when the key cannot sign what the handshakes need.
pub fn transport(keypair: &Keypair, config: &Config) -> Result<PeerTransport, SecurityError> {
    Ok(beside_quic(secured(tcp(), keypair, config)?, keypair, config))
}

fn tcp() -> tcp::tokio::Transport {
    tcp::tokio::Transport::new(tcp::Config::default().nodelay(true).listen_backlog(BACKLOG))
}

/// QUIC, and TCP that is secured.
fn beside_quic(tcp: PeerTransport, keypair: &Keypair, config: &Config) -> PeerTransport {
    let quic = quic::tokio::Transport::new(quic_config(keypair, config))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    either(quic.boxed(), tcp)
}

/// The same, and circuits through a relay that another node can be dialled by, or dials us by, with the behaviour that they
/// need. A circuit is secured like a connection, so that the relay sees nothing of it. `reached` is told when the machine of a peer
/// whom we dial answers over TCP, before anything has proved who it is; it must not wait.
///
/// # Errors
/// As [`transport`].
pub fn with_circuits(
    keypair: &Keypair,
    config: &Config,
    reached: impl Fn(PeerId) + Clone + Send + Unpin + 'static,
) -> Result<(PeerTransport, relay::client::Behaviour), SecurityError> {
    let (circuits, behaviour) = relay::client::new(keypair.public().to_peer_id());
    let circuits = secured(circuits, keypair, config)?;
    let tcp = tcp().map(move |stream, end| {
        if let ConnectedPoint::Dialer { address, .. } = &end
            && let Some(peer) = address::peer(address)
        {
            reached(peer);
        }
        stream
    });
    let tcp = TransportTimeout::with_outgoing_timeout(tcp, config.handshake);
    let tcp = secured_within(tcp, keypair, config, config.answered)?;
    // Whether an address is one of a circuit is for the first to say.
    Ok((either(circuits, beside_quic(tcp, keypair, config)), behaviour))
}

/// `first`, and where it does not know an address, `second`.
pub fn either(first: PeerTransport, second: PeerTransport) -> PeerTransport {
    let both = OrTransport::new(first, second).map(|either, _| match either {
        Either::Left(output) | Either::Right(output) => output,
    });
    both.boxed()
}

/// Secures and multiplexes an ordered byte transport: TCP, a relayed circuit, or memory in tests.
///
/// # Errors
/// As [`transport`].
pub fn secured<T>(inner: T, keypair: &Keypair, config: &Config) -> Result<PeerTransport, SecurityError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    secured_within(inner, keypair, config, config.handshake)
}

/// As [`secured`], with a time of its own for what we dial.
fn secured_within<T>(
    inner: T,
    keypair: &Keypair,
    config: &Config,
    dialled: Duration,
) -> Result<PeerTransport, SecurityError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    let secured = inner
        .upgrade(Version::V1Lazy)
        .authenticate(security::Upgrade::new(keypair, config.suite)?)
        .multiplex(mux::Upgrade::new(config.windows))
        .boxed();
    let dialled = TransportTimeout::with_outgoing_timeout(secured, dialled);
    Ok(TransportTimeout::with_ingoing_timeout(dialled, config.handshake).boxed())
}

fn quic_config(keypair: &Keypair, config: &Config) -> quic::Config {
    let mut quic = quic::Config::new(keypair);
    quic.handshake_timeout = config.handshake;
    quic.max_idle_timeout = u32::try_from(config.quic_idle.as_millis()).unwrap_or(u32::MAX);
    quic.keep_alive_interval = config.quic_keep_alive;
    quic.max_concurrent_stream_limit = config.quic_streams;
    quic.max_stream_data = config.quic_stream_window;
    quic.max_connection_data = config.quic_window;
    quic
}

/// Settings of a swarm: its tasks on tokio, lazy negotiation of streams (no round trip before the first byte), and
/// at most `negotiating` inbound streams of a connection in negotiation, further ones being reset. A connection
/// without streams ends after `idle`.
pub fn swarm_config(negotiating: NonZeroUsize, idle: Duration) -> swarm::Config {
    swarm::Config::with_tokio_executor()
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_max_negotiating_inbound_streams(negotiating.get())
        .with_idle_connection_timeout(idle)
}
