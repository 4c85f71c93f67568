use super::*;

#[tokio::test]
async fn a_lost_connection_is_made_again_with_name_and_instance() {
    for carrier in BOTH {
        takes_less_than(Duration::from_secs(1), async || {
            let mut lab = lab(carrier, "3000").await;
            let first = lab.relay.hear_registration().await;
            lab.relay.disconnect().await;
            let lost = Instant::now();
            let mut noticed = false;
            loop {
                match next(&mut lab.share).await {
                    ShareEvent::Reconnecting { .. } => noticed = true,
                    ShareEvent::Ready(_) => break,
                    _ => {}
                }
            }
            let took = lost.elapsed();
            assert!(noticed, "the owner was told");
            assert_eq!(lab.relay.hear_registration().await, first);
            assert_eq!(first.0, "web");
            took
        })
        .await;
    }
}

#[tokio::test]
async fn a_relay_that_restarts_has_its_node_back_within_two_seconds() {
    for carrier in BOTH {
        takes_less_than(Duration::from_secs(2), async || {
            let mut lab = lab(carrier, "3000").await;
            let addresses = lab.relay.kill().await;
            // Down for long enough that the node has noticed and tried.
            while !matches!(next(&mut lab.share).await, ShareEvent::Reconnecting { attempt: 3.., .. }) {}
            let _relay = Relay::start_at(Manners::default(), addresses).await;
            let listening = Instant::now();
            ready(&mut lab.share).await;
            listening.elapsed()
        })
        .await;
    }
}

#[tokio::test]
async fn a_relay_that_restarts_at_once_has_its_node_back_as_well() {
    for carrier in BOTH {
        takes_less_than(Duration::from_secs(2), async || {
            let mut lab = lab(carrier, "3000").await;
            let addresses = lab.relay.kill().await;
            let mut relay = Relay::start_at(Manners::default(), addresses).await;
            let listening = Instant::now();
            assert_eq!(relay.hear_registration().await.0, "web");
            let took = listening.elapsed();
            while !matches!(next(&mut lab.share).await, ShareEvent::Ready(_)) {}
            took
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced_before_it_is_given_up() {
    takes_less_than(Duration::from_secs(6), async || {
        let manners = Manners { pings: 1, ..Manners::default() };
        let mut lab = lab_with(manners, Carrier::Quic, "3000", |_| {}).await;
        let begun = Instant::now();
        let (mut connections, mut registrations) = (0, Vec::new());
        while registrations.len() < 2 {
            match lab.relay.notice().await {
                Noticed::Connected => connections += 1,
                Noticed::Gone => {
                    connections -= 1;
                    assert!(connections > 0, "given up before there was another");
                }
                Noticed::Said(ToRelay::Register { name, instance, .. }) => {
                    registrations.push((name, instance));
                }
                Noticed::Said(_) => {}
            }
        }
        assert_eq!(registrations[0], registrations[1]);
        begun.elapsed()
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_moves_the_node_on() {
    let mut lab = lab(Carrier::Quic, "3000").await;
    let first = lab.relay.hear_registration().await;
    let message = "restarting".to_owned();
    lab.relay.say(ToNode::Goodbye { code: Code::RelayUnreachable, message }).await;
    assert_eq!(lab.relay.hear_registration().await, first);
}

#[tokio::test]
async fn a_final_goodbye_is_the_end() {
    let mut lab = lab(Carrier::Quic, "3000").await;
    lab.relay.say(ToNode::Goodbye { code: Code::KeyRevoked, message: "revoked".to_owned() }).await;
    assert_eq!(closed(&mut lab.share).await.code, Some(Code::KeyRevoked));
}

#[tokio::test]
async fn a_share_ends_by_itself_when_the_credential_does() {
    let register = |request| relay::registered(request, 2);
    let mut lab = lab_with(Manners { register, ..Manners::default() }, Carrier::Quic, "3000", |_| {}).await;
    lab.relay.kill().await;
    let begun = Instant::now();
    assert_eq!(closed(&mut lab.share).await.code, Some(Code::KeyExpired));
    assert!(begun.elapsed() < Duration::from_secs(4));
    shown(&lab.node, |status| status.tunnels.is_empty()).await;
}
