//! What the owner of a share sees of its requests.

use mytunnel_node::inspect::{Inspector, Keep};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::inspect::told::{self, Told};
use crate::report::Report;

/// Which requests are told, and where.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "What you see of requests")]
pub(crate) struct InspectFlags {
    /// Print a line for each request: method, path, status, time
    #[arg(long)]
    requests: bool,
}

/// The same, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// A line for each.
    lines: bool,
}

impl InspectFlags {
    pub(super) const fn wish(&self) -> Wish {
        Wish { lines: self.requests }
    }
}

impl Wish {
    /// Begins to watch, if anything is to be seen.
    pub(super) fn start(self, report: Report, tasks: &mut JoinSet<()>) -> Option<Inspector> {
        if !self.lines {
            return None;
        }
        let (inspector, recorder) = Inspector::new(Keep::LINES);
        tasks.spawn(recorder.run());
        tasks.spawn(tell(inspector.clone(), report));
        Some(inspector)
    }
}

/// One line for each request, when it has ended.
async fn tell(inspector: Inspector, report: Report) {
    let mut ended = inspector.ended();
    loop {
        match ended.recv().await {
            Ok(exchange) => {
                report.object(&Told::of(&exchange));
                report.note(told::line(&exchange));
            }
            Err(RecvError::Lagged(count)) => {
                report.warn(format_args!("{count} requests came too fast to be told"));
            }
            Err(RecvError::Closed) => return,
        }
    }
}
