//! Links to a new password, by a command of the operator's that sends mail.
//!
//! The command is run without a shell; what to send comes as one JSON object on its standard input, so that no secret is
//! seen in the list of processes. One runs at a time, for so long at most; the queue before it is bounded.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::audit::{Act, Entry, Party};
use crate::shared::Shared;

/// Addresses that may wait for the command.
pub(crate) const WAITING: usize = 32;
/// Time that the command has.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a mail was not handed over.
#[derive(Debug, thiserror::Error)]
enum MailError {
    #[error("the mail command cannot be run")]
    Run(#[from] std::io::Error),
    #[error("the mail command took longer than {} s", PATIENCE.as_secs())]
    Late,
    #[error("the mail command ended with {0}")]
    Failed(std::process::ExitStatus),
}

/// Sends links to the addresses that have an account, until the coordinator stops.
pub(crate) async fn send_links(shared: Arc<Shared>, command: Vec<String>, mut asked: mpsc::Receiver<String>) {
    while let Some(Some(email)) = shared.stop.run_until_cancelled(asked.recv()).await {
        let account = match shared.store.account(email).await {
            Ok(Some(account)) => account,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(%error, "a link to a new password was not sent");
                continue;
            }
        };
        let (now, locked) = (shared.clock.now(), account.is_locked());
        let party = Party::Account(account.email.clone());
        let entry = Entry {
            at: now,
            tenant: Some(account.tenant),
            actor: Party::System,
            act: Act::PasswordAsk,
            subject: party,
            project: None,
            detail: if locked {
                "none was sent: a restore locked the account".to_owned()
            } else {
                String::new()
            },
        };
        if let Err(error) = shared.store.note(entry).await {
            tracing::error!(%error, "a link to a new password was not sent");
            continue;
        }
        // Whoever was removed since the backup would come back by it.
        if locked {
            continue;
        }
        let token = shared.vault.reset_token(&account.email, now);
        let url = format!("{}/#/reset?token={}", shared.public().url.base(), token.as_str());
        let cluster = shared.issuer.cluster();
        let message = json!({
            "to": account.email, "url": url, "subject": format!("A new password for {cluster}"),
            "text": format!("Somebody asked for a new password for {} at {cluster}. This link sets one, within an hour, once:\n\n{url}\n\nIf it was not you, nothing needs to be done.\n", account.email),
        });
        if let Err(error) = run(&command, &message.to_string()).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a link to a new password was not sent"
            );
        }
    }
}

async fn run(command: &[String], message: &str) -> Result<(), MailError> {
    let Some((program, args)) = command.split_first() else { return Ok(()) };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read it says by its status whether that was right.
            let _ = stdin.write_all(message.as_bytes()).await;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(PATIENCE, work).await.map_err(|_| MailError::Late)??;
    if status.success() { Ok(()) } else { Err(MailError::Failed(status)) }
}
