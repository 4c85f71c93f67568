//! `mytunnel tenant show|plan`: what an account has, and the operator's hand on it.

use clap::{Subcommand, ValueEnum};
use mytunnel_keys::api::{PlanName, SetPlan, Tenant};

use crate::commands::projects::ServerArgs;
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::session::Session;
use crate::span;

/// See the plan of your account; the operator sets it
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: TenantCommand,
}

#[derive(Debug, Subcommand)]
enum TenantCommand {
    /// Show the plan
    Show(ServerArgs),
    /// Set the plan; what tunnels ask of visitors stays as it is
    Plan(PlanArgs),
}

#[derive(Debug, clap::Args)]
struct PlanArgs {
    /// The plan
    plan: Plan,

    /// How long the trial lasts, e.g. 14d
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse_some)]
    lasts: Option<u64>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Plan {
    /// Everything
    Pro,
    /// Everything for a time
    Trial,
    /// No new passwords before tunnels
    Free,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let tenant: Tenant = match &args.command {
        TenantCommand::Show(args) => Session::signed_in(context, args.server.as_deref())?.get("/tenant")?,
        TenantCommand::Plan(args) => {
            let asked = asked(args.plan, args.lasts, now())?;
            Session::signed_in(context, args.server.server.as_deref())?.put("/tenant/plan", &asked)?
        }
    };
    context.report.object(&tenant);
    context.report.line(line(&tenant, now()));
    Ok(())
}

fn asked(plan: Plan, lasts: Option<u64>, now: u64) -> Result<SetPlan, Failure> {
    match (plan, lasts) {
        (Plan::Trial, None) => Err(Failure::usage(
            "a trial needs its length",
            "Say how long: mytunnel tenant plan trial --for 14d.",
        )),
        (Plan::Pro | Plan::Free, Some(_)) => {
            Err(Failure::usage("only a trial has a length", "Leave out --for, or give the plan `trial`."))
        }
        (Plan::Trial, Some(lasts)) => {
            Ok(SetPlan { plan: PlanName::Trial, trial_ends_at: Some(now.saturating_add(lasts)) })
        }
        (Plan::Pro, None) => Ok(SetPlan { plan: PlanName::Pro, trial_ends_at: None }),
        (Plan::Free, None) => Ok(SetPlan { plan: PlanName::Free, trial_ends_at: None }),
    }
}

fn line(tenant: &Tenant, now: u64) -> String {
    let plan = match tenant.plan {
        PlanName::Pro => "pro",
        PlanName::Trial => "trial",
        PlanName::Free => "free",
    };
    let end = match tenant.trial_ends_at {
        None => String::new(),
        Some(end) if end > now => format!(", which ends in {}", span::human(end - now)),
        Some(end) => format!(", which ended {} ago", span::human(now - end)),
    };
    format!("{}: plan {plan}{end}", tenant.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_has_a_length_and_nothing_else_has() {
        assert_eq!(asked(Plan::Trial, Some(60), 1000).unwrap().trial_ends_at, Some(1060));
        assert_eq!(asked(Plan::Pro, None, 1000).unwrap().trial_ends_at, None);
        assert_eq!(asked(Plan::Trial, None, 1000).unwrap_err().exit_code(), 2);
        assert_eq!(asked(Plan::Free, Some(60), 1000).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_end_of_a_trial_is_said_from_now() {
        let tenant = |plan, trial_ends_at| Tenant { id: "ten_a".parse().unwrap(), plan, trial_ends_at };
        assert_eq!(line(&tenant(PlanName::Pro, None), 9), "ten_a: plan pro");
        assert!(line(&tenant(PlanName::Trial, Some(69)), 9).ends_with("ends in 1 min"));
        assert!(line(&tenant(PlanName::Trial, Some(9)), 69).ends_with("ended 1 min ago"));
    }
}
