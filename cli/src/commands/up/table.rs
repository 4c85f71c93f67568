//! What there is to see of several tunnels at once.

use std::path::Path;

use serde_json::{Value, json};

use super::load::{Loaded, Tunnel};
use crate::commands::share::{Board, Entry};
use crate::context::Context;
use crate::failure::Failure;
use crate::report::{Report, columns};

/// What is up, for people.
pub(super) fn up(board: &Board, path: &Path, report: Report) {
    let heading = ["NAME", "URL", "TARGET"].map(str::to_owned).to_vec();
    let row = |entry: Entry| {
        let name = entry.name.map(|name| name.to_string()).unwrap_or_default();
        entry.url.map(|url| vec![name, url, entry.target])
    };
    let rows: Vec<_> = std::iter::once(heading).chain(board.entries().into_iter().filter_map(row)).collect();
    if rows.len() > 1 {
        columns(&rows).into_iter().for_each(|line| report.note(line));
        report.note(format_args!("Following {}. Ctrl-C ends all.", path.display()));
    }
}

/// `--check`: what a file comes to, or everything that is wrong with it.
pub(super) fn check(path: &Path, context: &Context) -> Result<(), Failure> {
    let report = context.report;
    let loaded = match Loaded::look(path, context) {
        Ok(loaded) => loaded,
        Err(problems) => return Err(refused(problems, path, report)),
    };
    let tunnels: Vec<Value> = loaded.tunnels.iter().map(described).collect();
    report.object(&json!({"ok": true, "problems": [], "tunnels": tunnels}));
    let heading = ["NAME", "KIND", "TARGET", "GATES"].map(str::to_owned).to_vec();
    let row = |tunnel: &Tunnel| {
        let gates = gates(tunnel).join(", ");
        let gates = if gates.is_empty() { "-".to_owned() } else { gates };
        vec![tunnel.label.clone(), tunnel.plan.kind().to_string(), tunnel.plan.target(), gates]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(loaded.tunnels.iter().map(row)).collect();
    columns(&rows).into_iter().for_each(|line| report.line(line));
    report.note(format_args!("{} is right.", path.display()));
    Ok(())
}

/// Tells all of them; the last word is one failure.
fn refused(mut problems: Vec<Failure>, path: &Path, report: Report) -> Failure {
    let told = |problem: &Failure| json!({"code": problem.code().name(), "message": problem.message(), "help": problem.help()});
    report.object(&json!({
        "ok": false, "problems": problems.iter().map(told).collect::<Vec<_>>(), "tunnels": [],
    }));
    if problems.len() == 1 {
        return problems.remove(0);
    }
    if !report.is_json() {
        problems.iter().for_each(|problem| report.failure(problem));
    }
    let message = format!("{} things are wrong with {}", problems.len(), path.display());
    Failure::usage(message, "Mend each, then check again.")
}

fn described(tunnel: &Tunnel) -> Value {
    json!({
        "name": tunnel.label, "kind": tunnel.plan.kind().to_string(), "target": tunnel.plan.target(), "gates": gates(tunnel),
    })
}

/// Keys of what visitors are asked for.
fn gates(tunnel: &Tunnel) -> Vec<&'static str> {
    let file = &tunnel.file;
    let all = [
        ("basic", file.basic.is_some()),
        ("pin", file.pin.is_some()),
        ("bearer", file.bearer.is_some()),
        ("ip", !(file.allow_ip.is_empty() && file.deny_ip.is_empty())),
        ("oidc", file.google || file.oidc.is_some()),
        ("expires", file.expires.is_some()),
    ];
    all.into_iter().filter(|(_, is_asked)| *is_asked).map(|(gate, _)| gate).collect()
}
