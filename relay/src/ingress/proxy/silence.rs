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

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use futures::future::BoxFuture;
    use mytunnel_keys::id::{TunnelId, TunnelKind};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::route::{Pipe, PipeError, PipeSource};

    /// Says nothing, and counts how often it is asked.
    #[derive(Debug, Default)]
    struct Still(AtomicUsize);

    impl PipeSource for Still {
        fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
            Box::pin(pending())
        }

        fn probe(&self) -> BoxFuture<'_, Result<(), PipeError>> {
            self.0.fetch_add(1, Relaxed);
            Box::pin(pending())
        }
    }

    fn still() -> (Arc<Still>, Tunnel) {
        let source = Arc::new(Still::default());
        let (id, name, project) = (TunnelId::from_bytes([1; 16]), "web".parse(), "proj_a".parse());
        let its = Arc::clone(&source) as Arc<dyn PipeSource>;
        (source, Tunnel::new(id, name.unwrap(), project.unwrap(), TunnelKind::Http, its))
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn who_can_go_nowhere_looks_for_another_less_and_less_often_and_asks_nobody() {
        let (asked, tunnel) = still();
        let looked = Cell::new(0);
        let may_move = || {
            looked.set(looked.get() + 1);
            false
        };
        assert!(timeout(HOUR, gives_up(&tunnel, true, may_move)).await.is_err());
        assert!((890..=910).contains(&looked.get()), "{}", looked.get());
        assert_eq!(asked.0.load(Relaxed), 1, "what was found out is known until something is heard");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_finds_out_and_who_may_not_move_waits_on() {
        let (asked, tunnel) = still();
        let since = Instant::now();
        let (moved, stayed) = tokio::join!(
            async {
                gives_up(&tunnel, true, || true).await;
                since.elapsed()
            },
            timeout(HOUR, gives_up(&tunnel, false, || panic!("it may not move"))),
        );
        assert!(moved < Duration::from_secs(3) && stayed.is_err(), "{moved:?}");
        assert_eq!(asked.0.load(Relaxed), 1, "once for both");
    }
}
