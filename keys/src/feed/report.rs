//! What a relay says to its coordinator, authenticated by the connection or by a request proof: CBOR.

use serde::{Deserialize, Serialize};

use super::Position;
use crate::{
    error::Code,
    id::{ProjectId, Serial, TunnelId, TunnelKind, TunnelName},
};

/// Asks for the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// 16 random bytes, which the snapshot repeats.
    #[serde(with = "crate::bytes")]
    pub nonce: [u8; 16],
    /// Multiaddresses at which nodes reach this relay.
    pub addrs: Vec<String>,
    /// The furthest position that this relay has seen.
    pub since: Option<Position>,
}

/// What a relay did, or what happened at it. Times are Unix seconds of the relay's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The relay acts by this epoch.
    Applied {
        /// The epoch.
        epoch: u64,
        /// Tunnels that it ended because of it.
        closed: u32,
    },
    /// A tunnel stands.
    TunnelUp {
        /// The tunnel.
        tunnel: TunnelId,
        /// Its name.
        name: TunnelName,
        /// Its project.
        project: ProjectId,
        /// The key that serves it.
        serial: Serial,
        /// What it carries.
        kind: TunnelKind,
        /// When.
        at: u64,
    },
    /// A tunnel has ended.
    TunnelDown {
        /// The tunnel.
        tunnel: TunnelId,
        /// The key that served it.
        serial: Serial,
        /// When.
        at: u64,
    },
    /// A node is here. The relay is believed about the use of keys of which it has told this.
    Present {
        /// The node's own word for it ([`presence`](crate::presence)).
        #[serde(with = "crate::bytes")]
        presence: Vec<u8>,
        /// When.
        at: u64,
    },
    /// Somebody was refused.
    Refused {
        /// The key, when there was one.
        serial: Option<Serial>,
        /// Why.
        code: Code,
        /// When.
        at: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn reports_come_back_as_they_were() {
        let reports = vec![
            Report::Applied { epoch: 7, closed: 600 },
            Report::TunnelUp {
                tunnel: TunnelId::from_bytes([1; 16]),
                name: "web".parse().unwrap(),
                project: "proj_a".parse().unwrap(),
                serial: Serial::from_bytes([2; 16]),
                kind: TunnelKind::Http,
                at: 5,
            },
            Report::Present { presence: vec![2; 150], at: 5 },
            Report::Refused { serial: None, code: Code::KeyExpired, at: 6 },
        ];
        assert_eq!(wire::decode::<Vec<Report>>(&wire::encode(&reports).unwrap()), Ok(reports));
        let subscribe = Subscribe {
            nonce: [3; 16],
            addrs: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            since: Some(Position::start(1)),
        };
        assert_eq!(wire::decode::<Subscribe>(&wire::encode(&subscribe).unwrap()), Ok(subscribe));
    }
}
