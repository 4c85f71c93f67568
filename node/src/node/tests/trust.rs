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
