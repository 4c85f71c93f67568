//! The tools for agents, as a client speaks to them: JSON-RPC, a line each, over standard input and output.

mod compat;
mod ends;
mod forms;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::User;

/// An agent with a server of its own.
struct Agent {
    user: User,
    server: Option<Server>,
    /// What its client can do.
    can: Value,
}

struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
    /// What the server has asked its client.
    asked: VecDeque<Value>,
    /// What each tool says that it gives.
    schemas: BTreeMap<String, Value>,
}

impl Agent {
    fn new(args: &[&str]) -> Self {
        Self::that_can(json!({}), args)
    }

    /// One whose client shows forms to its person.
    fn with_forms(args: &[&str]) -> Self {
        Self::that_can(json!({ "elicitation": {} }), args)
    }

    fn that_can(can: Value, args: &[&str]) -> Self {
        let mut agent = Self { user: User::new(), server: None, can };
        agent.start(args);
        agent
    }

    /// Starts a server, in the place of the one before.
    fn start(&mut self, args: &[&str]) {
        self.stop();
        let mut command = self.user.command(&[&["mcp"], args].concat());
        // All of a home is nobody's project.
        let project = self.user.path("project");
        std::fs::create_dir_all(&project).unwrap();
        command.current_dir(project);
        command.env("MYTUNNEL_PAIR_LISTEN", "127.0.0.1:0");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server =
            Server { child, input, output, next: 0, asked: VecDeque::new(), schemas: BTreeMap::new() };
        let hello = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": self.can,
            "clientInfo": { "name": "test", "version": "1" },
        });
        let answer = server.ask("initialize", &hello);
        assert_eq!(answer["result"]["serverInfo"]["name"], "mytunnel", "{answer}");
        server.write(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        let tools = server.ask("tools/list", &json!({}))["result"]["tools"].take();
        let schema = |tool: &Value| (tool["name"].as_str().unwrap().to_owned(), tool["outputSchema"].clone());
        server.schemas = tools.as_array().unwrap().iter().map(schema).collect();
        self.server = Some(server);
    }

    /// The end of its input, and then its own.
    fn stop(&mut self) {
        if let Some(Server { mut child, input, .. }) = self.server.take() {
            drop(input);
            assert!(child.wait().unwrap().success());
        }
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().unwrap()
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let answer = self.server().ask("tools/call", &json!({ "name": tool, "arguments": arguments }));
        assert_ne!(answer["result"]["isError"], true, "{tool}: {answer}");
        let given = answer["result"]["structuredContent"].clone();
        fits(&given, &self.server().schemas[tool], tool);
        compat::holds(&given, tool);
        given
    }

    fn fail(&mut self, tool: &str, arguments: &Value) -> Value {
        let answer = self.server().ask("tools/call", &json!({ "name": tool, "arguments": arguments }));
        assert_eq!(answer["result"]["isError"], true, "{tool}: {answer}");
        // Clients hold whatever is structured against the schema of what a tool gives, and show no more of what is not so.
        assert!(answer["result"].get("structuredContent").is_none(), "{tool}: {answer}");
        serde_json::from_str(answer["result"]["content"][0]["text"].as_str().unwrap()).unwrap()
    }
}

/// That an answer is what its schema says, as far as our schemas say anything.
fn fits(value: &Value, schema: &Value, place: &str) {
    if let Err(fault) = fit(value, schema, place) {
        panic!("{fault}");
    }
}

fn fit(value: &Value, schema: &Value, place: &str) -> Result<(), String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let faults: Vec<_> = choices.iter().filter_map(|one| fit(value, one, place).err()).collect();
        return if faults.len() < choices.len() { Ok(()) } else { Err(faults.join("; ")) };
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{place}: our schemas have no {other}"),
    };
    let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{place}: one type each, not {schema}"));
    if !is(kind) {
        return Err(format!("{place} is no {kind}: {value}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return Err(format!("{place} has no {name}: {value}"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            fit(value, schema, &format!("{place}.{name}"))?;
        }
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        fit(item, &schema["items"], &format!("{place}[{at}]"))?;
    }
    Ok(())
}

#[test]
fn an_answer_that_is_not_what_its_schema_says_is_found() {
    let maybe = json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] });
    let item = json!({ "type": "object", "properties": { "seq": maybe }, "required": ["seq"] });
    let schema = json!({ "type": "array", "items": item });
    let fault = |value: Value| fit(&value, &schema, "it").err();
    assert_eq!((fault(json!([{ "seq": 1 }])), fault(json!([{ "seq": null }]))), (None, None));
    let other = r#"it[0].seq is no integer: "1"; it[0].seq is no null: "1""#;
    assert_eq!(fault(json!([{ "seq": "1" }])).as_deref(), Some(other));
    assert_eq!(fault(json!([{}])).as_deref(), Some(r#"it[0] has no "seq": {}"#));
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

impl Server {
    fn write(&mut self, message: &Value) {
        writeln!(self.input, "{message}").unwrap();
        self.input.flush().unwrap();
    }

    /// A call of the number 99, whose answer is not waited for.
    fn begin_to_listen(&mut self) {
        let call = json!({ "name": "pair_listen", "arguments": {} });
        self.write(&json!({ "jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": call }));
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        self.answer(id)
    }

    fn answer(&mut self, id: u64) -> Value {
        loop {
            let answer = self.read();
            if answer["id"] == id && answer["method"].is_null() {
                return answer;
            }
            if answer["method"].is_string() {
                self.asked.push_back(answer);
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the server ended");
        serde_json::from_str(&line).unwrap()
    }

    /// What the server asks its client next: it looks for that with each call of a tool.
    fn asked(&mut self, method: &str) -> Value {
        let begun = Instant::now();
        while self.asked.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server asks nothing");
            self.ask("tools/call", &json!({ "name": "pair_status", "arguments": {} }));
        }
        let asked = self.asked.pop_front().unwrap();
        assert_eq!(asked["method"], method, "{asked}");
        asked
    }
}

#[test]
fn every_tool_says_what_it_takes_and_what_it_gives() {
    let named = |args: &[&str]| -> Vec<String> {
        let answer = Agent::new(args).server().ask("tools/list", &json!({}));
        let tools = answer["result"]["tools"].as_array().unwrap().clone();
        for tool in &tools {
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
            assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
            assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
            assert!(tool["description"].as_str().unwrap().len() > 20, "{tool}");
        }
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let pair = [
        "open", "invite", "join", "say", "listen", "propose", "share", "receive", "peers", "status", "close",
    ];
    assert_eq!(named(&[]), pair.map(|name| format!("pair_{name}")));
    let tunnel = ["open", "invite", "join", "say", "listen", "status", "close", "share", "receive"];
    assert_eq!(named(&["--compat", "tunnel-mcp"]), tunnel.map(|name| format!("tunnel_{name}")));
}

#[test]
fn two_agents_talk_and_a_server_that_starts_anew_goes_on() {
    let (mut host, mut guest) = (Agent::new(&["--name", "ada"]), Agent::new(&["--name", "bob"]));
    let opened = host.call("pair_open", &json!({ "goal": "find the bug" }));
    let joined = guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    assert_eq!(
        (joined["goal"].as_str(), joined["state"].as_str()),
        (Some("find the bug"), Some("connected"))
    );

    guest.call("pair_say", &json!({ "text": "which one?", "kind": "question" }));
    let heard = host.call("pair_listen", &json!({}));
    let message = &heard["messages"][0];
    assert_eq!((message["text"].as_str(), message["kind"].as_str()), (Some("which one?"), Some("question")));
    assert_eq!((message["untrusted"].as_bool(), message["from"]["name"].as_str()), (Some(true), Some("bob")));

    host.start(&[]);
    let answered = json!({ "text": "the last", "kind": "answer", "reply_to": message["seq"] });
    host.call("pair_say", &answered);
    let heard = guest.call("pair_listen", &json!({}));
    assert_eq!(heard["messages"][0]["reply_to"], message["seq"]);
    let proposed = host.call("pair_propose", &json!({ "action": "rm -r target", "risk": "a long build" }));
    assert!(proposed["approval"].is_u64(), "{proposed}");
    let approve = ["pair", "approve", &proposed["approval"].to_string(), "--json"];
    guest.user.run(&approve).succeeded();
    guest.user.run_at_terminal(&approve, "").succeeded();
    let mut deciders = Vec::new();
    while deciders.len() < 2 {
        let decided = host.call("pair_listen", &json!({}));
        deciders.extend(decided["messages"].as_array().unwrap().iter().map(|one| one["data"]["by"].clone()));
    }
    assert_eq!(deciders, ["agent", "human"]);
    host.call("pair_close", &json!({ "summary": "found" }));
    let mut texts = Vec::new();
    loop {
        let heard = guest.call("pair_listen", &json!({}));
        if heard["reason"] == "closed" {
            break;
        }
        texts.extend(heard["messages"].as_array().unwrap().iter().map(|message| message["text"].clone()));
    }
    assert_eq!(texts.last().unwrap(), "found");
}

#[test]
fn what_an_agent_gave_up_on_is_given_again_and_so_is_what_it_may_not_have_seen() {
    let (mut host, mut guest) = (Agent::new(&[]), Agent::new(&[]));
    let opened = host.call("pair_open", &json!({ "goal": "x" }));
    guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    let server = guest.server();
    server.begin_to_listen();
    let cancelled = json!({ "requestId": 99, "reason": "the person pressed a key" });
    server.write(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled }));
    host.call("pair_say", &json!({ "text": "lost?" }));
    assert_eq!(guest.call("pair_listen", &json!({}))["messages"][0]["text"], "lost?");
    // It has not asked for anything behind that.
    let mut killed = guest.server.take().unwrap();
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    guest.start(&[]);
    assert_eq!(guest.call("pair_listen", &json!({}))["messages"][0]["text"], "lost?");
    assert_eq!(guest.call("pair_status", &json!({}))["sessions"][0]["unread"], 0);
    let heard = guest.call("pair_listen", &json!({ "wait_ms": 0 }));
    assert_eq!(heard["messages"], json!([]), "{heard}");
}

#[test]
fn a_session_that_ends_is_not_taken_for_another_that_is_open() {
    let (mut host, mut guest) = (Agent::new(&[]), Agent::new(&[]));
    let opened = host.call("pair_open", &json!({ "goal": "x" }));
    guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    guest.user.run_with(&["pair", "open", "--json"], &[("MYTUNNEL_PAIR_LISTEN", "127.0.0.1:0")]).succeeded();
    let said = guest.call("pair_say", &json!({ "text": "to whom I joined" }));
    assert_eq!(said["session"], opened["session"]);
    host.call("pair_close", &json!({}));
    while guest.call("pair_listen", &json!({}))["reason"] != "closed" {}
    assert_eq!(guest.fail("pair_say", &json!({ "text": "to whom?" }))["code"], "PAIR_CLOSED");
}

#[test]
fn what_is_said_behind_a_join_is_said_there_though_a_question_to_another_session_is_answered_later() {
    let [mut host, mut guest, mut agent] = ["ada", "bob", "cy"].map(|name| Agent::new(&["--name", name]));
    let opened = agent.call("pair_open", &json!({ "goal": "x" }));
    guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    let elsewhere = host.call("pair_open", &json!({ "goal": "y" }));
    let call = json!({ "name": "pair_listen", "arguments": { "wait_ms": 25_000 } });
    let server = agent.server();
    server.write(&json!({ "jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": call }));
    let joined = agent.call("pair_join", &json!({ "secret": elsewhere["invites"][0]["text"] }));
    guest.call("pair_say", &json!({ "text": "here" }));
    let heard = agent.server().answer(99);
    assert_eq!(heard["result"]["structuredContent"]["session"], opened["session"], "{heard}");
    let said = agent.call("pair_say", &json!({ "text": "for those whom I joined" }));
    assert_eq!(said["session"], joined["session"]);
    // Naming one means it from there on.
    agent.call("pair_say", &json!({ "text": "there", "session": opened["session"] }));
    assert_eq!(agent.call("pair_say", &json!({ "text": "too" }))["session"], opened["session"]);
}

#[test]
fn a_session_that_others_have_read_to_its_end_waits_for_the_agent_that_joined_it() {
    let (mut host, mut guest) = (Agent::new(&[]), Agent::new(&[]));
    let opened = host.call("pair_open", &json!({ "goal": "x" }));
    guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    guest.user.run(&["pair", "open", "--json"]).succeeded();
    host.call("pair_close", &json!({ "summary": "found" }));
    // The person reads all of it, and is told of the end.
    let session = opened["session"].as_str().unwrap();
    guest.user.run(&["pair", "listen", "--follow", "--json", "--session", session]).succeeded();
    // Somebody here does not know of it yet: no other session is meant in its place.
    assert_ne!(guest.user.run(&["pair", "say", "to whom?"]).code, Some(0));
    let heard = guest.call("pair_listen", &json!({}));
    assert_eq!(heard["messages"][0]["text"], "found", "{heard}");
}

#[test]
fn what_an_agent_may_not_do_is_refused_with_a_remedy() {
    let mut agent = Agent::new(&[]);
    let trouble = agent.fail("pair_say", &json!({ "text": "x" }));
    assert_eq!(trouble["code"], "PAIR_NO_SESSION");
    assert!(!trouble["help"].as_str().unwrap().is_empty());
    agent.call("pair_open", &json!({ "goal": "x" }));
    let decision = json!({ "proposal": 1, "verdict": "approved", "by": "human" });
    agent.fail("pair_say", &json!({ "text": "x", "kind": "decision", "data": decision }));
    agent.fail("pair_open", &json!({ "goal": "x", "goals": "y" }));
    assert_eq!(agent.fail("pair_join", &json!({ "secret": "pair1-x" }))["code"], "PAIR_LINK_DAMAGED");
    let unknown = agent.server().ask("tools/call", &json!({ "name": "pair_verify", "arguments": {} }));
    assert!(unknown["error"].is_object(), "{unknown}");
    agent.stop();
}

#[test]
fn agents_give_each_other_files_of_their_projects_and_choose_no_place() {
    let (mut host, mut guest) = (Agent::new(&["--name", "ada"]), Agent::new(&["--name", "bob"]));
    let opened = host.call("pair_open", &json!({ "goal": "x" }));
    guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    std::fs::write(host.user.path("project/notes.md"), "# found it").unwrap();
    std::fs::write(host.user.path("project/.env"), "TOKEN=1").unwrap();
    let shared = host.call("pair_share", &json!({ "path": "notes.md", "text": "what I found" }));
    let heard = guest.call("pair_listen", &json!({}));
    let offer = &heard["messages"][0];
    assert_eq!(
        (&offer["kind"], &offer["seq"], &offer["untrusted"]),
        (&"offer".into(), &shared["offer"], &true.into())
    );
    assert_eq!(
        (&offer["data"]["file"]["name"], &offer["text"]),
        (&"notes.md".into(), &"what I found".into())
    );
    let listed = guest.call("pair_status", &json!({}))["sessions"][0]["offers"][0].clone();
    assert_eq!((&listed["offer"], &listed["state"]), (&shared["offer"], &"offered".into()));
    let received = guest.call("pair_receive", &json!({ "offer": shared["offer"] }));
    assert_eq!((&received["state"], &received["sha256"]), (&"received".into(), &shared["sha256"]));
    let path = std::path::PathBuf::from(received["path"].as_str().unwrap());
    assert!(path.starts_with(guest.user.path(".local/share/mytunnel/inbox")), "{path:?}");
    assert_eq!(std::fs::read(path).unwrap(), b"# found it");
    for path in [".env", "../config/pair", "/etc/hostname"] {
        assert_eq!(host.fail("pair_share", &json!({ "path": path }))["code"], "PAIR_PATH_DENIED", "{path}");
    }
    host.fail("pair_share", &json!({ "path": "notes.md", "anyway": true }));
    guest.fail("pair_receive", &json!({ "offer": shared["offer"], "into": "/tmp" }));
    assert_eq!(guest.fail("pair_receive", &json!({ "offer": 9000 }))["code"], "NOT_FOUND");
    host.fail(
        "pair_say",
        &json!({ "text": "x", "kind": "offer", "data": { "file": offer["data"]["file"] } }),
    );
}

#[test]
fn a_session_that_is_kept_goes_on_where_it_was_when_the_daemons_of_both_agents_are_killed() {
    let (mut ada, mut bob) = (Agent::new(&["--name", "ada"]), Agent::new(&["--name", "bob"]));
    let opened = ada.call("pair_open", &json!({ "goal": "outlive it", "keep": true }));
    let secret = opened["invites"][0]["text"].as_str().unwrap();
    let joined = bob.call("pair_join", &json!({ "secret": secret, "keep": true }));
    assert_eq!((&joined["kept"], &joined["host_keeps"]), (&true.into(), &true.into()));
    bob.call("pair_say", &json!({ "text": "before" }));
    for agent in [&ada, &bob] {
        let (_, daemon) = agent.user.daemon().unwrap();
        let number = daemon.file_name().unwrap().to_str().unwrap();
        assert!(Command::new("kill").args(["-s", "KILL", number]).status().unwrap().success());
        // It locks its folder for as long as it lives.
        std::fs::File::open(agent.user.path("config/pair")).unwrap().lock().unwrap();
    }
    ada.call("pair_say", &json!({ "text": "behind" }));
    let begun = Instant::now();
    let hear = |agent: &mut Agent| loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is heard");
        let heard = agent.call("pair_listen", &json!({ "wait_ms": 20_000 }));
        if heard["reason"] == "message" {
            break heard["messages"].clone();
        }
    };
    for (agent, text) in [(&mut bob, "behind"), (&mut ada, "before")] {
        let heard = hear(agent);
        assert_eq!((heard.as_array().unwrap().len(), &heard[0]["text"]), (1, &text.into()), "{heard}");
    }
    ada.call("pair_close", &json!({}));
}
