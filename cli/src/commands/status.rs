//! `mytunnel status`: what the running shares and relays of this user are doing.

use serde_json::{Value, json};

use crate::context::Context;
use crate::control;
use crate::failure::{Failure, io_help};
use crate::report::columns;

/// Show what is up on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, context: &Context) -> Result<(), Failure> {
    let run = context.config_dir()?.run();
    let answers = control::collect(&run).map_err(|error| {
        Failure::local(format!("cannot read {}: {error}", run.display()), io_help(&error))
    })?;
    let whole = merge(&answers);
    context.report.object(&whole);
    for line in lines(&whole) {
        context.report.line(line);
    }
    Ok(())
}

/// One object of all processes: their tunnels and peers together, and the relay of the first that has one.
fn merge(answers: &[Value]) -> Value {
    let all = |field: &str| -> Vec<Value> {
        answers.iter().filter_map(|answer| answer[field].as_array()).flatten().cloned().collect()
    };
    let relay = answers.iter().map(|answer| &answer["relay"]).find(|relay| relay.is_object());
    json!({
        "tunnels": all("tunnels"),
        "peers": all("peers"),
        "relay": relay.cloned().unwrap_or_else(|| json!({"addr": null, "connected": false})),
        "servers": all("servers"),
    })
}

fn lines(whole: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut lines = Vec::new();
    for server in whole["servers"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{} of {} at {}",
            text(&server["role"]),
            text(&server["domain"]),
            text(&server["http"])
        ));
        if let Some(trouble) = server["trouble"].as_str() {
            lines.push(format!("  {trouble}"));
        }
    }
    let tunnels = whole["tunnels"].as_array().map(Vec::as_slice).unwrap_or_default();
    if tunnels.is_empty() {
        lines.push("Nothing is shared from here.".to_owned());
        return lines;
    }
    let heading = ["URL", "TARGET", "STATE", "NODES", "ROUND TRIP"].map(str::to_owned).to_vec();
    let row = |tunnel: &Value| {
        let rtt = tunnel["rtt_ms"].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
        let state = if tunnel["online"] == true { "up" } else { "reconnecting" };
        let nodes = tunnel["backends"].as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string());
        let address = match (tunnel["url"].as_str(), tunnel["name"].as_str()) {
            (None, Some(name)) => format!("mytunnel access {name}"),
            (Some(_), _) | (None, None) => text(&tunnel["url"]),
        };
        vec![address, text(&tunnel["target"]), state.to_owned(), nodes, rtt]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(tunnels.iter().map(row)).collect();
    lines.extend(columns(&rows));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_up_has_the_same_shape() {
        let whole = merge(&[]);
        assert_eq!(whole["tunnels"], json!([]));
        assert_eq!(whole["peers"], json!([]));
        assert_eq!(whole["relay"]["connected"], false);
        assert_eq!(lines(&whole), ["Nothing is shared from here."]);
    }

    #[test]
    fn processes_are_put_together() {
        let share = |name: &str| {
            json!({
                "tunnels": [{"name": name, "url": format!("http://{name}.localhost"), "target": "/t", "online": true}],
                "peers": [{"id": name, "path": "relayed", "rtt_ms": 3.2, "reason": "relay"}],
                "relay": {"addr": name, "connected": true},
            })
        };
        let server = json!({"role": "relay", "trouble": "its certificate has ended"});
        let whole = merge(&[json!({"tunnels": [], "servers": [server]}), share("a"), share("b")]);
        assert_eq!(whole["tunnels"].as_array().unwrap().len(), 2);
        assert_eq!(whole["relay"]["addr"], "a");
        let text = lines(&whole).join("\n");
        assert!(text.contains("http://b.localhost") && text.contains("up"), "{text}");
        assert!(text.contains("its certificate has ended"), "{text}");
        let private = json!({"tunnels": [{"name": "box", "url": null, "target": "22", "online": true}]});
        let text = lines(&merge(&[private])).join("\n");
        assert!(text.lines().last().is_some_and(|line| line.starts_with("mytunnel access box ")), "{text}");
    }
}
