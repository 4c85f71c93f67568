//! What no guest sends, at each stage of coming in.

use std::{cell::Cell, io::Write as _};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use mytunnel_pairing::Link;
use tokio::time::Instant;

use crate::{
    FLOOD,
    agent::{Agent, SOON, link},
    dice::Dice,
    proof::{Guest, Seat, first, hello, of_link},
    stranger::{Answer, Stranger, framed, say_last},
};

/// At each stage.
const FRAMES: usize = 10_000;
/// What one key may try in a minute.
const TRIES: usize = 10;
const AT_ONCE: usize = 8;
const SEED: u64 = 0x6d79_7475_6e6e_656c;
/// Guests in a room, beside its host.
const SEATS: usize = 15;

/// Something in the place of a frame of at most `limit` bytes: noise, too long, cut off, empty, or the right one changed.
fn malformed(dice: &mut Dice, limit: usize, right: &[u8]) -> Vec<u8> {
    let length = dice.below(limit + 1);
    match dice.below(6) {
        0 => framed(&dice.bytes(length.max(1))),
        1 => {
            let announced = limit + 1 + dice.below(usize::from(u16::MAX) - limit);
            [&(announced as u16).to_be_bytes(), dice.bytes(length).as_slice()].concat()
        }
        2 => {
            let whole = framed(&dice.bytes(length.max(1)));
            whole[..dice.below(whole.len())].to_vec()
        }
        3 => vec![0; 2 + dice.below(limit)],
        4 => {
            let mut changed = right.to_vec();
            let at = dice.below(right.len());
            changed[at] ^= 1 << dice.below(8);
            framed(&changed)
        }
        _ => {
            let length = 1 + dice.below(20);
            let more = dice.bytes(length);
            framed(&[right, more.as_slice()].concat())
        }
    }
}

/// How many were answered by a refusal where `try_one` comes to, each key trying as often as it may.
async fn refused(
    link: &Link,
    name: &str,
    try_one: impl AsyncFn(&Stranger, Dice) -> Result<Answer>,
) -> Result<usize> {
    // Each stage has keys of its own.
    let stage = name.bytes().fold(SEED, |seed, byte| Dice::new(seed ^ u64::from(byte)).next());
    let (began, refused, tried) = (Instant::now(), Cell::new(0), Cell::new(0_u64));
    let some = (0..AT_ONCE).map(|_| async {
        while refused.get() < FRAMES {
            let mut key = Dice::new(stage ^ tried.get());
            tried.set(tried.get() + 1);
            let stranger = Stranger::connect(link, key.array()).await?;
            for _ in 0..TRIES {
                tried.set(tried.get() + 1);
                let number = tried.get();
                let answer = try_one(&stranger, Dice::new(stage ^ number)).await?;
                ensure!(answer.is_refusal(), "{name}, number {number}: {answer:?}");
                refused.set(refused.get() + 1);
            }
        }
        anyhow::Ok(())
    });
    try_join_all(some).await?;
    writeln!(std::io::stdout(), "{name}: {} refused in {:?}", refused.get(), began.elapsed())?;
    Ok(refused.get())
}

/// Members who come back again and again, and are cut for what they send: frames that do not open, and such as open and hold
/// nothing that means anything. How many of each had their seat when they sent it.
async fn cut(host: &Agent) -> Result<[usize; 2]> {
    let (began, counts) = (Instant::now(), [Cell::new(0), Cell::new(0)]);
    let mut seats = Vec::new();
    for room in 0..2 {
        let (_, invites) = host.open(&["--invites", &SEATS.to_string()]).await?;
        for (number, invite) in invites.iter().enumerate() {
            let mut key = Dice::new(SEED ^ (1_000_000 * (room + 1) + number as u64));
            let link = link(invite)?;
            let stranger = Stranger::connect(&link, key.array()).await?;
            let seat = Seat::join(&stranger, &link).await?;
            seats.push((stranger, seat, key));
        }
    }
    let some = seats.into_iter().map(async |(stranger, mut seat, mut dice)| {
        while counts.iter().any(|count| count.get() < FRAMES / 2) {
            ensure!(began.elapsed() < 5 * SOON, "{counts:?} in {:?}", began.elapsed());
            // For the first second it is a stranger still, with the tries of one.
            let Ok(mut back) = seat.come_back(&stranger).await else { continue };
            let opens = counts[0].get() > counts[1].get();
            let sent = if opens {
                back.seal(&nonsense(&mut dice))?
            } else {
                malformed(&mut dice, 2_000, &back.seal(&[0, 0xf6])?[2..])
            };
            say_last(back.stream, &sent).await?;
            let count = &counts[usize::from(opens)];
            count.set(count.get() + 1);
        }
        anyhow::Ok(())
    });
    try_join_all(some).await?;
    let counts = counts.map(|count| count.get());
    writeln!(std::io::stdout(), "members: {counts:?} in {:?}", began.elapsed())?;
    Ok(counts)
}

/// What is in a frame: flags, and something that is no message.
fn nonsense(dice: &mut Dice) -> Vec<u8> {
    let right = b"\x00\xa1\x65nonce\xa1\x65nonce\x50aaaaaaaaaaaaaaaa";
    let length = 1 + dice.below(400);
    match dice.below(3) {
        0 => [&[0], dice.bytes(length).as_slice()].concat(),
        1 => dice.bytes(length),
        _ => {
            let mut changed = right.to_vec();
            changed[1 + dice.below(14)] ^= 1 << dice.below(8);
            changed
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_malformed_frames_at_each_stage_leave_a_daemon_that_lets_guests_in() -> Result<()> {
    let _flood = FLOOD.lock().await;
    let host = Agent::start().await?;
    let (session, mut invites) = host.open(&["--invites", "2", "--goal", "meet"]).await?;
    let (another, known) = (invites.pop().context("an invite")?, link(&invites.pop().context("an invite")?)?);
    let (id, psk) = (*known.invite.as_bytes(), of_link(&known)?);

    let hellos = refused(&known, "hello", async |at: &Stranger, mut dice: Dice| {
        let right = hello(id);
        at.ask(&malformed(&mut dice, 64, &right)).await
    });
    ensure!(hellos.await? >= FRAMES);
    let firsts = refused(&known, "message 1", async |at: &Stranger, mut dice: Dice| {
        let (_, right) = first(at, &hello(id), &psk)?;
        let sent = [framed(&hello(id)), malformed(&mut dice, 1024, &right)].concat();
        at.ask(&sent).await
    });
    ensure!(firsts.await? >= FRAMES);
    // The first of two is what anybody sends, the second is sealed with the invite's secret and holds no card.
    let thirds = refused(&known, "message 3", async |at: &Stranger, mut dice: Dice| {
        let mut guest = Guest::begin(at, &hello(id), &psk).await?;
        let sent = if dice.below(2) == 0 {
            malformed(&mut dice, 1024, &guest.third()?)
        } else {
            framed(&guest.third_with(|_| Ok(nonsense(&mut dice)))?)
        };
        say_last(guest.stream, &sent).await
    });
    ensure!(thirds.await? >= FRAMES);
    let [closed, open] = cut(&host).await?;
    ensure!(closed + open >= FRAMES);

    ensure!(host.is_alive());
    host.is_joined_by_a_guest(&session, &another).await
}
