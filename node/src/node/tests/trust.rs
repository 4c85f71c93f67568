use super::*;

/// Whatever such a relay gets to hear, it is no registration.
async fn is_refused(manners: Manners, because: &str) {
    let mut relay = Relay::start(manners).await;
    let node = Node::start(config(vec![relay.address()])).unwrap();
    let mut share = node.share(spec("3000")).await.unwrap();
    let mut hellos = 0;
    while hellos < 3 {
        match relay.hear().await {
            ToRelay::Hello { .. } => hellos += 1,
            other => panic!("a false relay was told {other:?}"),
        }
    }
    loop {
        match next(&mut share).await {
            ShareEvent::Reconnecting { reason, .. } if reason.contains(because) => break,
            ShareEvent::Reconnecting { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(!node.status().relay.connected);
}

#[tokio::test]
async fn a_relay_under_another_root_is_refused() {
    let other = mytunnel_keys::trust::RootKey::new(Seed::from_bytes([99; 32]));
    let held = mytunnel_keys::trust::Trust::open(&testing::bundle(1), &testing::root().fingerprint());
    let forged = other.sign(held.unwrap().bundle());
    let welcome = testing::welcome(&testing::relay_claims_at(testing::unix()), &forged);
    is_refused(Manners { welcome, ..Manners::default() }, "root").await;
}

#[tokio::test]
async fn a_node_that_plays_relay_is_refused() {
    let mut claims = testing::node_claims_at(testing::unix());
    claims.subject = testing::relay_seed().public();
    let welcome = testing::welcome(&claims, &testing::bundle(1));
    is_refused(Manners { welcome, ..Manners::default() }, "not that of a relay").await;
}

#[tokio::test]
async fn another_relays_certificate_is_refused() {
    let mut claims = testing::relay_claims_at(testing::unix());
    claims.subject = Seed::from_bytes([77; 32]).public();
    let welcome = testing::welcome(&claims, &testing::bundle(1));
    is_refused(Manners { welcome, ..Manners::default() }, "another key").await;
}

#[tokio::test]
async fn another_peer_at_the_address_is_not_talked_to() {
    let relay = Relay::start(Manners::default()).await;
    let other = mytunnel_carrier::peer_id(&Seed::from_bytes([55; 32]).public()).to_string();
    let addresses: Vec<_> = relay.addresses.iter().map(ToString::to_string).collect();
    let node = Node::start(config(vec![RelayAddress::parse(&other, addresses).unwrap()])).unwrap();
    let mut share = node.share(spec("3000")).await.unwrap();
    let ShareEvent::Reconnecting { .. } = next(&mut share).await else { panic!() };
    assert!(!node.status().relay.connected);
}

/// A welcome whose certificate is believed for five seconds more, by the tolerance for clocks.
fn short() -> ToNode {
    let mut claims = testing::relay_claims_at(testing::unix() - 100);
    claims.not_after = testing::unix() + 5 - mytunnel_keys::trust::CLOCK_SKEW;
    testing::welcome(&claims, &testing::bundle(1))
}

#[tokio::test]
async fn a_relay_is_left_when_the_certificate_that_it_showed_has_ended() {
    for carrier in BOTH {
        let manners = Manners { welcome: short(), ..Manners::default() };
        let mut lab = lab_with(manners, carrier, "3000", |_| {}).await;
        loop {
            match next(&mut lab.share).await {
                ShareEvent::Reconnecting { reason, .. } if reason.contains("certificate has ended") => break,
                ShareEvent::Closed(closed) => panic!("{closed:?}"),
                _ => {}
            }
        }
        while !matches!(lab.relay.notice().await, Noticed::Gone) {}
    }
}

#[tokio::test]
async fn a_relay_that_shows_a_new_certificate_in_time_keeps_its_nodes() {
    let (listener, address) = origin().await;
    let first = short();
    let end = testing::unix() + 5;
    let manners = Manners { welcome: first, ..Manners::default() };
    let mut lab = lab_with(manners, Carrier::Quic, &address, |_| {}).await;
    lab.relay.hear_registration().await;
    lab.relay.say(Manners::default().welcome).await;
    let serve = async {
        loop {
            let (mut local, _) = listener.accept().await.unwrap();
            local.write_all(b"answer").await.unwrap();
        }
    };
    let visit = async {
        while testing::unix() <= end {
            assert_eq!(exchange(&mut lab.relay.pipe().await, b"x").await.0, b"\0answer");
        }
    };
    tokio::select! {
        () = serve => {},
        () = visit => {},
    }
    assert!(lab.node.status().relay.connected);
    lab.relay.disconnect().await;
    assert!(matches!(lab.relay.notice().await, Noticed::Gone), "nothing else was said before");
}

#[tokio::test]
async fn a_false_certificate_shown_later_ends_the_session() {
    let lab = lab(Carrier::Quic, "3000").await;
    let mut claims = testing::relay_claims_at(testing::unix());
    claims.subject = Seed::from_bytes([77; 32]).public();
    lab.relay.say(testing::welcome(&claims, &testing::bundle(1))).await;
    let mut share = lab.share;
    loop {
        match next(&mut share).await {
            ShareEvent::Reconnecting { reason, .. } if reason.contains("another key") => break,
            ShareEvent::Closed(closed) => panic!("{closed:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_certificate_for_another_key_or_cluster_does_not_start() {
    let relay = || vec![address_of(&["/ip4/192.0.2.1/tcp/1".parse().unwrap()])];
    let other_key = Config { seed: Seed::from_bytes([88; 32]), ..config(relay()) };
    assert!(matches!(Node::start(other_key), Err(StartError::OtherKey)));
    let other_cluster = Config { cluster: "other.example".parse().unwrap(), ..config(relay()) };
    assert!(matches!(Node::start(other_cluster), Err(StartError::OtherCluster(_))));
    let garbage = Config { certificate: vec![1, 2, 3], ..config(relay()) };
    assert!(matches!(Node::start(garbage), Err(StartError::Certificate(_))));
    assert!(matches!(Node::start(config(vec![])), Err(StartError::NoRelay)));
}
