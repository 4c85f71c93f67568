use proptest::prelude::*;

use super::{
    frame::{Body, Frame, TYPE},
    *,
};
use crate::{
    cose,
    cose::EnvelopeError,
    id::{Kid, Serial, SignatureError, TunnelId, TunnelKind},
    secret::Seed,
    testing::{NOW, bundle, cluster, feed_seed, root, seed, trust},
    trust::{IssuerEntry, KeyError, KeyUse, TrustBundle, TrustError},
    usage::Standing,
};

const NONCE: [u8; 16] = [0x0c; 16];

fn writer() -> FeedWriter {
    FeedWriter::new(FeedKey::new(feed_seed()), cluster(), Position::start(1), 0)
}

fn reader() -> FeedReader {
    FeedReader::new(NONCE, trust(), None)
}

fn revoke(byte: u8) -> Vec<Change> {
    vec![Change::RevokeTree { serial: Serial::from_bytes([byte; 16]), until: NOW + 86_700 }]
}

/// A writer and a reader behind the snapshot.
fn subscribed() -> (FeedWriter, FeedReader) {
    let (writer, mut reader) = (writer(), reader());
    reader.accept(&writer.snapshot(NONCE, vec![], 1, NOW), NOW).unwrap();
    (writer, reader)
}

/// The subscriber refuses the frame and afterwards still takes what the writer really sends next.
fn refused(writer: &mut FeedWriter, reader: &mut FeedReader, frame: &[u8]) -> FeedError {
    let before = reader.position();
    let error = reader.accept(frame, NOW).unwrap_err();
    assert_eq!(reader.position(), before);
    assert!(reader.accept(&writer.heartbeat([0; 32], NOW), NOW).is_ok());
    error
}

#[test]
fn a_subscription_brings_snapshot_deltas_and_heartbeats() {
    let (mut writer, mut reader) = (writer(), reader());
    writer.delta(revoke(1), NOW);
    assert_eq!(reader.position(), None);

    let snapshot = writer.snapshot(NONCE, revoke(1), 1, NOW + 2);
    let accepted = reader.accept(&snapshot, NOW).unwrap();
    let position = writer.position();
    assert_eq!(accepted, Accepted::Snapshot { position, changes: revoke(1), offset: 2 });

    let delta = writer.delta(revoke(2), NOW);
    let accepted = reader.accept(&delta, NOW).unwrap();
    assert_eq!(accepted, Accepted::Delta { position: writer.position(), changes: revoke(2) });

    let heartbeat = writer.heartbeat([0xad; 32], NOW + 2);
    let accepted = reader.accept(&heartbeat, NOW + 7).unwrap();
    let position = writer.position();
    assert_eq!(accepted, Accepted::Heartbeat { position, offset: -5, audit_head: [0xad; 32] });
    assert_eq!((position.era, position.epoch), (1, 2));
    assert_eq!(reader.position(), Some(position));
}

#[test]
fn every_change_comes_back_as_it_was() {
    let (mut writer, mut reader) = subscribed();
    let serial = Serial::from_bytes([1; 16]);
    let changes = vec![
        Change::RevokeTree { serial, until: u64::MAX },
        Change::Revoke { serial, until: 0 },
        Change::RevokeProject { project: "proj_a".parse().unwrap(), until: 1 },
        Change::Name { name: "web".parse().unwrap(), project: "proj_a".parse().unwrap(), kind: None },
        Change::Name {
            name: "web".parse().unwrap(),
            project: "proj_a".parse().unwrap(),
            kind: Some(TunnelKind::Tls),
        },
        Change::NameFreed { name: "web".parse().unwrap() },
        Change::NameKept { name: "web".parse().unwrap(), tenant: "ten_a".parse().unwrap() },
        Change::Trust { bundle: trust().bytes().to_vec() },
        Change::Gates { tunnel: TunnelId::from_bytes([7; 16]), gates: Gates::default() },
        Change::Gates {
            tunnel: TunnelId::from_bytes([8; 16]),
            gates: Gates {
                basic: Some(BasicGate { user: "ann".to_owned(), hash: "$h".to_owned(), generation: 9 }),
                ..Gates::default()
            },
        },
        Change::Close { tunnel: TunnelId::from_bytes([9; 16]), epoch: 12 },
        Change::Budget { serial: Serial::from_bytes([7; 16]), standing: Standing::Free },
        Change::Budget { serial: Serial::from_bytes([8; 16]), standing: Standing::Limited },
        Change::Budget { serial: Serial::from_bytes([9; 16]), standing: Standing::Frozen },
        Change::RevokeBefore { at: NOW, until: NOW + 1 },
        Change::Domain { domain: "app.example.com".parse().unwrap(), name: "web".parse().unwrap() },
        Change::DomainGone { domain: "xn--caf-dma.example".parse().unwrap() },
    ];
    let Accepted::Delta { changes: back, .. } =
        reader.accept(&writer.delta(changes.clone(), NOW), NOW).unwrap()
    else {
        panic!("a delta is accepted as a delta")
    };
    assert_eq!(back, changes);
}

#[test]
fn nothing_comes_before_the_snapshot() {
    let mut writer = writer();
    assert_eq!(reader().accept(&writer.heartbeat([0; 32], NOW), NOW), Err(FeedError::NoSnapshot));
    assert_eq!(reader().accept(&writer.delta(revoke(1), NOW), NOW), Err(FeedError::NoSnapshot));
}

#[test]
fn a_snapshot_for_another_subscription_is_refused() {
    let stolen = writer().snapshot([0xee; 16], vec![], 1, NOW);
    assert_eq!(reader().accept(&stolen, NOW), Err(FeedError::WrongNonce));
}

#[test]
fn replayed_frames_are_refused() {
    let (mut writer, mut reader) = (writer(), reader());
    let snapshot = writer.snapshot(NONCE, vec![], 1, NOW);
    reader.accept(&snapshot, NOW).unwrap();
    assert_eq!(refused(&mut writer, &mut reader, &snapshot), FeedError::Replay);

    let delta = writer.delta(revoke(1), NOW);
    reader.accept(&delta, NOW).unwrap();
    assert_eq!(refused(&mut writer, &mut reader, &delta), FeedError::Replay);

    let heartbeat = writer.heartbeat([0; 32], NOW);
    reader.accept(&heartbeat, NOW).unwrap();
    assert_eq!(refused(&mut writer, &mut reader, &heartbeat), FeedError::Replay);
}

#[test]
fn a_heartbeat_from_before_the_subscription_is_refused() {
    let mut writer = writer();
    let old = writer.heartbeat([0; 32], NOW);
    let mut reader = reader();
    reader.accept(&writer.snapshot(NONCE, vec![], 1, NOW), NOW).unwrap();
    assert_eq!(refused(&mut writer, &mut reader, &old), FeedError::Replay);
}

#[test]
fn heartbeats_never_run_backwards_in_time() {
    let (mut writer, mut reader) = subscribed();
    let early = writer.clone().heartbeat([0; 32], NOW - 1);
    assert_eq!(refused(&mut writer, &mut reader, &early), FeedError::Replay);
}

#[test]
fn a_missing_delta_is_noticed_by_the_next_delta_and_by_the_heartbeat() {
    let (mut writer, mut reader) = subscribed();
    let mut ahead = writer.clone();
    ahead.delta(revoke(1), NOW);
    let heartbeat = ahead.clone().heartbeat([0; 32], NOW);
    assert_eq!(refused(&mut writer, &mut reader, &heartbeat), FeedError::Gap { held: 0, found: 1 });
    let later = ahead.delta(revoke(2), NOW);
    assert_eq!(refused(&mut writer, &mut reader, &later), FeedError::Gap { held: 0, found: 2 });
}

#[test]
fn a_heartbeat_cannot_hide_an_epoch() {
    let (mut writer, mut reader) = subscribed();
    let behind = writer.clone().heartbeat([0; 32], NOW);
    reader.accept(&writer.delta(revoke(1), NOW), NOW).unwrap();
    assert_eq!(refused(&mut writer, &mut reader, &behind), FeedError::Replay);
}

#[test]
fn another_history_is_a_fork() {
    let (mut writer, mut reader) = subscribed();
    let mut other = writer.clone();
    other.delta(revoke(2), NOW);
    reader.accept(&writer.delta(revoke(1), NOW), NOW).unwrap();
    let delta = other.clone().delta(revoke(3), NOW);
    assert_eq!(refused(&mut writer, &mut reader, &delta), FeedError::Fork(2));
    // Ahead of the heartbeats of the writer's own, so that it is not taken for a replay.
    let heartbeat = std::iter::repeat_with(|| other.heartbeat([0; 32], NOW)).nth(4).unwrap();
    let error = reader.accept(&heartbeat, NOW).unwrap_err();
    assert_eq!(error, FeedError::Fork(1));
}

#[test]
fn a_coordinator_on_an_old_database_is_refused_until_the_root_signs_a_new_era() {
    let (mut writer, mut reader) = subscribed();
    let old = writer.clone();
    reader.accept(&writer.delta(revoke(1), NOW), NOW).unwrap();
    let last = reader.position();

    let mut again = FeedReader::new(NONCE, trust(), last);
    let rolled_back = FeedError::Rollback { held: (1, 1), found: (1, 0) };
    assert_eq!(again.accept(&old.snapshot(NONCE, vec![], 1, NOW), NOW), Err(rolled_back));
    let mut forked = old;
    forked.delta(revoke(2), NOW);
    assert_eq!(again.accept(&forked.snapshot(NONCE, vec![], 1, NOW), NOW), Err(FeedError::Fork(1)));

    let new_era = FeedWriter::new(FeedKey::new(feed_seed()), cluster(), Position::start(2), 0);
    let snapshot = new_era.snapshot(NONCE, revoke(1), 2, NOW);
    assert_eq!(again.accept(&snapshot, NOW), Err(FeedError::UnknownEra(2)));
    let bundle = root().sign(&TrustBundle { version: 2, era: 2, ..bundle() });
    assert_eq!(again.accept(&bundle, NOW), Ok(Accepted::Trust { newer: true }));
    assert!(again.accept(&snapshot, NOW).is_ok());
    let held_back = FeedError::Rollback { held: (2, 0), found: (1, 2) };
    assert_eq!(again.accept(&writer.delta(revoke(3), NOW), NOW), Err(held_back));
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let (mut writer, mut reader) = subscribed();
    reader.accept(&writer.delta(revoke(1), NOW), NOW).unwrap();
    let mut again = FeedReader::new(NONCE, trust(), reader.position());
    assert!(again.accept(&writer.snapshot(NONCE, revoke(1), 1, NOW), NOW).is_ok());
    assert!(again.accept(&writer.delta(revoke(2), NOW), NOW).is_ok());
}

#[test]
fn a_new_feed_key_arrives_by_the_bundle_alone() {
    let entry =
        IssuerEntry { key: seed(0x31).public(), usage: KeyUse::Feed, not_before: 0, not_after: u64::MAX };
    let rotated = root().sign(&TrustBundle { version: 2, keys: vec![entry], ..bundle() });
    let new = FeedWriter::new(FeedKey::new(seed(0x31)), cluster(), Position::start(1), 0);

    let snapshot = new.snapshot(NONCE, vec![], 2, NOW);
    let unknown = FeedError::Key(KeyError::Unknown(Kid::of(&entry.key)));
    let mut away = reader();
    assert_eq!(away.accept(&snapshot, NOW), Err(unknown));
    assert_eq!(away.accept(&rotated, NOW), Ok(Accepted::Trust { newer: true }));
    assert_eq!(away.accept(&rotated, NOW), Ok(Accepted::Trust { newer: false }));
    assert!(away.accept(&snapshot, NOW).is_ok());

    // One that is connected learns it in the feed, and the old key then counts no longer.
    let (mut writer, mut reader) = subscribed();
    let changes = vec![Change::Trust { bundle: rotated }];
    reader.accept(&writer.delta(changes, NOW), NOW).unwrap();
    assert_eq!(reader.trust().bundle().version, 2);
    let old = FeedError::Key(KeyError::Unknown(Kid::of(&feed_seed().public())));
    assert_eq!(reader.accept(&writer.heartbeat([0; 32], NOW), NOW), Err(old));
}

#[test]
fn nobody_can_withhold_a_newer_bundle() {
    let snapshot = writer().snapshot(NONCE, vec![], 2, NOW);
    assert_eq!(reader().accept(&snapshot, NOW), Err(FeedError::OldTrust { held: 1, found: 2 }));
}

#[test]
fn a_bundle_that_is_refused_refuses_its_delta() {
    let (mut writer, mut reader) = subscribed();
    let foreign = crate::trust::RootKey::new(seed(9)).sign(&TrustBundle { version: 2, ..bundle() });
    let delta = writer.clone().delta(vec![Change::Trust { bundle: foreign.clone() }], NOW);
    let error = refused(&mut writer, &mut reader, &delta);
    assert!(matches!(error, FeedError::Trust(TrustError::Root { .. })));
    assert!(matches!(reader.accept(&foreign, NOW), Err(FeedError::Trust(TrustError::Root { .. }))));
    assert_eq!(reader.trust().bundle().version, 1);
}

#[test]
fn other_signers_are_refused() {
    let snapshot_by = |key: Seed| {
        FeedWriter::new(FeedKey::new(key), cluster(), Position::start(1), 0).snapshot(NONCE, vec![], 1, NOW)
    };
    // The issuer of certificates may not sign the feed, nor may a stranger.
    for key in [seed(2), seed(9)] {
        let unknown = FeedError::Key(KeyError::Unknown(Kid::of(&key.public())));
        assert_eq!(reader().accept(&snapshot_by(key), NOW), Err(unknown));
    }
    let mut forged = writer().snapshot(NONCE, vec![], 1, NOW);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(reader().accept(&forged, NOW), Err(FeedError::BadSignature(SignatureError)));
    let elsewhere =
        FeedWriter::new(FeedKey::new(feed_seed()), "other.example".parse().unwrap(), Position::start(1), 0);
    assert_eq!(reader().accept(&elsewhere.snapshot(NONCE, vec![], 1, NOW), NOW), Err(FeedError::Cluster));
}

#[test]
fn clocks_more_than_a_minute_apart_are_refused() {
    let at = |time| reader().accept(&writer().snapshot(NONCE, vec![], 1, time), NOW).map(drop);
    assert_eq!((at(NOW - 60), at(NOW + 60)), (Ok(()), Ok(())));
    assert_eq!(at(NOW - 61), Err(FeedError::Clock(-61)));
    assert_eq!(at(NOW + 61), Err(FeedError::Clock(61)));
    let (mut writer, mut reader) = subscribed();
    let heartbeat = writer.heartbeat([0; 32], NOW + 61);
    assert_eq!(reader.accept(&heartbeat, NOW), Err(FeedError::Clock(61)));
}

#[test]
fn a_delta_that_was_held_back_is_no_news() {
    let (mut writer, mut reader) = subscribed();
    let delta = writer.delta(revoke(3), NOW);
    assert_eq!(reader.accept(&delta, NOW + 61), Err(FeedError::Clock(-61)));
    assert!(reader.accept(&delta, NOW + 60).is_ok());
}

#[test]
fn frames_that_say_more_than_they_may_are_refused() {
    let sealed = |payload: Vec<u8>| {
        let kid = Kid::of(&feed_seed().public());
        let frame = cose::sign(TYPE, kid.as_bytes(), payload, &feed_seed());
        reader().accept(&frame, NOW).unwrap_err()
    };
    let body = Body::Heartbeat { head: [0; 32], counter: 1, audit_head: [0; 32] };
    let mut payload = Frame { cluster: cluster(), time: NOW, era: 1, epoch: 0, body }.write();
    payload.push(0);
    assert!(matches!(sealed(payload), FeedError::Content(_)));
    assert!(matches!(sealed(vec![0xa0]), FeedError::Content(_)));
    let bundle = cose::sign("mtk-other+cwt", &[0; 8], vec![], &feed_seed());
    assert_eq!(
        reader().accept(&bundle, NOW),
        Err(FeedError::Trust(TrustError::Envelope(EnvelopeError::Type { expected: "mtk-trust+cwt" })))
    );
}

#[test]
fn a_snapshot_of_ten_thousand_revocations_fits_its_frame() {
    let serial = |at: u64| Serial::from_bytes(u128::from(at).to_be_bytes());
    let changes: Vec<_> =
        (0..10_000).map(|at| Change::RevokeTree { serial: serial(at), until: NOW + at }).collect();
    let frame = writer().snapshot(NONCE, changes.clone(), 1, NOW);
    assert!(frame.len() < 260_000, "{}", frame.len());
    let Ok(Accepted::Snapshot { changes: back, .. }) = reader().accept(&frame, NOW) else {
        panic!("a snapshot is accepted as a snapshot")
    };
    assert_eq!(back, changes);
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_is_refused(kind in 0..4_u8, at in 0..2000_usize, bit in 0..8_u32) {
        let (mut writer, mut reader) = subscribed();
        let mut frame = match kind {
            0 => {
                reader = FeedReader::new(NONCE, trust(), None);
                writer.snapshot(NONCE, revoke(1), 1, NOW)
            }
            1 => writer.delta(revoke(1), NOW),
            2 => writer.heartbeat([1; 32], NOW),
            _ => root().sign(&TrustBundle { version: 2, ..bundle() }),
        };
        let at = at % frame.len();
        frame[at] ^= 1 << bit;
        prop_assert!(reader.accept(&frame, NOW).is_err());
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let (_, mut reader) = subscribed();
        prop_assert!(reader.accept(&noise, NOW).is_err());
        let kid = Kid::of(&feed_seed().public());
        prop_assert!(reader.accept(&cose::sign(TYPE, kid.as_bytes(), noise, &feed_seed()), NOW).is_err());
    }

    /// Whatever frames of two subscriptions an attacker gives, repeated and in whatever order, the reader only ever
    /// takes the true ones in their order.
    #[test]
    fn only_the_true_order_is_taken(order in prop::collection::vec(0..9_usize, 0..40)) {
        let mut source = writer();
        let mut frames = vec![source.snapshot([0xee; 16], vec![], 1, NOW), source.snapshot(NONCE, vec![], 1, NOW)];
        let mut truth = vec![None, Some(source.position())];
        for byte in 0..3 {
            frames.push(source.delta(revoke(byte), NOW));
            truth.push(Some(source.position()));
            frames.push(source.heartbeat([0; 32], NOW));
            truth.push(Some(source.position()));
        }
        frames.push(trust().bytes().to_vec());
        truth.push(None);
        let mut reader = reader();
        let mut epoch = None;
        for at in order {
            let accepted = reader.accept(&frames[at], NOW);
            if reader.position().map(|position| position.epoch) != epoch {
                prop_assert!(accepted.is_ok());
                prop_assert_eq!(reader.position(), truth[at]);
                prop_assert_eq!(truth[at].map(|position| position.epoch), epoch.map_or(Some(0), |held| Some(held + 1)));
                epoch = truth[at].map(|position| position.epoch);
            }
        }
    }
}
