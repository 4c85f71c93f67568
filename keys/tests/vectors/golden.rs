//! One of everything, made of fixed seeds and a fixed time, for comparison with the files under `tests/vectors`.

#[path = "fixtures.rs"]
mod fixtures;

use mytunnel_keys::{
    certificate::{self, Claims, IssuerKey},
    feed::{Change, FeedKey, FeedWriter, Position},
    id::{Cluster, Serial},
    proof::{self, Request},
    secret::{JoinSecret, TicketSecret},
    token::{ChildToken, MasterToken, RelayToken, Secret, ServerUrl, TicketToken, Token},
    trust::{RootFingerprint, RootKey},
};

pub(crate) use self::fixtures::{NOW, claims, cluster, seed};

/// Nonce of the feed's snapshot.
pub(crate) const NONCE: [u8; 16] = [0x0c; 16];

/// Body of the proof's request.
pub(crate) const BODY: &[u8] = br#"{"ttl":3600}"#;

pub(crate) fn root() -> RootFingerprint {
    RootKey::new(seed(1)).fingerprint()
}

fn server() -> ServerUrl {
    "https://tun.example".parse().unwrap()
}

pub(crate) fn certificate() -> Vec<u8> {
    certificate::issue(&claims(), &IssuerKey::new(seed(2))).unwrap()
}

/// A child that takes over from another.
pub(crate) fn renewal() -> Claims {
    Claims { serial: Serial::from_bytes([0x5f; 16]), replaces: Some(claims().serial), ..claims() }
}

pub(crate) fn renewal_certificate() -> Vec<u8> {
    certificate::issue(&renewal(), &IssuerKey::new(seed(2))).unwrap()
}

pub(crate) fn bundle() -> Vec<u8> {
    RootKey::new(seed(1)).sign(&fixtures::bundle())
}

pub(crate) fn request(cluster: &Cluster) -> Request<'_> {
    Request { cluster, method: "POST", path: "/api/v1/mint", body: BODY }
}

pub(crate) fn proof() -> String {
    let serial = Serial::from_bytes([0xa7; 16]);
    proof::sign_request(&seed(6), &serial, &request(&cluster()), NOW, [0x1d; 16])
}

/// Child with its seed, child without, master, relay, ticket.
pub(crate) fn tokens() -> [(&'static str, Token); 5] {
    let child = |secret| ChildToken::new(secret, certificate(), root(), server()).unwrap().into_token();
    let master = MasterToken {
        seed: seed(6),
        serial: Serial::from_bytes([0xa7; 16]),
        project: "proj_0123456789abcdef".parse().unwrap(),
        root: root(),
        server: server(),
    };
    let relay = RelayToken { secret: JoinSecret::from_bytes([7; 32]), root: root(), server: server() };
    let ticket = TicketToken { secret: TicketSecret::from_bytes([8; 32]), root: root(), server: server() };
    [
        ("token-child-portable.txt", child(Secret::Portable(seed(4)))),
        ("token-child-bound.txt", child(Secret::Bound)),
        ("token-master.txt", Token::Master(master)),
        ("token-relay.txt", Token::Relay(relay)),
        ("token-ticket.txt", Token::Ticket(ticket)),
    ]
}

/// Snapshot, delta and heartbeat of one subscription.
pub(crate) fn frames() -> [(&'static str, Vec<u8>); 3] {
    let mut writer = FeedWriter::new(FeedKey::new(seed(3)), cluster(), Position::start(1), 0);
    let (name, project) = ("web".parse().unwrap(), "proj_0123456789abcdef".parse().unwrap());
    let snapshot = writer.snapshot(NONCE, vec![Change::Name { name, project, kind: None }], 1, NOW);
    let cascade = Change::RevokeTree { serial: Serial::from_bytes([0xa7; 16]), until: NOW + 86_700 };
    let delta = writer.delta(vec![cascade], NOW + 1);
    let heartbeat = writer.heartbeat([0xad; 32], NOW + 2);
    [("feed-snapshot.hex", snapshot), ("feed-delta.hex", delta), ("feed-heartbeat.hex", heartbeat)]
}
