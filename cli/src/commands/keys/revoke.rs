//! `mytunnel keys revoke`: ends a key, and says when that was true everywhere.

use mytunnel_keys::api::RevokeAnswer;

use crate::commands::projects::ServerArgs;
use crate::context::Context;
use crate::failure::Failure;

/// Revoke a key; its tunnels end at once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works for the person signed in, with MTK_MASTER for its own children, and with a key's text:
whoever holds a key may revoke it.")]
pub(crate) struct Args {
    /// The key's id, serial or text
    #[arg(value_name = "KEY")]
    key: String,

    /// Revoke every key it made, too
    #[arg(long)]
    cascade: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let (session, nonce) = super::subject(context, &args.key, args.server.server.as_deref())?;
    let query = if args.cascade { "?cascade=true" } else { "" };
    let answer: RevokeAnswer = session.delete(&format!("/tokens/{nonce}{query}"))?;
    context.report.object(&answer);
    for line in done(&answer, args.cascade) {
        context.report.line(line);
    }
    for line in relays(&answer) {
        context.report.note(line);
    }
    Ok(())
}

/// What was revoked.
fn done(answer: &RevokeAnswer, cascade: bool) -> Vec<String> {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let (masters, children) = (answer.revoked_masters, answer.revoked_children);
    let mut lines = Vec::new();
    if masters > 0 {
        lines.push(format!("Revoked {masters} master key{}.", plural(masters)));
    }
    if children > 0 || (cascade && masters > 0) {
        let how = if cascade { " (cascade)" } else { "" };
        lines.push(format!("Revoked {children} child key{}{how}.", plural(children)));
    }
    if lines.is_empty() {
        lines.push("Nothing to do: it was revoked before.".to_owned());
    }
    lines
}

/// Where that is true by now.
fn relays(answer: &RevokeAnswer) -> Vec<String> {
    let total = answer.relays.len();
    if total == 0 {
        return vec!["No relay is connected; a relay learns of it before it serves again.".to_owned()];
    }
    let confirmed: Vec<_> = answer.relays.iter().filter(|relay| relay.applied).collect();
    let slowest = confirmed.iter().filter_map(|relay| relay.ms).max();
    let within = slowest.map(|ms| format!(" within {ms} ms")).unwrap_or_default();
    let mut lines = vec![format!(
        "Confirmed by {} of {total} relay{}{within}.",
        confirmed.len(),
        if total == 1 { "" } else { "s" }
    )];
    let silent = answer.relays.iter().filter(|relay| !relay.applied);
    lines.extend(
        silent.map(|relay| format!("Relay {} has not confirmed; cut off, it closes by itself.", relay.id)),
    );
    lines
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::api::RelayApplied;
    use mytunnel_keys::secret::Seed;

    use super::*;

    fn answer(revoked_masters: u64, revoked_children: u64, relays: Vec<RelayApplied>) -> RevokeAnswer {
        RevokeAnswer { revoked_masters, revoked_children, relays }
    }

    fn relay(applied: bool, ms: Option<u64>) -> RelayApplied {
        RelayApplied { id: Seed::from_bytes([1; 32]).public(), applied, ms }
    }

    #[test]
    fn a_cascade_counts_both_kinds() {
        assert_eq!(
            done(&answer(1, 17, vec![]), true),
            ["Revoked 1 master key.", "Revoked 17 child keys (cascade)."]
        );
        assert_eq!(done(&answer(1, 0, vec![]), true)[1], "Revoked 0 child keys (cascade).");
    }

    #[test]
    fn one_key_is_one_line_and_none_is_said() {
        assert_eq!(done(&answer(0, 1, vec![]), false), ["Revoked 1 child key."]);
        assert_eq!(done(&answer(1, 0, vec![]), false), ["Revoked 1 master key."]);
        assert_eq!(done(&answer(0, 0, vec![]), true), ["Nothing to do: it was revoked before."]);
    }

    #[test]
    fn relays_are_counted_and_a_silent_one_is_named() {
        let lines =
            relays(&answer(0, 1, vec![relay(true, Some(9)), relay(true, Some(12)), relay(false, None)]));
        assert_eq!(lines[0], "Confirmed by 2 of 3 relays within 12 ms.");
        assert!(lines[1].contains("has not confirmed"), "{lines:?}");
        assert_eq!(
            relays(&answer(0, 1, vec![relay(true, Some(3))])),
            ["Confirmed by 1 of 1 relay within 3 ms."]
        );
        assert!(relays(&answer(0, 1, vec![]))[0].starts_with("No relay is connected"));
    }
}
