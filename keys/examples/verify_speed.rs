//! Prints how long the checks take and how large things are:
//! `cargo run --release -p mytunnel-keys --features issue --example verify_speed`.

#![expect(clippy::print_stdout, reason = "the figures are the program's output")]

use std::{error::Error, hint::black_box, time::Instant};

use mytunnel_keys::{
    certificate::{self, Claims, Flags, IssuerKey, Kind},
    feed::{Change, FeedKey, FeedReader, FeedWriter, Position},
    id::Serial,
    proof::{self, Request, UnverifiedRequest},
    secret::Seed,
    token::{ChildToken, MasterToken, Secret, ServerUrl, Token},
    trust::{IssuerEntry, KeyUse, RootKey, Trust, TrustBundle},
};

const NOW: u64 = 1_800_000_000;
const ROUNDS: usize = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let seed = |byte| Seed::from_bytes([byte; 32]);
    let (root, issuer, holder) = (RootKey::new(seed(1)), IssuerKey::new(seed(2)), seed(4));
    let entry =
        |byte, usage| IssuerEntry { key: seed(byte).public(), usage, not_before: 0, not_after: u64::MAX };
    let cluster: mytunnel_keys::id::Cluster = "tun.example".parse()?;
    let bundle = root.sign(&TrustBundle {
        version: 1,
        cluster: cluster.clone(),
        era: 1,
        issued_at: NOW,
        keys: vec![entry(2, KeyUse::Certificate), entry(3, KeyUse::Feed)],
    });
    let trust = Trust::open(&bundle, &root.fingerprint())?;
    let claims = Claims {
        cluster: cluster.clone(),
        serial: Serial::from_bytes([5; 16]),
        kind: Kind::Child,
        subject: holder.public(),
        tenant: "ten_0123456789abcdef".parse()?,
        project: Some("proj_0123456789abcdef".parse()?),
        parent: Some(Serial::from_bytes([6; 16])),
        hosts: vec!["preview".parse()?, "pr-*".parse()?],
        scopes: "http tcp".parse()?,
        issued_at: NOW,
        not_before: NOW,
        not_after: NOW + 3600,
        max_tunnels: 1,
        budget: Some([7; 8]),
        max_staleness: 60,
        flags: Flags::NONE,
        replaces: None,
        account: None,
    };
    let certificate = certificate::issue(&claims, &issuer)?;
    let server: ServerUrl = "https://tun.example".parse()?;
    let child = |secret| ChildToken::new(secret, certificate.clone(), root.fingerprint(), server.clone());
    let portable = child(Secret::Portable(holder.clone()))?.into_token().to_text();
    let bound = child(Secret::Bound)?.into_token().to_text();
    let project = "proj_0123456789abcdef".parse()?;
    let master =
        MasterToken { seed: seed(6), serial: claims.serial, project, root: root.fingerprint(), server };
    let request = Request { cluster: &cluster, method: "POST", path: "/api/v1/mint", body: b"{}" };
    let header = proof::sign_request(&holder, &claims.serial, &request, NOW, [8; 16]);

    println!("certificate       {:>7} B", certificate.len());
    println!("trust bundle      {:>7} B", bundle.len());
    println!("child, portable   {:>7} characters", portable.len());
    println!("child, bound      {:>7} characters", bound.len());
    println!("master            {:>7} characters", Token::Master(master).to_text().len());
    println!("proof header      {:>7} characters", header.len());

    let message = [0; 256];
    let signature = holder.sign(&message);
    let public = holder.public();
    time("bare strict verify", || public.verify(&message, &signature).is_ok());
    time("certificate", || certificate::verify(&certificate, &trust, &claims.subject, NOW).is_ok());
    time("certificate, issue", || certificate::issue(&claims, &issuer).is_ok());
    time("trust bundle", || Trust::open(&bundle, &root.fingerprint()).is_ok());
    time("token, parse", || Token::parse(&portable).is_ok());
    time("proof, sign", || proof::sign_request(&holder, &claims.serial, &request, NOW, [8; 16]).is_empty());
    time("proof, verify", || {
        UnverifiedRequest::parse(&header).is_ok_and(|proof| proof.verify(&public, &request, NOW).is_ok())
    });
    feed(&trust, &cluster)
}

fn feed(trust: &Trust, cluster: &mytunnel_keys::id::Cluster) -> Result<(), Box<dyn Error>> {
    let key = FeedKey::new(Seed::from_bytes([3; 32]));
    let mut writer = FeedWriter::new(key, cluster.clone(), Position::start(1), 0);
    let revoke = |at: u64| Change::RevokeTree {
        serial: Serial::from_bytes(u128::from(at).to_be_bytes()),
        until: NOW + 86_700,
    };
    let snapshot = writer.snapshot([9; 16], (0..10_000).map(revoke).collect(), 1, NOW);
    time("snapshot of 10,000", || {
        FeedReader::new([9; 16], trust.clone(), None).accept(&snapshot, NOW).is_ok()
    });
    let start = writer.snapshot([9; 16], vec![], 1, NOW);
    let delta = writer.delta(vec![revoke(1)], NOW);
    let heartbeat = writer.heartbeat([0; 32], NOW);
    println!("feed: snapshot {} B, delta {} B, heartbeat {} B", snapshot.len(), delta.len(), heartbeat.len());
    let mut reader = FeedReader::new([9; 16], trust.clone(), None);
    reader.accept(&start, NOW)?;
    reader.accept(&delta, NOW)?;
    reader.accept(&heartbeat, NOW)?;
    Ok(())
}

/// Prints the median of many single rounds.
fn time<T>(what: &str, mut work: impl FnMut() -> T) {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    println!("{what:<18}{:>8.1} µs", rounds[ROUNDS / 2].as_secs_f64() * 1e6);
}
