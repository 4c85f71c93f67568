//! Agents on this machine, each with a daemon of its own, which is asked as `mytunnel mcp` asks it: by its socket.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use mytunnel_pairing::api::{self, Answer, Request};
use mytunnel_pairing::{Said, Verify};
use mytunnel_tests::process::Running;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// Longest wait for what others say.
const WAIT: u64 = 20_000;

/// An agent and its daemon, which ends with it.
pub(crate) struct Agent {
    home: TempDir,
    daemon: Running,
    socket: PathBuf,
    name: String,
}

impl Agent {
    pub(crate) async fn start(name: &str) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let config = home.path().join("config");
        let environment = [
            ("HOME", home.path().as_os_str()),
            ("MYTUNNEL_CONFIG_DIR", config.as_os_str()),
            ("MYTUNNEL_PAIR_LISTEN", OsStr::new("127.0.0.1:0")),
        ];
        let line = ["pair", "daemon", "--json", "--linger", "3600"];
        let program = Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
        let mut daemon = Running::start(program, line, &environment, home.path())?;
        daemon.event("ready").await?;
        let socket = api::socket(&config.join("pair"));
        Ok(Self { home, daemon, socket, name: name.to_owned() })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn process(&self) -> Result<u32> {
        self.daemon.id().context("the daemon runs")
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        match serde_json::from_slice(&answer)? {
            Answer::Done(value) => Ok(value),
            Answer::Failed(trouble) => bail!("{}: {trouble:?}", self.name),
        }
    }

    /// Opens a session; its id, and its invites.
    pub(crate) async fn open(&self, invites: usize) -> Result<(String, Vec<String>)> {
        let request = Request::Open {
            goal: "measure".to_owned(),
            invites,
            code: false,
            ttl_s: 600,
            verify: Verify::Ask,
            name: self.name.clone(),
            agent: String::new(),
            keep: false,
            relay: None,
        };
        let opened = self.ask(&request).await?;
        let texts = opened["invites"].as_array().into_iter().flatten();
        let texts = texts.filter_map(|invite| Some(invite["text"].as_str()?.to_owned())).collect();
        Ok((opened["session"].as_str().context("a session")?.to_owned(), texts))
    }

    pub(crate) async fn join(&self, invite: &str) -> Result<()> {
        let request = Request::Join {
            secret: Zeroizing::new(invite.to_owned()),
            name: self.name.clone(),
            agent: String::new(),
            addresses: Vec::new(),
            verify: Verify::Ask,
            keep: false,
            relay: false,
        };
        let joined = self.ask(&request).await?;
        ensure!(joined["state"] == "connected", "{joined}");
        Ok(())
    }

    pub(crate) async fn say(&self, session: &str, text: String) -> Result<Value> {
        let session = Some(session.to_owned());
        self.ask(&Request::Say { session, said: Said::Chat { text }, reply_to: None, to: Vec::new() }).await
    }

    /// What the others have said behind `since`, and up to where that is; nothing where nothing has come for a while.
    pub(crate) async fn hear(&self, session: &str, since: u64) -> Result<(Vec<Value>, u64)> {
        let (session, reader) = (Some(session.to_owned()), "bench".to_owned());
        let since = Some(since);
        let mut heard =
            self.ask(&Request::Listen { session, reader, since, wait_ms: WAIT, own: false }).await?;
        ensure!(heard["closed"].is_null() && heard["missed"] == 0, "{} heard {heard}", self.name);
        let next = heard["next"].as_u64().context("up to where")?;
        let Value::Array(messages) = heard["messages"].take() else { bail!("no messages: {heard}") };
        Ok((messages, next))
    }

    /// Number of the session's last entry.
    pub(crate) async fn last(&self, session: &str) -> Result<u64> {
        let request = Request::Status { session: Some(session.to_owned()), reader: String::new() };
        self.ask(&request).await?["sessions"][0]["last"].as_u64().context("the last")
    }
}

/// A host and as many guests, in one session.
pub(crate) async fn room(guests: usize) -> Result<(Agent, Vec<Agent>, String)> {
    let host = Agent::start("host").await?;
    let (session, invites) = host.open(guests).await?;
    let mut inside = Vec::new();
    for (number, invite) in invites.iter().enumerate() {
        let guest = Agent::start(&format!("guest {number}")).await?;
        guest.join(invite).await?;
        inside.push(guest);
    }
    Ok((host, inside, session))
}
