//! A machine of somebody who does what is expected, with a daemon of its own.

use std::{ffi::OsStr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use mytunnel_pairing::Link;
use mytunnel_tests::process::{Ended, Running};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long anything that comes by itself is looked for.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Agent {
    home: TempDir,
    daemon: Running,
}

impl Agent {
    pub(crate) async fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut daemon = spawn(&home, &["daemon", "--linger", "600"], &[])?;
        daemon.event("ready").await?;
        Ok(Self { home, daemon })
    }

    /// The process is the one that was started.
    pub(crate) fn is_alive(&self) -> bool {
        self.daemon.id().is_some_and(|id| Path::new(&format!("/proc/{id}/exe")).exists())
    }

    pub(crate) async fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Result<Ended> {
        spawn(&self.home, args, env)?.ended().await
    }

    pub(crate) async fn pair(&self, args: &[&str]) -> Result<Value> {
        self.run(args, &[]).await?.success()?.json()
    }

    pub(crate) async fn try_to_join(&self, invite: &str) -> Result<Ended> {
        self.run(&["join"], &[("MYTUNNEL_PAIR_SECRET", invite)]).await
    }

    /// Opens a session; the texts of its invites.
    pub(crate) async fn open(&self, more: &[&str]) -> Result<(String, Vec<String>)> {
        let opened = self.pair(&[&["open", "--no-relay"], more].concat()).await?;
        let session = opened["session"].as_str().context("a session")?.to_owned();
        Ok((session, texts(&opened["invites"])?))
    }

    /// The next words of others in a session.
    pub(crate) async fn hear(&self, session: &str) -> Result<String> {
        let began = Instant::now();
        loop {
            let answer = self.pair(&["listen", "--wait", "5", "--session", session]).await?;
            if let Some(text) = answer["messages"][0]["text"].as_str() {
                return Ok(text.to_owned());
            }
            ensure!(began.elapsed() < SOON, "{answer}");
        }
    }

    /// A new guest comes in by the link, and both hear each other.
    pub(crate) async fn is_joined_by_a_guest(&self, session: &str, invite: &str) -> Result<()> {
        let guest = Self::start().await?;
        guest.try_to_join(invite).await?.success()?;
        self.pair(&["say", "hello", "--session", session]).await?;
        ensure!(guest.hear(session).await? == "hello");
        guest.pair(&["say", "hello to you", "--session", session]).await?;
        ensure!(self.hear(session).await? == "hello to you");
        Ok(())
    }
}

fn texts(invites: &Value) -> Result<Vec<String>> {
    let texts = invites.as_array().context("invites")?.iter();
    Ok(texts.filter_map(|one| one["text"].as_str()).map(str::to_owned).collect())
}

fn spawn(home: &TempDir, args: &[&str], env: &[(&str, &str)]) -> Result<Running> {
    let config = home.path().join("config");
    let mut all = vec![
        ("MYTUNNEL_CONFIG_DIR", config.as_os_str()),
        ("HOME", home.path().as_os_str()),
        ("MYTUNNEL_PAIR_LISTEN", OsStr::new("127.0.0.1:0")),
    ];
    all.extend(env.iter().map(|(name, value)| (*name, OsStr::new(*value))));
    let program = Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
    Running::start(program, [&["pair"], args, &["--json"]].concat(), &all, home.path())
}

/// What anybody learns who has the link.
pub(crate) fn link(invite: &str) -> Result<Link> {
    Ok(Link::parse(invite)?)
}
