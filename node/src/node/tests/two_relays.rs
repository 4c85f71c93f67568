use super::*;
use crate::lines;

/// A node at two relays that are up, and a share of it that both have registered.
async fn at_both(target: &str) -> ([Relay; 2], Node, Share) {
    let mut relays = [Relay::start(Manners::default()).await, Relay::start(Manners::default()).await];
    let node = Node::start(config(relays.each_ref().map(Relay::address).to_vec())).unwrap();
    let share = node.share(spec(target)).await.unwrap();
    let [first, second] = &mut relays;
    assert_eq!(first.hear_registration().await, second.hear_registration().await, "as one node");
    (relays, node, share)
}

/// Waits until the status shows this relay.
async fn shown(node: &Node, relay: &Relay) {
    let addresses: Vec<_> = relay.addresses.iter().map(ToString::to_string).collect();
    let mut status = node.watch_status();
    let is_shown = |status: &Status| {
        let address = status.relay.address.as_ref();
        address.is_some_and(|address| addresses.iter().any(|of| address.starts_with(of.as_str())))
    };
    timeout(SOON, status.wait_for(is_shown)).await.expect("another relay is shown").unwrap();
}

#[tokio::test]
async fn one_of_two_relays_dies_and_the_owner_hears_nothing_of_it() {
    let (listener, address) = origin().await;
    let ([first, second], node, mut share) = at_both(&address).await;
    ready(&mut share).await;
    shown(&node, &first).await;
    first.kill().await;
    shown(&node, &second).await;
    assert!(node.status().tunnels[0].online);

    let mut pipe = second.pipe().await;
    let serving = async {
        let (mut visitor, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4];
        visitor.read_exact(&mut asked).await.unwrap();
        visitor.write_all(b"here").await.unwrap();
    };
    let ((answer, _), ()) = tokio::join!(exchange(&mut pipe, b"ping"), serving);
    assert_eq!(answer, b"\0here");

    node.shutdown(Duration::ZERO).await;
    let mut told = Vec::new();
    while let Some(event) = share.next().await {
        told.push(event);
    }
    assert!(matches!(told.last(), Some(ShareEvent::Closed(_))), "{told:?}");
    let away = |event: &ShareEvent| matches!(event, ShareEvent::Reconnecting { .. } | ShareEvent::Ready(_));
    assert!(!told.iter().any(away), "{told:?}");
}

#[tokio::test]
async fn without_either_the_share_is_away_until_one_is_back() {
    let ([first, second], node, mut share) = at_both("3000").await;
    ready(&mut share).await;
    let addresses = first.kill().await;
    shown(&node, &second).await;
    second.kill().await;
    while !matches!(next(&mut share).await, ShareEvent::Reconnecting { .. }) {}
    let first = Relay::start_at(Manners::default(), addresses).await;
    ready(&mut share).await;
    shown(&node, &first).await;
}

#[tokio::test]
async fn what_is_given_up_is_given_up_at_both() {
    let ([mut first, mut second], _node, share) = at_both("3000").await;
    drop(share);
    for relay in [&mut first, &mut second] {
        while !matches!(relay.hear().await, ToRelay::Unregister { .. }) {}
    }
}

#[tokio::test]
async fn an_end_at_one_relay_is_the_end_at_both() {
    let ([mut first, second], _node, mut share) = at_both("3000").await;
    ready(&mut share).await;
    second.say(relay::refused(None, Code::KeyRevoked)).await;
    assert_eq!(closed(&mut share).await.code, Some(Code::KeyRevoked));
    while !matches!(first.hear().await, ToRelay::Unregister { .. }) {}
}

#[tokio::test]
async fn relays_are_dealt_out_in_turn() {
    let mut relays = Vec::new();
    for port in 1..=3 {
        relays.push(address_of(&[format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()]));
    }
    let [one, two, three] = [0, 1, 2].map(|number: usize| relays[number].clone());
    assert_eq!(lines::deal(relays.clone()), [vec![one.clone(), three], vec![two]]);
    assert_eq!(lines::deal(vec![one.clone()]), [vec![one]]);
}
