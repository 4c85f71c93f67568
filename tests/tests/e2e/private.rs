//! Private shares: two nodes that no visitor reaches, through a relay that reads nothing.

use std::net::SocketAddr;
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

const SOON: Duration = Duration::from_secs(30);

/// Shares a target privately as the owner's device.
pub(crate) async fn share(lab: &Lab, arguments: &[&str]) -> Result<Running> {
    let mut all = arguments.to_vec();
    all.extend(["--private", "--name", "box", "--json"]);
    let mut node = lab.spawn(&all)?;
    let ready = node.event("ready").await?;
    ensure!(ready["kind"] == "private" && ready["url"].is_null(), "{ready}");
    ensure!(ready["access"] == "mytunnel access box", "{ready}");
    Ok(node)
}

/// Reaches it from a second node of the same person.
pub(crate) async fn access(lab: &Lab) -> Result<(Running, SocketAddr, Value)> {
    // Past the relay it would be: this is about the path through it.
    let mut node = lab.spawn(&["access", "box", "--no-direct", "--json"])?;
    let ready = node.event("ready").await?;
    let address = ready["bind"].as_str().context("an address")?.parse()?;
    Ok((node, address, ready))
}

/// Greets each visitor before it says anything, then sends everything back, each half ending on its own.
pub(crate) async fn echo() -> Result<(SocketAddr, JoinSet<()>)> {
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

/// Bytes that tell their place.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 19) as u8).collect()
}

/// Sends everything, and expects it back between the server's first and last word.
pub(crate) async fn round_trip(mut connection: TcpStream, sent: &[u8]) -> Result<()> {
    let (mut read, mut write) = connection.split();
    let mut received = Vec::new();
    let (written, read) = tokio::join!(
        async {
            write.write_all(sent).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut received),
    );
    written?;
    read?;
    let echoed = received.strip_prefix(b"welcome\n").and_then(|rest| rest.strip_suffix(b"goodbye\n"));
    let echoed = echoed.context("the server's first or last word is missing")?;
    ensure!(echoed == sent, "{} bytes came back of {}", echoed.len(), sent.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_reached_whole_in_both_directions() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let _sharer = share(&lab, &["share", &target.to_string()]).await?;
    let (_node, address, ready) = access(&lab).await?;
    ensure!(ready["path"] == "relayed" && ready["carries"] == "streams", "{ready}");
    let mut first = TcpStream::connect(address).await?;
    let mut welcome = [0; 8];
    timeout(SOON, first.read_exact(&mut welcome)).await.context("a server that speaks first is heard")??;
    let sent = bytes(64 << 20);
    timeout(4 * SOON, round_trip(TcpStream::connect(address).await?, &sent)).await??;
    let status = lab.run(&["status", "--json"]).await?.success()?.json()?;
    let peers = status["peers"].as_array().context("peers")?;
    ensure!(peers.len() == 2 && peers.iter().all(|peer| peer["path"] == "relayed"), "{status}");
    ensure!(peers.iter().all(|peer| peer["rtt_ms"].is_f64()), "both ends know the round trip: {status}");
    // No visitor gets anything, nor waits for it.
    ensure!(lab.get("box", "/").await?.0.status == 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_where_it_was_when_the_relay_is_killed_and_back() -> Result<()> {
    const HALF: usize = 16 << 20;
    let (mut lab, (target, _server)) = (lab().await?, echo().await?);
    let _sharer = share(&lab, &["share", &target.to_string()]).await?;
    let (mut node, address, _) = access(&lab).await?;
    let sent = bytes(2 * HALF);
    let (mut read, mut write) = TcpStream::connect(address).await?.into_split();
    let (half_way, mut is_half_way) = tokio::sync::watch::channel(false);
    let writing = async {
        write.write_all(&sent).await?;
        write.shutdown().await?;
        anyhow::Ok(())
    };
    let reading = async {
        let (mut received, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match read.read(&mut buffer).await? {
                0 => return anyhow::Ok(received),
                count => received.extend(&buffer[..count]),
            }
            half_way.send_if_modified(|half| !std::mem::replace(half, received.len() > HALF) && *half);
        }
    };
    let outage = async {
        is_half_way.wait_for(|half| *half).await?;
        lab.restart_relay().await?;
        anyhow::Ok(())
    };
    let (written, received, restarted) = timeout(6 * SOON, async { tokio::join!(writing, reading, outage) })
        .await
        .context("it stands still")?;
    restarted?;
    written?;
    let received = received?;
    let echoed = received.strip_prefix(b"welcome\n").and_then(|rest| rest.strip_suffix(b"goodbye\n"));
    ensure!(echoed == Some(&sent[..]), "{} bytes came", received.len());
    node.event("reconnecting").await?;
    node.event("ready").await?;
    Ok(())
}

#[tokio::test]
async fn datagrams_go_both_ways_for_each_sender_on_its_own() -> Result<()> {
    let (lab, server) = (lab().await?, UdpSocket::bind("127.0.0.1:0").await?);
    let _sharer = share(&lab, &["udp", &server.local_addr()?.to_string()]).await?;
    let (_node, address, ready) = access(&lab).await?;
    ensure!(ready["carries"] == "datagrams", "{ready}");
    let answering = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = server.recv_from(&mut buffer).await?;
            let mut answer = buffer[..length].to_vec();
            answer.reverse();
            server.send_to(&answer, from).await?;
        }
        #[expect(unreachable_code, reason = "it says what may go wrong before")]
        anyhow::Ok(())
    };
    let asking = async {
        for number in 0..3u8 {
            let sender = UdpSocket::bind("127.0.0.1:0").await?;
            sender.connect(address).await?;
            for length in [0, 1, 1400, 40_000] {
                let sent: Vec<u8> = (0..length).map(|at| at as u8 ^ number).collect();
                sender.send(&sent).await?;
                let mut buffer = vec![0; 65_536];
                let length = timeout(SOON, sender.recv(&mut buffer)).await.context("no answer")??;
                ensure!(buffer[..length].iter().rev().eq(&sent), "{length} of {}", sent.len());
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        asked = asking => asked,
        answered = answering => answered,
    }
}

#[tokio::test]
async fn a_folder_is_a_web_site_on_the_other_machine() -> Result<()> {
    let lab = lab().await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("page.txt"), "for my machines only")?;
    let _sharer = share(&lab, &["share", folder.to_str().context("a path in UTF-8")?]).await?;
    let (_node, address, ready) = access(&lab).await?;
    ensure!(ready["carries"] == "web", "{ready}");
    let mut visitor = mytunnel_tests::wire::Connection::open(address).await?;
    let request = format!("GET /page.txt HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let (head, body) = timeout(SOON, visitor.exchange(request.as_bytes())).await??;
    ensure!(head.status == 200 && body == b"for my machines only", "{}", head.text);
    Ok(())
}

#[tokio::test]
async fn standard_input_and_output_carry_one_connection_and_nothing_else() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let _sharer = share(&lab, &["share", &target.to_string()]).await?;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
    let mut command = tokio::process::Command::new(program);
    command.args(["access", "box", "--stdio"]).env("MYTUNNEL_CONFIG_DIR", lab.path("config"));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (mut input, mut output) =
        (child.stdin.take().context("piped")?, child.stdout.take().context("piped")?);
    let sent = bytes(3 << 20);
    let mut received = Vec::new();
    let (written, read) = timeout(2 * SOON, async {
        tokio::join!(
            async {
                input.write_all(&sent).await?;
                input.shutdown().await?;
                drop(input);
                anyhow::Ok(())
            },
            output.read_to_end(&mut received),
        )
    })
    .await?;
    written?;
    read?;
    let echoed = received.strip_prefix(b"welcome\n").and_then(|rest| rest.strip_suffix(b"goodbye\n"));
    ensure!(echoed == Some(&sent[..]), "{} bytes came", received.len());
    ensure!(timeout(SOON, child.wait()).await??.success());
    Ok(())
}

#[tokio::test]
async fn ssh_sees_the_end_of_a_server_that_ends_first() -> Result<()> {
    let (lab, listener) = (lab().await?, TcpListener::bind("127.0.0.1:0").await?);
    let _sharer = share(&lab, &["share", &listener.local_addr()?.to_string()]).await?;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
    let mut command = tokio::process::Command::new(program);
    command.args(["access", "box", "--stdio"]).env("MYTUNNEL_CONFIG_DIR", lab.path("config"));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (mut input, mut output) =
        (child.stdin.take().context("piped")?, child.stdout.take().context("piped")?);
    input.write_all(b"hello").await?;
    let mut hello = [0; 5];
    let mut server = loop {
        let mut visitor = timeout(SOON, listener.accept()).await??.0;
        // Who shares looks first whether the server is there.
        if timeout(SOON, visitor.read_exact(&mut hello)).await?.is_ok() {
            break visitor;
        }
    };
    server.write_all(b"bye").await?;
    server.shutdown().await?;
    let mut received = Vec::new();
    // The input is open: it is the output that has to end.
    timeout(SOON, output.read_to_end(&mut received)).await.context("the end is not passed on")??;
    ensure!(received == b"bye", "{received:?}");
    // What is said after it still arrives.
    input.write_all(b"more").await?;
    drop(input);
    let mut rest = Vec::new();
    timeout(SOON, server.read_to_end(&mut rest)).await??;
    ensure!(rest == b"more", "{rest:?}");
    ensure!(timeout(SOON, child.wait()).await??.success());
    Ok(())
}

/// The last line of a command that must fail, and its exit code.
pub(crate) async fn refused(
    lab: &Lab,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<(Value, i32)> {
    let ended = lab.run_with(arguments, environment).await?;
    let error = ended.stdout.lines().last().context("an error")?;
    Ok((serde_json::from_str(error)?, ended.code.context("an exit code")?))
}

#[tokio::test]
async fn who_may_not_reach_it_is_told_why() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let reach = ["access", "box", "--json"];
    let (error, code) = refused(&lab, &reach, &[]).await?;
    ensure!(error["code"] == "NOT_FOUND" && code == 1, "{error}");
    let _sharer = share(&lab, &["share", &target.to_string()]).await?;
    let (error, code) =
        refused(&lab, &reach, &[("MTK_MASTER", &lab.master), ("MYTUNNEL_AUTH_TOKEN", &lab.master)]).await?;
    ensure!(error["code"] == "MASTER_CANNOT_ACT" && code == 4, "{error}");
    // The sharer's project is the account's own; this key is for another one.
    let other = lab.mint(&["--ttl", "1h"]).await?;
    let token = other["token"].as_str().context("a token")?;
    let (error, code) = refused(&lab, &reach, &[("MYTUNNEL_AUTH_TOKEN", token)]).await?;
    ensure!(error["code"] == "PROJECT_MISMATCH" && code == 4, "{error}");
    let narrow = lab.mint(&["--scope", "http,tcp"]).await?;
    let token = narrow["token"].as_str().context("a token")?;
    let (error, code) = refused(&lab, &reach, &[("MYTUNNEL_AUTH_TOKEN", token)]).await?;
    ensure!(error["code"] == "SCOPE_DENIED" && code == 4, "{error}");
    let gated = lab.run(&["share", "3000", "--private", "--pin", "--json"]).await?;
    ensure!(gated.code == Some(2), "a private share has no visitors to ask");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_revoked_is_cut_off() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let target = target.to_string();
    let keys = [lab.mint(&["--ttl", "1h"]).await?, lab.mint(&["--ttl", "1h"]).await?];
    let tokens = keys.each_ref().map(|key| key["token"].as_str().unwrap_or_default());
    let sharing = ["share", &target, "--private", "--name", "box", "--json"];
    let mut sharer = lab.spawn_with(&sharing, &[("MYTUNNEL_AUTH_TOKEN", tokens[0])])?;
    sharer.event("ready").await?;
    let mut node = lab.spawn_with(&["access", "box", "--json"], &[("MYTUNNEL_AUTH_TOKEN", tokens[1])])?;
    let ready = node.event("ready").await?;
    let address: SocketAddr = ready["bind"].as_str().context("an address")?.parse()?;
    let mut connection = TcpStream::connect(address).await?;
    let mut welcome = [0; 8];
    timeout(SOON, connection.read_exact(&mut welcome)).await??;
    lab.run(&["keys", "revoke", keys[1]["serial"].as_str().context("a serial")?]).await?.success()?;
    let closed = node.event("closed").await?;
    ensure!(closed["code"] == "KEY_REVOKED", "{closed}");
    let mut rest = Vec::new();
    ensure!(timeout(SOON, connection.read_to_end(&mut rest)).await?.is_err(), "it looks whole");
    let ended = node.ended().await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    Ok(())
}
