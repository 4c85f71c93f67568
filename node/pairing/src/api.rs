//! What clients of the daemon ask, and what they are answered: one JSON object each way on a connection of its own.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use mytunnel_keys::error::Code;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{content::Said, message::Verify, ways::WayKey};

/// Where a daemon is to listen for peers, and at which ports it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where it is to; port 0 for any.
    pub at: SocketAddr,
    /// Nothing where it cannot.
    pub tcp: Option<u16>,
    /// Nothing where it cannot.
    pub udp: Option<u16>,
}

/// A request. `session` may be left out where there is only one.
#[derive(Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the verbs and options of `mytunnel pair`, which documents them")]
pub enum Request {
    Open {
        goal: String,
        invites: usize,
        code: bool,
        ttl_s: u64,
        verify: Verify,
        name: String,
        agent: String,
        /// On disk, so that it outlives the daemon.
        keep: bool,
        /// For guests from elsewhere.
        relay: Option<RelayGrant>,
    },
    Join {
        #[serde(with = "wiped")]
        secret: Zeroizing<String>,
        name: String,
        agent: String,
        addresses: Vec<SocketAddr>,
        verify: Verify,
        keep: bool,
        /// Whether by the way through a relay that its link may name, too.
        relay: bool,
    },
    Invite {
        session: Option<String>,
        count: usize,
        code: bool,
        ttl_s: u64,
        /// See [`Request::Open`].
        relay: Option<RelayGrant>,
    },
    Revoke {
        session: Option<String>,
        /// Their ids; without any, all.
        invites: Vec<String>,
    },
    Lock {
        session: Option<String>,
    },
    /// What this machine shows, for the other person to type: for a person's eyes, and no agent's.
    Words {
        session: Option<String>,
        peer: Option<String>,
    },
    Verify {
        session: Option<String>,
        peer: Option<String>,
        #[serde(with = "wiped")]
        words: Zeroizing<String>,
    },
    Deny {
        session: Option<String>,
        peer: String,
    },
    Kick {
        session: Option<String>,
        peer: String,
    },
    Say {
        session: Option<String>,
        said: Said,
        reply_to: Option<u64>,
        to: Vec<String>,
    },
    Listen {
        session: Option<String>,
        /// Whose place it is read from, unless `since` says from where.
        reader: String,
        since: Option<u64>,
        wait_ms: u64,
        own: bool,
    },
    /// What was handed out up to here was read; `end` says that the session is over.
    Read {
        session: Option<String>,
        reader: String,
        number: u64,
        end: bool,
    },
    /// Offers a file, named by its whole path, in the folder `within`; without that a person has allowed this very file.
    Share {
        session: Option<String>,
        path: PathBuf,
        within: Option<PathBuf>,
        most: u64,
        text: String,
        to: Vec<String>,
    },
    /// Offers a file of this machine no longer, named by the number of its offer.
    Withdraw {
        session: Option<String>,
        offer: u64,
    },
    Offers {
        session: Option<String>,
    },
    /// Receives what is offered under this number, or goes on with that; answers when it is there, and after `wait_ms` at the
    /// latest.
    Receive {
        session: Option<String>,
        offer: u64,
        inbox: PathBuf,
        most: u64,
        wait_ms: u64,
        stop: bool,
    },
    /// How far a file is that is being received.
    Received {
        session: Option<String>,
        offer: u64,
    },
    Status {
        session: Option<String>,
        reader: String,
    },
    /// What became of something said before.
    Said {
        session: Option<String>,
        number: u64,
    },
    Export {
        session: Option<String>,
    },
    Close {
        session: Option<String>,
        /// Nothing of it stays on disk.
        forget: bool,
    },
}

impl Request {
    /// The session that it names.
    pub(crate) fn session(&self) -> Option<&str> {
        match self {
            Self::Open { .. } | Self::Join { .. } => None,
            Self::Invite { session, .. }
            | Self::Revoke { session, .. }
            | Self::Lock { session }
            | Self::Words { session, .. }
            | Self::Verify { session, .. }
            | Self::Deny { session, .. }
            | Self::Kick { session, .. }
            | Self::Say { session, .. }
            | Self::Listen { session, .. }
            | Self::Read { session, .. }
            | Self::Status { session, .. }
            | Self::Said { session, .. }
            | Self::Share { session, .. }
            | Self::Withdraw { session, .. }
            | Self::Offers { session }
            | Self::Receive { session, .. }
            | Self::Received { session, .. }
            | Self::Export { session }
            | Self::Close { session, .. } => session.as_deref(),
        }
    }

    /// Whether it is about one session, also where it names none.
    pub(crate) const fn is_about_one(&self) -> bool {
        !matches!(self, Self::Open { .. } | Self::Join { .. } | Self::Status { .. })
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Requests hold secrets and what people say.
        f.write_str("Request(…)")
    }
}

impl std::fmt::Debug for InviteAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InviteAnswer").field("expires_in_s", &self.expires_in_s).finish_non_exhaustive()
    }
}

/// What a session needs for guests who come through a relay.
#[derive(Debug, Serialize, Deserialize)]
pub struct RelayGrant {
    /// With what the host serves the way, where the session has none yet.
    pub key: Option<WayKey>,
    /// What of it a person may know: `name`, `server`, `key` and `project`.
    pub about: BTreeMap<String, String>,
    /// One for each invite.
    pub tickets: Vec<GrantedTicket>,
    /// How long the answer waits until the way stands.
    pub wait_ms: u64,
}

/// A ticket that goes into a link.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrantedTicket {
    /// Its text.
    pub text: WayKey,
    /// By which it is taken back.
    pub id: String,
}

/// A failure as a client is told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// Which.
    pub code: Code,
    /// In words.
    pub message: String,
    /// What to do about it, where that is not the same for every failure of this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Trouble {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    /// The same with a remedy of its own.
    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same in other words.
    pub(crate) fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Done(serde_json::Value),
    /// Why not.
    Failed(Trouble),
}

/// One invite, shown once.
#[derive(Serialize, Deserialize)]
pub struct InviteAnswer {
    /// By which the host knows it, which is no secret.
    #[serde(default)]
    pub id: String,
    /// The text to hand over.
    #[serde(with = "wiped")]
    pub text: Zeroizing<String>,
    /// What is left of its life.
    pub expires_in_s: u64,
    /// It leads through a relay, too.
    #[serde(default)]
    pub relay: bool,
}

/// Secrets in requests and answers.
mod wiped {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        text: &Zeroizing<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

/// Where a daemon of this user keeps sessions; there is a file as long as there are some.
pub fn kept(dir: &std::path::Path) -> PathBuf {
    dir.join("kept.db")
}

/// Where a daemon of this user is reached.
pub fn socket(dir: &std::path::Path) -> PathBuf {
    dir.join("daemon.sock")
}
