//! Nodes that stand still, found out by who waits for one where others stand beside it.
//!
//! A server may take its time, so that a late answer tells nothing. But its node says at once that it is there, when it is asked.

use std::time::Duration;

use tokio::time::sleep;

use crate::route::Tunnel;

/// A node of which nothing was heard for so long, while somebody waits for its answer, is asked whether it is there.
const QUIET: Duration = Duration::from_millis(250);
/// Who waits longer has it asked, or looks for another, less and less often, down to once in this time.
const LONGEST: Duration = Duration::from_secs(4);

/// Completes when the node was found to stand still, by whomever, and the request `may_move`. Of one that never may, nothing is
/// waited for once that is found out, which is of use to others.
pub(super) async fn gives_up(tunnel: &Tunnel, is_movable: bool, may_move: impl Fn() -> bool) {
    let mut pause = QUIET;
    loop {
        let heard = tunnel.life().heard();
        sleep(pause).await;
        pause = (2 * pause).min(LONGEST);
        if tunnel.life().is_heard_since(heard) {
            continue;
        }
        if !tunnel.is_silent() {
            tunnel.ask().await;
        }
        if !tunnel.is_silent() {
            continue;
        }
        if !is_movable {
            return std::future::pending().await;
        }
        if may_move() {
            return;
        }
    }
}

/// Whether a node that was found to stand still does so no more.
pub(super) async fn is_back(tunnel: &Tunnel) -> bool {
    tunnel.ask().await;
    !tunnel.is_silent()
}
