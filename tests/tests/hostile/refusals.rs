//! What a stranger sees of a refusal: the same, whatever the reason. Who has the secret is told the reason, behind the
//! handshake.

use std::{
    io::Write as _,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use futures::future::{join_all, try_join_all};

use crate::{
    FLOOD,
    agent::{Agent, link},
    dice::Dice,
    proof::{Guest, Seat, field, hello, of_link},
    stranger::{Answer, Stranger, framed, hear, say, say_last},
};

/// As many as are heard out at once, but for a few.
const RACERS: usize = 60;
/// How often that is tried.
const ROUNDS: usize = 5;
/// From when on a machine was too slow for that.
const STALL: Duration = Duration::from_secs(4);

/// The message of SPAKE2 of somebody who knows no code: the base point, as one of the first of the two.
const GUESS: [u8; 33] = {
    let mut message = [0x66; 33];
    (message[0], message[1]) = (b'A', 0x58);
    message
};

fn hello_of_code(number: u16) -> Vec<u8> {
    [&[1], number.to_be_bytes().as_slice(), &GUESS].concat()
}

/// What comes of this hello with a secret that nobody has: how long the frames are, and the end.
async fn seen(at: &Stranger, hello: &[u8]) -> Result<(Vec<usize>, Answer)> {
    let (mut sizes, mut stream) = (Vec::new(), at.open().await?);
    say(&mut stream, &framed(hello)).await?;
    if hello[0] == 1 {
        sizes.push(hear(&mut stream).await?.len());
    }
    let mut guest = Guest::go_on(stream, at, hello, &[7; 32]).await?;
    sizes.push(guest.second.len());
    let third = guest.third()?;
    Ok((sizes, say_last(guest.stream, &framed(&third)).await?))
}

/// The code that somebody is refused by who has the invite.
async fn refused(agent: &Agent, invite: &str) -> Result<String> {
    let ended = agent.try_to_join(invite).await?;
    ensure!(ended.code != Some(0), "{invite} lets somebody in");
    Ok(ended.json()?["code"].as_str().context("a code")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_alike_whatever_the_reason_which_who_has_the_secret_is_told() -> Result<()> {
    let (host, guest) = (Agent::start().await?, Agent::start().await?);
    let (short, late) = host.open(&["--ttl", "30s", "--goal", "meet"]).await?;
    let (_, used) = host.open(&["--invites", "2", "--goal", "meet"]).await?;
    let (revoked_of, revoked) = host.open(&["--goal", "meet"]).await?;
    let (locked_of, locked) = host.open(&["--goal", "meet"]).await?;
    let (code_of, codes) = host.open(&["--code", "--goal", "meet"]).await?;
    host.pair(&["revoke", "--session", &revoked_of]).await?;
    host.pair(&["lock", "--session", &locked_of]).await?;
    let mut dice = Dice::new(7);
    let door = link(&used[0])?;
    let user = Stranger::connect(&door, dice.array()).await?;
    Seat::join(&user, &door).await?;
    // Until its life is over by the host's clock, which is this one.
    let end = Duration::from_secs(u64::from(link(&late[0])?.expires));
    while SystemTime::now().duration_since(UNIX_EPOCH)? <= end {
        host.pair(&["listen", "--wait", "1", "--session", &short]).await?;
    }

    // Within the minute.
    let told = guest.try_to_join(&late[0]).await?.json()?;
    ensure!(told["message"].as_str().is_some_and(|said| said.contains("expired 1 min ago")), "{told}");
    for (invite, code) in [
        (&late[0], "PAIR_EXPIRED"),
        (&used[0], "PAIR_USED"),
        (&revoked[0], "PAIR_BURNED"),
        (&locked[0], "PAIR_LOCKED"),
    ] {
        let told = refused(&guest, invite).await?;
        ensure!(told == code, "{told} for {code}");
    }

    let stranger = Stranger::connect(&door, dice.array()).await?;
    let unknown = seen(&stranger, &hello(dice.array())).await?;
    ensure!(unknown.1.is_refusal(), "{unknown:?}");
    for (reason, invite) in [
        ("wrong", &used[1]),
        ("used", &used[0]),
        ("late", &late[0]),
        ("revoked", &revoked[0]),
        ("locked", &locked[0]),
    ] {
        let seen = seen(&stranger, &hello(*link(invite)?.invite.as_bytes())).await?;
        ensure!(seen == unknown, "{reason}: {seen:?} and not {unknown:?}");
    }
    for more in [[&[2], dice.bytes(12).as_slice()].concat(), [&[3], dice.bytes(8).as_slice()].concat()] {
        let seen = seen(&stranger, &more).await?;
        ensure!(seen == unknown, "{more:?}: {seen:?} and not {unknown:?}");
    }

    // The fourth of these finds the code spoilt, as the host is told and nobody else.
    let guesser = Stranger::connect(&door, dice.array()).await?;
    let number: u16 = codes[0].split('-').next().context("a number")?.parse()?;
    let nobodys = seen(&guesser, &hello_of_code(number % 999 + 1)).await?;
    ensure!(nobodys.1.is_refusal() && nobodys.0.len() == 2, "{nobodys:?}");
    for guess in 1..=4 {
        let seen = seen(&guesser, &hello_of_code(number)).await?;
        ensure!(seen == nobodys, "guess {guess}: {seen:?} and not {nobodys:?}");
    }
    let status = host.pair(&["status", "--session", &code_of]).await?;
    ensure!(status["sessions"][0]["invites"][0]["state"] == "burned", "{status}");
    ensure!(refused(&guest, &used[0]).await? == "PAIR_USED");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_who_prove_one_invite_at_the_same_moment_one_comes_in() -> Result<()> {
    let _flood = FLOOD.lock().await;
    let host = Agent::start().await?;
    let mut dice = Dice::new(8);
    for _ in 0..ROUNDS {
        let (session, invites) = host.open(&[]).await?;
        let link = link(&invites[0])?;
        let keys: Vec<[u8; 32]> = (0..RACERS).map(|_| dice.array()).collect();
        let strangers = try_join_all(keys.into_iter().map(|key| Stranger::connect(&link, key))).await?;
        let (hello, psk) = (hello(*link.invite.as_bytes()), of_link(&link)?);
        let begun = Instant::now();
        // All of them have heard message 2 before one of them proves.
        let guests = join_all(strangers.iter().map(|at| Guest::begin(at, &hello, &psk))).await;
        let ready: Result<Vec<_>> = guests.into_iter().collect();
        let heard = match ready {
            Ok(guests) => {
                join_all(guests.into_iter().map(async |guest| guest.prove().await?.hear().await)).await
            }
            Err(error) => vec![Err(error)],
        };
        let heard: Result<Vec<_>> = heard.into_iter().collect();
        let heard = match heard {
            // Each has five seconds from its hello to its proof, and the machine stood still.
            Err(error) if begun.elapsed() > STALL => {
                writeln!(std::io::stdout(), "once more after {:?}: {error}", begun.elapsed())?;
                host.pair(&["close", "--session", &session]).await?;
                continue;
            }
            heard => heard?,
        };
        let won = heard.iter().filter(|first| field(first, "welcome").is_ok()).count();
        let lost = heard.iter().filter(|first| format!("{first:?}").contains("PAIR_USED")).count();
        ensure!((won, lost) == (1, RACERS - 1), "{won} and {lost}: {heard:?}");
        let status = host.pair(&["status", "--session", &session]).await?;
        ensure!(
            status["sessions"][0]["members"].as_array().is_some_and(|members| members.len() == 1),
            "{status}"
        );
        return Ok(());
    }
    bail!("the machine is too slow for {RACERS} at once")
}
