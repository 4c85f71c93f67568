//! The only share of a process.

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::board::Board;
use super::job::Job;
use super::place::Spot;
use super::plan::Plan;
use super::voice::Voice;
use crate::context::Context;
use crate::control::serve_status;
use crate::failure::Failure;
use crate::runtime::StopSignals;

pub(super) async fn run(plan: Plan, spot: Spot, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::install()?;
    let base = Base::start(spot, plan.is_end_to_end(), context.report).await?;
    let (board, stop, mut tasks) = (Board::default(), CancellationToken::new(), JoinSet::new());
    let asked = watch::Sender::new(plan.asked.clone()).subscribe();
    let voice = |_: Option<&_>| Voice::alone(context.report);
    let (job, outcome) = match Job::new(plan, &base, (asked, &board), voice, context) {
        Ok(mut job) => {
            let (status, described) = (base.watch_status(), board.clone());
            serve_status(context, move || described.described(&status.borrow()), &stop, &mut tasks);
            let told = async {
                signals.next().await;
                "stopped"
            };
            let outcome = job.run(&base, told).await;
            (Some(job), outcome.map(drop))
        }
        Err(failure) => (None, Err(failure)),
    };
    stop.cancel();
    base.leave(job.into_iter().collect(), &mut signals, context.report).await;
    tasks.shutdown().await;
    outcome
}
