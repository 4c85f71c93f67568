//! Fixed keys and times for this crate's tests.

use crate::{
    certificate::{Claims, Flags, IssuerKey, Kind},
    id::{Cluster, Serial},
    secret::Seed,
    trust::{IssuerEntry, KeyUse, RootKey, Trust, TrustBundle},
};

/// The time of every test.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 32])
}

pub(crate) fn root() -> RootKey {
    RootKey::new(seed(1))
}

pub(crate) fn issuer() -> IssuerKey {
    IssuerKey::new(seed(2))
}

pub(crate) fn feed_seed() -> Seed {
    seed(3)
}

pub(crate) fn holder() -> Seed {
    seed(4)
}

pub(crate) fn cluster() -> Cluster {
    "tun.example".parse().unwrap()
}

pub(crate) fn bundle() -> TrustBundle {
    let entry = |seed: Seed, usage| IssuerEntry {
        key: seed.public(),
        usage,
        not_before: NOW - 86_400,
        not_after: NOW + 365 * 86_400,
    };
    TrustBundle {
        version: 1,
        cluster: cluster(),
        era: 1,
        issued_at: NOW - 86_400,
        keys: vec![entry(seed(2), KeyUse::Certificate), entry(seed(3), KeyUse::Feed)],
    }
}

pub(crate) fn trust() -> Trust {
    Trust::open(&root().sign(&bundle()), &root().fingerprint()).unwrap()
}

/// A child of an hour, as large as they usually are.
pub(crate) fn claims() -> Claims {
    Claims {
        cluster: cluster(),
        serial: Serial::from_bytes([0x5e; 16]),
        kind: Kind::Child,
        subject: holder().public(),
        tenant: "ten_0123456789abcdef".parse().unwrap(),
        project: Some("proj_0123456789abcdef".parse().unwrap()),
        parent: Some(Serial::from_bytes([0xa7; 16])),
        hosts: vec!["preview".parse().unwrap(), "pr-*".parse().unwrap()],
        scopes: "http tcp".parse().unwrap(),
        issued_at: NOW,
        not_before: NOW,
        not_after: NOW + 3600,
        max_tunnels: 1,
        budget: Some([0xb0; 8]),
        max_staleness: 60,
        flags: Flags::NONE,
        replaces: None,
    }
}
