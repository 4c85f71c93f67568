use super::*;
use crate::testing::{Credential, NOW, child_claims, relay_claims, seed, trust};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Life = Life { from: NOW, until: NOW + 86_400 };

fn after(seconds: u64) -> Duration {
    Duration::from_secs(NOW + seconds)
}

#[test]
fn the_first_attempt_is_at_half_of_the_life_and_spread_over_a_tenth() {
    assert_eq!(pause(DAY, 0, after(0), 0), HOUR * 12);
    let last = pause(DAY, 0, after(0), u32::MAX);
    assert_eq!(last, HOUR * 12 + HOUR * 24 / 10);
    assert_eq!(pause(DAY, 0, after(3600 * 11), 0), HOUR);
    // After a sleep, or at the start of one whose certificate is old, it is due at once.
    assert_eq!(pause(DAY, 0, after(3600 * 13), 0), Duration::ZERO);
    assert_eq!(pause(DAY, 0, after(3600 * 1000), u32::MAX), Duration::ZERO);
}

#[test]
fn a_clock_that_was_set_back_does_not_put_it_off_for_longer() {
    assert_eq!(pause(DAY, 0, Duration::ZERO, 0), HOUR * 12 + HOUR * 24 / 10);
}

#[test]
fn pauses_between_failures_double_to_a_bound_whether_it_has_ended_or_not() {
    for now in [after(3600 * 12), after(3600 * 48)] {
        let pauses: Vec<_> = (1..100).map(|failures| pause(DAY, failures, now, 0)).collect();
        assert_eq!(pauses[..4], [1, 2, 4, 8].map(Duration::from_secs));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[98], LAST_PAUSE);
    }
    assert_eq!(pause(DAY, u32::MAX, after(0), u32::MAX), LAST_PAUSE * 5 / 4);
}

#[test]
fn there_are_many_attempts_in_any_life_and_never_a_storm() {
    for life in [2, 10, 600, 86_400] {
        let life = Life { from: NOW, until: NOW + life };
        let (mut at, mut failures) = (pause(life, 0, after(0), u32::MAX) + after(0), 0);
        while at < Duration::from_secs(life.until) {
            failures += 1;
            let wait = pause(life, failures, at, u32::MAX);
            assert!(wait >= LEAST_PAUSE);
            at += wait;
        }
        assert!((3..1000).contains(&failures), "{failures} attempts in {life:?}");
    }
    let none = Life { from: NOW, until: NOW };
    assert!((1..10).all(|failures| pause(none, failures, after(0), 0) == LEAST_PAUSE));
}

#[test]
fn only_a_relays_own_certificate_will_do_and_an_ended_one_only_at_the_start() {
    let relay = Credential::issue(150, relay_claims(150, NOW));
    let id = relay.seed.public();
    let own = OwnCertificate::check(relay.certificate.clone(), &trust(), &id, NOW).unwrap();
    assert_eq!(own.life, Life { from: NOW, until: NOW + 90 * 86_400 });
    let late = own.life.until + 1000;
    let ended = OwnCertificate::check(relay.certificate.clone(), &trust(), &id, late).unwrap_err();
    assert!(matches!(ended, NotOurs::Verify(VerifyError::Expired { .. })), "{ended}");
    let kept = OwnCertificate::check_at_start(relay.certificate.clone(), &trust(), &id, late).unwrap();
    assert_eq!(kept, own);

    let other = seed(151).public();
    for now in [NOW, late] {
        let error =
            OwnCertificate::check_at_start(relay.certificate.clone(), &trust(), &other, now).unwrap_err();
        assert!(matches!(error, NotOurs::Verify(VerifyError::Holder)), "{error}");
        let child = Credential::issue(1, child_claims(1, NOW));
        let error = OwnCertificate::check_at_start(child.certificate, &trust(), &child.seed.public(), now)
            .unwrap_err();
        assert!(matches!(error, NotOurs::Kind), "{error}");
    }
}
