//! A relay whose certificate is short, with a coordinator that renews it, or does not.

use super::*;

/// A relay that begins with a certificate of so many seconds, which began `age` seconds ago; the coordinator gives new
/// ones of an hour.
async fn start(age: u64, life: u64, change: impl FnOnce(&TestCoordinator)) -> Lab {
    let (coordinator, reports) = TestCoordinator::new();
    change(&coordinator);
    let mut config = config(coordinator.clone());
    let began = unix_now() - age;
    let claims = Claims { not_after: began + life, ..relay_claims(150, began) };
    config.certificate = Credential::issue(150, claims).certificate;
    let relay = Relay::start(config).await.unwrap();
    Lab { relay, coordinator, reports }
}

async fn welcomed(lab: &Lab, number: u8) -> bool {
    let (_node, answer) = Node::hello(&lab.tcp(), &child(number)).await;
    match answer {
        Some(ToNode::Welcome { .. }) => true,
        refused => {
            assert_eq!(code_of(refused), Code::RelayStale);
            false
        }
    }
}

#[tokio::test]
async fn the_certificate_is_renewed_again_and_again_and_no_connection_notices() {
    let lab = start(0, 3, |coordinator| coordinator.set_life(3)).await;
    let mut node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    let mut last = unix_now();
    for _ in 0..3 {
        let Some(ToNode::Welcome { certificate, .. }) = node.hear().await else {
            panic!("no new certificate")
        };
        let claims = mytunnel_keys::certificate::inspect(&certificate).unwrap();
        assert!(claims.peek().not_after > last, "each ends later than the one before");
        last = claims.peek().not_after;
    }
    assert!(matches!(lab.relay.routes().find("web"), Lookup::Live(_)));
    assert!(welcomed(&lab, 2).await);
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_relay_that_was_switched_off_for_long_comes_back() {
    let lab = start(1000, 500, |_| {}).await;
    lab.until(|status| status.certificate_ends > unix_now()).await;
    assert!(welcomed(&lab, 1).await);
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn without_its_coordinator_a_relay_ends_with_its_certificate_and_recovers_by_itself() {
    let lab = start(1000, 500, |coordinator| coordinator.set_reachable(false)).await;
    timeout(SOON, lab.coordinator.asked().wait_for(|asked| *asked > 1)).await.unwrap().unwrap();
    assert!(lab.relay.status().borrow().certificate_ends < unix_now());
    assert!(!welcomed(&lab, 1).await);
    lab.coordinator.set_reachable(true);
    lab.until(|status| status.certificate_ends > unix_now() && status.clock_offset.is_some()).await;
    assert!(welcomed(&lab, 2).await);
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_relay_that_is_cast_out_takes_no_more_and_stops_when_told() {
    let lab = start(0, 3600, |_| {}).await;
    let mut node =
        Node::serve(&lab.tcp(), &issued(1, |claims| Claims { max_tunnels: 9, ..claims }), "web", 1).await;
    lab.coordinator.set_refusal(Some(Code::KeyRevoked));
    lab.until(|status| status.expelled).await;
    assert!(!welcomed(&lab, 2).await);
    assert_eq!(code_of(node.register("pr-1", 1).await), Code::RelayStale);
    timeout(SOON, lab.relay.shutdown()).await.expect("ends in time");
}
