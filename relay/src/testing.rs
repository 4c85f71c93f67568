//! A cluster for this crate's tests: its keys, and credentials of every kind.

// The paths are written out because the example `fleet` reads this file from elsewhere.
#[path = "testing/coordinator.rs"]
pub(crate) mod coordinator;
#[cfg(test)]
#[path = "testing/logged.rs"]
pub(crate) mod logged;
#[path = "testing/node.rs"]
pub(crate) mod node;

use std::sync::OnceLock;

use mytunnel_keys::{
    Verified,
    certificate::{self, Claims, Flags, IssuerKey, Kind},
    id::{Cluster, ProjectId, PublicKey, Serial, TenantId},
    presence,
    secret::Seed,
    trust::{IssuerEntry, KeyUse, RootKey, Trust, TrustBundle},
};

/// The time of tests that have no clock.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 32])
}

pub(crate) fn serial(number: u8) -> Serial {
    Serial::from_bytes([number; 16])
}

pub(crate) fn project(name: &str) -> ProjectId {
    format!("proj_{name}").parse().unwrap()
}

pub(crate) fn tenant() -> TenantId {
    "ten_a".parse().unwrap()
}

pub(crate) fn cluster() -> Cluster {
    "tun.example".parse().unwrap()
}

pub(crate) fn issuer() -> IssuerKey {
    IssuerKey::new(seed(201))
}

pub(crate) fn root() -> RootKey {
    RootKey::new(seed(200))
}

/// The seed of the key that signs the feed.
pub(crate) fn feed_seed() -> Seed {
    seed(202)
}

/// A bundle of this version, in which these seeds sign certificates.
pub(crate) fn bundle(version: u64, issuers: &[Seed], now: u64) -> Vec<u8> {
    let entry = |seed: &Seed, usage| IssuerEntry {
        key: seed.public(),
        usage,
        not_before: now - 86_400,
        not_after: now + 86_400 * 365,
    };
    let mut keys: Vec<_> = issuers.iter().map(|seed| entry(seed, KeyUse::Certificate)).collect();
    keys.push(entry(&feed_seed(), KeyUse::Feed));
    root().sign(&TrustBundle { version, cluster: cluster(), era: 1, issued_at: now - 86_400, keys })
}

pub(crate) fn trust_at(now: u64) -> Trust {
    Trust::open(&bundle(1, &[seed(201)], now), &root().fingerprint()).unwrap()
}

/// The bundle of this moment: one for the whole process, since a relay and a coordinator whose bundles were signed in two seconds
/// never agree.
pub(crate) fn trust_now() -> Trust {
    static BEGAN: OnceLock<u64> = OnceLock::new();
    trust_at(*BEGAN.get_or_init(coordinator::unix_now))
}

pub(crate) fn trust() -> Trust {
    trust_at(NOW)
}

/// A key with its certificate.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) seed: Seed,
    pub(crate) certificate: Vec<u8>,
}

impl Credential {
    /// Issues what is claimed, to the key of this number.
    pub(crate) fn issue(number: u8, claims: Claims) -> Self {
        Self::issue_by(&issuer(), number, claims)
    }

    pub(crate) fn issue_by(issuer: &IssuerKey, number: u8, claims: Claims) -> Self {
        let seed = seed(number);
        let claims = Claims { subject: seed.public(), ..claims };
        let certificate = certificate::issue(&claims, issuer).unwrap();
        Self { seed, certificate }
    }

    /// Its word that it is at a relay; none without a certificate.
    pub(crate) fn presence(&self, relay: &PublicKey, now: u64) -> Vec<u8> {
        let claims = certificate::inspect(&self.certificate);
        claims.map_or_else(
            |_| Vec::new(),
            |claims| presence::sign(&self.seed, &claims.peek().serial, &cluster(), relay, now),
        )
    }
}

/// A child of an hour of the master key 100, whose serial is its number.
pub(crate) fn child_claims(number: u8, now: u64) -> Claims {
    Claims {
        cluster: cluster(),
        serial: serial(number),
        kind: Kind::Child,
        subject: seed(number).public(),
        tenant: tenant(),
        project: Some(project("a")),
        parent: Some(serial(100)),
        hosts: vec!["web".parse().unwrap(), "pr-*".parse().unwrap()],
        scopes: "http".parse().unwrap(),
        issued_at: now,
        not_before: now,
        not_after: now + 3600,
        max_tunnels: 1,
        budget: None,
        max_staleness: 60,
        flags: Flags::NONE,
        replaces: None,
        account: None,
    }
}

/// A person's device, for every project of its tenant.
pub(crate) fn device_claims(number: u8, now: u64) -> Claims {
    Claims {
        kind: Kind::UserDevice,
        project: None,
        parent: None,
        hosts: vec!["*".parse().unwrap()],
        scopes: "http tcp udp private pair".parse().unwrap(),
        not_after: now + 86_400 * 90,
        max_tunnels: 3,
        max_staleness: 3600,
        account: Some([1; 8]),
        ..child_claims(number, now)
    }
}

pub(crate) fn relay_claims(number: u8, now: u64) -> Claims {
    Claims {
        kind: Kind::Relay,
        project: None,
        parent: None,
        hosts: Vec::new(),
        scopes: "".parse().unwrap(),
        not_after: now + 86_400 * 90,
        max_tunnels: 0,
        ..child_claims(number, now)
    }
}

/// Claims as they are after the check of a certificate.
pub(crate) fn verified(claims: Claims) -> Verified<Claims> {
    let number = claims.serial.as_bytes()[0];
    let now = claims.not_before;
    let credential = Credential::issue(number, claims);
    certificate::verify(&credential.certificate, &trust(), &credential.seed.public(), now).unwrap()
}
