//! `mytunnel keys budget`: what a key may cost in a month.

use mytunnel_keys::api::{BudgetAnswer, SetBudget};

use crate::commands::projects::ServerArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::mint::MAX_BUDGET;
use crate::money;

use super::revoke::relays;

/// Say what a key may cost in a month, with the keys it made
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel keys budget KEY --cents 5000   fifty dollars a month (UTC)
  mytunnel keys budget KEY --cents none   no limit
  mytunnel keys budget KEY --cents 0      freezes it: its tunnels end at once

For the person signed in; nobody sets the budget of the key that they hold.")]
pub(crate) struct Args {
    /// The key's id, serial or text
    #[arg(value_name = "KEY")]
    key: String,

    /// US cents, or none
    #[arg(long, value_name = "CENTS|none", value_parser = cents)]
    cents: Limit,

    #[command(flatten)]
    server: ServerArgs,
}

/// A number of cents; none for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit(Option<u64>);

fn cents(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let cents = text.parse().ok().filter(|cents| *cents <= MAX_BUDGET);
    cents
        .map(|cents| Limit(Some(cents)))
        .ok_or_else(|| format!("give a number of cents from 0 to {MAX_BUDGET}, or none"))
}

pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let nonce = super::named(&args.key)?;
    let session = crate::session::Session::signed_in(context, args.server.server.as_deref())?;
    let Limit(cents) = args.cents;
    let wanted = SetBudget { monthly_budget_usd_cents: Some(cents.map(u64::cast_signed)) };
    let answer: BudgetAnswer = session.put(&format!("/tokens/{nonce}/budget"), &wanted)?;
    context.report.object(&answer);
    context.report.line(done(&answer));
    for line in relays(&answer.relays) {
        context.report.note(line);
    }
    Ok(())
}

fn done(answer: &BudgetAnswer) -> String {
    let shared = answer.token.shared_spent_cents;
    let spent = money::dollars(shared.unwrap_or(answer.token.spent_cents));
    let nonce = &answer.token.nonce;
    match answer.token.budget_cents {
        None => format!("{nonce} has no limit; {spent} this month."),
        Some(0) => format!("{nonce} is frozen."),
        Some(cents) => {
            let whom = if shared.is_some() { ", with the account's other devices," } else { "" };
            format!("{nonce}{whom} may cost {} a month; {spent} so far.", money::dollars(cents))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_of_cents_or_none() {
        assert_eq!(cents("5000"), Ok(Limit(Some(5000))));
        assert_eq!((cents("0"), cents("none")), (Ok(Limit(Some(0))), Ok(Limit(None))));
        for bad in ["", "-1", "1.5", "1000000001", "None", "null", "$5"] {
            assert!(cents(bad).is_err(), "{bad}");
        }
    }
}
