//! The ways to reach a relay.

use std::fmt;

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Carrier {
    /// QUIC over UDP. Holds up better where packets are lost and addresses change.
    Quic,
    /// Noise and yamux over TCP. Takes half the memory at the relay, moves bulk at less cost, and tells at once when
    /// the relay's process ends; over QUIC that takes an unanswered ping.
    #[default]
    Tcp,
    /// The same over a WebSocket in TLS, at the port of visitors and through a proxy: the last resort, where nothing but HTTPS leads out.
    WebSocket,
}

impl Carrier {
    /// What is tried beside this one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Quic | Self::WebSocket => Self::Tcp,
            Self::Tcp => Self::Quic,
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::WebSocket => "websocket",
        })
    }
}
