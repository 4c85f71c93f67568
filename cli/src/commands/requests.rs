//! `mytunnel requests`: what a running share of this user has seen, and sends again.
//!
//! The control socket, which is this user's alone, tells where the share's page of requests is; the rest is asked there.

use std::collections::BTreeSet;
use std::time::Duration;

use mytunnel_keys::error::Code;
use serde_json::{Value, json};
use ureq::Agent;

use crate::context::Context;
use crate::control;
use crate::failure::{Failure, io_help};
use crate::inspect::told::printable;
use crate::report::columns;

/// A list waits for 20 s at the most, a replay for 35.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests that are remembered: more than a share keeps, so that none which is forgotten can change any more.
const TOLD: usize = 10_000;
/// Of an exchange with both bodies in base64.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Show the requests that a running share has seen
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  mytunnel requests                  what came in, the latest last
  mytunnel requests --follow         and what comes from now on
  mytunnel requests show 12          one with its heads and bodies
  mytunnel requests curl 12 | sh     the same request by curl
  mytunnel requests replay 12        the same request once more")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    /// Go on with those that come, until stopped
    #[arg(long, short)]
    follow: bool,

    /// Only those with this text in their path, status, headers or bodies
    #[arg(long, value_name = "TEXT", default_value = "")]
    search: String,

    #[command(flatten)]
    share: Share,
}

/// Which share, where several run.
#[derive(Debug, clap::Args)]
struct Share {
    /// Name of the share, where several run
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show one request and its answer
    Show {
        /// Its number in the list
        id: u64,
        /// Show secrets too
        #[arg(long)]
        secrets: bool,
        #[command(flatten)]
        share: Share,
    },
    /// Print one request as a curl command, with its secrets
    Curl {
        /// Its number in the list
        id: u64,
        #[command(flatten)]
        share: Share,
    },
    /// Send one request to the local server again
    Replay {
        /// Its number in the list
        id: u64,
        #[command(flatten)]
        share: Share,
    },
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.action {
        None => list(args, &Page::find(&args.share, context)?, context),
        Some(Action::Show { id, secrets, share }) => {
            let page = Page::find(share, context)?;
            let query = if *secrets { "?secrets=show" } else { "" };
            let request = page.get(&format!("requests/{id}{query}"))?;
            context.report.object(&request);
            for line in shown(&request) {
                context.report.line(line);
            }
            Ok(())
        }
        Some(Action::Curl { id, share }) => {
            let answer = Page::find(share, context)?.get(&format!("requests/{id}/curl"))?;
            context.report.object(&answer);
            context.report.line(text(&answer["curl"]));
            Ok(())
        }
        Some(Action::Replay { id, share }) => {
            let page = Page::find(share, context)?;
            let new = page.post(&format!("requests/{id}/replay"))?["id"].clone();
            let request = page.get(&format!("requests/{new}"))?;
            context.report.object(&event(&request));
            context.report.line(columns(&[row(&request)]).join("\n"));
            Ok(())
        }
    }
}

fn list(args: &Args, page: &Page, context: &Context) -> Result<(), Failure> {
    let search = encoded(&args.search);
    let mut told = BTreeSet::new();
    let mut after = 0;
    let mut wait = "";
    loop {
        let answer = page.get(&format!("requests?after={after}&q={search}{wait}"))?;
        let mut requests = answer["requests"].as_array().cloned().unwrap_or_default();
        requests.reverse();
        let new: Vec<_> = requests.iter().filter(|one| !args.follow || is_new(one, &mut told)).collect();
        for request in &new {
            context.report.object(&event(request));
        }
        for line in columns(&new.iter().map(|request| row(request)).collect::<Vec<_>>()) {
            context.report.line(line);
        }
        if !args.follow {
            if new.is_empty() {
                context.report.note("No requests yet.");
            }
            return Ok(());
        }
        after = answer["version"].as_u64().unwrap_or(after);
        wait = "&wait=1";
    }
}

/// Whether a request that has changed is to be told: once, when it is over.
fn is_new(request: &Value, told: &mut BTreeSet<u64>) -> bool {
    let is_over = !request["ms"].is_null();
    let is_new = is_over && request["id"].as_u64().is_some_and(|id| told.insert(id));
    if told.len() > TOLD {
        told.pop_first();
    }
    is_new
}

/// The page of one running share.
struct Page {
    url: String,
    agent: Agent,
}

impl Page {
    fn find(share: &Share, context: &Context) -> Result<Self, Failure> {
        let run = context.config_dir()?.run();
        let answers = control::collect(&run).map_err(|error| {
            Failure::local(format!("cannot read {}: {error}", run.display()), io_help(&error))
        })?;
        let url = choose(&answers, share.name.as_deref())?;
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            // Where proxies are set for the way out.
            .proxy(None)
            .build();
        Ok(Self { url, agent: Agent::new_with_config(config) })
    }

    fn get(&self, path: &str) -> Result<Value, Failure> {
        self.read(self.agent.get(format!("{}api/{path}", self.url)).call())
    }

    fn post(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.post(format!("{}api/{path}", self.url));
        self.read(request.header("content-type", "application/json").send("{}"))
    }

    fn read(&self, response: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let gone = |error: ureq::Error| {
            Failure::new(Code::NotFound, format!("the share does not answer: {error}"))
                .with_help("It may have ended; `mytunnel status` shows what runs.")
        };
        let mut response = response.map_err(gone)?;
        let content = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(gone)?;
        let value: Value = serde_json::from_slice(&content).map_err(|error| {
            Failure::new(Code::Internal, format!("the share's answer makes no sense: {error}"))
        })?;
        if response.status().is_success() {
            return Ok(value);
        }
        let code = if response.status() == 404 { Code::NotFound } else { Code::BadRequest };
        Err(Failure::new(code, text(&value["error"])).with_help("`mytunnel requests` lists what there is."))
    }
}

/// The address of the page of the share that is meant.
fn choose(answers: &[Value], name: Option<&str>) -> Result<String, Failure> {
    let tunnels = answers.iter().filter_map(|answer| answer["tunnels"].as_array()).flatten();
    let shares: Vec<&Value> =
        tunnels.filter(|tunnel| name.is_none_or(|name| tunnel["name"] == name)).collect();
    let pages: Vec<&Value> = shares.iter().copied().filter(|share| share["inspect"].is_string()).collect();
    match &*pages {
        [page] => Ok(text(&page["inspect"])),
        [] if shares.is_empty() => {
            let what =
                name.map_or_else(|| "nothing is shared".to_owned(), |name| format!("no share `{name}` runs"));
            Err(Failure::new(Code::NotFound, format!("{what} from here"))
                .with_help("`mytunnel status` shows what runs."))
        }
        [] => Err(Failure::new(Code::NotFound, "the share that runs keeps no requests").with_help(
            "Start it with --inspect, left out with --json and --no-inspect; for `mytunnel up`: inspect = true.",
        )),
        several => {
            let all: Vec<String> = several.iter().map(|share| text(&share["name"])).collect();
            Err(Failure::usage(
                format!("several shares run: {}", all.join(", ")),
                format!("Say which: mytunnel requests --name {}", all.first().map_or("NAME", |name| name)),
            ))
        }
    }
}

/// The same object as `share --requests` prints, for one that may not have ended.
fn event(request: &Value) -> Value {
    let mut event = json!({"event": "request"});
    for key in
        ["id", "method", "path", "status", "ms", "bytes_in", "bytes_out", "started_ms", "error", "replay_of"]
    {
        event[key] = request[key].clone();
    }
    event
}

fn row(request: &Value) -> Vec<String> {
    let status = match (request["status"].as_u64(), request["error"].as_str()) {
        (Some(status), _) => status.to_string(),
        (None, Some(error)) => error.to_owned(),
        (None, None) => "…".to_owned(),
    };
    let time = request["ms"].as_f64().map_or_else(|| "…".to_owned(), |ms| format!("{ms:.0} ms"));
    vec![
        request["id"].to_string(),
        printable(&text(&request["method"])),
        printable(&text(&request["path"])),
        status,
        time,
    ]
}

/// Heads and bodies as they went over the wire, near enough.
fn shown(request: &Value) -> Vec<String> {
    let mut lines = vec![printable(&format!("{} {}", text(&request["method"]), text(&request["path"])))];
    lines.extend(message(&request["request"]));
    let answer = &request["response"];
    if answer.is_object() {
        lines.push(String::new());
        lines.push(printable(&format!("{} {}", request["status"], text(&answer["reason"]))));
        lines.extend(message(answer));
    }
    if let Some(error) = request["error"].as_str() {
        lines.extend([String::new(), format!("({error})")]);
    }
    lines
}

fn message(message: &Value) -> Vec<String> {
    let headers = message["headers"].as_array().into_iter().flatten();
    let mut lines: Vec<String> =
        headers.map(|pair| printable(&format!("{}: {}", text(&pair[0]), text(&pair[1])))).collect();
    let body = &message["body"];
    let length = body["length"].as_u64().unwrap_or(0);
    if length > 0 {
        lines.push(String::new());
        match body["text"].as_str().filter(|text| !text.is_empty()) {
            Some(text) => lines.extend(text.lines().map(printable)),
            None => lines.push(format!("({length} bytes)")),
        }
        if body["whole"] == false {
            lines.push(format!("(of {length} bytes; of a body, 1 MiB is kept)"));
        }
    }
    lines
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// For a query of the page.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(name: &str, page: Option<&str>) -> Value {
        json!({"tunnels": [{"name": name, "inspect": page}]})
    }

    #[test]
    fn one_share_is_meant_and_of_several_one_is_named() {
        let relay = json!({"tunnels": [], "servers": []});
        let one = [relay.clone(), share("a", Some("http://x/"))];
        assert_eq!(choose(&one, None).unwrap(), "http://x/");
        let two = [share("a", Some("http://x/")), share("b", Some("http://y/")), share("c", None)];
        assert_eq!(choose(&two, Some("b")).unwrap(), "http://y/");
        let several = choose(&two, None).unwrap_err();
        assert!(several.message().contains("a, b") && several.exit_code() == 2, "{}", several.message());
        assert!(choose(&two, Some("c")).unwrap_err().help().contains("--inspect"));
        assert!(choose(&two, Some("d")).unwrap_err().message().contains("no share `d`"));
        assert!(choose(&[relay], None).unwrap_err().message().contains("nothing is shared"));
    }

    #[test]
    fn what_strangers_sent_moves_no_cursor() {
        let request = json!({
            "id": 3, "method": "GET", "path": "/\u{1b}[2J", "status": 200, "ms": 1.2,
            "request": {"headers": [["A", "b\u{7}"]], "body": {"length": 0, "whole": true}},
            "response": {"reason": "OK", "headers": [], "body": {"length": 9, "whole": true, "text": "a\u{1b}[0m\nb"}},
        });
        let all = [shown(&request), row(&request)].concat().join("\n");
        assert!(!all.contains(['\u{1b}', '\u{7}']), "{all:?}");
        assert!(all.contains("200 OK\n\na\u{fffd}[0m\nb"), "{all:?}");
    }

    #[test]
    fn a_request_is_told_once_when_it_is_over_whatever_came_before_it() {
        let mut told = BTreeSet::new();
        let mut is_new = |id: u64, ms: Value| is_new(&json!({"id": id, "ms": ms}), &mut told);
        assert!(!is_new(1, Value::Null) && is_new(3, json!(1)));
        assert!(is_new(1, json!(9)), "it began before one that was told");
        assert!(!is_new(1, json!(9)) && !is_new(3, json!(1)));
        for id in 4..2 * TOLD as u64 {
            assert!(is_new(id, json!(1)));
        }
        assert_eq!(told.len(), TOLD);
    }

    #[test]
    fn a_search_is_written_for_a_query() {
        assert_eq!(encoded("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }
}
