//! A child process whose output is read line by line, and which never outlives its owner.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

/// How long one line of output, or one exit, is waited for before a test gives up: a browser that is driven on a busy machine
/// does much between two lines.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running program: its standard output as lines, its standard error collected.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
    reader: JoinSet<()>,
}

/// What a program that ended has left.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What was left of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Ended {
    /// The last line of standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        let line =
            self.stdout.lines().last().with_context(|| format!("no output; stderr: {}", self.stderr))?;
        serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))
    }

    /// Fails with both outputs unless the program ended with 0.
    pub fn success(self) -> Result<Self> {
        if self.code == Some(0) {
            return Ok(self);
        }
        bail!("exit {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }
}

impl Running {
    /// Starts `program` in `directory` with `environment` added; it is killed when this value is dropped.
    pub fn start<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        environment: &[(&str, &OsStr)],
        directory: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied()).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let mut lines = BufReader::new(child.stderr.take().context("standard error is piped")?).lines();
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut reader = JoinSet::new();
        let collected = Arc::clone(&stderr);
        reader.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut text = collected.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                text.push_str(&line);
                text.push('\n');
            }
        });
        Ok(Self { child, stdout: BufReader::new(stdout).lines(), stderr, reader })
    }

    /// Process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The next line of standard output.
    pub async fn line(&mut self) -> Result<String> {
        match tokio::time::timeout(PATIENCE, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => bail!("output ended; stderr: {}", self.stderr()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => bail!("no line in {PATIENCE:?}; stderr: {}", self.stderr()),
        }
    }

    /// Reads JSON lines until one has `"event": event`, and returns it.
    pub async fn event(&mut self, event: &str) -> Result<Value> {
        loop {
            let line = self.line().await?;
            let value: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
            if value["event"] == event {
                return Ok(value);
            }
            if value["event"] == "error" || value["event"] == "closed" {
                bail!("waited for {event}, got {line}; stderr: {}", self.stderr());
            }
        }
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing")
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(self) -> Result<Ended> {
        self.signal("TERM").await?;
        self.ended().await
    }

    /// SIGSTOP: it stands still from here on, with its connections open.
    pub async fn stand_still(&self) -> Result<()> {
        self.signal("STOP").await
    }

    /// SIGCONT: it goes on.
    pub async fn go_on(&self) -> Result<()> {
        self.signal("CONT").await
    }

    async fn signal(&self, name: &str) -> Result<()> {
        let id = self.id().context("it runs")?;
        let status = Command::new("kill").args(["-s", name, &id.to_string()]).status().await?;
        anyhow::ensure!(status.success(), "kill {id}");
        Ok(())
    }

    /// Waits for the program's own end.
    pub async fn ended(mut self) -> Result<Ended> {
        let mut stdout = String::new();
        let everything = async {
            while let Some(line) = self.stdout.next_line().await? {
                stdout.push_str(&line);
                stdout.push('\n');
            }
            let status = self.child.wait().await?;
            while self.reader.join_next().await.is_some() {}
            anyhow::Ok(status)
        };
        let status = tokio::time::timeout(PATIENCE, everything).await.context("it did not end")??;
        Ok(Ended { code: status.code(), stdout, stderr: self.stderr() })
    }
}
