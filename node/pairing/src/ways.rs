//! Ways past the network: how a session is carried to who cannot reach its host's addresses. What carries it is not this
//! crate's to know: it is handed in as [`Ways`], and is a dumb pipe from a port of the guest's machine to one of the host's.

use std::{fmt, net::SocketAddr, time::Duration};

use futures::future::BoxFuture;
use mytunnel_keys::error::Code;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// What opens a way, at either end. Only who made it can read it; it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WayKey(Zeroizing<String>);

impl WayKey {
    /// Of what its maker wrote.
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// What its maker wrote.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WayKey(…)")
    }
}

impl Serialize for WayKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for WayKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// With what a guest sets out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pass {
    /// A ticket, which is good for one key.
    Ticket(WayKey),
    /// What was got for it.
    Key(WayKey),
}

/// How far a way is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stand {
    /// Where it stands.
    pub state: State,
    /// What is in its way, where something is.
    pub why: String,
    /// What helps, where that is known.
    pub help: String,
    /// Though it is closed it may work later, when it is made anew.
    pub passes: bool,
    /// Why it will never be one, as a code of pairing, where there is one for that.
    pub code: Option<Code>,
    /// At a guest's end: where it begins on this machine.
    pub at: Option<SocketAddr>,
    /// What a ticket was given for.
    pub key: Option<WayKey>,
    /// How the machines at the other end are reached.
    pub paths: Vec<WayPath>,
}

/// Where a way stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// It is being made.
    #[default]
    Opening,
    /// It leads to the other end.
    Open,
    /// It is over, and this one never will again.
    Closed,
}

/// One machine at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayPath {
    /// Whether past the relay.
    pub direct: bool,
    /// Why so.
    pub reason: String,
    /// Round trip, once it is known.
    pub rtt: Option<Duration>,
}

/// What the daemon holds of a way that somebody else makes.
#[derive(Debug)]
pub struct Line {
    /// Whether it may look for paths past what carries it, for which it listens on all addresses of the machine.
    pub direct: bool,
    /// Where it says how far it is.
    pub stand: watch::Sender<Stand>,
    /// When it is over.
    pub stop: CancellationToken,
}

/// Makes ways. Each is a future that ends soon after it is told to stop, or when its way is closed for good, and says first
/// which of both; dropping it ends it at once.
pub trait Ways: Send + Sync + fmt::Debug {
    /// At the host: leads whoever comes by the way to `target`.
    fn serve(&self, key: WayKey, target: SocketAddr, line: Line) -> BoxFuture<'static, ()>;

    /// At a guest: has an address of this machine lead to the host.
    fn reach(&self, pass: Pass, line: Line) -> BoxFuture<'static, ()>;
}
