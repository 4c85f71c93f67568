use std::time::Instant;

use mytunnel_keys::{
    error::Code,
    id::{TunnelId, TunnelKind},
    wire::{ToNode, ToRelay},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use super::*;
use crate::{
    Closed, Ready, ShareEvent, Target,
    testing::{
        self,
        relay::{self, Manners, Noticed, Relay, SOON, TUNNEL, address_of, config, exchange},
    },
};

fn spec(target: &str) -> TunnelSpec {
    let target = Target::parse(target).unwrap();
    TunnelSpec { name: "web".parse().unwrap(), kind: TunnelKind::Http, target, host_header: None }
}

async fn origin() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn next(share: &mut Share) -> ShareEvent {
    timeout(SOON, share.next()).await.expect("nothing happens to the share").expect("the share is over")
}

async fn ready(share: &mut Share) -> Ready {
    timeout(SOON, share.ready()).await.expect("the share is not ready").unwrap()
}

async fn closed(share: &mut Share) -> Closed {
    loop {
        if let ShareEvent::Closed(closed) = next(share).await {
            return closed;
        }
    }
}

/// A relay, a node connected to it over one carrier, and a share that is ready.
struct Lab {
    relay: Relay,
    node: Node,
    share: Share,
}

async fn lab(carrier: Carrier, target: &str) -> Lab {
    lab_with(Manners::default(), carrier, target, |_| {}).await
}

async fn lab_with(manners: Manners, carrier: Carrier, target: &str, adjust: impl FnOnce(&mut Config)) -> Lab {
    let relay = Relay::start(manners).await;
    let mut config = config(vec![address_of(&relay.address().over(carrier))]);
    adjust(&mut config);
    let node = Node::start(config).unwrap();
    let mut share = node.share(spec(target)).await.unwrap();
    ready(&mut share).await;
    Lab { relay, node, share }
}

const BOTH: [Carrier; 2] = [Carrier::Quic, Carrier::Tcp];

mod connecting {
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

        let status = node.status();
        assert!(status.relay.connected && status.relay.rtt.is_some());
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
        let relay = Relay::start(Manners::default()).await;
        let mut addresses = relay.address().over(Carrier::Tcp);
        addresses.push(dead.parse().unwrap());
        let config = Config { preferred: Carrier::Quic, ..config(vec![address_of(&addresses)]) };
        let node = Node::start(config).unwrap();
        let begun = Instant::now();
        let mut share = node.share(spec("3000")).await.unwrap();
        ready(&mut share).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(node.status().relay.carrier, Some(Carrier::Tcp));
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
        let ShareEvent::Reconnecting { attempt, reason } = next(&mut share).await else { panic!() };
        assert_eq!(attempt, 2);
        assert!(reason.contains("refused"), "{reason}");
    }
}

mod trust {
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
}

mod refusals {
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
        let event = next(&mut share).await;
        assert!(
            matches!(&event, ShareEvent::Reconnecting { reason, .. } if reason == "not you"),
            "{event:?}"
        );
        ready(&mut share).await;
    }

    #[tokio::test]
    async fn what_cannot_be_shared_is_refused_here() {
        let lab = lab(Carrier::Tcp, "3000").await;
        let duplicate = lab.node.share(spec("3000")).await.unwrap_err();
        assert_eq!(duplicate.code(), Code::NameTaken);
        let udp = TunnelSpec { kind: TunnelKind::Udp, name: "other".parse().unwrap(), ..spec("3000") };
        assert_eq!(lab.node.share(udp).await.unwrap_err().code(), Code::BadRequest);
    }

    #[tokio::test]
    async fn the_number_of_shares_is_bounded() {
        let one = |config: &mut Config| config.max_shares = 1;
        let lab = lab_with(Manners::default(), Carrier::Tcp, "3000", one).await;
        let more = TunnelSpec { name: "other".parse().unwrap(), ..spec("3000") };
        assert_eq!(lab.node.share(more).await.unwrap_err().code(), Code::TunnelLimit);
    }
}

mod losses {
    use super::*;

    #[tokio::test]
    async fn a_lost_connection_is_made_again_with_name_and_instance() {
        for carrier in BOTH {
            let mut lab = lab(carrier, "3000").await;
            let first = lab.relay.hear_registration().await;
            lab.relay.disconnect().await;
            let lost = Instant::now();
            let mut noticed = false;
            loop {
                match next(&mut lab.share).await {
                    ShareEvent::Reconnecting { attempt, .. } => noticed |= attempt == 1,
                    ShareEvent::Ready(_) => break,
                    _ => {}
                }
            }
            assert!(noticed, "the owner was told");
            assert!(lost.elapsed() < Duration::from_secs(1), "{:?}", lost.elapsed());
            assert_eq!(lab.relay.hear_registration().await, first);
            assert_eq!(first.0, "web");
        }
    }

    #[tokio::test]
    async fn a_relay_that_restarts_has_its_node_back_within_two_seconds() {
        for carrier in BOTH {
            let mut lab = lab(carrier, "3000").await;
            let addresses = lab.relay.kill().await;
            // Down for long enough that the node has noticed and tried.
            while !matches!(next(&mut lab.share).await, ShareEvent::Reconnecting { attempt: 3.., .. }) {}
            let _relay = Relay::start_at(Manners::default(), addresses).await;
            let listening = Instant::now();
            ready(&mut lab.share).await;
            assert!(listening.elapsed() < Duration::from_secs(2), "{carrier}: {:?}", listening.elapsed());
        }
    }

    #[tokio::test]
    async fn a_relay_that_restarts_at_once_has_its_node_back_as_well() {
        for carrier in BOTH {
            let mut lab = lab(carrier, "3000").await;
            let addresses = lab.relay.kill().await;
            let mut relay = Relay::start_at(Manners::default(), addresses).await;
            let listening = Instant::now();
            assert_eq!(relay.hear_registration().await.0, "web");
            assert!(listening.elapsed() < Duration::from_secs(2), "{carrier}: {:?}", listening.elapsed());
            while !matches!(next(&mut lab.share).await, ShareEvent::Ready(_)) {}
        }
    }

    #[tokio::test]
    async fn a_connection_that_falls_silent_is_replaced_before_it_is_given_up() {
        let mut lab =
            lab_with(Manners { pings: 1, ..Manners::default() }, Carrier::Quic, "3000", |_| {}).await;
        let begun = Instant::now();
        let (mut connections, mut registrations) = (0, Vec::new());
        while registrations.len() < 2 {
            match lab.relay.notice().await {
                Noticed::Connected(_) => connections += 1,
                Noticed::Gone => {
                    connections -= 1;
                    assert!(connections > 0, "given up before there was another");
                }
                Noticed::Said(ToRelay::Register { name, instance, .. }) => {
                    registrations.push((name, instance))
                }
                Noticed::Said(_) => {}
            }
        }
        assert_eq!(registrations[0], registrations[1]);
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
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
        let mut lab =
            lab_with(Manners { register, ..Manners::default() }, Carrier::Quic, "3000", |_| {}).await;
        lab.relay.kill().await;
        let begun = Instant::now();
        assert_eq!(closed(&mut lab.share).await.code, Some(Code::KeyExpired));
        assert!(begun.elapsed() < Duration::from_secs(4));
        assert_eq!(lab.node.status().tunnels, []);
    }
}

mod pipes {
    use super::*;

    #[tokio::test]
    async fn a_request_crosses_and_both_ends_close_properly() {
        for carrier in BOTH {
            let (listener, address) = origin().await;
            let lab = lab(carrier, &address).await;
            let mut pipe = lab.relay.pipe().await;
            let serve = async {
                let (mut local, _) = listener.accept().await.unwrap();
                let mut request = [0; 7];
                local.read_exact(&mut request).await.unwrap();
                local.write_all(b"answer to ").await.unwrap();
                local.write_all(&request).await.unwrap();
            };
            let ((answer, proper), ()) = tokio::join!(exchange(&mut pipe, b"request"), serve);
            assert_eq!(answer, b"\0answer to request", "{carrier}");
            assert!(proper, "{carrier}: the end does not look like one");
        }
    }

    #[tokio::test]
    async fn an_origin_that_resets_is_never_a_proper_end() {
        for carrier in BOTH {
            let (listener, address) = origin().await;
            let lab = lab(carrier, &address).await;
            let mut pipe = lab.relay.pipe().await;
            let serve = async {
                let (mut local, _) = listener.accept().await.unwrap();
                local.read_exact(&mut [0; 7]).await.unwrap();
                local.write_all(b"half an ans").await.unwrap();
                local.set_zero_linger().unwrap();
            };
            let ((answer, proper), ()) = tokio::join!(exchange(&mut pipe, b"request"), serve);
            assert!(b"\0half an ans".starts_with(&answer), "{carrier}: {answer:?}");
            assert!(!proper, "{carrier}: a truncated answer looks complete");
        }
    }

    #[tokio::test]
    async fn a_visitor_who_leaves_lets_the_origin_go() {
        for carrier in BOTH {
            let (listener, address) = origin().await;
            let lab = lab(carrier, &address).await;
            let mut pipe = lab.relay.pipe().await;
            pipe.write_all(b"request").await.unwrap();
            pipe.flush().await.unwrap();
            let (mut local, _) = listener.accept().await.unwrap();
            local.read_exact(&mut [0; 7]).await.unwrap();
            drop(pipe);
            let end = timeout(SOON, local.read(&mut [0])).await.expect("the origin is held");
            assert_eq!(end.unwrap_or(0), 0, "{carrier}");
        }
    }

    #[tokio::test]
    async fn bulk_goes_both_ways_whole() {
        for carrier in BOTH {
            let (listener, address) = origin().await;
            let lab = lab(carrier, &address).await;
            let mut pipe = lab.relay.pipe().await;
            let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i % 253) as u8).collect();
            let echo = async {
                let (mut local, _) = listener.accept().await.unwrap();
                let (mut read, mut write) = local.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let (mut read, mut write) = tokio::io::split(&mut pipe);
            let mut back = Vec::new();
            let crossing = async {
                let (written, received, ()) = tokio::join!(
                    async {
                        write.write_all(&sent).await?;
                        write.shutdown().await
                    },
                    read.read_to_end(&mut back),
                    echo
                );
                (written.unwrap(), received.unwrap());
            };
            timeout(SOON, crossing).await.expect("bulk hangs");
            assert!(back[1..] == sent, "{carrier}");
        }
    }

    #[tokio::test]
    async fn a_target_that_is_down_is_told_and_the_tunnel_stays() {
        let (listener, address) = origin().await;
        drop(listener);
        let lab = lab(Carrier::Quic, &address).await;
        let (answer, _) = exchange(&mut lab.relay.pipe().await, b"request").await;
        assert_eq!(answer, [1]);
        assert!(lab.node.status().tunnels[0].online);
    }

    #[tokio::test]
    async fn files_are_served_and_a_pipe_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hello.txt"), "hello").unwrap();
        let lab = lab(Carrier::Tcp, folder.path().to_str().unwrap()).await;
        let get = "GET /hello.txt HTTP/1.1\r\nhost: web.tun.example\r\n\r\n";
        let last = "GET /hello.txt HTTP/1.1\r\nhost: web.tun.example\r\nconnection: close\r\n\r\n";
        let mut pipe = lab.relay.pipe().await;
        let (answer, proper) = exchange(&mut pipe, [get, last].concat().as_bytes()).await;
        let text = String::from_utf8(answer).unwrap();
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
        assert_eq!(text.matches("\r\n\r\nhello").count(), 2, "{text}");
        assert!(proper);
    }

    #[tokio::test]
    async fn pipes_are_bounded() {
        let (_listener, address) = origin().await;
        let two = |config: &mut Config| config.max_pipes = 2;
        let lab = lab_with(Manners::default(), Carrier::Tcp, &address, two).await;
        let mut held = [lab.relay.pipe().await, lab.relay.pipe().await];
        for pipe in &mut held {
            pipe.write_all(b"request").await.unwrap();
            pipe.flush().await.unwrap();
            assert_eq!(pipe.read_u8().await.unwrap(), 0);
        }
        let mut third = lab.relay.pipe().await;
        let (answer, proper) = exchange(&mut third, b"").await;
        assert_eq!((answer.as_slice(), proper), (b"".as_slice(), false));
    }

    #[tokio::test]
    async fn revocation_cuts_what_is_in_flight() {
        let (listener, address) = origin().await;
        let mut lab = lab(Carrier::Quic, &address).await;
        let mut pipe = lab.relay.pipe().await;
        pipe.write_all(b"request").await.unwrap();
        pipe.flush().await.unwrap();
        let (mut local, _) = listener.accept().await.unwrap();
        local.read_exact(&mut [0; 7]).await.unwrap();
        let (tunnel, message) = (TunnelId::from_bytes(TUNNEL), "revoked".to_owned());
        lab.relay.say(ToNode::Closed { tunnel, code: Code::KeyRevoked, message }).await;
        assert_eq!(closed(&mut lab.share).await.code, Some(Code::KeyRevoked));
        let end = timeout(SOON, local.read(&mut [0])).await.expect("the origin is held");
        assert_eq!(end.unwrap_or(0), 0);
    }
}

mod endings {
    use super::*;

    #[tokio::test]
    async fn dropping_a_share_gives_its_tunnel_back() {
        let mut lab = lab(Carrier::Quic, "3000").await;
        lab.relay.hear_registration().await;
        drop(lab.share);
        let tunnel = TunnelId::from_bytes(TUNNEL);
        assert_eq!(lab.relay.hear().await, ToRelay::Unregister { tunnel });
        let mut status = lab.node.watch_status();
        timeout(SOON, status.wait_for(|status| status.tunnels.is_empty())).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn shutdown_gives_everything_back_and_hangs_up() {
        for carrier in BOTH {
            let mut lab = lab(carrier, "3000").await;
            lab.relay.hear_registration().await;
            let begun = Instant::now();
            lab.node.shutdown(SOON).await;
            assert!(begun.elapsed() < Duration::from_secs(1), "nothing was under way: {:?}", begun.elapsed());
            let tunnel = TunnelId::from_bytes(TUNNEL);
            assert_eq!(lab.relay.hear().await, ToRelay::Unregister { tunnel });
            assert!(matches!(lab.relay.notice().await, Noticed::Gone));
            assert_eq!(closed(&mut lab.share).await, Closed::by_owner());
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
        let ((), (answer, proper), ()) =
            tokio::join!(lab.node.shutdown(SOON), exchange(&mut pipe, b""), work);
        assert_eq!(answer, b"\0late answer");
        assert!(proper);
    }

    #[tokio::test]
    async fn shutdown_does_not_wait_longer_than_it_was_given() {
        let (listener, address) = origin().await;
        let lab = lab(Carrier::Quic, &address).await;
        let mut pipe = lab.relay.pipe().await;
        pipe.write_all(b"request").await.unwrap();
        pipe.flush().await.unwrap();
        let (_local, _) = listener.accept().await.unwrap();
        let begun = Instant::now();
        lab.node.shutdown(Duration::from_millis(500)).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn dropping_the_node_ends_its_shares() {
        let mut lab = lab(Carrier::Tcp, "3000").await;
        drop(lab.node);
        while timeout(SOON, lab.share.next()).await.expect("the share goes on").is_some() {}
        while !matches!(lab.relay.notice().await, Noticed::Gone) {}
    }
}
