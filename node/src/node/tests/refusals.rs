use super::*;

#[tokio::test]
async fn a_revoked_key_ends_every_share_with_its_code() {
    let manners = Manners { welcome: relay::refused(None, Code::KeyRevoked), ..Manners::default() };
    let relay = Relay::start(manners).await;
    let node = Node::start(config(vec![relay.address()])).unwrap();
    let end = match node.share(spec("3000")).await {
        Ok(mut share) => closed(&mut share).await,
        // The relay may be faster than we are.
        Err(ShareError::Refused(closed)) => closed,
        Err(other) => panic!("{other}"),
    };
    assert_eq!((end.code, end.help.as_str()), (Some(Code::KeyRevoked), "go away"));
    let again = node.share(spec("3000")).await.unwrap_err();
    assert_eq!(again.code(), Code::KeyRevoked);
}

#[tokio::test]
async fn a_taken_name_ends_that_share_only() {
    let register = |request| relay::refused(Some(request), Code::NameTaken);
    let relay = Relay::start(Manners { register, ..Manners::default() }).await;
    let node = Node::start(config(vec![relay.address()])).unwrap();
    let mut share = node.share(spec("3000")).await.unwrap();
    shown(&node, |status| status.relay.connected).await;
    assert_eq!(closed(&mut share).await.code, Some(Code::NameTaken));
    assert_eq!(share.next().await, None);
    assert!(node.status().relay.connected);
    assert!(node.share(spec("3000")).await.is_ok(), "it may be asked for again");
}

#[tokio::test]
async fn a_blind_relay_is_asked_again() {
    let register = |request| match request {
        0..3 => relay::refused(Some(request), Code::RelayStale),
        _ => relay::registered(request, 3600),
    };
    let relay = Relay::start(Manners { register, ..Manners::default() }).await;
    let node = Node::start(config(vec![relay.address()])).unwrap();
    let mut share = node.share(spec("3000")).await.unwrap();
    let event = loop {
        match next(&mut share).await {
            ShareEvent::Reconnecting { reason, .. } if reason == "connecting" => {}
            event => break event,
        }
    };
    assert!(matches!(&event, ShareEvent::Reconnecting { reason, .. } if reason == "not you"), "{event:?}");
    ready(&mut share).await;
}

#[tokio::test]
async fn what_cannot_be_shared_is_refused_here() {
    let lab = lab(Carrier::Tcp, "3000").await;
    let duplicate = lab.node.share(spec("3000")).await.unwrap_err();
    assert_eq!(duplicate.code(), Code::NameTaken);
    let udp = TunnelSpec { kind: TunnelKind::Udp, name: "other".parse().unwrap(), ..spec("unix:/run/x") };
    assert_eq!(lab.node.share(udp).await.unwrap_err().code(), Code::TargetUnreachable);
}

#[tokio::test]
async fn the_number_of_shares_is_bounded() {
    let one = |config: &mut Config| config.max_shares = 1;
    let lab = lab_with(Manners::default(), Carrier::Tcp, "3000", one).await;
    let more = TunnelSpec { name: "other".parse().unwrap(), ..spec("3000") };
    assert_eq!(lab.node.share(more).await.unwrap_err().code(), Code::TunnelLimit);
}
