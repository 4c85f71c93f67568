use super::*;

#[tokio::test]
async fn a_share_becomes_ready_and_the_status_tells_how() {
    let relay = Relay::start(Manners::default()).await;
    let node = Node::start(config(vec![relay.address()])).unwrap();
    assert!(!node.status().relay.connected);
    let mut share = node.share(spec("3000")).await.unwrap();
    let ready = ready(&mut share).await;
    assert_eq!(ready.tunnel_id, TunnelId::from_bytes(TUNNEL));
    assert_eq!(ready.urls, ["https://web.tun.example"]);
    assert!(ready.relay.contains("tcp"), "TCP has a head start: {}", ready.relay);
    let path = next(&mut share).await;
    assert!(matches!(path, ShareEvent::Path { path: crate::Path::Relayed, .. }), "{path:?}");

    let status = shown(&node, |status| status.relay.connected && status.relay.rtt.is_some()).await;
    assert_eq!(status.relay.carrier, Some(Carrier::Tcp));
    let [tunnel] = status.tunnels.as_slice() else { panic!("{status:?}") };
    assert!(tunnel.online);
    assert_eq!(tunnel.target, "http://localhost:3000");
    assert_eq!(tunnel.id, Some(ready.tunnel_id));
}

#[tokio::test]
async fn tcp_is_used_where_udp_leads_nowhere() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = format!("/ip4/127.0.0.1/udp/{}/quic-v1", nobody.local_addr().unwrap().port());
    takes_less_than(Duration::from_secs(2), async || {
        let relay = Relay::start(Manners::default()).await;
        let mut addresses = relay.address().over(Carrier::Tcp);
        addresses.push(dead.parse().unwrap());
        let config = Config { preferred: Carrier::Quic, ..config(vec![address_of(&addresses)]) };
        let node = Node::start(config).unwrap();
        let begun = Instant::now();
        let mut share = node.share(spec("3000")).await.unwrap();
        ready(&mut share).await;
        let took = begun.elapsed();
        shown(&node, |status| status.relay.carrier == Some(Carrier::Tcp)).await;
        took
    })
    .await;
}

#[tokio::test]
async fn a_host_name_is_resolved() {
    let relay = Relay::start(Manners::default()).await;
    let [quic] = relay.address().over(Carrier::Quic).try_into().unwrap();
    let named = quic.to_string().replace("/ip4/127.0.0.1", "/dns4/localhost");
    let node = Node::start(config(vec![address_of(&[named.parse().unwrap()])])).unwrap();
    ready(&mut node.share(spec("3000")).await.unwrap()).await;
}

#[tokio::test]
async fn the_next_relay_is_tried_when_one_is_down() {
    let (listener, address) = origin().await;
    drop(listener);
    let down = format!("/ip4/127.0.0.1/tcp/{}", address.rsplit_once(':').unwrap().1);
    let relay = Relay::start(Manners::default()).await;
    let relays = vec![address_of(&[down.parse().unwrap()]), relay.address()];
    let node = Node::start(config(relays)).unwrap();
    ready(&mut node.share(spec("3000")).await.unwrap()).await;
}

#[tokio::test]
async fn a_relay_that_is_down_is_said_to_be() {
    let (listener, address) = origin().await;
    drop(listener);
    let down = format!("/ip4/127.0.0.1/tcp/{}", address.rsplit_once(':').unwrap().1);
    let node = Node::start(config(vec![address_of(&[down.parse().unwrap()])])).unwrap();
    let mut share = node.share(spec("3000")).await.unwrap();
    let (attempt, reason) = loop {
        let ShareEvent::Reconnecting { attempt, reason } = next(&mut share).await else { panic!() };
        if reason != "connecting" {
            break (attempt, reason);
        }
    };
    assert!(attempt >= 2, "{attempt}");
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn of_a_proxy_that_is_not_there_the_status_says_so() {
    let (listener, proxy) = origin().await;
    drop(listener);
    let place = "/dns/relay.test/tcp/443/tls/ws".parse().unwrap();
    let proxies = Proxies::new(&format!("http://ann:secret@{proxy}"), "").unwrap();
    let node = Node::start(Config { proxies, ..config(vec![address_of(&[place])]) }).unwrap();
    let said = shown(&node, |status| status.relay.trouble.is_some()).await.relay.trouble.unwrap();
    assert!(
        said.starts_with(&format!("the relay cannot be reached: the proxy {proxy} cannot be reached: ")),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
}
