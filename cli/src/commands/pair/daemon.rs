//! `mytunnel pair daemon`: the process behind the other commands, started by them.

use std::net::SocketAddr;
use std::time::Duration;

use mytunnel_carrier::websocket::Proxies;
use mytunnel_keys::error::Code;
use mytunnel_pairing::daemon::{self, Config, DaemonError};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ways;
use crate::context::Context;
use crate::failure::{Failure, chain, io_help};
use crate::runtime::{StopSignals, block_on_one_thread};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after this many seconds without a session and without a question
    #[arg(long, default_value_t = 5)]
    linger: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let config = Config {
        dir: context.config_dir()?.pairing(),
        listen: listen(context)?,
        linger: Duration::from_secs(args.linger),
        ways: Some(ways::of(context.config_dir()?, proxies(context))),
    };
    // A question to a coordinator that is under way would keep the process.
    block_on_one_thread(async {
        let mut signals = StopSignals::install()?;
        let stop = CancellationToken::new();
        let mut watch = JoinSet::new();
        let told = stop.clone();
        watch.spawn(async move {
            signals.next().await;
            told.cancel();
        });
        let ready = || {
            context.report.object(&json!({ "event": "ready" }));
            context.report.note("Ready.");
        };
        let ended = daemon::run(config, ready, stop).await;
        watch.shutdown().await;
        match ended {
            // Whoever started it wants one that runs, not this one.
            Err(DaemonError::Running) => {
                context.report.object(&json!({ "event": "ready" }));
                Ok(())
            }
            other => Ok(other?),
        }
    })
}

/// One that cannot be read is told of by every other command, and keeps no session from being held.
fn proxies(context: &Context) -> Proxies {
    context.env.proxies().unwrap_or_else(|failure| {
        tracing::warn!(why = failure.message(), "no proxy is used");
        Proxies::none()
    })
}

/// Where peers come, if the environment says.
pub(super) fn listen(context: &Context) -> Result<Vec<SocketAddr>, Failure> {
    let Some(text) = context.env.pair_listen.as_deref() else { return Ok(Vec::new()) };
    text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map_err(|_| {
        let message = format!("MYTUNNEL_PAIR_LISTEN is no list of addresses: {text}");
        Failure::usage(message, "Write IP:PORT, several with commas between them; port 0 is any.")
    })
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let message = chain(&error);
        match &error {
            DaemonError::Socket { source, .. } => Self::local(message, io_help(source)),
            DaemonError::Store(error) => Self::local(message, error.help()),
            DaemonError::Listen(_) => {
                Self::local(message, "Check MYTUNNEL_PAIR_LISTEN: the address has to be one of this machine.")
            }
            DaemonError::Running | DaemonError::Random(_) | DaemonError::Transport(_) => {
                Self::new(Code::Internal, message)
            }
        }
    }
}
