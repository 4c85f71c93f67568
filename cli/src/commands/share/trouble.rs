//! What may be wrong around a share, in the words of its owner.

use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_node::{Closed, DialError, Node, ShareError, StartError, Target};
use tokio::task::JoinSet;

use super::voice::Voice;
use crate::clock::Skew;
use crate::failure::{Failure, chain};

/// Time to find out whether anything listens at the target.
const PROBE: Duration = Duration::from_secs(2);

pub(super) fn warn_of_clock(node: &Node, voice: &Voice) {
    if let Some(complaint) = Skew::of_offset(node.status().relay.clock_offset).complaint() {
        voice.warn(format_args!("{complaint}; set it (`timedatectl set-ntp true`), or keys will be refused"));
    }
}

/// Whether anything is there yet is worth knowing, but no reason to wait.
pub(super) fn warn_if_down(target: Target, name: String, voice: Voice, tasks: &mut JoinSet<()>) {
    tasks.spawn(async move {
        let outcome = tokio::time::timeout(PROBE, target.probe()).await;
        let why = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => why_down(&error),
            Err(_) => "no answer".to_owned(),
        };
        voice.warn(format_args!(
            "nothing answers at {name} yet ({why}); visitors are turned away until it does"
        ));
    });
}

/// In as few words as will do.
fn why_down(error: &DialError) -> String {
    let refused = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::ConnectionRefused;
    if matches!(error, DialError::Connect(cause) if refused(cause)) {
        return "connection refused".to_owned();
    }
    chain(error)
}

impl From<Closed> for Failure {
    fn from(closed: Closed) -> Self {
        let failure = Self::new(closed.code.unwrap_or(Code::Internal), closed.message);
        // Our own words first; the relay's where it says more than the code does.
        match closed.code {
            Some(code) if closed.help.is_empty() || closed.help == code.help() => failure,
            Some(_) | None => failure.with_help(closed.help),
        }
    }
}

impl From<ShareError> for Failure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other refusal is told in its own words")]
    fn from(error: ShareError) -> Self {
        match error {
            ShareError::Refused(closed) => closed.into(),
            error => Self::new(error.code(), chain(&error)),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.code(), chain(&error))
    }
}
