//! `mytunnel keys revoke`: ends a key, and says when that was true everywhere.

use mytunnel_keys::api::{MasterLeft, RelayApplied, RevokeAnswer, TokenRow};
use serde::Serialize;

use crate::commands::projects::ServerArgs;
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::session::Session;
use crate::span;

/// Revoke a key; its tunnels end at once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works for the person signed in, with MTK_MASTER for its own children, and with a key's text:
whoever holds a key may revoke it.")]
pub(crate) struct Args {
    /// The key's id, serial or text
    #[arg(value_name = "KEY")]
    key: String,

    /// Revoke every child key it minted, too
    #[arg(long)]
    cascade: bool,

    /// Of a device: revoke the master keys it made, too, with their children
    #[arg(long)]
    masters: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let (session, nonce) = super::subject(context, &args.key, args.server.server.as_deref())?;
    let query = format!("?cascade={}&masters={}", args.cascade, args.masters);
    // Asked before: the holder of a revoked key is told nothing any more.
    let children = if args.cascade { 0 } else { children_left(&session, &nonce) };
    let answer: RevokeAnswer = session.delete(&format!("/tokens/{nonce}{query}"))?;
    context.report.object(&Revoked { answer: &answer, children_left: children });
    for line in done(&answer, args.cascade) {
        context.report.line(line);
    }
    for line in relays(&answer.relays) {
        context.report.note(line);
    }
    if let Some(warning) = still_works(children) {
        context.report.warn(warning);
    }
    if let Some(warning) = masters_left(&answer.masters_left, Some(&nonce)) {
        context.report.warn(warning);
    }
    Ok(())
}

/// Names the master keys that whoever was revoked has made, and how to end them.
pub(crate) fn masters_left(left: &[MasterLeft], device: Option<&str>) -> Option<String> {
    let names: Vec<_> = left
        .iter()
        .map(|key| format!("{} of the project {}, made {}", key.nonce, key.name, span::utc(key.created_at)))
        .collect();
    let (which, them) = match names.len() {
        0 => return None,
        1 => ("1 master key made by it still works".to_owned(), "it"),
        several => (format!("{several} master keys made by it still work"), "them all"),
    };
    let all = device.map(|device| format!("; {them} with `mytunnel keys revoke --masters {device}`"));
    Some(format!(
        "{which}: {}. End one that you do not trust with `mytunnel keys revoke --cascade KEY`{}.",
        names.join("; "),
        all.unwrap_or_default()
    ))
}

/// The server's answer, and what it leaves alive.
#[derive(Serialize)]
struct Revoked<'a> {
    #[serde(flatten)]
    answer: &'a RevokeAnswer,
    children_left: usize,
}

/// Keys that this one made and that outlive it. Whoever may not see them revokes without being told.
fn children_left(session: &Session, nonce: &str) -> usize {
    match super::all(session, false) {
        Ok(answer) => living_children(&answer.keys, nonce, now()),
        Err(failure) => {
            tracing::debug!(error = failure.message(), "the children of the key are not known");
            0
        }
    }
}

fn living_children(keys: &[TokenRow], nonce: &str, now: u64) -> usize {
    let lives = |key: &&TokenRow| {
        key.revoked_at.is_none() && key.expires_at.is_none_or(|expires_at| expires_at > now)
    };
    keys.iter().filter(|key| key.parent.as_deref() == Some(nonce)).filter(lives).count()
}

fn still_works(children: usize) -> Option<String> {
    match children {
        0 => None,
        1 => Some("1 child key of it still works; add --cascade to end it.".to_owned()),
        several => Some(format!("{several} child keys of it still work; add --cascade to end them.")),
    }
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
pub(crate) fn relays(relays: &[RelayApplied]) -> Vec<String> {
    let total = relays.len();
    if total == 0 {
        return vec!["No relay is connected; a relay learns of it before it serves again.".to_owned()];
    }
    let confirmed: Vec<_> = relays.iter().filter(|relay| relay.applied).collect();
    let slowest = confirmed.iter().filter_map(|relay| relay.ms).max();
    let within = slowest.map(|ms| format!(" within {ms} ms")).unwrap_or_default();
    let mut lines = vec![format!(
        "Confirmed by {} of {total} relay{}{within}.",
        confirmed.len(),
        if total == 1 { "" } else { "s" }
    )];
    let silent = relays.iter().filter(|relay| !relay.applied);
    lines.extend(
        silent.map(|relay| format!("Relay {} has not confirmed; cut off, it closes by itself.", relay.id)),
    );
    lines
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::secret::Seed;

    use super::*;

    fn answer(revoked_masters: u64, revoked_children: u64, relays: Vec<RelayApplied>) -> RevokeAnswer {
        RevokeAnswer { revoked_masters, revoked_children, relays, masters_left: Vec::new() }
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
    fn children_that_outlive_their_key_are_told() {
        assert_eq!(still_works(0), None);
        assert_eq!(still_works(1).unwrap(), "1 child key of it still works; add --cascade to end it.");
        assert_eq!(still_works(3).unwrap(), "3 child keys of it still work; add --cascade to end them.");
    }

    #[test]
    fn masters_that_outlive_their_maker_are_named() {
        let left = |name: &str| MasterLeft {
            nonce: "00aa".to_owned(),
            project: "proj_a".parse().unwrap(),
            name: name.to_owned(),
            created_at: 0,
        };
        assert_eq!(masters_left(&[], Some("d1")), None);
        let one = masters_left(&[left("web")], Some("d1")).unwrap();
        assert!(one.starts_with("1 master key made by it still works: 00aa of the project web"), "{one}");
        assert!(one.ends_with("; it with `mytunnel keys revoke --masters d1`."), "{one}");
        let two = masters_left(&[left("web"), left("api")], None).unwrap();
        assert!(two.starts_with("2 master keys") && two.contains("web") && two.contains("api"), "{two}");
        assert!(!two.contains("--masters"), "{two}");
    }

    #[test]
    fn only_living_children_of_that_key_count() {
        let row = |parent: &str, expires_at: u64, revoked_at: Option<u64>| TokenRow {
            nonce: "00".to_owned(),
            kind: mytunnel_keys::api::TokenKind::Child,
            name: String::new(),
            parent: Some(parent.to_owned()),
            project: None,
            scopes: mytunnel_keys::id::Scopes::default(),
            hosts: Vec::new(),
            created_at: 0,
            expires_at: Some(expires_at),
            revoked_at,
            live_tunnels: 0,
            budget_cents: None,
            spent_cents: 0,
            shared_spent_cents: None,
            made_by: None,
        };
        let keys = [row("a", 9, None), row("a", 9, Some(1)), row("a", 5, None), row("b", 9, None)];
        assert_eq!(living_children(&keys, "a", 5), 1);
    }

    #[test]
    fn relays_are_counted_and_a_silent_one_is_named() {
        let lines = relays(&[relay(true, Some(9)), relay(true, Some(12)), relay(false, None)]);
        assert_eq!(lines[0], "Confirmed by 2 of 3 relays within 12 ms.");
        assert!(lines[1].contains("has not confirmed"), "{lines:?}");
        assert_eq!(relays(&[relay(true, Some(3))]), ["Confirmed by 1 of 1 relay within 3 ms."]);
        assert!(relays(&[])[0].starts_with("No relay is connected"));
    }
}
