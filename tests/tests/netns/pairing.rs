//! Agents on one bridge, without a route to anywhere; and behind routers of their own, with a relay in between.

use std::{
    ffi::OsStr,
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mytunnel_tests::process::{Ended, Running};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use crate::{
    lab::{Host, Lab, Router},
    nat::{Kind, Nat},
    pair::{Between, Home},
};

/// From the invite to the first message.
const JOINING: Duration = Duration::from_secs(3);
/// In which a session is open, whatever the network does.
const OPEN: Duration = Duration::from_secs(5);
/// In which somebody who has gone without a word counts as away.
const AWAY: Duration = Duration::from_secs(15);
/// Longest wait between two attempts to come back, and the attempt.
pub(crate) const BACK: Duration = Duration::from_secs(40);

/// A machine with a daemon of its own.
pub(crate) struct Agent {
    pub(crate) host: Host,
    program: PathBuf,
    home: TempDir,
    daemon: Option<Running>,
}

impl Agent {
    pub(crate) async fn start(lab: &Lab, bridge: &Router) -> Result<Self> {
        let host = lab.host_behind(bridge)?;
        host.inside(|| {
            let gone = Command::new("ip").args(["route", "del", "default"]).status()?;
            ensure!(gone.success(), "the route stays");
            Ok(())
        })?;
        let home = tempfile::tempdir()?;
        let program = host.launcher(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")), None, home.path())?;
        Self::on(host, program, home).await
    }

    async fn on(host: Host, program: PathBuf, home: TempDir) -> Result<Self> {
        let mut agent = Self { host, program, home, daemon: None };
        agent.start_daemon().await?;
        Ok(agent)
    }

    async fn start_daemon(&mut self) -> Result<()> {
        let mut daemon = run(&self.program, &["daemon", "--linger", "600"], &self.home, &[])?;
        daemon.event("ready").await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    async fn kill_daemon(&mut self) -> Result<()> {
        self.daemon.take().context("a daemon")?.kill().await
    }

    pub(crate) async fn pair(&self, args: &[&str]) -> Result<Value> {
        run(&self.program, args, &self.home, &[])?.ended().await?.success()?.json()
    }

    pub(crate) async fn join(&self, invite: &str, args: &[&str]) -> Result<Value> {
        let secret = [("MYTUNNEL_PAIR_SECRET", OsStr::new(invite))];
        run(&self.program, &[&["join"], args].concat(), &self.home, &secret)?.ended().await?.success()?.json()
    }

    pub(crate) async fn try_to_join(&self, invite: &str) -> Result<Ended> {
        let secret = [("MYTUNNEL_PAIR_SECRET", OsStr::new(invite))];
        run(&self.program, &["join"], &self.home, &secret)?.ended().await
    }

    /// The texts of as many messages.
    pub(crate) async fn hear(&self, count: usize, bound: Duration) -> Result<Vec<String>> {
        let (began, mut heard) = (Instant::now(), Vec::new());
        while heard.len() < count {
            ensure!(began.elapsed() < bound, "heard {heard:?} in {bound:?}");
            let answer = self.pair(&["listen", "--wait", "5"]).await?;
            let messages = answer["messages"].as_array().context("messages")?;
            heard.extend(messages.iter().filter_map(|message| message["text"].as_str()).map(str::to_owned));
        }
        Ok(heard)
    }

    async fn sees_the_other(&self) -> Result<bool> {
        Ok(self.pair(&["status"]).await?["sessions"][0]["members"][0]["online"] == true)
    }
}

fn run(program: &Path, args: &[&str], home: &TempDir, env: &[(&str, &OsStr)]) -> Result<Running> {
    let config = home.path().join("config");
    let env = [&[("MYTUNNEL_CONFIG_DIR", config.as_os_str())], env].concat();
    Running::start(program, [&["pair"], args, &["--json"]].concat(), &env, home.path())
}

/// Records what comes to a machine and goes from it, on every device.
struct Capture {
    socket: Socket,
    seen: Vec<u8>,
}

impl Capture {
    fn of(host: &Host) -> Result<Self> {
        // ETH_P_ALL, in the order of the network.
        let all = Protocol::from(i32::from(3_u16.to_be()));
        let socket = host.inside(|| Ok(Socket::new(Domain::PACKET, Type::RAW, Some(all))?))?;
        socket.set_recv_buffer_size(8 << 20)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, seen: Vec::new() })
    }

    fn read(&mut self) -> Result<&[u8]> {
        let mut packet = vec![0; 1 << 16];
        loop {
            match self.socket.read(&mut packet) {
                Ok(size) => self.seen.extend_from_slice(&packet[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(&self.seen),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Two machines, and a session of the first that the second has joined; both with these options.
async fn paired(args: &[&str]) -> Result<(Lab, Router, [Agent; 2])> {
    let lab = Lab::new()?;
    let bridge = lab.router(Nat::new(Kind::Routed))?;
    let (host, guest) = (Agent::start(&lab, &bridge).await?, Agent::start(&lab, &bridge).await?);
    let opened = host.pair(&[&["open", "--goal", "meet"], args].concat()).await?;
    let invite = opened["invites"][0]["text"].as_str().context("an invite")?.to_owned();
    let began = Instant::now();
    let joined = guest.join(&invite, args).await?;
    ensure!(joined["goal"] == "meet", "{joined}");
    host.pair(&["say", "hello"]).await?;
    ensure!(guest.hear(1, JOINING).await? == ["hello"]);
    ensure!(began.elapsed() < JOINING, "it took {:?}", began.elapsed());
    Ok((lab, bridge, [host, guest]))
}

#[tokio::test]
async fn two_machines_without_a_route_meet_within_three_seconds() -> Result<()> {
    paired(&[]).await.map(drop)
}

#[tokio::test]
async fn a_spoken_code_finds_its_host_without_a_link() -> Result<()> {
    let lab = Lab::new()?;
    let bridge = lab.router(Nat::new(Kind::Routed))?;
    let (host, guest) = (Agent::start(&lab, &bridge).await?, Agent::start(&lab, &bridge).await?);
    let mut wire = Capture::of(&guest.host)?;
    let opened =
        host.pair(&["open", "--code", "--goal", "by-word-of-mouth", "--name", "ada-at-home"]).await?;
    let code = opened["invites"][0]["text"].as_str().context("a code")?.to_owned();
    // It is told for the first time once nobody else has claimed its name, a second later.
    let began = Instant::now();
    let windows = loop {
        let windows = guest.pair(&["peers"]).await?["windows"].take();
        if windows != serde_json::json!([]) {
            break windows;
        }
        ensure!(began.elapsed() < OPEN, "no code was told of in {OPEN:?}");
    };
    let number = windows[0]["number"].as_u64().with_context(|| windows.to_string())?;
    ensure!(code.starts_with(&format!("{number}-")), "{windows}");
    let joined = guest.join(&code, &[]).await?;
    ensure!(joined["goal"] == "by-word-of-mouth", "{joined}");
    host.pair(&["say", "said-in-confidence"]).await?;
    ensure!(guest.hear(1, JOINING).await? == ["said-in-confidence"]);
    // It has let somebody in, and so is nobody's any more.
    let windows = guest.pair(&["peers"]).await?["windows"].take();
    ensure!(windows == serde_json::json!([]), "{windows}");
    // The code's number is what the record by multicast says, and its words are nobody's.
    let seen = wire.read()?;
    ensure!(seen.windows(14).any(|part| part == b"_mytunnel-pair"), "{} bytes were seen", seen.len());
    let words = code.split_once('-').context("words")?.1;
    for secret in ["by-word-of-mouth", "ada-at-home", "said-in-confidence", words] {
        ensure!(!seen.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
    }
    Ok(())
}

#[tokio::test]
async fn a_look_says_whether_codes_would_be_heard() -> Result<()> {
    let lab = Lab::new()?;
    let bridge = lab.router(Nat::new(Kind::Routed))?;
    let agent = Agent::start(&lab, &bridge).await?;
    let state = async |name: &str| {
        let told = agent.pair(&["doctor"]).await?;
        let checks = told["checks"].as_array().context("checks")?.iter();
        let found = checks.filter(|check| check["name"] == name).map(|check| check["state"].clone()).next();
        found.with_context(|| told.to_string())
    };
    ensure!(state("multicast").await? == "ok" && state("addresses").await? == "ok");
    agent.host.cable.cut()?;
    agent.host.inside(|| {
        let off = Command::new("ip").args(["-4", "address", "flush", "scope", "global"]).status()?;
        ensure!(off.success(), "the addresses stay");
        Ok(())
    })?;
    ensure!(state("multicast").await? == "warning");
    // Who is in no network opens sessions all the same, and at once.
    for how in ["--no-relay", "--code"] {
        let began = Instant::now();
        let opened = agent.pair(&["open", how]).await?;
        ensure!(opened["state"] == "waiting_for_guest", "{opened}");
        ensure!(began.elapsed() < OPEN, "{how}: it took {:?}", began.elapsed());
    }
    Ok(())
}

/// Waits until both count as away. Who asks after that time hears of it; how long an answer takes is not held against them.
async fn both_away(host: &Agent, guest: &Agent, since: Instant) -> Result<()> {
    loop {
        let asked = since.elapsed();
        if !host.sees_the_other().await? && !guest.sees_the_other().await? {
            return Ok(());
        }
        ensure!(asked < AWAY, "not noticed in {AWAY:?}");
    }
}

#[tokio::test]
async fn a_cable_that_is_pulled_for_half_a_minute_loses_nothing_and_doubles_nothing() -> Result<()> {
    let (_lab, _bridge, [host, guest]) = paired(&[]).await?;
    let pulled = Instant::now();
    guest.host.cable.cut()?;
    for count in 0..5 {
        host.pair(&["say", &format!("host {count}")]).await?;
        guest.pair(&["say", &format!("guest {count}")]).await?;
    }
    both_away(&host, &guest, pulled).await?;
    // The outage itself, which nothing announces.
    tokio::time::sleep(Duration::from_secs(30).saturating_sub(pulled.elapsed())).await;
    guest.host.cable.heal()?;
    let of = |name: &str| (0..5).map(|count| format!("{name} {count}")).collect::<Vec<_>>();
    ensure!(guest.hear(5, BACK).await? == of("host"));
    ensure!(host.hear(5, BACK).await? == of("guest"));
    ensure!(host.sees_the_other().await? && guest.sees_the_other().await?);
    Ok(())
}

#[tokio::test]
async fn daemons_that_are_killed_and_started_again_find_each_other_where_they_were() -> Result<()> {
    let (_lab, _bridge, [mut host, mut guest]) = paired(&["--keep"]).await?;
    host.kill_daemon().await?;
    guest.pair(&["say", "to nobody"]).await?;
    host.start_daemon().await?;
    ensure!(host.hear(1, BACK).await? == ["to nobody"]);
    guest.kill_daemon().await?;
    let said = host.pair(&["say", "to who was stopped"]).await?;
    ensure!(said["delivered"].as_array().is_some_and(Vec::is_empty), "{said}");
    guest.start_daemon().await?;
    ensure!(guest.hear(1, BACK).await? == ["to who was stopped"]);
    Ok(())
}

/// The same where host and guest are in different networks: from the link to the first message, on two busy cores.
const FAR: Duration = Duration::from_secs(10);

/// Two machines behind routers of these kinds, a relay that both reach, and a session that the second has joined by the link
/// alone.
async fn apart(kinds: [Kind; 2]) -> Result<(Between, [Router; 2], [Agent; 2])> {
    let between = Between::start(Lab::new()?).await?;
    let [one, two] = kinds;
    let [one, two] = [Home::new(&between.lab, Nat::new(one))?, Home::new(&between.lab, Nat::new(two))?];
    let agent = async |machine: Host| {
        let program = between.launcher(&machine)?;
        Agent::on(machine, program, tempfile::tempdir()?).await
    };
    let (host, guest) = (agent(one.machine).await?, agent(two.machine).await?);
    let master = [("MTK_MASTER", OsStr::new(&between.deployment.master))];
    let opened = ["open", "--relay", "--goal", "meet"];
    let opened = run(&host.program, &opened, &host.home, &master)?.ended().await?.success()?.json()?;
    let invite = opened["invites"][0]["text"].as_str().context("an invite")?.to_owned();
    let began = Instant::now();
    let joined = guest.join(&invite, &[]).await?;
    let joining = began.elapsed();
    ensure!(joined["goal"] == "meet" && joined["members"][0]["via"] == "relay", "{joined}");
    host.pair(&["say", "hello"]).await?;
    ensure!(guest.hear(1, FAR).await? == ["hello"]);
    let took = began.elapsed();
    writeln!(io::stdout(), "{kinds:?}: joined after {joining:?}, first message after {took:?}")?;
    ensure!(took < FAR, "it took {took:?}");
    Ok((between, [one.router, two.router], [host, guest]))
}

/// Waits for a path of this kind, as the guest's status tells.
async fn path(guest: &Agent, wanted: impl Fn(&str, &str) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let status = guest.pair(&["status"]).await?;
        let paths = &status["sessions"][0]["relay"]["paths"];
        let text = |field: &str| paths[0][field].as_str().unwrap_or_default();
        if wanted(text("path"), text("reason")) {
            return Ok(());
        }
        ensure!(began.elapsed() < BACK, "{paths}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_two_routers_that_let_nothing_through_they_talk_by_the_relay_also_after_a_cut() -> Result<()> {
    let (_between, _routers, [host, guest]) = apart([Kind::Symmetric, Kind::Symmetric]).await?;
    path(&guest, |path, reason| path == "relayed" && reason.contains("symmetric NAT")).await?;
    let cut = Instant::now();
    guest.host.cable.cut()?;
    host.pair(&["say", "to who is cut off"]).await?;
    guest.pair(&["say", "from there"]).await?;
    both_away(&host, &guest, cut).await?;
    guest.host.cable.heal()?;
    ensure!(guest.hear(1, BACK).await? == ["to who is cut off"]);
    ensure!(host.hear(1, BACK).await? == ["from there"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_two_home_routers_they_soon_talk_past_the_relay() -> Result<()> {
    let (_between, _routers, [host, guest]) = apart([Kind::PortRestricted, Kind::PortRestricted]).await?;
    path(&guest, |path, reason| path == "direct" && reason == "punched").await?;
    host.pair(&["say", "past it"]).await?;
    ensure!(guest.hear(1, BACK).await? == ["past it"]);
    Ok(())
}
