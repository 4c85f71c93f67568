//! What the golden vectors and the tests inside of the crate begin with: fixed seeds, a fixed time, one child.

use mytunnel_keys::{
    certificate::{Claims, Flags, Kind},
    id::{Cluster, Serial},
    secret::Seed,
    trust::{IssuerEntry, KeyUse, TrustBundle},
};

/// The time of everything: 15 January 2027, 08:00 UTC.
pub(crate) const NOW: u64 = 1_800_000_000;

/// Seeds: 1 root, 2 issuer, 3 feed, 4 child, 6 master.
pub(crate) fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 32])
}

pub(crate) fn cluster() -> Cluster {
    "tun.example".parse().unwrap()
}

pub(crate) fn bundle() -> TrustBundle {
    let entry = |byte, usage| {
        let (not_before, not_after) = (NOW - 86_400, NOW + 365 * 86_400);
        IssuerEntry { key: seed(byte).public(), usage, not_before, not_after }
    };
    TrustBundle {
        version: 1,
        cluster: cluster(),
        era: 1,
        issued_at: NOW - 86_400,
        keys: vec![entry(2, KeyUse::Certificate), entry(3, KeyUse::Feed)],
    }
}

/// A child of an hour, as large as they usually are.
pub(crate) fn claims() -> Claims {
    Claims {
        cluster: cluster(),
        serial: Serial::from_bytes([0x5e; 16]),
        kind: Kind::Child,
        subject: seed(4).public(),
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
        account: None,
    }
}
