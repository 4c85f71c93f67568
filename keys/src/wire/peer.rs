//! Messages between two nodes: CBOR, one message a frame, at most [`MAX_MESSAGE`](super::MAX_MESSAGE).
//!
//! On a connection whose handshake has proved both keys, the node that wants to reach a private share opens a stream of
//! [`PEER_PROTOCOL`] and sends a [`Hello`]; the node that shares answers with an [`Answer`]. Each checks the other's
//! certificate by itself: a relay between them has no say in it. After that the first node opens legs, streams of
//! [`LEG_PROTOCOL`], each of which begins with an [`Opening`]; frames follow it (`node/src/lasting/frames.rs`).

use serde::{Deserialize, Serialize};

use crate::{
    error::Code,
    id::{TunnelId, TunnelName},
};

/// The libp2p protocol by which two nodes show each other their certificates.
pub const PEER_PROTOCOL: &str = "/mytunnel/peer/1";

/// The libp2p protocol of a leg of a lasting stream.
pub const LEG_PROTOCOL: &str = "/mytunnel/leg/1";

/// The version in [`Hello`] and [`Answer`].
pub const VERSION: u16 = 1;

/// What a private share carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carries {
    /// Connections.
    Streams,
    /// Datagrams, each behind its length.
    Datagrams,
    /// Connections of browsers: it is a folder or a file.
    Web,
}

/// The node that wants to reach a private share shows its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the node.
    pub version: u16,
    /// Its certificate, for the key of this connection.
    #[serde(with = "crate::bytes")]
    pub certificate: Vec<u8>,
    /// The name that it wants to reach.
    pub name: TunnelName,
}

/// What the node that shares answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The certificate is good for the name.
    Welcome {
        /// [`VERSION`] of the node.
        version: u16,
        /// Its own certificate, for the key of this connection.
        #[serde(with = "crate::bytes")]
        certificate: Vec<u8>,
        /// The tunnel that legs lead to.
        tunnel: TunnelId,
        /// What it carries.
        carries: Carries,
    },
    /// It is not.
    Refused {
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
        /// What to do about it.
        help: String,
    },
}

/// The first message on a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The tunnel that the stream leads to.
    pub tunnel: TunnelId,
    /// Random: names the stream among those of its peer.
    #[serde(with = "crate::bytes")]
    pub stream: [u8; 16],
    /// Counts the legs of the stream, from 0.
    pub attempt: u32,
    /// How far the opener has received.
    pub received: u64,
    /// The opener has never heard from the other end, which may not know the stream.
    pub fresh: bool,
    /// Seconds for which the opener keeps the stream without a path. The other end keeps it as long, within its own bounds.
    pub patience: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MAX_MESSAGE, WireError, decode, encode};

    #[test]
    fn messages_come_back_as_they_were_and_bytes_are_bytes() {
        let hello = Hello { version: VERSION, certificate: vec![0xaa; 300], name: "box".parse().unwrap() };
        let bytes = encode(&hello).unwrap();
        assert!(bytes.len() < 350);
        assert_eq!(decode(&bytes), Ok(hello));
        let tunnel = TunnelId::from_bytes([1; 16]);
        let carries = Carries::Datagrams;
        let welcome = Answer::Welcome { version: VERSION, certificate: vec![1; 300], tunnel, carries };
        assert_eq!(decode(&encode(&welcome).unwrap()), Ok(welcome));
        let opening =
            Opening { tunnel, stream: [3; 16], attempt: 4, received: 5, fresh: false, patience: 60 };
        let bytes = encode(&opening).unwrap();
        assert!(bytes.len() < 100);
        assert_eq!(decode(&bytes), Ok(opening));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(matches!(decode::<Opening>(&[0x9f; 100]), Err(WireError::Malformed(_))));
        assert_eq!(decode::<Hello>(&vec![0; MAX_MESSAGE + 1]), Err(WireError::TooLarge(MAX_MESSAGE + 1)));
    }
}
