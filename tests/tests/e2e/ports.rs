//! TCP and UDP tunnels, as their visitors meet them at a port of the relay.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::process::Running;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lab;

const SOON: Duration = Duration::from_secs(20);

/// Shares a port, and says where visitors reach it.
async fn share(lab: &Lab, kind: &str, target: SocketAddr, more: &[&str]) -> Result<(Running, SocketAddr)> {
    let target = target.to_string();
    let mut arguments = vec![kind, &target, "--json"];
    arguments.extend(more);
    let mut node = lab.spawn(&arguments)?;
    let ready = node.event("ready").await?;
    ensure!(ready["kind"] == kind && ready["target"] == target.as_str(), "{ready}");
    Ok((node, address(&ready)?))
}

/// `tcp://localhost:20000` as an address.
fn address(ready: &Value) -> Result<SocketAddr> {
    let url = ready["url"].as_str().context("a URL")?;
    let (_, place) = url.split_once("://").context("a scheme")?;
    Ok(place.replace("localhost", "127.0.0.1").parse()?)
}

/// Greets each visitor before it says anything, then sends everything back, each half ending on its own.
async fn echo() -> Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut visitors = JoinSet::new();
        while let Ok((mut visitor, _)) = listener.accept().await {
            visitors.spawn(async move {
                let (mut read, mut write) = visitor.split();
                let _ = write.write_all(b"welcome\n").await;
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.write_all(b"goodbye\n").await;
                let _ = write.shutdown().await;
            });
        }
    });
    Ok((address, tasks))
}

/// All at once, each to a good end.
async fn all(visits: impl Iterator<Item = impl Future<Output = Result<()>> + Send + 'static>) -> Result<()> {
    let mut visits: JoinSet<_> = visits.collect();
    while let Some(visit) = timeout(4 * SOON, visits.join_next()).await? {
        visit??;
    }
    Ok(())
}

async fn welcome(visitor: &mut TcpStream) -> Result<()> {
    let mut line = [0; 8];
    timeout(SOON, visitor.read_exact(&mut line)).await.context("no welcome in time")??;
    ensure!(&line == b"welcome\n", "{line:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_tunnel_carries_bytes_both_ways_whole_and_ends_each_way_on_its_own() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let (_node, address) = share(&lab, "tcp", target, &[]).await?;
    let visits = (0..4u8).map(|number| async move {
        let mut visitor = TcpStream::connect(address).await?;
        welcome(&mut visitor).await?;
        let sent: Vec<u8> =
            (0..8_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ number).collect();
        let (mut read, mut write) = visitor.split();
        let mut received = Vec::new();
        let (written, read) = tokio::join!(
            async {
                write.write_all(&sent).await?;
                write.shutdown().await
            },
            read.read_to_end(&mut received),
        );
        written?;
        read?;
        let echoed = received.strip_suffix(b"goodbye\n").context("the server's last word is missing")?;
        ensure!(echoed == sent, "{} bytes came back of {}", echoed.len(), sent.len());
        anyhow::Ok(())
    });
    all(visits).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_on_a_port_when_the_relay_is_stopped_comes_to_its_end_and_nobody_new_comes_in()
-> Result<()> {
    let mut lab = lab().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (_node, address) = share(&lab, "tcp", listener.local_addr()?, &[]).await?;
    let come_in = async || {
        let mut visitor = TcpStream::connect(address).await?;
        visitor.write_all(b"?").await?;
        loop {
            let (mut server, _) = listener.accept().await?;
            // Whoever says nothing only looks whether somebody is there.
            if server.read_u8().await.is_ok() {
                server.write_all(b"!").await?;
                visitor.read_u8().await?;
                return anyhow::Ok((visitor, server));
            }
        }
    };
    let (mut idle, _silent) = timeout(SOON, come_in()).await.context("the first")??;
    let (mut visitor, mut server) = timeout(SOON, come_in()).await.context("the second")??;

    let relay = lab.relay.take().context("a relay")?;
    let mut stopped = JoinSet::new();
    stopped.spawn(relay.terminate());
    // From when nobody new comes in, it is stopping.
    let is_shut = AtomicBool::new(false);
    let knock = async {
        while let Ok(mut other) = TcpStream::connect(address).await {
            let _ = timeout(Duration::from_millis(100), other.read_u8()).await;
        }
        is_shut.store(true, Ordering::SeqCst);
    };
    let send = async {
        let mut sent = 0;
        while !is_shut.load(Ordering::SeqCst) {
            server.write_all(&[1; 1000]).await?;
            sent += 1000;
        }
        server.write_all(&[1; 100_000]).await?;
        server.shutdown().await?;
        anyhow::Ok(sent + 100_000)
    };
    let take = async {
        let (mut taken, mut chunk) = (0, vec![0; 64 * 1024]);
        while let read @ 1.. = visitor.read(&mut chunk).await? {
            taken += read;
        }
        anyhow::Ok(taken)
    };
    let moved = async { tokio::join!(knock, send, take) };
    let ((), sent, taken) = timeout(2 * SOON, moved).await.context("the port is still open")?;
    let (sent, taken) = (sent?, taken?);
    ensure!(taken == sent, "{taken} bytes came of {sent}");
    visitor.shutdown().await?;
    drop((visitor, server));
    // What is quiet has no end to wait for.
    let cut = timeout(SOON, idle.read(&mut [0])).await?;
    ensure!(cut.is_err(), "{cut:?}");
    let ended = timeout(SOON, stopped.join_next()).await?.context("it was spawned")???;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(())
}

/// Its sender may be made up.
#[tokio::test]
async fn one_datagram_does_not_make_a_udp_port_flood_whom_it_names() -> Result<()> {
    let lab = lab().await?;
    let server = UdpSocket::bind("127.0.0.1:0").await?;
    let (_node, address) = share(&lab, "udp", server.local_addr()?, &[]).await?;
    let visitor = UdpSocket::bind("127.0.0.1:0").await?;
    visitor.connect(address).await?;
    let mut buffer = [0; 2000];
    visitor.send(b"?").await?;
    let (_, node) = timeout(SOON, server.recv_from(&mut buffer)).await??;
    for _ in 0..50 {
        server.send_to(&[b'a'; 1000], node).await?;
    }
    // For a small one there is room, and it comes after the others.
    let (mut taken, mut is_last) = (0, false);
    while !is_last {
        server.send_to(b"z", node).await?;
        while let Ok(length) = timeout(Duration::from_millis(500), visitor.recv(&mut buffer)).await {
            taken += length?;
            is_last |= buffer[0] == b'z';
        }
    }
    ensure!(taken <= 4096, "{taken} bytes came for one");
    // It goes on after an answer: each datagram pays for as much as an acknowledgement of QUIC does, and for no more.
    let (mut paid, mut came, mut free) = (4096, 0, 0);
    while free < 50 {
        visitor.send(b"!").await?;
        timeout(SOON, server.recv_from(&mut buffer)).await??;
        paid += 256 * (28 + 1);
        for _ in 0..30 {
            server.send_to(&[b'b'; 1000], node).await?;
        }
        while let Ok(length) = timeout(Duration::from_millis(100), visitor.recv(&mut buffer)).await {
            came += 28 + length?;
            free += usize::from(buffer[0] == b'b');
        }
        ensure!(came <= paid, "{came} bytes came, {paid} were paid for");
    }
    Ok(())
}

#[tokio::test]
async fn a_target_that_is_down_or_breaks_off_is_a_reset_and_no_end() -> Result<()> {
    let lab = lab().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (_node, address) = share(&lab, "tcp", listener.local_addr()?, &[]).await?;
    let breaks_off = async {
        loop {
            let (mut served, _) = listener.accept().await?;
            // Whoever says nothing only looks whether somebody is there.
            if served.read_u8().await.is_ok() {
                served.write_all(b"half").await?;
                served.read_u8().await?;
                return served.set_zero_linger();
            }
        }
    };
    let visits = async {
        let mut visitor = TcpStream::connect(address).await?;
        visitor.write_all(b"?").await?;
        let mut half = [0; 4];
        visitor.read_exact(&mut half).await?;
        visitor.write_all(b"!").await?;
        let mut rest = Vec::new();
        ensure!(visitor.read_to_end(&mut rest).await.is_err(), "it looks whole");
        anyhow::Ok(())
    };
    let (served, visited) = timeout(SOON, async { tokio::join!(breaks_off, visits) }).await?;
    served?;
    visited?;

    drop(listener);
    let mut rest = Vec::new();
    let mut visitor = TcpStream::connect(address).await?;
    ensure!(timeout(SOON, visitor.read_to_end(&mut rest)).await?.is_err(), "it looks whole");
    ensure!(rest.is_empty(), "{rest:?}");
    Ok(())
}

#[tokio::test]
async fn a_port_is_the_same_after_every_restart_and_can_be_chosen() -> Result<()> {
    let (mut lab, (target, _server)) = (lab().await?, echo().await?);
    let (node, address) = share(&lab, "tcp", target, &["--name", "db"]).await?;
    node.kill().await?;
    let (mut node, again) = share(&lab, "tcp", target, &["--name", "db"]).await?;
    ensure!(again == address, "{again} after {address}");
    lab.restart_relay().await?;
    node.event("reconnecting").await?;
    node.event("ready").await?;
    welcome(&mut TcpStream::connect(address).await?).await?;

    let port = address.port().to_string();
    let taken = ["tcp", &target.to_string(), "--name", "other", "--remote-port", &port, "--json"];
    let ended = lab.run(&taken).await?;
    ensure!((ended.json()?["code"].as_str(), ended.code) == (Some("NAME_TAKEN"), Some(4)), "{ended:?}");
    let far = ["tcp", &target.to_string(), "--name", "other", "--remote-port", "80", "--json"];
    let ended = lab.run(&far).await?;
    let message = ended.json()?["message"].to_string();
    ensure!(message.contains("20000-29999"), "{message}");
    node.terminate().await?;
    let (_chosen, chosen) = share(&lab, "tcp", target, &["--name", "db", "--remote-port", &port]).await?;
    ensure!(chosen == address);
    Ok(())
}

/// Waits until nobody listens there: who is inside is cut first.
async fn until_closed(port: SocketAddr) -> Result<()> {
    let closed = async { while TcpStream::connect(port).await.is_ok() {} };
    timeout(SOON, closed).await.context("the port is still open")
}

#[tokio::test]
async fn a_revoked_key_cuts_the_connections_of_its_port() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let token = child["token"].as_str().context("token")?;
    let target = target.to_string();
    let mut node = lab.spawn_with(&["tcp", &target, "--json"], &[("MYTUNNEL_AUTH_TOKEN", token)])?;
    let address = address(&node.event("ready").await?)?;
    let mut visitor = TcpStream::connect(address).await?;
    welcome(&mut visitor).await?;
    lab.run(&["keys", "revoke", token, "--json"]).await?.success()?;
    let mut rest = Vec::new();
    ensure!(timeout(SOON, visitor.read_to_end(&mut rest)).await?.is_err(), "it looks whole");
    until_closed(address).await?;
    let ended = node.ended().await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    Ok(())
}

/// Whether a connection is reset before a word of the server.
async fn is_turned_away(visitor: &mut TcpStream) -> Result<bool> {
    let mut heard = Vec::new();
    let ended = timeout(SOON, visitor.read_to_end(&mut heard)).await.context("an end in time")?;
    Ok(ended.is_err() && heard.is_empty())
}

/// Whether a port has nothing for a visitor who comes now. The reset may be there before connecting has returned.
async fn turns_away(port: SocketAddr) -> Result<bool> {
    match TcpStream::connect(port).await {
        Ok(mut visitor) => is_turned_away(&mut visitor).await,
        Err(error) => Ok(error.kind() == std::io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn a_tcp_port_looks_where_visitors_come_from_and_takes_no_gate_that_it_cannot_ask_for() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let (_node, address) = share(&lab, "tcp", target, &["--name", "db", "--deny-ip", "127.0.0.1"]).await?;
    ensure!(turns_away(address).await?);
    lab.run(&["tunnels", "ip", "db", "--off"]).await?.success()?;
    let mut inside = TcpStream::connect(address).await?;
    welcome(&mut inside).await?;
    lab.run(&["tunnels", "ip", "db", "--allow", "192.0.2.0/24"]).await?.success()?;
    ensure!(is_turned_away(&mut inside).await?, "who was inside is cut");
    ensure!(turns_away(address).await?);
    lab.run(&["tunnels", "ip", "db", "--allow", "127.0.0.0/8"]).await?.success()?;

    let pin = ["tunnels", "pin", "db", "--json"];
    let password = ["tunnels", "auth", "db", "--user", "ann", "--password", "correct horse", "--json"];
    let sign_in = ["tunnels", "edge-auth", "db", "--google", "--json"];
    for gate in [&pin[..], &["tunnels", "bearer", "db", "--json"], &password, &sign_in] {
        let refused = lab.run(gate).await?;
        let told = refused.json()?;
        ensure!(told["code"] == "BAD_REQUEST" && refused.code != Some(0), "{told}");
        ensure!(told["message"].as_str().is_some_and(|text| text.contains("tcp tunnel")), "{told}");
    }
    let flag = lab.run(&["tcp", "5432", "--pin"]).await?;
    ensure!(flag.code == Some(2), "{flag:?}");
    welcome(&mut TcpStream::connect(address).await?).await
}

/// Where datagrams come from that reach a server, which sends each back.
async fn echo_datagrams() -> Result<(SocketAddr, JoinSet<()>, std::sync::Arc<std::sync::Mutex<Vec<u8>>>)> {
    let server = UdpSocket::bind("127.0.0.1:0").await?;
    let (address, heard) = (server.local_addr()?, std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default());
    let (mut tasks, noted) = (JoinSet::new(), std::sync::Arc::clone(&heard));
    tasks.spawn(async move {
        let mut byte = [0; 1];
        while let Ok((_, from)) = server.recv_from(&mut byte).await {
            noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(byte[0]);
            let _ = server.send_to(&byte, from).await;
        }
    });
    Ok((address, tasks, heard))
}

/// Asks until an answer comes: datagrams may be lost anywhere, and who was turned away is heard again after a while.
async fn answered(visitor: &UdpSocket, word: u8) -> Result<()> {
    let asked = async {
        loop {
            visitor.send(&[word]).await?;
            let mut byte = [0; 1];
            if timeout(Duration::from_millis(500), visitor.recv(&mut byte))
                .await
                .is_ok_and(|heard| heard.is_ok())
                && byte == [word]
            {
                return anyhow::Ok(());
            }
        }
    };
    timeout(SOON, asked).await.context("no answer")?
}

#[tokio::test]
async fn a_udp_port_looks_where_visitors_come_from_and_cuts_who_is_inside() -> Result<()> {
    let (lab, (target, _server, heard)) = (lab().await?, echo_datagrams().await?);
    let (_node, address) = share(&lab, "udp", target, &["--name", "names", "--deny-ip", "127.0.0.9"]).await?;
    let visitor = async |from: &str| {
        let socket = UdpSocket::bind((from, 0)).await?;
        socket.connect(address).await?;
        anyhow::Ok(socket)
    };
    let (one, nine) = (visitor("127.0.0.1").await?, visitor("127.0.0.9").await?);
    let reached = |word| heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(&word);
    for _ in 0..5 {
        nine.send(b"9").await?;
        answered(&one, b'1').await?;
    }
    ensure!(!reached(b'9'), "who is denied reaches the server");

    // The other way round: who is inside is cut when the command returns.
    lab.run(&["tunnels", "ip", "names", "--deny", "127.0.0.1"]).await?.success()?;
    for _ in 0..5 {
        one.send(b"x").await?;
        answered(&nine, b'2').await?;
    }
    ensure!(!reached(b'x'), "who was inside stays");
    let refused = lab.run(&["tunnels", "pin", "names", "--json"]).await?.json()?;
    ensure!(refused["code"] == "BAD_REQUEST", "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_key_without_the_scope_gets_no_port() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&["--scope", "http"]).await?;
    let token = child["token"].as_str().context("token")?;
    for kind in ["tcp", "udp"] {
        let ended = lab.run_with(&[kind, "5432", "--json"], &[("MYTUNNEL_AUTH_TOKEN", token)]).await?;
        ensure!((ended.json()?["code"].as_str(), ended.code) == (Some("SCOPE_DENIED"), Some(4)), "{ended:?}");
    }
    for wrong in [["tcp", "."], ["udp", "unix:/run/x"], ["tcp", "http"]] {
        let ended = lab.run(&[wrong[0], wrong[1], "--json"]).await?;
        ensure!(ended.code != Some(0), "{ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn datagrams_find_their_way_to_each_visitor_of_a_udp_tunnel() -> Result<()> {
    let lab = lab().await?;
    let server = UdpSocket::bind("127.0.0.1:0").await?;
    let (_node, address) = share(&lab, "udp", server.local_addr()?, &[]).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut bytes).await {
            let _ = server.send_to(bytes.get(..length).unwrap_or_default(), from).await;
        }
    });
    let visits = (0..8u8).map(|number| async move {
        let visitor = UdpSocket::bind("127.0.0.1:0").await?;
        visitor.connect(address).await?;
        let mut answer = vec![0; 65_536];
        for length in [1, 1200, 9000] {
            let sent = vec![number; length];
            // Datagrams may be lost anywhere: it is asked again.
            let asked = async {
                loop {
                    visitor.send(&sent).await?;
                    let heard = timeout(Duration::from_secs(2), visitor.recv(&mut answer)).await;
                    match heard {
                        Ok(Ok(length)) if answer.get(..length) == Some(&sent) => return anyhow::Ok(()),
                        Ok(_) | Err(_) => {}
                    }
                }
            };
            timeout(SOON, asked).await.context("no answer")??;
        }
        anyhow::Ok(())
    });
    all(visits).await
}

/// Sets an end that comes soon, for a tunnel that the coordinator knows soon after it is up; its node is told by the relay alone.
async fn end_soon(lab: &Lab, name: &str) -> Result<()> {
    let set = async {
        while lab.run(&["tunnels", "expire", name, "--in", "5s", "--json"]).await?.code != Some(0) {}
        anyhow::Ok(())
    };
    timeout(SOON, set).await.context("an end that is set")?
}

#[tokio::test]
async fn the_end_of_a_tcp_tunnel_cuts_the_connections_of_its_port() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let (_node, address) = share(&lab, "tcp", target, &["--name", "db"]).await?;
    let mut visitor = TcpStream::connect(address).await?;
    welcome(&mut visitor).await?;
    end_soon(&lab, "db").await?;
    visitor.write_all(b"still here").await?;
    let mut rest = Vec::new();
    let ended = timeout(SOON, visitor.read_to_end(&mut rest)).await.context("it stands")?;
    ensure!(ended.is_err(), "it looks whole");
    ensure!(rest == b"still here", "served until its end, and no longer: {rest:?}");
    until_closed(address).await
}

#[tokio::test]
async fn the_end_of_a_udp_tunnel_cuts_who_is_inside() -> Result<()> {
    let (lab, (target, _server, heard)) = (lab().await?, echo_datagrams().await?);
    let (_node, address) = share(&lab, "udp", target, &["--name", "names"]).await?;
    let visitor = UdpSocket::bind("127.0.0.1:0").await?;
    visitor.connect(address).await?;
    end_soon(&lab, "names").await?;
    answered(&visitor, b'1').await?;
    // The system says so when nobody has the port.
    let closed = async { while visitor.send(b"2").await.is_ok() && recv(&visitor).await {} };
    timeout(SOON, closed).await.context("the port is still open")?;
    let seen = || heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).len();
    let before = seen();
    for _ in 0..20 {
        let _ = visitor.send(b"3").await;
        ensure!(!recv(&visitor).await, "somebody has the port");
    }
    ensure!(seen() == before, "who was inside is still led to the server");
    Ok(())
}

/// Whether nothing says that nobody is there, for a moment.
async fn recv(visitor: &UdpSocket) -> bool {
    !matches!(timeout(Duration::from_millis(500), visitor.recv(&mut [0; 1])).await, Ok(Err(_)))
}
