//! Control messages between node and relay: CBOR, one message a frame, at most 64 KiB.
//!
//! The node speaks first ([`ToRelay::Hello`]); the connection's own handshake has proved its key, and the certificate
//! says what that key may do. The relay answers [`ToNode::Welcome`] with its own certificate, or [`ToNode::Refused`]
//! and closes. Fields may be added in later versions; a reader passes over those that it does not know.
//!
//! A pipe is a stream that the relay opens: 16 bytes of tunnel id from the relay, one [`PipeStatus`] byte from the node
//! before its first byte of payload, then payload both ways. The node dials its target when the first byte of payload
//! arrives, so that an idle pooled pipe costs the target nothing. The payload of a TCP, TLS or UDP tunnel's pipe begins with a
//! header of the PROXY protocol, version 2, which says who the visitor is; datagrams follow it each behind its length.

pub mod direct;
pub mod peer;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    error::Code,
    id::{Cluster, PublicKey, Serial, TunnelId, TunnelKind, TunnelName},
};

/// The libp2p protocol of the control stream.
pub const AUTH_PROTOCOL: &str = "/mytunnel/auth/1";

/// The libp2p protocol of a pipe.
pub const PIPE_PROTOCOL: &str = "/mytunnel/pipe/1";

/// The ALPN name of the fast lane beside libp2p.
pub const LANE_ALPN: &[u8] = b"mytunnel-lane/1";

/// The version in [`ToRelay::Hello`] and [`ToNode::Welcome`].
pub const VERSION: u16 = 1;

/// Nodes that may serve one name at one relay.
pub const MAX_BACKENDS: usize = 16;

/// Certificates of others that a node may watch at one relay, and name in one message.
pub const MAX_WATCHED: usize = 128;

/// Largest control message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// What a node says to its relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToRelay {
    /// First message of a connection.
    Hello {
        /// [`VERSION`] of the node.
        version: u16,
        /// The credential's certificate, for the key of this connection.
        #[serde(with = "crate::bytes")]
        certificate: Vec<u8>,
        /// The node's word that it is at this relay ([`presence`](crate::presence)), for the relay's coordinator.
        #[serde(with = "crate::bytes")]
        presence: Vec<u8>,
        /// Name and version of the program, for the operator.
        agent: String,
        /// The node's clock in Unix seconds, so that the relay can tell it about an offset.
        clock: u64,
    },
    /// Asks for a tunnel.
    Register {
        /// Number of the request; the answer repeats it.
        request: u32,
        /// Name of the tunnel, in the credential's project.
        name: TunnelName,
        /// What it carries.
        kind: TunnelKind,
        /// Random, the same for the life of the process: tells a reconnect from a second node.
        #[serde(with = "crate::bytes")]
        instance: [u8; 16],
        /// The public port that is wanted, for TCP and UDP. Without it the relay chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// Whether no other node is to serve the name beside this one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        alone: bool,
    },
    /// The node ends what it serves and will give the tunnel up: where other nodes serve the name, they are to get the visitors
    /// that come. Said only to a relay that has told of others.
    Leave {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// Gives a tunnel up.
    Unregister {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// The node has met the holders of these certificates in private shares: the relay is to say when one of them counts no
    /// longer, also where their connection does not lead through it.
    Watch {
        /// [`MAX_WATCHED`] at most.
        certificates: Vec<Signed>,
    },
    /// It has left them.
    Unwatch {
        /// Of the certificates.
        serials: Vec<Serial>,
    },
    /// Looks for the nodes that serve a private name.
    Find {
        /// Number of the request; the answer repeats it. Counted apart from those of registrations.
        request: u32,
        /// The name.
        name: TunnelName,
    },
}

/// What a relay says to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToNode {
    /// The certificate is good. It comes again whenever the relay's own certificate was renewed: a node believes the relay
    /// until the newest that it was shown ends.
    Welcome {
        /// [`VERSION`] of the relay.
        version: u16,
        /// The relay's own certificate (kind relay), for the key of this connection.
        #[serde(with = "crate::bytes")]
        certificate: Vec<u8>,
        /// The trust bundle, which the node checks against the root that its token names.
        #[serde(with = "crate::bytes")]
        trust: Vec<u8>,
        /// Base domain of public names.
        domain: Cluster,
        /// Port of the fast lane, when there is one.
        lane_port: Option<u16>,
        /// The relay's clock in Unix seconds.
        time: u64,
    },
    /// The tunnel stands.
    Registered {
        /// Number of the request.
        request: u32,
        /// Its id.
        tunnel: TunnelId,
        /// Its name.
        name: TunnelName,
        /// Where visitors reach it.
        urls: Vec<String>,
        /// When the credential ends, in Unix seconds.
        expires_at: u64,
        /// Nodes that serve the name at this relay, this one among them.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        backends: u16,
    },
    /// Other nodes have begun or ceased to serve the name of a tunnel.
    Backends {
        /// The tunnel.
        tunnel: TunnelId,
        /// Nodes that serve the name at this relay, this one among them.
        count: u16,
    },
    /// A request, or without a number the connection, is refused.
    Refused {
        /// Number of the request.
        request: Option<u32>,
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
        /// What to do about it.
        help: String,
    },
    /// These nodes serve the private name that was looked for. The relay's word alone: the node that is reached has to show
    /// its certificate.
    Found {
        /// Number of the request.
        request: u32,
        /// Their keys; one at least, and [`MAX_BACKENDS`] at most.
        peers: Vec<PublicKey>,
    },
    /// The private name that was looked for is not to be had.
    NotFound {
        /// Number of the request.
        request: u32,
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
        /// What to do about it.
        help: String,
    },
    /// Certificates that the node watches count no longer; they are watched no more.
    Revoked {
        /// Of the certificates; [`MAX_WATCHED`] at most.
        serials: Vec<Serial>,
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
    },
    /// Certificates that the node has asked to watch are not watched: it has asked too often, or the relay has too many to
    /// watch, or does not know their issuer yet. It may ask again after some seconds.
    Unwatched {
        /// Of the certificates.
        serials: Vec<Serial>,
    },
    /// A tunnel ended.
    Closed {
        /// The tunnel.
        tunnel: TunnelId,
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
    },
    /// The relay is about to close the connection.
    Goodbye {
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
    },
}

/// The signed bytes of a certificate that somebody has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signed(#[serde(with = "crate::bytes")] pub Vec<u8>);

const fn one() -> u16 {
    1
}

const fn is_one(count: &u16) -> bool {
    *count == 1
}

/// The byte with which a node answers a pipe's first payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PipeStatus {
    /// The target has accepted.
    Connected = 0,
    /// The target does not accept.
    TargetUnreachable = 1,
    /// This node has no such tunnel.
    UnknownTunnel = 2,
}

impl TryFrom<u8> for PipeStatus {
    type Error = UnknownStatus;

    fn try_from(byte: u8) -> Result<Self, UnknownStatus> {
        match byte {
            0 => Ok(Self::Connected),
            1 => Ok(Self::TargetUnreachable),
            2 => Ok(Self::UnknownTunnel),
            other => Err(UnknownStatus(other)),
        }
    }
}

/// A node answered a pipe with a byte that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown pipe status {0}")]
pub struct UnknownStatus(pub u8);

/// Why a message cannot be sent or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// Over [`MAX_MESSAGE`].
    #[error("a message of {0} bytes is over the limit of 65536")]
    TooLarge(usize),
    /// Not the CBOR of this kind of message.
    #[error("not a valid message: {0}")]
    Malformed(String),
    /// Bytes behind the message.
    #[error("bytes follow the message")]
    Trailing,
}

/// The bytes of a message.
///
/// # Errors
/// When it is over [`MAX_MESSAGE`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(512);
    ciborium::into_writer(message, &mut bytes).map_err(|error| WireError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// The one message that the bytes are.
///
/// # Errors
/// When the bytes are over [`MAX_MESSAGE`], are not such a message, or go on behind it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::TooLarge(bytes.len()));
    }
    let mut rest = bytes;
    let message =
        ciborium::from_reader(&mut rest).map_err(|error| WireError::Malformed(error.to_string()))?;
    if rest.is_empty() { Ok(message) } else { Err(WireError::Trailing) }
}

#[cfg(test)]
mod tests {
    use ciborium::cbor;

    use super::*;

    fn register() -> ToRelay {
        ToRelay::Register {
            request: 7,
            name: "web".parse().unwrap(),
            kind: TunnelKind::Http,
            instance: [3; 16],
            port: None,
            alone: false,
        }
    }

    fn bytes_of(value: &ciborium::Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let refused = ToNode::Refused {
            request: Some(7),
            code: Code::NameTaken,
            message: "taken".to_owned(),
            help: Code::NameTaken.help().to_owned(),
        };
        assert_eq!(decode::<ToNode>(&encode(&refused).unwrap()), Ok(refused));
        assert_eq!(decode::<ToRelay>(&encode(&register()).unwrap()), Ok(register()));
    }

    #[test]
    fn who_knows_nothing_of_other_nodes_is_the_only_one_and_takes_others_beside_it() {
        let before = cbor!({"register" => {"request" => 7, "name" => "web", "kind" => "http",
            "instance" => ciborium::Value::Bytes(vec![3; 16])}})
        .unwrap();
        assert_eq!(decode::<ToRelay>(&bytes_of(&before)), Ok(register()));
        assert_eq!(encode(&register()).unwrap(), bytes_of(&before));
        let tunnel = TunnelId::from_bytes([1; 16]);
        let registered = |backends| ToNode::Registered {
            request: 7,
            tunnel,
            name: "web".parse().unwrap(),
            urls: Vec::new(),
            expires_at: 1,
            backends,
        };
        let [one, two] = [1, 2].map(|backends| encode(&registered(backends)).unwrap());
        assert!(one.len() + b"backends".len() < two.len(), "nothing is said of one");
        assert_eq!(decode(&one), Ok(registered(1)));
        assert_eq!(decode(&two), Ok(registered(2)));
        let backends = ToNode::Backends { tunnel, count: 3 };
        assert_eq!(decode(&encode(&backends).unwrap()), Ok(backends));
    }

    #[test]
    fn byte_fields_are_byte_strings() {
        let hello = ToRelay::Hello {
            version: VERSION,
            certificate: vec![0xaa; 300],
            presence: vec![0xaa; 150],
            agent: "test".to_owned(),
            clock: 1,
        };
        assert!(encode(&hello).unwrap().len() < 540);
    }

    #[test]
    fn a_field_of_a_later_version_is_passed_over() {
        let later =
            cbor!({"unregister" => {"tunnel" => ciborium::Value::Bytes(vec![1; 16]), "new" => 1}}).unwrap();
        let tunnel = TunnelId::from_bytes([1; 16]);
        assert_eq!(decode(&bytes_of(&later)), Ok(ToRelay::Unregister { tunnel }));
    }

    #[test]
    fn hostile_messages_are_refused() {
        let mut bytes = encode(&register()).unwrap();
        bytes.push(0);
        assert_eq!(decode::<ToRelay>(&bytes), Err(WireError::Trailing));
        assert!(matches!(decode::<ToRelay>(&bytes[..9]), Err(WireError::Malformed(_))));
        assert_eq!(decode::<ToRelay>(&vec![0; MAX_MESSAGE + 1]), Err(WireError::TooLarge(MAX_MESSAGE + 1)));
        assert!(matches!(decode::<ToRelay>(&[0x81; 4096]), Err(WireError::Malformed(_))));
        let reserved = cbor!({"register" => {"request" => 1, "name" => "www", "kind" => "http",
            "instance" => ciborium::Value::Bytes(vec![0; 16])}})
        .unwrap();
        assert!(matches!(decode::<ToRelay>(&bytes_of(&reserved)), Err(WireError::Malformed(_))));
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent() {
        let message = "x".repeat(MAX_MESSAGE);
        assert!(matches!(
            encode(&ToNode::Goodbye { code: Code::Internal, message }),
            Err(WireError::TooLarge(_))
        ));
    }

    #[test]
    fn statuses_are_their_bytes() {
        for status in [PipeStatus::Connected, PipeStatus::TargetUnreachable, PipeStatus::UnknownTunnel] {
            assert_eq!(PipeStatus::try_from(status as u8), Ok(status));
        }
        assert_eq!(PipeStatus::try_from(3), Err(UnknownStatus(3)));
    }
}
