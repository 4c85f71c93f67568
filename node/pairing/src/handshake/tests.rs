use proptest::prelude::*;

use super::*;
use crate::link::{InviteId, InviteSecret};

fn ends() -> Ends {
    let peer = |byte| mytunnel_carrier::peer_id(&Seed::from_bytes([byte; 32]).public());
    Ends { host: peer(1), guest: peer(2) }
}

fn hello() -> Hello {
    Hello::Link(InviteId::from_bytes([3; 8]))
}

fn psk(byte: u8) -> Psk {
    secret::of_link(&InviteSecret::from_bytes([byte; 32]), InviteId::from_bytes([3; 8]))
}

fn signer(seed: &Seed) -> Signer<'_> {
    Signer { name: "ada", agent: "test", seed }
}

/// Both ends of a handshake that went well.
pub(crate) fn pair() -> (Established, Established) {
    let seed = Seed::from_bytes([9; 32]);
    let (guest, first) = Guest::begin(hello(), &psk(5), &ends()).unwrap();
    let (host, second) = Host::begin(hello(), &psk(5), &ends()).unwrap().answer(&first).unwrap();
    let (guest, third) = guest.prove(&second, &signer(&seed)).unwrap();
    let (host, card) = host.verify(&third).unwrap();
    assert_eq!((card.name.as_str(), card.key), ("ada", seed.public()));
    (guest, host)
}

#[test]
fn both_ends_come_to_the_same_hash_and_no_two_handshakes_do() {
    let (guest, host) = pair();
    assert_eq!(guest.hash, host.hash);
    assert_ne!(pair().0.hash, host.hash);
}

#[test]
fn a_wrong_secret_fails_at_the_host_at_message_3_and_not_before() {
    let (guest, first) = Guest::begin(hello(), &psk(5), &ends()).unwrap();
    let (host, second) = Host::begin(hello(), &psk(6), &ends()).unwrap().answer(&first).unwrap();
    let (_, third) = guest.prove(&second, &signer(&Seed::from_bytes([9; 32]))).unwrap();
    assert_eq!(host.verify(&third).unwrap_err(), Refused);
}

#[test]
fn another_host_another_guest_or_another_invite_fit_no_handshake() {
    let others = [
        (hello(), Ends { host: ends().guest, ..ends() }),
        (hello(), Ends { guest: ends().host, ..ends() }),
        (Hello::Link(InviteId::from_bytes([4; 8])), ends()),
    ];
    for (other, between) in others {
        let (_, first) = Guest::begin(hello(), &psk(5), &ends()).unwrap();
        assert_eq!(Host::begin(other, &psk(5), &between).unwrap().answer(&first).unwrap_err(), Refused);
    }
}

#[test]
fn a_proof_that_was_recorded_proves_nothing_again() {
    let (guest, first) = Guest::begin(hello(), &psk(5), &ends()).unwrap();
    let (host, second) = Host::begin(hello(), &psk(5), &ends()).unwrap().answer(&first).unwrap();
    let (_, third) = guest.prove(&second, &signer(&Seed::from_bytes([9; 32]))).unwrap();
    assert!(host.verify(&third).is_ok());
    let (host, _) = Host::begin(hello(), &psk(5), &ends()).unwrap().answer(&first).unwrap();
    assert_eq!(host.verify(&third).unwrap_err(), Refused);
}

/// A message that is noise, or the right one with one byte changed.
fn mangled(right: &[u8], noise: &[u8], at: usize, bit: u8, whole: bool) -> Vec<u8> {
    if whole {
        return noise.to_vec();
    }
    let mut message = right.to_vec();
    let at = at % message.len();
    message[at] ^= 1 << (bit % 8);
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_noise_is_answered(noise in prop::collection::vec(any::<u8>(), 0..limits::HANDSHAKE)) {
        prop_assert!(Host::begin(hello(), &psk(5), &ends()).unwrap().answer(&noise).is_err());
    }
}

proptest! {
    // What is expensive comes before: each case is a handshake. Debug builds of dalek are optimised, ring is assembly.
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_changed_second_or_third_message_proves_anything(
        noise in prop::collection::vec(any::<u8>(), 0..limits::HANDSHAKE),
        at in any::<usize>(),
        bit in any::<u8>(),
        whole in any::<bool>(),
    ) {
        let seed = Seed::from_bytes([9; 32]);
        let (guest, first) = Guest::begin(hello(), &psk(5), &ends()).unwrap();
        let (host, second) = Host::begin(hello(), &psk(5), &ends()).unwrap().answer(&first).unwrap();
        let (other, _) = Guest::begin(hello(), &psk(5), &ends()).unwrap();
        prop_assert!(other.prove(&mangled(&second, &noise, at, bit, whole), &signer(&seed)).is_err());
        let (_, third) = guest.prove(&second, &signer(&seed)).unwrap();
        prop_assert!(host.verify(&mangled(&third, &noise, at, bit, whole)).is_err());
    }
}
