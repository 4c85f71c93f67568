//! Very many strangers at once.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use mytunnel_carrier::address;
use mytunnel_pairing::Link;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    FLOOD,
    agent::{Agent, SOON, link},
    dice::Dice,
    proof::hello,
    stranger::{Stranger, framed},
};

/// The bound of a join, whoever else knocks.
const JOINING: Duration = Duration::from_secs(5);
/// Attempts in a second, while somebody joins.
const RATE: f64 = 1_000.0;
/// How long the crowd may take to be as many.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of one key; a third of them is what it may in a minute.
const TRIES: usize = 30;
/// Of so many keys all tries are heard out at once.
const AT_ONCE: usize = 16;
/// So many join while they are.
const JOINS: usize = 10;
/// Rounds of joins that may be spoilt by a machine that stands still for a while.
const ROUNDS: usize = 3;
const IDLERS: usize = 300;
/// How many of them stand there at any time: the daemon ends each after some seconds, and it comes again.
const STANDING: usize = 250;

/// Connects and says nothing, again and again.
async fn idle(door: SocketAddr, standing: &watch::Sender<usize>) -> Result<()> {
    loop {
        let mut stream = TcpStream::connect(door).await?;
        standing.send_modify(|count| *count += 1);
        // Whatever it says at first, and its end.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        standing.send_modify(|count| *count -= 1);
    }
}

/// Comes again and again with a new key, tries more often than that may, and counts. Of many who try at once the daemon hears
/// out the newest.
async fn try_without_end(link: &Link, number: usize, tried: &watch::Sender<usize>) -> Result<()> {
    let mut dice = Dice::new(1 << 60 | number as u64);
    loop {
        let stranger = Stranger::connect(link, dice.array()).await?;
        let sent = (0..TRIES).map(|_| [framed(&hello(dice.array())), framed(&dice.bytes(48))].concat());
        let sent: Vec<_> = sent.collect();
        try_join_all(sent.iter().map(async |sent| {
            let answer = stranger.ask(sent).await?;
            ensure!(answer.is_refusal() || answer.bytes.is_empty(), "{answer:?}");
            tried.send_modify(|count| *count += 1);
            Ok(())
        }))
        .await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_bad_attempts_a_second_and_three_hundred_idlers_keep_nobody_out() -> Result<()> {
    let _flood = FLOOD.lock().await;
    let host = Agent::start().await?;
    let (_, invites) = host.open(&[]).await?;
    let link = link(&invites[0])?;
    let door = door(&link)?;
    let (standing, mut stand) = watch::channel(0);
    let idlers = try_join_all((0..IDLERS).map(|_| idle(door, &standing)));
    let (tried, mut count) = watch::channel(0);
    let crowd = try_join_all((0..AT_ONCE).map(|number| try_without_end(&link, number, &tried)));
    let join = async {
        // They are in full swing.
        timeout(SOON, count.wait_for(|count| *count >= 1_000)).await??;
        let (start, mut spoilt) = (Instant::now(), 0);
        // A machine that has other things to do may be too slow for the crowd at first.
        while start.elapsed() < PATIENCE {
            timeout(SOON, stand.wait_for(|standing| *standing >= STANDING)).await??;
            let (before, began, mut slowest) = (*tried.borrow(), Instant::now(), Duration::ZERO);
            for _ in 0..JOINS {
                slowest = slowest.max(a_guest_joins(&host).await?);
            }
            let rate = (*tried.borrow() - before) as f64 / began.elapsed().as_secs_f64();
            let idle = *standing.borrow();
            writeln!(
                std::io::stdout(),
                "{JOINS} joined beside {rate:.0} attempts a second and {idle} idlers, in {slowest:?} at most"
            )?;
            if slowest >= JOINING {
                spoilt += 1;
                ensure!(spoilt < ROUNDS, "it took {slowest:?}, and as long the times before");
            } else if rate >= RATE {
                return Ok(());
            }
        }
        bail!("the crowd is too slow");
    };
    tokio::select! {
        joined = join => joined,
        crowd = crowd => crowd.map(drop),
        idlers = idlers => idlers.map(drop),
    }
}

/// How long it takes a new guest to come in; the longest there is for one who does not.
async fn a_guest_joins(host: &Agent) -> Result<Duration> {
    let guest = Agent::start().await?;
    let (session, invites) = host.open(&[]).await?;
    let asked = Instant::now();
    let tried = guest.try_to_join(&invites[0]).await?;
    if tried.code != Some(0) {
        // What a command waits for is less than the bound.
        ensure!(tried.json()?["code"] == "PAIR_UNREACHABLE", "{tried:?}");
        host.pair(&["close", "--session", &session]).await?;
        return Ok(Duration::MAX);
    }
    let took = asked.elapsed();
    // A host that closes waits for those who are in to have read that, and this one has gone.
    host.pair(&["kick", "1", "--session", &session]).await?;
    host.pair(&["close", "--session", &session]).await?;
    Ok(took)
}

/// Where a link's host listens by TCP.
fn door(link: &Link) -> Result<SocketAddr> {
    let sockets = link.addresses.iter().filter_map(address::socket);
    let mut tcp = sockets.filter(|(_, kind)| *kind == address::Transport::Tcp);
    Ok(tcp.next().context("an address of TCP")?.0)
}
