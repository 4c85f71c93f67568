//! Agents in one room, each with a daemon of its own on the loopback: from the invite to the first message, how long a message
//! takes and how many go through a full room, what a daemon holds at rest, and a large file.
//!
//! `cargo bench -p mytunnel-tests --bench pairing [-- --rounds 10 --messages 900 --latency 800 --mib 1024 --only room]`

#![expect(clippy::print_stdout, reason = "the figures are its output")]

mod agents;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_pairing::api::Request;
use mytunnel_pairing::limits;
use mytunnel_tests::usage;
use tokio::task::JoinSet;

use self::agents::{Agent, room};

/// What each guest of a full room has under way at once.
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let number = |name: &str, usual: usize| value(name).map_or(Ok(usual), |text| text.parse::<usize>());
    let rounds = number("--rounds", 10)?.max(1);
    let (messages, latency, mib) =
        (number("--messages", 900)?, number("--latency", 800)?, number("--mib", 1024)?);
    let only = value("--only");
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if is_wanted("join") {
        joins(rounds).await?;
    }
    if is_wanted("latency") {
        latencies(latency).await?;
    }
    if is_wanted("room") {
        full_room(messages).await?;
    }
    if is_wanted("memory") {
        memory().await?;
    }
    if is_wanted("file") {
        file(mib).await?;
    }
    Ok(())
}

/// A guest whose machine runs nothing yet has an invite.
async fn joins(rounds: usize) -> Result<()> {
    let (mut starts, mut joins, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let host = Agent::start("host").await?;
        let (session, invites) = host.open(1).await?;
        let begun = Instant::now();
        let guest = Agent::start("guest").await?;
        let started = Instant::now();
        guest.join(&invites[0]).await?;
        let joined = Instant::now();
        let (heard, said) =
            tokio::try_join!(host.hear(&session, 0), guest.say(&session, "hello".to_owned()))?;
        let ended = Instant::now();
        ensure!(heard.0.first().is_some_and(|one| one["text"] == "hello"), "{heard:?} {said}");
        starts.push(started - begun);
        joins.push(joined - started);
        all.push(ended - started);
    }
    println!("the guest's daemon is there: {}", spread(&mut starts));
    println!("from the invite until the guest is in: {}", spread(&mut joins));
    println!("from the invite until the host's agent has its first message: {}", spread(&mut all));
    Ok(())
}

/// One message at a time, from the question of who says it to the answer of who waits for it.
async fn latencies(count: usize) -> Result<()> {
    // More in ten seconds would wait because they are many.
    let count = count.min(limits::RATE as usize - 50);
    let (host, guests, session) = room(2).await?;
    let [one, two] = &guests[..] else { anyhow::bail!("two guests") };
    for (what, from, to) in
        [("from a guest to the host", one, &host), ("from a guest to another, through the host", two, one)]
    {
        let (mut since, mut took) = (to.last(&session).await?, Vec::new());
        for number in 0..count {
            let begun = Instant::now();
            let hears = async {
                let heard = to.hear(&session, since).await?;
                anyhow::Ok((heard, begun.elapsed()))
            };
            let ((heard, after), _) =
                tokio::try_join!(hears, from.say(&session, format!("{number} of some words")))?;
            ensure!(heard.0.len() == 1, "{heard:?}");
            since = heard.1;
            took.push(after);
        }
        println!("a message {what}: {}", spread(&mut took));
    }
    Ok(())
}

/// All guests of a full room speak at once, and every member hears everything.
async fn full_room(each: usize) -> Result<()> {
    // What is beyond that in ten seconds waits.
    let each = each.min(limits::RATE as usize);
    let (host, guests, session) = room(limits::MEMBERS - 1).await?;
    let (total, speakers) = (each * guests.len(), guests.len());
    let processes: Vec<u32> = guests.iter().chain([&host]).map(Agent::process).collect::<Result<_>>()?;
    let cpu = |of: &[u32]| of.iter().map(|process| usage::cpu(*process)).sum::<Result<Duration>>();
    let hosts = [host.process()?];
    let before = (cpu(&processes)?, cpu(&hosts)?);
    let members: Vec<std::sync::Arc<Agent>> =
        guests.into_iter().chain([host]).map(std::sync::Arc::new).collect();
    let begun = Instant::now();
    let (mut says, mut hears) = (JoinSet::new(), JoinSet::new());
    for (at, member) in members.iter().enumerate() {
        let (agent, own) = (member.clone(), session.clone());
        let expected = if at < speakers { total - each } else { total };
        hears.spawn(async move {
            let (mut count, mut since) = (0, 0);
            while count < expected {
                let (heard, next) = agent.hear(&own, since).await?;
                ensure!(!heard.is_empty(), "nothing more came behind {count} of {expected}");
                (count, since) = (count + heard.len(), next);
            }
            ensure!(count == expected, "{count} instead of {expected}");
            anyhow::Ok(begun.elapsed())
        });
        for part in 0..if at < speakers { AT_ONCE } else { 0 } {
            let (agent, session) = (member.clone(), session.clone());
            says.spawn(async move {
                for number in (part..each).step_by(AT_ONCE) {
                    agent.say(&session, format!("{number} of some words")).await?;
                }
                anyhow::Ok(begun.elapsed())
            });
        }
    }
    let said = last(says).await?;
    let heard = last(hears).await?;
    let rate = |took: Duration| total as f64 / took.as_secs_f64();
    let after = (cpu(&processes)?, cpu(&hosts)?);
    let of_thousand = |spent: Duration| spent.as_secs_f64() * 1e3 / total as f64;
    println!("{total} messages of {speakers} guests through a room of {}:", members.len());
    println!("  said after {:.2} s, {:.0} per second", said.as_secs_f64(), rate(said));
    println!("  heard by the last of all after {:.2} s, {:.0} per second", heard.as_secs_f64(), rate(heard));
    println!(
        "  CPU for each: {:.2} ms at the host, {:.2} ms of all members",
        of_thousand(after.1 - before.1),
        of_thousand(after.0 - before.0)
    );
    Ok(())
}

async fn last(mut tasks: JoinSet<Result<Duration>>) -> Result<Duration> {
    let mut last = Duration::ZERO;
    while let Some(ended) = tasks.join_next().await {
        last = last.max(ended??);
    }
    Ok(last)
}

/// What a daemon holds at rest.
async fn memory() -> Result<()> {
    let tell = |what: &str, agent: &Agent| -> Result<()> {
        let memory = usage::memory(agent.process()?)?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{what}: {:.1} MiB resident, {:.1} with its part of what is shared, {:.1} of data",
            mib(memory.resident),
            mib(memory.proportional),
            mib(memory.data)
        );
        Ok(())
    };
    tell("a daemon without a session", &Agent::start("nobody").await?)?;
    let (host, guests, _) = room(1).await?;
    tell("the host of one guest", &host)?;
    tell("that guest", &guests[0])?;
    let (host, guests, _) = room(limits::MEMBERS - 1).await?;
    tell("the host of a full room", &host)?;
    tell("a guest there", &guests[0])
}

/// The host gives the guest a file.
async fn file(mib: usize) -> Result<()> {
    let (host, guests, session) = room(1).await?;
    let guest = guests.first().context("a guest")?;
    let (folder, size) = (host.path("project"), (mib as u64) << 20);
    std::fs::create_dir(&folder)?;
    write(&folder.join("large.bin"), mib)?;
    let ends = [("host", host.process()?), ("guest", guest.process()?)];
    let mut before = Vec::new();
    for (_, process) in ends {
        // Not permitted in some containers; the peak then is the highest so far.
        let _ = usage::forget_peak(process);
        before.push((usage::resident(process)?, usage::cpu(process)?));
    }
    let begun = Instant::now();
    let shared = host
        .ask(&Request::Share {
            session: Some(session.clone()),
            path: folder.join("large.bin"),
            within: Some(folder),
            most: size,
            text: String::new(),
            to: Vec::new(),
        })
        .await?;
    println!("{mib} MiB read and offered in {:.1} s", begun.elapsed().as_secs_f64());
    let offer = shared["offer"].as_u64().context("an offer")?;
    guest.hear(&session, 0).await?;
    let begun = Instant::now();
    let receive = Request::Receive {
        session: Some(session),
        offer,
        inbox: guest.path("inbox"),
        most: size,
        wait_ms: 20_000,
        stop: false,
    };
    let mut received = guest.ask(&receive).await?;
    while received["state"] == "receiving" {
        received = guest.ask(&receive).await?;
    }
    let took = begun.elapsed().as_secs_f64();
    ensure!(received["state"] == "received" && received["sha256"] == shared["sha256"], "{received}");
    println!("received in {took:.1} s, {:.0} MiB/s", mib as f64 / took);
    for ((who, process), (resident, spent)) in ends.iter().zip(before) {
        let grown = usage::resident_peak(*process)?.saturating_sub(resident);
        let cpu = (usage::cpu(*process)? - spent).as_secs_f64();
        println!("  the {who}: {:.1} MiB more at most, {cpu:.1} s of CPU", grown as f64 / f64::from(1 << 20));
        ensure!(grown < 100 << 20, "the {who} grew by {grown} bytes");
    }
    Ok(())
}

/// Bytes of which no two pieces are the same.
fn write(path: &std::path::Path, mib: usize) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut part = vec![0; 1 << 20];
    getrandom::fill(&mut part)?;
    for number in 0..mib as u64 {
        for piece in part.chunks_mut(256 << 10) {
            piece[..8].copy_from_slice(&number.to_le_bytes());
        }
        file.write_all(&part)?;
    }
    Ok(file.into_inner()?.sync_all()?)
}

/// Median, in brackets the least and the most, and the 99th of a hundred.
fn spread(values: &mut [Duration]) -> String {
    values.sort_unstable();
    let at =
        |part: usize| values.get(values.len() * part / 100).or(values.last()).copied().unwrap_or_default();
    let [least, median, p99, most] = [at(0), at(50), at(99), at(100)].map(|took| took.as_secs_f64() * 1e3);
    format!("{median:.2} ms ({least:.2} to {most:.2}, p99 {p99:.2})")
}
