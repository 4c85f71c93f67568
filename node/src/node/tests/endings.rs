use super::*;

#[tokio::test]
async fn dropping_a_share_gives_its_tunnel_back() {
    let mut lab = lab(Carrier::Quic, "3000").await;
    lab.relay.hear_registration().await;
    drop(lab.share);
    let tunnel = TunnelId::from_bytes(TUNNEL);
    assert_eq!(lab.relay.hear().await, ToRelay::Unregister { tunnel });
    shown(&lab.node, |status| status.tunnels.is_empty()).await;
}

#[tokio::test]
async fn shutdown_gives_everything_back_and_hangs_up() {
    for carrier in BOTH {
        // Nothing is under way.
        takes_less_than(Duration::from_secs(1), async || {
            let mut lab = lab(carrier, "3000").await;
            lab.relay.hear_registration().await;
            let begun = Instant::now();
            lab.node.shutdown(SOON).await;
            let took = begun.elapsed();
            let tunnel = TunnelId::from_bytes(TUNNEL);
            assert_eq!(lab.relay.hear().await, ToRelay::Unregister { tunnel });
            assert!(matches!(lab.relay.notice().await, Noticed::Gone));
            assert_eq!(closed(&mut lab.share).await, Closed::by_owner());
            took
        })
        .await;
    }
}

#[tokio::test]
async fn shutdown_lets_a_request_end() {
    let (listener, address) = origin().await;
    let lab = lab(Carrier::Quic, &address).await;
    let mut pipe = lab.relay.pipe().await;
    pipe.write_all(b"request").await.unwrap();
    pipe.flush().await.unwrap();
    let (mut local, _) = listener.accept().await.unwrap();
    local.read_exact(&mut [0; 7]).await.unwrap();
    let work = async {
        // Long enough for a node that does not wait to be gone.
        let idle = timeout(Duration::from_millis(600), local.read(&mut [0])).await;
        assert!(idle.is_err(), "the request was cut");
        local.write_all(b"late answer").await.unwrap();
        drop(local);
    };
    let ((), (answer, proper), ()) = tokio::join!(lab.node.shutdown(SOON), exchange(&mut pipe, b""), work);
    assert_eq!(answer, b"\0late answer");
    assert!(proper);
}

#[tokio::test]
async fn shutdown_does_not_wait_longer_than_it_was_given() {
    takes_less_than(Duration::from_secs(2), async || {
        let (listener, address) = origin().await;
        let lab = lab(Carrier::Quic, &address).await;
        let mut pipe = lab.relay.pipe().await;
        pipe.write_all(b"request").await.unwrap();
        pipe.flush().await.unwrap();
        let (_local, _) = listener.accept().await.unwrap();
        let begun = Instant::now();
        lab.node.shutdown(Duration::from_millis(500)).await;
        begun.elapsed()
    })
    .await;
}

#[tokio::test]
async fn dropping_the_node_ends_its_shares() {
    let mut lab = lab(Carrier::Tcp, "3000").await;
    drop(lab.node);
    while timeout(SOON, lab.share.next()).await.expect("the share goes on").is_some() {}
    while !matches!(lab.relay.notice().await, Noticed::Gone) {}
}
