//! Nodes that stand still, found out by who waits for one where others stand beside it.
//!
//! A server may take its time, so that a late answer tells nothing. But its node says at once that it is there, when it is asked.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::route::{PipeError, Probe, Tunnel};

/// A node of which nothing was heard for so long, while somebody waits for its answer, is asked whether it is there.
const QUIET: Duration = Duration::from_millis(250);
/// Who waits longer has it asked less and less often, down to once in this time.
const LONGEST: Duration = Duration::from_secs(4);
/// What the node has time for to say so: some round trips.
const PATIENCE: Duration = Duration::from_millis(750);

/// Completes when the node was found to stand still, by whomever.
pub(super) async fn falls_silent(tunnel: &Tunnel) {
    let mut pause = QUIET;
    loop {
        let signs = tunnel.signs();
        sleep(pause).await;
        if tunnel.signs() == signs {
            if tunnel.is_silent() {
                return;
            }
            let Some(probe) = tunnel.ask() else { continue };
            if !answers(tunnel, probe).await {
                return;
            }
        }
        pause = (2 * pause).min(LONGEST);
    }
}

/// Whether a node that was found to stand still does so no more. While somebody asks it, that is not known.
pub(super) async fn is_back(tunnel: &Tunnel) -> bool {
    match tunnel.ask() {
        Some(probe) => answers(tunnel, probe).await,
        None => false,
    }
}

async fn answers(tunnel: &Tunnel, _probe: Probe<'_>) -> bool {
    let signs = tunnel.signs();
    match timeout(PATIENCE, tunnel.source().probe()).await {
        Ok(Ok(())) => tunnel.note_heard(),
        Ok(Err(PipeError::Gone)) => tunnel.note_lost(),
        // It has no room, which tells nothing.
        Ok(Err(PipeError::Busy | PipeError::Open(_))) => {}
        Err(_) if tunnel.signs() != signs => {}
        Err(_) => {
            tunnel.note_silent();
            return false;
        }
    }
    true
}
