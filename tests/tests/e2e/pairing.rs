//! Pairing through a relay: a guest who holds nothing but the link, and who reaches none of its host's addresses.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_pairing::{Link, Ticket};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::process::{Ended, Running};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::apart::{ANY, owned};
use crate::lab;
use crate::private::refused;

/// Twice what is promised of `open` in every state of the network, on a machine with more to do than this.
const OPENING: Duration = Duration::from_secs(10);
/// How long anything that comes by itself is looked for.
const SOON: Duration = Duration::from_secs(60);

/// A machine with a daemon of its own, which ends with the test.
struct Agent {
    home: PathBuf,
    config: PathBuf,
    env: Vec<(String, String)>,
    daemon: Option<Running>,
}

impl Agent {
    /// The owner's machine, which is signed in.
    async fn owner(lab: &Lab) -> Result<Self> {
        Self::at(lab.path("host"), lab.path("config"), Vec::new()).await
    }

    /// A machine that knows nothing.
    async fn stranger(lab: &Lab, name: &str) -> Result<Self> {
        Self::at(lab.path(name), lab.path(name).join("config"), Vec::new()).await
    }

    async fn at(home: PathBuf, config: PathBuf, env: Vec<(String, String)>) -> Result<Self> {
        std::fs::create_dir_all(home.join("project/.git"))?;
        let mut agent = Self { home, config, env, daemon: None };
        agent.start_daemon().await?;
        Ok(agent)
    }

    async fn start_daemon(&mut self) -> Result<()> {
        let mut daemon = self.spawn(&["daemon", "--linger", "600"], &[])?;
        daemon.event("ready").await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    async fn kill_daemon(&mut self) -> Result<()> {
        self.daemon.take().context("a daemon")?.kill().await
    }

    fn spawn(&self, args: &[&str], env: &[(&str, &str)]) -> Result<Running> {
        let mut all: Vec<(&str, &OsStr)> = vec![
            ("MYTUNNEL_CONFIG_DIR", self.config.as_os_str()),
            ("HOME", self.home.as_os_str()),
            ("MYTUNNEL_PAIR_LISTEN", OsStr::new("127.0.0.1:0")),
        ];
        all.extend(self.env.iter().map(|(name, value)| (name.as_str(), OsStr::new(value))));
        all.extend(env.iter().map(|(name, value)| (*name, OsStr::new(*value))));
        let program = Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
        Running::start(program, [&["pair"], args, &["--json"]].concat(), &all, &self.home.join("project"))
    }

    async fn run(&self, args: &[&str]) -> Result<Ended> {
        self.spawn(args, &[])?.ended().await
    }

    async fn pair(&self, args: &[&str]) -> Result<Value> {
        self.run(args).await?.success()?.json()
    }

    async fn try_to_join(&self, invite: &str, more: &[&str]) -> Result<Ended> {
        self.spawn(&[&["join"], more].concat(), &[("MYTUNNEL_PAIR_SECRET", invite)])?.ended().await
    }

    async fn join(&self, invite: &str, more: &[&str]) -> Result<Value> {
        let began = Instant::now();
        loop {
            let ended = self.try_to_join(invite, more).await?;
            // Who was not reached in a few seconds, on a busy machine, may try the same link again.
            let is_unreached = ended.json().is_ok_and(|answer| answer["code"] == "PAIR_UNREACHABLE");
            if !is_unreached || began.elapsed() >= SOON {
                return ended.success()?.json();
            }
        }
    }

    async fn status(&self) -> Result<Value> {
        let sessions = self.pair(&["status"]).await?["sessions"].take();
        let open = sessions.as_array().into_iter().flatten().find(|one| one["state"] != "closed");
        Ok(open.unwrap_or(&sessions[0]).clone())
    }

    /// Looks at the session until it is so.
    async fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        loop {
            let status = self.status().await?;
            if so(&status) {
                return Ok(status);
            }
            ensure!(began.elapsed() < SOON, "not {what}: {status}");
        }
    }

    /// Opens a session, in time.
    async fn open(&self, more: &[&str]) -> Result<Value> {
        let began = Instant::now();
        let opened = self.pair(&[&["open", "--goal", "meet"], more].concat()).await?;
        ensure!(began.elapsed() < OPENING, "it took {:?}", began.elapsed());
        Ok(opened)
    }

    /// The same, with an invite that leads through the relay.
    async fn open_past_the_network(&self, more: &[&str]) -> Result<Value> {
        let began = Instant::now();
        loop {
            let opened = self.open(more).await?;
            if opened["invites"][0]["relay"] == true {
                return Ok(opened);
            }
            // On a busy machine the coordinator may take longer than a session waits for it.
            ensure!(began.elapsed() < SOON, "{opened}");
            self.pair(&["close"]).await?;
        }
    }

    /// An invite that leads through the relay, whose way may take longer to stand than one command waits for it.
    async fn invite_past_the_network(&self, more: &[&str]) -> Result<Value> {
        let began = Instant::now();
        loop {
            let asked = self.run(&[&["invite", "--relay"], more].concat()).await?;
            if asked.code == Some(0) {
                return asked.json();
            }
            let code = asked.json()?["code"].as_str().unwrap_or_default().to_owned();
            let is_late = ["RELAY_UNREACHABLE", "COORDINATOR_UNREACHABLE"].contains(&code.as_str());
            ensure!(is_late && began.elapsed() < SOON, "{asked:?}");
        }
    }

    /// The same, and waits until its way through the relay stands.
    async fn open_to_all(&self, more: &[&str]) -> Result<Value> {
        let opened = self.open_past_the_network(more).await?;
        self.until("open to all", |status| status["relay"]["state"] == "open").await?;
        Ok(opened)
    }

    /// Waits until a file is offered to it.
    async fn is_offered(&self) -> Result<()> {
        let began = Instant::now();
        while self.pair(&["offers"]).await?["offers"].as_array().is_none_or(Vec::is_empty) {
            ensure!(began.elapsed() < SOON, "no file is offered");
        }
        Ok(())
    }

    /// The texts of as many messages.
    async fn hear(&self, count: usize) -> Result<Vec<String>> {
        let (began, mut heard) = (Instant::now(), Vec::new());
        while heard.len() < count {
            ensure!(began.elapsed() < SOON, "heard {heard:?}");
            let answer = self.pair(&["listen", "--wait", "5"]).await?;
            let messages = answer["messages"].as_array().context("messages")?;
            // A file that is offered is one, too.
            let said = messages.iter().filter(|message| message["kind"] == "chat");
            heard.extend(said.filter_map(|message| message["text"].as_str()).map(str::to_owned));
        }
        Ok(heard)
    }
}

/// The invite without the host's addresses, as if they led nowhere.
fn from_afar(invite: &str) -> Result<String> {
    let mut link = Link::parse(invite)?;
    ensure!(link.ticket.is_some(), "there is no way but the network");
    link.addresses.clear();
    Ok(link.to_text().to_string())
}

fn invite(opened: &Value) -> Result<&str> {
    opened["invites"][0]["text"].as_str().context("an invite")
}

/// Opens a session, and has a guest from afar join it.
async fn paired(host: &Agent, guest: &Agent, more: &[&str]) -> Result<(Value, String)> {
    let opened = host.open_to_all(more).await?;
    let link = from_afar(invite(&opened)?)?;
    let joined = guest.join(&link, more).await?;
    ensure!(joined["goal"] == "meet" && joined["members"][0]["via"] == "relay", "{joined}");
    Ok((opened, link))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_with_nothing_but_the_link_talks_through_a_relay_until_the_hosts_key_is_revoked() -> Result<()>
{
    let mut lab = lab().await?;
    let (host, guest) = (Agent::owner(&lab).await?, Agent::stranger(&lab, "guest").await?);
    let (opened, link) = paired(&host, &guest, &[]).await?;
    host.pair(&["say", "hello"]).await?;
    ensure!(guest.hear(1).await? == ["hello"]);
    guest.pair(&["say", "hello to you"]).await?;
    ensure!(host.hear(1).await? == ["hello to you"]);
    let status = host.status().await?;
    ensure!(status["members"][0]["via"] == "relay", "{status}");
    let status = guest.until("a path", |status| !status["relay"]["paths"][0].is_null()).await?;
    ensure!(status["relay"]["state"] == "open", "{status}");

    let content = vec![b'x'; 600_000];
    std::fs::write(host.home.join("project/build.log"), &content)?;
    let offer = host.pair(&["share", "build.log"]).await?["offer"].to_string();
    guest.is_offered().await?;
    let received = guest.pair(&["receive", &offer]).await?;
    let path = received["path"].as_str().with_context(|| received.to_string())?;
    ensure!(std::fs::read(path)? == content);

    // Somebody else with the same link, near or far.
    let other = Agent::stranger(&lab, "other").await?;
    for link in [link.as_str(), invite(&opened)?] {
        let refused = other.try_to_join(link, &[]).await?;
        ensure!(refused.code != Some(0) && refused.json()?["code"] == "PAIR_USED", "{refused:?}");
    }

    lab.restart_relay().await?;
    guest.pair(&["say", "after the cut"]).await?;
    ensure!(host.hear(1).await? == ["after the cut"]);
    host.pair(&["say", "it held"]).await?;
    ensure!(guest.hear(1).await? == ["it held"]);

    let key = opened["relay"]["key"].as_str().context("the host's key")?;
    lab.run(&["keys", "revoke", key]).await?.success()?;
    let closed = host.until("closed", |status| status["relay"]["state"] == "closed").await?;
    ensure!(closed["relay"]["why"].as_str().is_some_and(|why| why.contains("revoked")), "{closed}");
    host.until("alone", |status| status["members"][0]["online"] == false).await?;
    let said = host.pair(&["say", "to nobody"]).await?;
    ensure!(said["queued"].as_array().is_some_and(|queued| queued.len() == 1), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_kept_go_on_through_the_relay_when_either_daemon_was_killed() -> Result<()> {
    let lab = lab().await?;
    let (mut host, mut guest) = (Agent::owner(&lab).await?, Agent::stranger(&lab, "guest").await?);
    paired(&host, &guest, &["--keep"]).await?;
    host.kill_daemon().await?;
    guest.pair(&["say", "to nobody"]).await?;
    host.start_daemon().await?;
    ensure!(host.hear(1).await? == ["to nobody"]);
    guest.kill_daemon().await?;
    host.pair(&["say", "to who was stopped"]).await?;
    guest.start_daemon().await?;
    ensure!(guest.hear(1).await? == ["to who was stopped"]);
    Ok(())
}

/// Opens a session, in time, and says how its relay is.
async fn opened_with(host: &Agent, more: &[&str]) -> Result<Value> {
    let opened = host.open(more).await?;
    let link = Link::parse(invite(&opened)?)?;
    ensure!(link.ticket.is_some() == (opened["invites"][0]["relay"] == true), "{opened}");
    host.pair(&["close"]).await?;
    Ok(opened)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_opens_in_time_without_its_coordinator_and_says_what_is_missing() -> Result<()> {
    let mut lab = lab().await?;
    let host = Agent::owner(&lab).await?;
    let opened = opened_with(&host, &["--no-relay"]).await?;
    ensure!(opened["relay"].is_null() && opened["invites"][0]["relay"] == false, "{opened}");
    // It takes connections, and answers nothing.
    lab.relay.as_ref().context("a relay")?.stand_still().await?;
    let opened = opened_with(&host, &[]).await?;
    ensure!(
        opened["relay"]["state"] == "off" && opened["relay"]["code"] == "COORDINATOR_UNREACHABLE",
        "{opened}"
    );
    lab.kill_relay().await?;
    let opened = opened_with(&host, &[]).await?;
    ensure!(opened["relay"]["state"] == "off" && opened["invites"][0]["relay"] == false, "{opened}");
    ensure!(opened["relay"]["help"].as_str().is_some_and(|help| !help.is_empty()), "{opened}");
    let refused = host.run(&["open", "--relay"]).await?;
    ensure!(refused.json()?["code"] == "COORDINATOR_UNREACHABLE", "{refused:?}");
    let stranger = Agent::stranger(&lab, "stranger").await?;
    ensure!(opened_with(&stranger, &[]).await?["relay"].is_null());
    let refused = stranger.run(&["open", "--relay"]).await?;
    ensure!(refused.json()?["code"] == "INVALID_KEY", "{refused:?}");
    Ok(())
}

/// How many tickets are of use, and keys.
async fn made(lab: &Lab) -> Result<[usize; 2]> {
    let count = async |args: &[&str], of: &str| {
        let listed = lab.run(args).await?.success()?.json()?;
        let listed = listed[of].as_array().context("a list")?;
        anyhow::Ok(listed.iter().filter(|one| one["revoked_at"].is_null()).count())
    };
    let tickets = count(&["ticket", "--list", "--json"], "tickets").await?;
    Ok([tickets, count(&["keys", "list", "--json"], "keys").await?])
}

/// How many invites of a host's open session let somebody in.
async fn invites_of(host: &Agent) -> Result<usize> {
    let status = host.status().await?;
    let invites = status["invites"].as_array().into_iter().flatten();
    Ok(invites.filter(|invite| invite["state"] == "open").count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_answer_is_waited_for_behind_the_open() -> Result<()> {
    let (mut lab, _coordinator, url, join) = owned().await?;
    lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    let (host, guest) = (Agent::owner(&lab).await?, Agent::stranger(&lab, "guest").await?);
    let relay = lab.relay.as_ref().context("a relay")?;
    relay.stand_still().await?;
    let opened = host.open_past_the_network(&[]).await?;
    ensure!(opened["relay"]["state"] == "opening" && opened["invites"][0]["relay"] == true, "{opened}");
    // What is demanded and cannot be had leaves nothing behind, here or at the coordinator, if that answers in its time.
    for verb in ["open", "invite"] {
        let began = Instant::now();
        loop {
            let before = (made(&lab).await?, invites_of(&host).await?);
            let asked = Instant::now();
            let refused = host.run(&[verb, "--relay"]).await?;
            ensure!(asked.elapsed() < OPENING, "it took {:?}", asked.elapsed());
            let code = refused.json()?["code"].as_str().unwrap_or_default().to_owned();
            ensure!(["RELAY_UNREACHABLE", "COORDINATOR_UNREACHABLE"].contains(&code.as_str()), "{refused:?}");
            let after = (made(&lab).await?, invites_of(&host).await?);
            ensure!(after.1 == before.1, "{verb}: an invite is open");
            if code == "RELAY_UNREACHABLE" && after.0 == before.0 {
                break;
            }
            ensure!(began.elapsed() < SOON, "{verb} leaves {after:?} of {before:?}");
        }
    }
    relay.go_on().await?;
    host.until("open", |status| status["relay"]["state"] == "open").await?;
    let joined = guest.join(&from_afar(invite(&opened)?)?, &[]).await?;
    ensure!(joined["members"][0]["via"] == "relay", "{joined}");
    // A session that has no way yet, and gets one in vain, has it when the relay is back.
    let without = host.open(&["--no-relay"]).await?;
    ensure!(without["relay"].is_null() && without["invites"][0]["relay"] == false, "{without}");
    let session = without["session"].as_str().context("a session")?;
    relay.stand_still().await?;
    let refused = host.run(&["invite", "--relay", "--session", session]).await?;
    let code = refused.json()?["code"].clone();
    ensure!(code == "RELAY_UNREACHABLE" || code == "COORDINATOR_UNREACHABLE", "{refused:?}");
    relay.go_on().await?;
    let more = host.invite_past_the_network(&["--session", session]).await?;
    let another = Agent::stranger(&lab, "another").await?;
    let joined = another.join(&from_afar(invite(&more)?)?, &[]).await?;
    ensure!(joined["members"][0]["via"] == "relay", "{joined}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invites_that_are_taken_back_take_their_tickets_along_and_daemons_end_without_a_rest() -> Result<()> {
    let lab = lab().await?;
    let host = Agent::owner(&lab).await?;
    let open = async || {
        let listed = lab.run(&["ticket", "--list", "--json"]).await?.success()?.json()?;
        anyhow::Ok(listed["tickets"].as_array().context("tickets")?.len())
    };
    let (mut rounds, mut left) = (1, 0);
    loop {
        host.open_to_all(&["--invites", "3"]).await?;
        let opened = open().await?;
        host.pair(&["revoke"]).await?;
        let revoked = open().await?;
        if (opened, revoked) == (left + 3, left) {
            break;
        }
        // Neither is waited for if the coordinator of a busy machine takes longer than a command does.
        ensure!(rounds < 3, "{opened} tickets, and {revoked} when they were taken back; {left} before");
        host.pair(&["close"]).await?;
        (rounds, left) = (rounds + 1, open().await?);
    }
    let more = host.invite_past_the_network(&[]).await?;
    ensure!(open().await? == left + 1, "{more}");
    let guest = Agent::stranger(&lab, "guest").await?;
    guest.join(&from_afar(invite(&more)?)?, &[]).await?;
    host.pair(&["invite"]).await?;
    host.pair(&["close"]).await?;
    // The one that was used is remembered.
    ensure!(open().await? == left + 1);
    guest.until("over", |status| status["state"] == "closed").await?;
    for mut agent in [host, guest] {
        let socket = agent.config.join("pair/daemon.sock");
        let ended = agent.daemon.take().context("a daemon")?.terminate().await?;
        ensure!(ended.code == Some(0) && !socket.exists(), "{ended:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_alone_opens_nothing_and_who_floods_the_door_keeps_nobody_of_the_network_out() -> Result<()>
{
    let lab = lab().await?;
    let (host, near) = (Agent::owner(&lab).await?, Agent::stranger(&lab, "near").await?);
    let opened = host.open_to_all(&["--invites", "2"]).await?;
    let links = opened["invites"].as_array().context("invites")?.iter();
    let links: Vec<String> = links.filter_map(|one| one["text"].as_str()).map(str::to_owned).collect();
    let ticket = Link::parse(&links[0])?.ticket.context("a ticket")?;
    let place = lab.path("thief");
    let place = place.to_str().context("a path in UTF-8")?;
    let env = [("MYTUNNEL_CONFIG_DIR", place), ("MYTUNNEL_TICKET", ticket.text())];
    let mut thief = lab.spawn_with(&["access", "--no-direct", "--json"], &env)?;
    let door: std::net::SocketAddr =
        thief.event("ready").await?["bind"].as_str().context("an address")?.parse()?;
    // Idlers, who prove nothing.
    let mut idlers = Vec::new();
    for _ in 0..300 {
        idlers.push(TcpStream::connect(door).await?);
    }
    let began = Instant::now();
    let joined = near.join(&links[1], &[]).await?;
    ensure!(joined["goal"] == "meet" && joined["members"][0]["via"] == "network", "{joined}");
    ensure!(began.elapsed() < OPENING, "it took {:?}", began.elapsed());
    host.pair(&["say", "hello"]).await?;
    ensure!(near.hear(1).await? == ["hello"]);
    // And the one whose ticket it was is told.
    let far = Agent::stranger(&lab, "far").await?;
    let told = far.try_to_join(&from_afar(&links[0])?, &[]).await?;
    ensure!(told.json()?["code"] == "PAIR_USED", "{told:?}");
    let again = Ticket::parse(ticket.text()).context("a ticket")?;
    let (error, _) =
        refused(&lab, &["access", "--json"], &[env[0], ("MYTUNNEL_TICKET", again.text())]).await?;
    ensure!(error["code"] == "INVALID_KEY", "{error}");
    Ok(())
}
