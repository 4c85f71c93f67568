use mytunnel_keys::id::TunnelKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::serve::tests::{Relay, TUNNEL, greeting, origin, pipe_with, service_of};

/// A pipe of a TCP tunnel to `target`.
fn pipe_to(target: &str) -> Relay {
    let relay = pipe_with(Patience::default());
    relay.table.insert(TUNNEL, service_of(TunnelKind::Tcp, target));
    relay
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let (listener, address) = origin().await;
    let mut relay = pipe_to(&address);
    relay.send(&TUNNEL).await;
    relay.send(&greeting(Transport::Stream)).await;
    let (mut local, _) = listener.accept().await.unwrap();
    local.write_all(b"220 ready").await.unwrap();
    assert_eq!(relay.status().await, PipeStatus::Connected as u8);
    let mut bytes = [0; 9];
    relay.pipe.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"220 ready");
    relay.send(b"HELO").await;
    let mut bytes = [0; 4];
    local.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"HELO", "the greeting is not for the target");
}

#[tokio::test]
async fn each_half_ends_on_its_own() {
    let (listener, address) = origin().await;
    let mut relay = pipe_to(&address);
    relay.send(&[TUNNEL.as_slice(), &greeting(Transport::Stream), b"question"].concat()).await;
    relay.pipe.shutdown().await.unwrap();
    let (mut local, _) = listener.accept().await.unwrap();
    let mut question = Vec::new();
    local.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    local.write_all(b"answer").await.unwrap();
    drop(local);
    assert_eq!(relay.status().await, PipeStatus::Connected as u8);
    let mut answer = Vec::new();
    relay.pipe.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer");
    assert!(relay.ended().await.is_ok());
}

#[tokio::test]
async fn a_greeting_may_come_in_pieces_and_may_be_for_the_target() {
    let (listener, address) = origin().await;
    let spec = crate::TunnelSpec {
        proxy_protocol: true,
        ..crate::TunnelSpec::new(
            "db".parse().unwrap(),
            TunnelKind::Tcp,
            crate::Target::parse(&address).unwrap(),
        )
    };
    let mut relay = pipe_with(Patience::default());
    relay.table.insert(TUNNEL, std::sync::Arc::new(crate::serve::table::Service::new(&spec).unwrap()));
    let greeting = greeting(Transport::Stream);
    relay.send(&TUNNEL).await;
    for byte in &greeting {
        relay.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    let (mut local, _) = listener.accept().await.unwrap();
    let mut bytes = vec![0; greeting.len()];
    local.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, greeting);
}

#[tokio::test]
async fn a_target_that_is_down_is_told_and_what_is_no_greeting_is_no_visitor() {
    let (listener, address) = origin().await;
    drop(listener);
    let mut relay = pipe_to(&address);
    relay.send(&[TUNNEL.as_slice(), &greeting(Transport::Stream)].concat()).await;
    assert_eq!(relay.status().await, PipeStatus::TargetUnreachable as u8);
    assert!(matches!(relay.ended().await, Err(PipeError::Target(_))));

    let (listener, address) = origin().await;
    for wrong in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), greeting(Transport::Datagrams)] {
        let mut relay = pipe_to(&address);
        relay.send(&[TUNNEL.as_slice(), &wrong].concat()).await;
        let mut rest = Vec::new();
        relay.pipe.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        assert!(matches!(relay.ended().await, Err(PipeError::Greeting(_))));
    }
    drop(listener);
}

#[tokio::test(start_paused = true)]
async fn a_greeting_that_never_ends_is_given_up() {
    let (_listener, address) = origin().await;
    let mut relay = pipe_to(&address);
    relay.send(&[TUNNEL.as_slice(), &greeting(Transport::Stream)[..20]].concat()).await;
    let mut rest = Vec::new();
    relay.pipe.read_to_end(&mut rest).await.unwrap();
    assert!(matches!(relay.ended().await, Err(PipeError::Idle)));
}
