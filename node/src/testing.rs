//! Fixed keys and times for this crate's tests: one small cluster.

pub(crate) mod crooked;
mod opener;
pub(crate) mod peer;
pub(crate) mod relay;

pub(crate) use opener::opener;

use std::time::{SystemTime, UNIX_EPOCH};

use mytunnel_keys::{
    certificate::{self, Claims, Flags, IssuerKey, Kind},
    id::{Cluster, Serial},
    secret::Seed,
    trust::{IssuerEntry, KeyUse, RootKey, TrustBundle},
    wire::{ToNode, VERSION},
};

/// The time of tests that have no clock.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn root() -> RootKey {
    RootKey::new(Seed::from_bytes([1; 32]))
}

fn issuer() -> Seed {
    Seed::from_bytes([2; 32])
}

pub(crate) fn relay_seed() -> Seed {
    Seed::from_bytes([3; 32])
}

pub(crate) fn node() -> Seed {
    Seed::from_bytes([4; 32])
}

pub(crate) fn cluster() -> Cluster {
    "tun.example".parse().unwrap()
}

/// The clock's Unix second.
pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An issuer that only some bundles know.
pub(crate) fn other_issuer() -> Seed {
    Seed::from_bytes([7; 32])
}

/// A signed bundle that is good from long ago to long after both [`NOW`] and the clock's time.
pub(crate) fn bundle(version: u64) -> Vec<u8> {
    bundle_of(version, &[issuer()])
}

/// The same with [`other_issuer`] beside the one of all tests.
pub(crate) fn wide_bundle(version: u64) -> Vec<u8> {
    bundle_of(version, &[issuer(), other_issuer()])
}

fn bundle_of(version: u64, issuers: &[Seed]) -> Vec<u8> {
    let entry = |issuer: &Seed| IssuerEntry {
        key: issuer.public(),
        usage: KeyUse::Certificate,
        not_before: 0,
        not_after: 4_000_000_000,
    };
    let keys = issuers.iter().map(entry).collect();
    root().sign(&TrustBundle { version, cluster: cluster(), era: 1, issued_at: 1, keys })
}

pub(crate) fn sign(claims: &Claims) -> Vec<u8> {
    sign_by(claims, issuer())
}

pub(crate) fn sign_by(claims: &Claims, issuer: Seed) -> Vec<u8> {
    certificate::issue(claims, &IssuerKey::new(issuer)).unwrap()
}

fn claims(kind: Kind, holder: &Seed, now: u64, life: u64) -> Claims {
    Claims {
        cluster: cluster(),
        serial: Serial::from_bytes([5; 16]),
        kind,
        subject: holder.public(),
        tenant: "ten_0123456789abcdef".parse().unwrap(),
        project: Some("proj_0123456789abcdef".parse().unwrap()),
        parent: Some(Serial::from_bytes([6; 16])),
        hosts: vec!["*".parse().unwrap()],
        scopes: "http".parse().unwrap(),
        issued_at: now,
        not_before: now,
        not_after: now + life,
        max_tunnels: 1,
        budget: None,
        max_staleness: 60,
        flags: Flags::NONE,
        replaces: None,
        account: None,
    }
}

/// An hour for the node, from [`NOW`].
pub(crate) fn node_claims() -> Claims {
    node_claims_at(NOW)
}

/// An hour for the node, from `now`.
pub(crate) fn node_claims_at(now: u64) -> Claims {
    claims(Kind::Child, &node(), now, 3600)
}

/// A day for the relay, from [`NOW`].
pub(crate) fn relay_claims() -> Claims {
    relay_claims_at(NOW)
}

/// A day for the relay, from `now`.
pub(crate) fn relay_claims_at(now: u64) -> Claims {
    claims(Kind::Relay, &relay_seed(), now, 86_400)
}

/// What a relay with these claims and this bundle answers, at the time its certificate was issued.
pub(crate) fn welcome(claims: &Claims, trust: &[u8]) -> ToNode {
    ToNode::Welcome {
        version: VERSION,
        certificate: sign(claims),
        trust: trust.to_vec(),
        domain: cluster(),
        lane_port: None,
        time: claims.issued_at,
    }
}
