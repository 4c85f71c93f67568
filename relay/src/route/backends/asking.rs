//! Asking a node whether it is there.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::health::{Health, Probe};
use crate::route::{PipeError, PipeSource};

/// Looked at so often while it is asked. When this process itself stands for a while, that counts as one look.
const TICK: Duration = Duration::from_millis(250);
/// Looks in a row at which nothing at all was heard of the node: two seconds.
const QUIET: u32 = 8;
/// The same of a node whose line takes bytes all the time, behind which question and answer may have to wait.
const BUSY: u32 = 32;

/// Asks it, and notes down what it says. It has said so, too, when anything else is heard of it meanwhile.
pub(in crate::route) async fn ask(source: Arc<dyn PipeSource>, health: Arc<Health>, _probe: Probe) {
    let life = health.life();
    let heard = life.heard();
    let (mut answer, mut quiet) = (pin!(source.probe()), 0);
    for _ in 0..BUSY {
        let taken = life.taken();
        match timeout(TICK, answer.as_mut()).await {
            Ok(Ok(())) => return life.hear(),
            Ok(Err(PipeError::Gone)) => return health.lose(),
            // It has no room, which tells nothing.
            Ok(Err(PipeError::Busy | PipeError::Open(_))) => return,
            Err(_) if life.is_heard_since(heard) => return,
            Err(_) if life.has_taken_since(taken) => quiet = 0,
            Err(_) => quiet += 1,
        }
        if quiet == QUIET {
            break;
        }
    }
    health.fall_silent(Instant::now());
}
