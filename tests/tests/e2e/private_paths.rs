//! A private share of nodes that are at two relays: whichever dies, what is open goes on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::process::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::apart::{ANY, owned, relay_beside};
use crate::private::{access, bytes, echo, share};

/// The longest that a transfer may stand still.
const PAUSE: Duration = Duration::from_secs(2);

/// What the server of these tests says before it sends everything back, and after.
const WELCOME: &[u8] = b"welcome\n";
const GOODBYE: &[u8] = b"goodbye\n";

/// Waits until both ends of the private share have a path through each of the two relays.
async fn both_paths(lab: &Lab) -> Result<()> {
    let until = async {
        loop {
            let status = lab.run(&["status", "--json"]).await?.success()?.json()?;
            let peers = status["peers"].as_array().context("peers")?;
            if peers.iter().filter(|peer| peer["paths"] == 2).count() == 2 {
                return anyhow::Ok(());
            }
        }
    };
    timeout(PATIENCE, until).await.context("no second path")?
}

/// Sends one piece after the other until `is_enough`, and answers with how often.
async fn send(
    mut write: impl AsyncWriteExt + Unpin,
    piece: &[u8],
    is_enough: watch::Receiver<bool>,
) -> Result<usize> {
    let mut sent = 0;
    while !*is_enough.borrow() {
        write.write_all(piece).await?;
        sent += 1;
    }
    write.shutdown().await?;
    Ok(sent)
}

/// Reads to the end, and checks every byte: how often the piece came, and the longest time in which nothing did.
async fn receive(mut read: impl AsyncReadExt + Unpin, piece: &[u8]) -> Result<(usize, Duration)> {
    let mut welcome = [0; WELCOME.len()];
    read.read_exact(&mut welcome).await?;
    ensure!(welcome == WELCOME);
    let (mut pieces, mut held, mut longest) = (0, Vec::new(), Duration::ZERO);
    loop {
        let asked = Instant::now();
        let count = read.read_buf(&mut held).await?;
        longest = longest.max(asked.elapsed());
        while held.len() >= piece.len() {
            ensure!(held.starts_with(piece), "piece {pieces} is not what was sent");
            held.drain(..piece.len());
            pieces += 1;
        }
        match count {
            0 if held == GOODBYE => return Ok((pieces, longest)),
            0 => bail!("it ends with {} bytes after {pieces} pieces", held.len()),
            _ => {}
        }
    }
}

/// A transfer both ways that runs for as long as `faults` do.
async fn transfer(address: SocketAddr, faults: impl Future<Output = Result<()>>) -> Result<Duration> {
    let (read, write) = TcpStream::connect(address).await?.into_split();
    let piece = bytes(256 << 10);
    let (enough, is_enough) = watch::channel(false);
    let faults = async {
        let done = faults.await;
        enough.send_replace(true);
        done
    };
    let (sent, received, done) = tokio::join!(send(write, &piece, is_enough), receive(read, &piece), faults);
    done?;
    let (sent, (received, longest)) = (sent?, received?);
    ensure!(sent == received, "{received} pieces of {sent} came back");
    Ok(longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_transfer_goes_on_at_once_whichever_of_two_relays_dies() -> Result<()> {
    let (mut lab, _coordinator, url, join) = owned().await?;
    lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    let (second, _) = relay_beside(&lab, &url).await?;
    let (target, _server) = echo().await?;
    let mut sharer = share(&lab, &["share", &target.to_string()]).await?;
    let (mut node, address, _) = access(&lab).await?;
    both_paths(&lab).await?;
    let first = lab.listen_addresses()?;
    let faults = async {
        lab.kill_relay().await?;
        lab.start_relay_with(&first, &["--coordinator", &url]).await?;
        both_paths(&lab).await?;
        second.kill().await
    };
    let longest = timeout(8 * PATIENCE, transfer(address, faults)).await.context("it stands still")??;
    eprintln!("longest pause: {longest:?}");
    ensure!(longest < PAUSE, "nothing came for {longest:?}");
    // Nobody is told of anything but of other paths.
    lab.kill_relay().await?;
    for process in [&mut sharer, &mut node] {
        let mut told = Vec::new();
        loop {
            let line = process.line().await?;
            let event: serde_json::Value = serde_json::from_str(&line)?;
            if event["event"] == "reconnecting" {
                break;
            }
            told.push(event);
        }
        ensure!(told.iter().all(|event| event["event"] == "path"), "{told:?}");
    }
    Ok(())
}
