//! No text reads a table from end to end, on either engine: every one of them is found in the files, or composed for every
//! filter that there is, and its plan is looked at.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use mytunnel_keys::usage::Month;
use rusqlite::Connection;

use super::sources;
use crate::authority::Reach;
use crate::store::audit::{self, AuditFilter};
use crate::store::filter::Text;
use crate::store::keys::{self, KeyFilter, Kin};
use crate::store::sql::{Reading, Session, params};
use crate::store::testing::Database;
use crate::store::usage::{UsageFilter, summed};
use crate::store::{backup, connect, devices, postgres, tunnels};

/// What may read a table whole, by a piece of its text (by all of it after a `=`), and why.
const WHOLE: &[(&str, &str)] = &[
    ("SELECT n.name, n.project, t.kind FROM names n", "a snapshot for a relay is all of it"),
    ("=SELECT name, tenant FROM kept_names", "a snapshot is all of it"),
    ("SELECT tunnel, username, hash, generation FROM basic_gates", "a snapshot is all of it"),
    (
        "SELECT tunnel, provider, allowed_domains, allowed_emails, generation FROM oidc_gates",
        "a snapshot is all of it",
    ),
    ("SELECT tunnel, kind, value, generation FROM tunnel_gates", "a snapshot is all of it"),
    (
        "WHERE t.id = d.tunnel AND d.verified_at IS NOT NULL",
        "a snapshot is all of it; its index has nothing else",
    ),
    ("WHERE b.told = 1", "a snapshot is all of it; its index has nothing else"),
    ("FROM relays r JOIN keys k", "relays are enrolled by their operator, one by one"),
    ("NOT EXISTS (SELECT 1 FROM accounts)", "it ends at the first row"),
    ("SELECT DISTINCT tenant FROM accounts", "a step of a migration"),
    ("FROM sign_ins", "it has a bound"),
    ("SELECT count(*) FROM leases WHERE held > 0", "a number for operators; its index has nothing else"),
    ("FROM basic_gates g", "a tenant has 2,000 at most"),
    ("FROM oidc_gates g", "a tenant has 2,000 at most"),
    ("FROM tunnel_gates g CROSS", "a tenant has 2,000 at most"),
    ("DELETE FROM feed", "an era begins"),
    ("DELETE FROM closings", "an era begins"),
    ("DELETE FROM head", "one row"),
    ("FROM sqlite_schema", "the schema"),
    ("kind IN ('user', 'master')", "a restore ends every key"),
    ("kind = 'relay' AND revoked_at IS NULL", "a restore ends every relay, and says which are back"),
    ("=DELETE FROM identities", "a restore ends every one"),
    (
        "UPDATE accounts SET password = $1, password_at = $2 WHERE deleted_at IS NULL",
        "a restore ends every password",
    ),
    (
        "SELECT email, role FROM accounts WHERE deleted_at IS NULL ORDER BY role DESC",
        "a restore says who is back",
    ),
    ("UPDATE accounts SET totp_step = $1 WHERE totp_step < $1", "a restore"),
    ("FROM backup", "a backup's own rows"),
    ("FROM pragma_", "the schema"),
    ("FROM followers WHERE coordinator <> $3", "relays are enrolled by their operator, one by one"),
];

/// What only a server is asked, which several coordinators may share.
const SERVER_ONLY: &[&str] = &["followers", " live", "proofs", "_advisory_", "SELECT EXTRACT("];

/// What only a SQLite file is asked.
const SQLITE_ONLY: &[&str] = &["sqlite_schema", "pragma_", "backup"];

/// A piece of Rust, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Word(String),
    Other(char),
}

/// Words, texts and what is between them, without comments.
fn tokens(source: &str) -> Vec<Token> {
    let letters: Vec<char> = source.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(&letter) = letters.get(at) {
        let rest: String = letters[at..letters.len().min(at + 3)].iter().collect();
        if rest.starts_with("//") {
            while letters.get(at).is_some_and(|letter| *letter != '\n') {
                at += 1;
            }
        } else if letter == '"' {
            let mut text = String::new();
            at += 1;
            while letters[at] != '"' {
                if letters[at] == '\\' {
                    at += 1;
                }
                text.push(letters[at]);
                at += 1;
            }
            at += 1;
            found.push(Token::Text(text));
        } else if letter == '\'' && letters.get(at + 2) == Some(&'\'') {
            at += 3;
        } else if letter == '\'' && letters.get(at + 1) == Some(&'\\') {
            at += 4;
        } else if letter.is_ascii_alphanumeric() || letter == '_' {
            let start = at;
            while letters.get(at).is_some_and(|letter| letter.is_ascii_alphanumeric() || *letter == '_') {
                at += 1;
            }
            found.push(Token::Word(letters[start..at].iter().collect()));
        } else {
            if !letter.is_whitespace() {
                found.push(Token::Other(letter));
            }
            at += 1;
        }
    }
    found
}

/// The texts of a file, those of its macros `select_…` put together: the last `concat!` of each has the beginning, and its
/// parameters come last.
fn texts(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    let tokens = tokens(source);
    let is_word = |at: usize, word: &str| tokens.get(at) == Some(&Token::Word(word.to_owned()));
    let mut macros: Vec<(String, Vec<Option<String>>)> = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if word == "macro_rules" => {
                let Token::Word(name) = &tokens[at + 2] else { panic!("a macro has a name") };
                let Some(start) = (at..tokens.len()).find(|at| is_word(*at, "concat")) else { break };
                if !name.starts_with("select_") {
                    at += 3;
                    continue;
                }
                let mut parts = Vec::new();
                at = start + 3;
                while tokens[at] != Token::Other(')') {
                    match &tokens[at] {
                        Token::Text(text) => parts.push(Some(text.clone())),
                        Token::Other('$') => parts.push(None),
                        Token::Word(_) | Token::Other(_) => {}
                    }
                    at += 1;
                }
                macros.push((name.clone(), parts));
            }
            Token::Word(word) if tokens.get(at + 1) == Some(&Token::Other('!')) => {
                if let Some((_, parts)) = macros.iter().find(|(name, _)| name == word) {
                    let mut given = Vec::new();
                    at += 3;
                    while tokens[at] != Token::Other(')') {
                        if let Token::Text(text) = &tokens[at] {
                            given.push(text.clone());
                        }
                        at += 1;
                    }
                    let mut left = parts.iter().filter(|part| part.is_none()).count();
                    let mut whole = String::new();
                    for part in parts {
                        match part {
                            Some(text) => whole.push_str(text),
                            None => {
                                // Those that are left out come first.
                                if let Some(index) = given.len().checked_sub(left) {
                                    whole.push_str(&given[index]);
                                }
                                left -= 1;
                            }
                        }
                    }
                    found.push(whole);
                }
            }
            Token::Text(text) => found.push(text.clone()),
            Token::Word(_) | Token::Other(_) => {}
        }
        at += 1;
    }
    let begins = |text: &String| {
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb))
    };
    found.retain(|text| begins(text) && !text.contains('{'));
    found
}

/// Every text that filters are made into, with a name.
fn composed() -> Vec<(String, Text)> {
    let serial = mytunnel_keys::id::Serial::from_bytes([1; 16]);
    let tenant: mytunnel_keys::id::TenantId = format!("ten_{}", "a".repeat(16)).parse().unwrap();
    let project: mytunnel_keys::id::ProjectId = format!("proj_{}", "b".repeat(16)).parse().unwrap();
    let either = [false, true];
    let mut all: Vec<(String, Text)> = Vec::new();
    for (name, kin) in [("any", Kin::Any), ("roots", Kin::Roots), ("children", Kin::Children(serial))] {
        for (of_project, of_family, only, living, later) in combinations() {
            let filter = KeyFilter {
                tenant: tenant.clone(),
                project: of_project.then(|| project.clone()),
                family: of_family.then_some(serial),
                kin,
                only: only.then_some(serial),
                ended_after: u64::from(living),
                after: later.then_some((1, serial)),
                limit: 100,
                month: Month::of(1_800_000_000),
            };
            let texts = keys::listing(&filter).into_iter();
            all.extend(texts.map(|text| {
                (format!("keys: {name} {of_project} {of_family} {only} {living} {later}"), text)
            }));
        }
    }
    for (of_project, key, since, until, before) in combinations() {
        for system in either {
            let filter = AuditFilter {
                tenant: tenant.clone(),
                system,
                key: key.then(|| serial.nonce().parse().unwrap()),
                project: of_project.then(|| project.clone()),
                since: since.then_some(1),
                until: until.then_some(2),
                before: before.then_some(3),
                limit: 100,
            };
            let texts = audit::listing(&filter).into_iter();
            all.extend(
                texts.map(|text| {
                    (format!("audit: {of_project} {key} {since} {until} {before} {system}"), text)
                }),
            );
        }
    }
    for (of_project, of_family, of_key, later, _) in combinations() {
        let reach = Reach {
            tenant: tenant.clone(),
            project: of_project.then(|| project.clone()),
            family: of_family.then_some(serial),
        };
        let after = later.then(|| ("web".parse().unwrap(), mytunnel_keys::id::TunnelId::from_bytes([1; 16])));
        all.push((format!("tunnels: {of_project} {of_family}"), tunnels::page(&reach, after.as_ref(), 100)));
        let filter = UsageFilter {
            tenant: tenant.clone(),
            project: reach.project,
            family: reach.family,
            key: of_key.then_some(serial),
            from: 1,
            to: 2,
        };
        all.push((
            format!("usage: {of_project} {of_family} {of_key}"),
            summed(&filter, "at", " ORDER BY at"),
        ));
    }
    for account in [None, Some("acc")] {
        all.push((format!("devices: {account:?}"), devices::devices(&tenant, account, 1)));
    }
    all
}

fn combinations() -> impl Iterator<Item = (bool, bool, bool, bool, bool)> {
    (0..32_u32).map(|bits| {
        let bit = |place: u32| bits >> place & 1 == 1;
        (bit(0), bit(1), bit(2), bit(3), bit(4))
    })
}

/// Every text of the store, once.
fn all_texts() -> BTreeSet<String> {
    let composed: Vec<String> = composed().into_iter().map(|(_, text)| text.sql().to_owned()).collect();
    let mut all = BTreeSet::from_iter(composed.iter().cloned());
    for (file, source) in sources() {
        for text in texts(&source) {
            if text.contains('?') {
                let start = text.split('?').next().unwrap_or_default();
                let known = composed.iter().any(|composed| composed.starts_with(start));
                assert!(known, "{file}: add what is composed of this to composed(): {text}");
            } else if !text.ends_with("WHERE ") && text != "SELECT " {
                all.insert(text);
            }
        }
    }
    assert!(all.len() > 150, "only {} texts were found", all.len());
    all
}

fn may_read_whole(text: &str) -> bool {
    WHOLE.iter().any(|(piece, _)| is_meant(piece, text))
}

fn is_meant(piece: &str, text: &str) -> bool {
    match piece.strip_prefix('=') {
        Some(whole) => text == whole,
        None => text.contains(piece),
    }
}

/// The plan of SQLite, a line for each step.
fn plan(connection: &Connection, text: &str) -> Vec<String> {
    let mut statement = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {text}"))
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    // Parameters that are not bound are null, which changes no plan.
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get::<_, String>(3).unwrap());
    }
    steps
}

#[test]
fn no_text_reads_a_whole_table_on_sqlite() {
    let connection = connect::memory().unwrap();
    connection.execute_batch(backup::OWN_TABLES).unwrap();
    let mut found = String::new();
    let texts = all_texts();
    let asked = |text: &&String| !may_read_whole(text) && !SERVER_ONLY.iter().any(|only| text.contains(only));
    for text in texts.iter().filter(asked) {
        let steps = plan(&connection, text);
        let whole = |step: &&String| {
            step.starts_with("SCAN ") && *step != "SCAN CONSTANT ROW" && !step.contains("SUBQUERY")
        };
        if let Some(step) = steps.iter().find(whole) {
            let _ = writeln!(found, "{step}: {text}\n    {steps:?}");
        }
    }
    assert!(found.is_empty(), "give these an index, or a reason in WHOLE:\n{found}");
}

#[test]
fn no_text_reads_a_whole_table_on_postgresql() {
    let Some(database) = Database::new() else { return };
    let url = database.url().parse().unwrap();
    drop(postgres::prepare(&url, 0).unwrap());
    let (session, _) = postgres::look(&url).unwrap();
    let reading = Reading::of(Session::Postgres(&session));
    reading.control("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan").unwrap();
    let mut found = String::new();
    let texts = all_texts();
    let asked = |text: &&String| !may_read_whole(text) && !SQLITE_ONLY.iter().any(|only| text.contains(only));
    for text in texts.iter().filter(asked) {
        let count = (1..40).take_while(|number| text.contains(&format!("\u{24}{number}"))).count();
        reading
            .control(&format!("PREPARE looked_at AS {text}"))
            .unwrap_or_else(|error| panic!("{error:?}: {text}"));
        let given = vec!["NULL"; count].join(", ");
        let given = if count == 0 { String::new() } else { format!("({given})") };
        let steps: Vec<String> = reading
            .all(&format!("EXPLAIN (COSTS OFF) EXECUTE looked_at{given}"), params![], |row| row.get(0))
            .unwrap_or_else(|error| panic!("{error:?}: {text}"));
        reading.control("DEALLOCATE looked_at").unwrap();
        if let Some(step) = steps.iter().find(|step| step.contains("Seq Scan on ")) {
            let _ = writeln!(found, "{}: {text}", step.trim());
        }
    }
    assert!(found.is_empty(), "give these an index, or a reason in WHOLE:\n{found}");
}

#[test]
fn every_reason_has_its_text() {
    let texts = all_texts();
    for (piece, _) in WHOLE {
        assert!(texts.iter().any(|text| is_meant(piece, text)), "no text has this any more: {piece}");
    }
}

/// The plans of the book: of the lists that people page through.
#[test]
fn the_book_shows_the_plans_of_the_lists() {
    let connection = connect::memory().unwrap();
    let shown = [
        ("Keys of a tenant, `GET /tokens`", "keys: any false false false true true"),
        ("Keys of a project", "keys: any true false false true true"),
        ("Keys that nobody minted, `?roots=true`", "keys: roots false false false true true"),
        ("Children of a key, `?parent=`", "keys: children false false false true true"),
        ("A master key's own list", "keys: any true true false true true"),
        ("Tunnels, `GET /tunnels`", "tunnels: false false"),
        ("Tunnels of a project", "tunnels: true false"),
        ("Audit, `GET /audit`", "audit: false false false false true true"),
        ("Audit of a project", "audit: true false false false true true"),
        (
            "Audit of a key (and the same for each kind, as actor and as subject)",
            "audit: false true false false true true",
        ),
        ("Devices, `GET /devices`", "devices: None"),
        ("Use over time, `GET /usage`", "usage: false false false"),
        ("Use of a key with its children", "usage: false false true"),
    ];
    let all = composed();
    let mut page = String::new();
    for (title, name) in shown {
        let _ = writeln!(page, "\n{title}:\n\n```text");
        let texts: Vec<_> = all.iter().filter(|(known, _)| known == name).collect();
        assert!(!texts.is_empty(), "{name}");
        let mut steps = BTreeSet::new();
        for (_, text) in texts {
            let plan = plan(&connection, text.sql()).join("\n");
            if steps.insert(plan.clone()) && steps.len() <= 2 {
                let _ = writeln!(page, "{plan}");
            }
        }
        let _ = writeln!(page, "```");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/plans.md");
    let book = fs::read_to_string(path).unwrap_or_default();
    let (before, old) = book.split_once("<!-- plans -->\n").unwrap_or((&book, ""));
    if std::env::var_os("MYTUNNEL_WRITE_PLANS").is_some() {
        fs::write(path, format!("{before}<!-- plans -->\n{page}")).unwrap();
    } else {
        assert_eq!(old, page, "run it once with MYTUNNEL_WRITE_PLANS=1 and look at what changes");
    }
}
