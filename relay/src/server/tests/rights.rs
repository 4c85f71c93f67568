//! How rights end.

use mytunnel_keys::{
    certificate::IssuerKey,
    feed::{Change, Report},
};

use super::*;
use crate::testing::{project, seed, serial};

/// Later than any certificate of these tests.
const UNTIL: u64 = u32::MAX as u64;

fn applied(report: &Report) -> Option<(u64, u32)> {
    if let Report::Applied { epoch, closed } = report { Some((*epoch, *closed)) } else { None }
}

#[tokio::test]
async fn every_certificate_that_does_not_hold_is_refused_with_its_code() {
    let lab = Lab::start().await;
    let now = unix_now();
    lab.coordinator.change(Change::Revoke { serial: serial(9), until: UNTIL });
    let expired =
        |claims| Claims { not_before: now - 3600, issued_at: now - 3600, not_after: now - 60, ..claims };
    let elsewhere = |claims| Claims { cluster: "other.example".parse().unwrap(), ..claims };
    let cases = [
        ("expired", issued(1, expired), Code::KeyExpired),
        ("revoked", child(9), Code::KeyRevoked),
        ("another cluster's", issued(2, elsewhere), Code::InvalidKey),
        ("stolen", Credential { seed: seed(4), ..child(3) }, Code::InvalidKey),
        ("forged", Credential::issue_by(&IssuerKey::new(seed(5)), 5, child_claims(5, now)), Code::InvalidKey),
        ("a relay's", Credential::issue(6, relay_claims(6, now)), Code::InvalidKey),
    ];
    for (what, credential, code) in cases {
        let (mut node, answer) = Node::hello(&lab.tcp(), &credential).await;
        assert_eq!(code_of(answer), code, "{what}");
        node.closed().await;
    }
}

#[tokio::test]
async fn what_a_certificate_does_not_cover_is_refused_and_the_node_stays() {
    let mut lab = Lab::start().await;
    lab.coordinator.change(Change::Name { name: name("pr-9"), project: project("b"), kind: None });
    lab.reports.find(|report| applied(report).filter(|(epoch, _)| *epoch == 1)).await;
    let (mut node, _) = Node::hello(&lab.tcp(), &child(1)).await;
    assert_eq!(code_of(node.register("other", 1).await), Code::ScopeDenied);
    assert_eq!(code_of(node.register("pr-9", 1).await), Code::NameTaken);
    assert!(matches!(node.register("pr-1", 1).await, Some(ToNode::Registered { .. })));
    assert_eq!(code_of(node.register("pr-2", 1).await), Code::TunnelLimit);
}

#[tokio::test]
async fn a_cascade_cuts_tells_drops_and_reports() {
    let mut lab = Lab::start().await;
    let mut nodes = Vec::new();
    for number in 1..=5 {
        nodes.push(Node::serve(&lab.tcp(), &child(number), &format!("pr-{number}"), 1).await);
    }
    let of_another = issued(6, |claims| Claims { parent: Some(serial(101)), ..claims });
    let _other = Node::serve(&lab.quic(), &of_another, "web", 1).await;
    let tunnels: Vec<_> = (1..=5).map(|number| lab.tunnel(&format!("pr-{number}"))).collect();

    lab.coordinator.change(Change::RevokeTree { serial: serial(100), until: UNTIL });
    for (node, tunnel) in nodes.iter_mut().zip(&tunnels) {
        assert!(matches!(node.hear().await, Some(ToNode::Closed { code: Code::KeyRevoked, .. })));
        assert!(tunnel.is_closed(), "cut before the node is told");
        assert!(matches!(node.hear().await, Some(ToNode::Goodbye { code: Code::KeyRevoked, .. })));
        node.closed().await;
    }
    assert_eq!(lab.reports.find(|report| applied(report).filter(|(epoch, _)| *epoch == 1)).await, (1, 5));
    assert!(!lab.tunnel("web").is_closed());
    let (_node, answer) = Node::hello(&lab.tcp(), &child(1)).await;
    assert_eq!(code_of(answer), Code::KeyRevoked);
}

#[tokio::test]
async fn a_tunnel_ends_with_its_certificate() {
    let lab = Lab::start().await;
    let (mut lives, mut number) = ([2, 5, 15].into_iter(), 0);
    let (mut node, end) = loop {
        let end = unix_now() + lives.next().expect("in time for one of them");
        number += 1;
        let short = issued(number, |claims| Claims { not_after: end, ..claims });
        let (mut node, welcome) = Node::hello(&lab.tcp(), &short).await;
        // A machine that stalls may be too late for the first.
        if matches!(welcome, Some(ToNode::Welcome { .. }))
            && let Some(ToNode::Registered { .. }) = node.register("web", number).await
        {
            break (node, end);
        }
    };
    let tunnel = lab.tunnel("web");
    assert_eq!(code_of(node.hear().await), Code::KeyExpired);
    assert!(tunnel.is_closed());
    assert!(unix_now() >= end);
    node.closed().await;
}

#[tokio::test]
async fn a_relay_that_is_cut_off_admits_nobody_and_at_last_ends_what_it_serves() {
    let lab = Lab::start_with(|config| config.limits.hard_staleness = Duration::from_secs(4)).await;
    // Less than the above, and more than its admission takes on a busy machine.
    let claims = |claims| Claims { max_staleness: 3, ..claims };
    let mut node = Node::serve(&lab.tcp(), &issued(1, claims), "web", 1).await;
    lab.coordinator.set_reachable(false);
    assert_eq!(code_of(node.hear().await), Code::RelayStale);
    let (_late, answer) = Node::hello(&lab.tcp(), &issued(2, claims)).await;
    assert_eq!(code_of(answer), Code::RelayStale);

    lab.coordinator.set_reachable(true);
    let healed = async {
        while !matches!(Node::hello(&lab.tcp(), &issued(2, claims)).await.1, Some(ToNode::Welcome { .. })) {}
    };
    timeout(SOON, healed).await.expect("healed in time");
}

#[tokio::test]
async fn a_wrong_clock_admits_nobody() {
    let lab = Lab::start().await;
    lab.coordinator.set_clock(3600);
    lab.coordinator.heartbeat();
    lab.until(|status| status.clock_offset.is_some_and(|offset| (3590..3610).contains(&offset))).await;
    let (_node, answer) = Node::hello(&lab.tcp(), &child(1)).await;
    let Some(ToNode::Refused { code: Code::RelayStale, message, .. }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("clock"), "{message}");
}

#[tokio::test]
async fn a_feed_that_goes_back_is_refused_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let remember = |config: &mut Config| config.data_dir = Some(dir.path().to_owned());
    let revoke = Change::Revoke { serial: serial(9), until: UNTIL };
    let mut lab = Lab::start_with(remember).await;
    lab.coordinator.change(revoke.clone());
    lab.reports.find(|report| applied(report).filter(|(epoch, _)| *epoch == 1)).await;
    lab.relay.shutdown().await;

    let restored = Lab::unheard(remember).await;
    let (_node, answer) = Node::hello(&restored.tcp(), &child(9)).await;
    assert_eq!(code_of(answer), Code::RelayStale);
    restored.relay.shutdown().await;

    let same = Lab::unheard(remember).await;
    same.coordinator.change(revoke);
    same.until(|status| status.clock_offset.is_some()).await;
    let (_node, answer) = Node::hello(&same.tcp(), &child(9)).await;
    assert_eq!(code_of(answer), Code::KeyRevoked);
    same.relay.shutdown().await;
}
