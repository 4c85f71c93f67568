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
            written.unwrap();
            received.unwrap();
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
