//! How the record of a DNS-01 challenge gets into the DNS: by a program of the operator's, or by an answer of our own.

use std::{io, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use super::zone::Zone;

/// Time for the program: it may wait until its record is seen everywhere.
const PATIENCE: Duration = Duration::from_secs(180);

/// Bytes of its complaint that are passed on.
const WORDS: usize = 512;

/// Who sees to the record.
#[derive(Debug, Clone)]
pub(super) enum Records {
    Program(Hook),
    Own(Zone),
}

impl Records {
    /// Sets the TXT record `_acme-challenge.DOMAIN`.
    pub(super) async fn present(&self, domain: &str, value: &str) -> Result<(), HookError> {
        match self {
            Self::Program(hook) => hook.present(domain, value).await,
            Self::Own(zone) => {
                zone.show(value);
                Ok(())
            }
        }
    }

    /// Takes it away.
    pub(super) async fn clean_up(&self, domain: &str, value: &str) {
        match self {
            Self::Program(hook) => hook.clean_up(domain, value).await,
            Self::Own(zone) => zone.take_back(value),
        }
    }
}

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Hook(Vec<String>);

/// Why it did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("the program for DNS records cannot be started")]
    Start(#[source] io::Error),
    #[error("the program for DNS records failed ({status}): {words}")]
    Failed { status: std::process::ExitStatus, words: String },
    #[error("the program for DNS records took more than {} s", PATIENCE.as_secs())]
    Late,
}

impl Hook {
    /// `None` without a program.
    pub(super) fn new(command: &[String]) -> Option<Self> {
        (!command.is_empty()).then(|| Self(command.to_vec()))
    }

    async fn present(&self, domain: &str, value: &str) -> Result<(), HookError> {
        self.run("present", domain, value).await
    }

    /// What is left over does no harm.
    async fn clean_up(&self, domain: &str, value: &str) {
        if let Err(error) = self.run("cleanup", domain, value).await {
            tracing::warn!(%error, domain, "a DNS record may be left over");
        }
    }

    async fn run(&self, verb: &str, domain: &str, value: &str) -> Result<(), HookError> {
        let (program, arguments) = self.0.split_first().ok_or(HookError::Late)?;
        let mut command = Command::new(program);
        command.args(arguments).args([verb, &format!("_acme-challenge.{domain}"), value]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(HookError::Start)?;
        let output = timeout(PATIENCE, child.wait_with_output()).await.map_err(|_| HookError::Late)?;
        let output = output.map_err(HookError::Start)?;
        if output.status.success() {
            return Ok(());
        }
        let words = output.stderr.get(..WORDS).unwrap_or(&output.stderr);
        Err(HookError::Failed {
            status: output.status,
            words: String::from_utf8_lossy(words).trim().to_owned(),
        })
    }
}
