//! Keys as people read them: a table, a tree, one by itself.

use mytunnel_keys::api::{TokenKind, TokenRow};

use crate::money;
use crate::report::columns;
use crate::span;

const HEADING: [&str; 8] = ["KEY", "KIND", "NAME", "PROJECT", "MAY", "LEFT", "TUNNELS", "SPENT"];
/// Beside those, where a key may not use every name.
const NAMES: &str = "NAMES";

/// Whether a key was neither revoked nor is past its life.
pub(super) fn works(key: &TokenRow, now: u64) -> bool {
    key.revoked_at.is_none() && key.expires_at.is_none_or(|end| now < end)
}

/// All keys in the order in which they came.
pub(super) fn list(keys: &[TokenRow], now: u64) -> Vec<String> {
    table(keys.iter().map(|key| (String::new(), key)).collect(), now)
}

/// Every key under the one that made it.
pub(super) fn tree(keys: &[TokenRow], now: u64) -> Vec<String> {
    let known = |nonce: &str| keys.iter().any(|key| key.nonce == nonce);
    let roots = keys.iter().filter(|key| !key.parent.as_deref().is_some_and(known));
    let mut rows = Vec::new();
    for root in roots {
        rows.push((String::new(), root));
        let children: Vec<_> =
            keys.iter().filter(|key| key.parent.as_deref() == Some(root.nonce.as_str())).collect();
        for (at, child) in children.iter().enumerate() {
            let branch = if at + 1 == children.len() { "└─ " } else { "├─ " };
            rows.push((branch.to_owned(), *child));
        }
    }
    table(rows, now)
}

/// Everything about one key.
pub(super) fn one(key: &TokenRow, now: u64) -> Vec<String> {
    let mut rows = vec![
        ("key", key.nonce.clone()),
        ("kind", kind(key.kind).to_owned()),
        ("name", or_dash(&key.name)),
        ("made by", made_by(key)),
        (
            "project",
            key.project.as_ref().map_or_else(|| "every one of the account".to_owned(), ToString::to_string),
        ),
        ("may share", may(key)),
        ("names", names(key)),
        ("created", span::utc(key.created_at)),
        ("ends", key.expires_at.map_or_else(|| "never".to_owned(), span::utc)),
        ("left", left(key, now)),
        ("live tunnels", key.live_tunnels.to_string()),
        ("spent this month", spent(key)),
    ];
    if let Some(at) = key.revoked_at {
        rows.push(("revoked", span::utc(at)));
    }
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    columns(&rows)
}

/// The key that minted it; of a master key the person, and the device where it was one.
fn made_by(key: &TokenRow) -> String {
    let Some(maker) = &key.made_by else { return key.parent.clone().unwrap_or_else(|| "-".to_owned()) };
    let account = maker.account.as_deref().unwrap_or("somebody who is gone");
    match &maker.device {
        Some(device) => format!("{account}, on the device {device}"),
        None => format!("{account}, in a browser"),
    }
}

fn table(keys: Vec<(String, &TokenRow)>, now: u64) -> Vec<String> {
    let limited = keys.iter().any(|(_, key)| is_limited(key));
    let heading = HEADING.into_iter().chain(limited.then_some(NAMES)).map(str::to_owned).collect();
    let row = |(branch, key): (String, &TokenRow)| {
        let mut row = vec![
            format!("{branch}{}", key.nonce),
            kind(key.kind).to_owned(),
            or_dash(&key.name),
            key.project.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            may(key),
            left(key, now),
            key.live_tunnels.to_string(),
            spent(key),
        ];
        row.extend(limited.then(|| names(key)));
        row
    };
    let rows: Vec<_> = std::iter::once(heading).chain(keys.into_iter().map(row)).collect();
    columns(&rows)
}

const fn kind(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Master => "master",
        TokenKind::Child => "child",
        TokenKind::User => "device",
        TokenKind::Relay => "relay",
        TokenKind::Ticket => "ticket",
    }
}

/// What it has cost in this month, and what it may.
fn spent(key: &TokenRow) -> String {
    let spent = money::dollars(key.spent_cents);
    match key.budget_cents {
        None => spent,
        Some(0) => "frozen".to_owned(),
        Some(cents) => {
            let gone = match key.shared_spent_cents {
                Some(all) => {
                    format!("{spent}, with the account's other devices {}", money::dollars(all))
                }
                None => spent,
            };
            format!("{gone} of {}", money::dollars(cents))
        }
    }
}

fn may(key: &TokenRow) -> String {
    if key.kind == TokenKind::Master { "mint, revoke".to_owned() } else { or_dash(&key.scopes.to_string()) }
}

fn is_limited(key: &TokenRow) -> bool {
    !key.hosts.is_empty() && key.hosts.iter().all(|pattern| pattern.as_str() != "*")
}

fn names(key: &TokenRow) -> String {
    if !is_limited(key) {
        return "any".to_owned();
    }
    let names: Vec<&str> = key.hosts.iter().map(|pattern| pattern.as_str()).collect();
    names.join(" ")
}

fn left(key: &TokenRow, now: u64) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked".to_owned(),
        (None, None) => "no end".to_owned(),
        (None, Some(end)) if end <= now => "expired".to_owned(),
        (None, Some(end)) => span::human(end - now),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(nonce: &str, kind: TokenKind, parent: Option<&str>) -> TokenRow {
        TokenRow {
            nonce: nonce.to_owned(),
            kind,
            name: "web".to_owned(),
            parent: parent.map(str::to_owned),
            project: Some("proj_a".parse().unwrap()),
            scopes: "http".parse().unwrap(),
            hosts: vec![],
            created_at: 0,
            expires_at: (kind == TokenKind::Child).then_some(3600),
            revoked_at: None,
            live_tunnels: 0,
            budget_cents: None,
            spent_cents: 0,
            shared_spent_cents: None,
            made_by: None,
        }
    }

    #[test]
    fn children_stand_under_their_parent_and_orphans_alone() {
        let keys = [
            key("aa", TokenKind::Child, Some("mm")),
            key("mm", TokenKind::Master, None),
            key("bb", TokenKind::Child, Some("mm")),
            key("cc", TokenKind::Child, Some("gone")),
        ];
        let lines = tree(&keys, 0);
        let first: Vec<&str> = lines.iter().map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(first, ["KEY", "mm", "├─ aa", "└─ bb", "cc"]);
    }

    #[test]
    fn the_names_of_keys_are_shown_where_one_is_limited() {
        let mut keys = [key("aa", TokenKind::Child, None), key("bb", TokenKind::Child, None)];
        assert!(list(&keys, 0).iter().all(|line| !line.contains("NAMES") && !line.contains("any")));
        keys[0].hosts = vec!["web".parse().unwrap(), "pr-*".parse().unwrap()];
        for lines in [list(&keys, 0), tree(&keys, 0)] {
            let last: Vec<&str> = lines.iter().map(|line| line.rsplit("  ").next().unwrap()).collect();
            assert_eq!(last, ["NAMES", "web pr-*", "any"]);
        }
        keys[0].hosts = vec!["web".parse().unwrap(), "*".parse().unwrap()];
        assert!(list(&keys, 0).iter().all(|line| !line.contains("NAMES")));
    }

    #[test]
    fn spend_stands_beside_its_limit() {
        let mut master = key("mm", TokenKind::Master, None);
        master.spent_cents = 1234;
        assert_eq!(spent(&master), "$12.34");
        master.budget_cents = Some(5000);
        assert_eq!(spent(&master), "$12.34 of $50.00");
        master.budget_cents = Some(0);
        assert_eq!(spent(&master), "frozen");
    }

    #[test]
    fn a_key_works_until_it_ends() {
        let mut child = key("aa", TokenKind::Child, None);
        assert!(works(&child, 3599) && !works(&child, 3600));
        child.revoked_at = Some(10);
        assert!(!works(&child, 0));
        assert!(works(&key("mm", TokenKind::Master, None), u64::MAX));
    }

    #[test]
    fn time_left_tells_the_state() {
        let mut child = key("aa", TokenKind::Child, None);
        assert_eq!(left(&child, 0), "1 h");
        assert_eq!(left(&child, 3600), "expired");
        child.revoked_at = Some(1);
        assert_eq!(left(&child, 0), "revoked");
        assert_eq!(left(&key("mm", TokenKind::Master, None), 0), "no end");
    }

    #[test]
    fn one_key_says_what_it_may() {
        let text = one(&key("mm", TokenKind::Master, None), 0).join("\n");
        assert!(text.contains("mint, revoke"), "{text}");
        assert!(text.contains("1970-01-01 00:00:00Z"), "{text}");
    }
}
