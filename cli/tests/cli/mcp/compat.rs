//! The tools by the names of tunnel-mcp, and with what its versions up to 0.3 give.

use std::sync::LazyLock;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::Agent;

/// Of each tool the keys, with their types, that tunnel-mcp's own answer has; `artifact` is what a message about a file says.
static KNOWN: LazyLock<Value> = LazyLock::new(|| {
    let known = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests/real/mcp/tunnel_mcp.json"));
    serde_json::from_str(known).unwrap()
});

/// That an answer has all that tunnel-mcp's has; of other tools nothing.
pub(super) fn holds(given: &Value, tool: &str) {
    let Some(known) = KNOWN.get(tool) else {
        return assert!(!tool.starts_with("tunnel_"), "nothing is known of {tool}");
    };
    let mut faults = Vec::new();
    compare(given, known, tool, &mut faults);
    assert_eq!(faults, Vec::<String>::new(), "{given}");
}

fn compare(given: &Value, known: &Value, place: &str, faults: &mut Vec<String>) {
    match known {
        Value::Object(keys) => {
            for (key, known) in keys {
                let place = format!("{place}.{key}");
                match given.get(key) {
                    Some(given) => compare(given, known, &place, faults),
                    None => faults.push(format!("{place} is missing")),
                }
            }
        }
        Value::Array(items) => match given.as_array() {
            Some(given) => {
                given.iter().for_each(|one| compare(one, &items[0], &format!("{place}[]"), faults))
            }
            None => faults.push(format!("{place} is no list")),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let is = match given {
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                Value::Null | Value::Array(_) | Value::Object(_) => "something else",
            };
            if known != is {
                faults.push(format!("{place} is {is}"));
            }
        }
    }
}

#[test]
fn what_an_answer_lacks_is_named() {
    let mut given = json!({ "savePath": "/x", "name": "x", "kind": "text", "size": 1, "sha256": "x" });
    let faults = |given: &Value| {
        let mut faults = Vec::new();
        compare(given, &KNOWN["tunnel_receive"], "it", &mut faults);
        faults
    };
    assert!(faults(&given).is_empty());
    given["size"] = "1".into();
    given.as_object_mut().unwrap().remove("kind");
    assert_eq!(faults(&given), ["it.kind is missing", "it.size is string"]);
}

#[test]
fn agents_that_know_tunnel_mcp_find_its_names_and_fields() {
    let compat = ["--compat", "tunnel-mcp", "--name"];
    let mut host = Agent::new(&[&compat[..], &["ada"]].concat());
    let mut guest = Agent::new(&[&compat[..], &["bob"]].concat());
    let opened = host.call("tunnel_open", &json!({ "goal": "find the bug" }));
    assert_eq!(
        (opened["status"].as_str(), opened["joinLinkExpiresInSec"].as_u64()),
        (Some("waiting_for_guest"), Some(600))
    );
    assert_eq!(opened["invite"], opened["invites"][0]["invite"]);
    // What is forwarded may be the text around the link.
    let joined = guest.call("tunnel_join", &json!({ "joinLink": opened["invite"] }));
    assert_eq!(joined["self"], json!({ "id": "guest", "name": "bob" }));
    let member = |id, name, is_host| json!({ "id": id, "name": name, "isHost": is_host, "connected": true });
    assert_eq!(joined["members"], json!([member("guest", "bob", false), member("host", "ada", true)]));
    assert_eq!(joined["tunnelId"], opened["tunnelId"]);
    assert_eq!((joined["goal"].as_str(), joined["peer"].as_str()), (Some("find the bug"), Some("ada")));

    let said = guest.call("tunnel_say", &json!({ "text": "hello" }));
    let heard = host.call("tunnel_listen", &json!({ "sinceSeq": 0 }));
    let message = &heard["messages"][0];
    assert_eq!((&message["seq"], message["text"].as_str()), (&said["seq"], Some("hello")));
    assert_eq!((message["from"].as_str(), message["fromName"].as_str()), (Some("guest"), Some("bob")));
    assert_eq!((&message["kind"], &message["type"]), (&"chat".into(), &"chat".into()));
    // It is the same message, however often it is heard, and at the moment at which it was said.
    assert_eq!(host.call("tunnel_listen", &json!({ "sinceSeq": 0 }))["messages"][0], *message);
    let (said_at, opened_at) =
        (message["ts"].as_u64().unwrap(), heard["status"]["openedAt"].as_u64().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert!(opened_at <= said_at && u128::from(said_at) <= now && now - u128::from(opened_at) < 600_000);
    assert_eq!(
        (heard["status"]["peerConnected"].as_bool(), heard["status"]["role"].as_str()),
        (Some(true), Some("host"))
    );
    let status = guest.call("tunnel_status", &json!({}));
    assert_eq!(status["members"].as_array().unwrap().len(), 2);
    assert!(status.get("closed").is_none(), "{status}");
    assert_eq!(host.call("tunnel_close", &json!({})), json!({ "ok": true }));
    // Who listens on is told that there is no more to come.
    let heard = guest.call("tunnel_listen", &json!({ "sinceSeq": 0, "timeoutMs": 25_000 }));
    assert_eq!(heard["messages"], json!([]), "{heard}");
    assert_eq!(heard["status"]["closed"], "closed by the host", "{heard}");
    host.fail("tunnel_say", &json!({ "text": "late" }));
}

#[test]
fn agents_that_know_tunnel_mcp_share_and_receive_by_its_names() {
    let compat = ["--compat", "tunnel-mcp", "--name"];
    let mut host = Agent::new(&[&compat[..], &["ada"]].concat());
    let mut guest = Agent::new(&[&compat[..], &["bob"]].concat());
    let opened = host.call("tunnel_open", &json!({ "goal": "x" }));
    guest.call("tunnel_join", &json!({ "joinLink": opened["joinLink"] }));
    std::fs::write(guest.user.path("project/core.bin"), [0, 1, 2]).unwrap();
    let shared = guest.call("tunnel_share", &json!({ "path": "core.bin" }));
    assert_eq!(
        (&shared["kind"], &shared["size"], &shared["offeredTo"]),
        (&"binary".into(), &3.into(), &1.into())
    );
    let heard = host.call("tunnel_listen", &json!({ "sinceSeq": 0 }));
    let message = &heard["messages"][0];
    let told: Value = serde_json::from_str(message["text"].as_str().unwrap()).unwrap();
    holds(&told, "artifact");
    assert_eq!((&message["kind"], &told["id"]), (&"artifact".into(), &shared["artifactId"]));
    assert_eq!((&message["from"], &told["from"]), (&"guest".into(), &"guest".into()));
    let listed = &heard["status"]["artifacts"][0];
    assert_eq!((&listed["name"], &listed["id"]), (&"core.bin".into(), &shared["artifactId"]));
    assert_eq!((&listed["from"], &listed["fromName"]), (&"guest".into(), &"bob".into()));
    let wanted = json!({ "artifactId": shared["artifactId"], "savePath": host.user.path("elsewhere") });
    let received = host.call("tunnel_receive", &wanted);
    assert!(!host.user.path("elsewhere").exists());
    assert_eq!(received["sha256"], shared["sha256"]);
    assert_eq!(std::fs::read(received["savePath"].as_str().unwrap()).unwrap(), [0, 1, 2]);
}

#[test]
fn those_who_speak_are_told_apart_by_the_ids_that_a_roster_has() {
    let compat = ["--compat", "tunnel-mcp", "--name"];
    let [mut host, mut bob, mut cy] =
        ["ada", "bob", "cy"].map(|name| Agent::new(&[&compat[..], &[name]].concat()));
    let opened = host.call("tunnel_open", &json!({ "goal": "x", "invites": 2 }));
    bob.call("tunnel_join", &json!({ "joinLink": opened["invites"][0]["joinLink"] }));
    let joined = cy.call("tunnel_join", &json!({ "joinLink": opened["invites"][1]["joinLink"] }));
    host.call("tunnel_say", &json!({ "text": "who is there?" }));
    let heard = cy.call("tunnel_listen", &json!({ "sinceSeq": 0 }));
    assert_eq!(heard["messages"][0]["from"], "host");
    cy.call("tunnel_say", &json!({ "text": "me" }));
    let mut from = bob.call("tunnel_listen", &json!({ "sinceSeq": heard["messages"][0]["seq"] }));
    let from = from["messages"][0]["from"].take();
    assert_eq!((&from, &joined["self"]["id"]), (&"guest-2".into(), &"guest-2".into()));
    let is_named = |member: &Value| member["id"] == from && member["name"] == "cy";
    assert!(joined["members"].as_array().unwrap().iter().any(is_named), "{joined}");
    host.call("tunnel_close", &json!({}));
}
