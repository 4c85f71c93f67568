//! Forms for the agent's person (elicitation), of a client that shows them.

use serde_json::{Value, json};

use super::Agent;

/// What a person writes into the form that comes next.
fn fill(agent: &mut Agent, content: impl FnOnce(&str) -> Value) {
    let form = agent.server().asked("elicitation/create");
    let message = form["params"]["message"].as_str().unwrap().to_owned();
    assert_eq!(form["params"]["requestedSchema"]["type"], "object", "{form}");
    let given = json!({ "action": "accept", "content": content(&message) });
    agent.server().write(&json!({ "jsonrpc": "2.0", "id": form["id"], "result": given }));
}

/// The words that a form says are this machine's.
fn own_words(message: &str) -> String {
    let (_, rest) = message.split_once("Read out: ").unwrap();
    rest.split_once('.').unwrap().0.to_owned()
}

/// The form that comes next, which waits for its person.
fn shown(agent: &mut Agent) -> (Value, String) {
    let form = agent.server().asked("elicitation/create");
    let message = form["params"]["message"].as_str().unwrap().to_owned();
    (form["id"].clone(), message)
}

fn answer(agent: &mut Agent, form: &Value, words: &str) {
    let given = json!({ "action": "accept", "content": { "words": words } });
    agent.server().write(&json!({ "jsonrpc": "2.0", "id": form, "result": given }));
}

#[test]
fn persons_compare_words_and_decide_in_forms_that_the_agents_do_not_see() {
    let (mut host, mut guest) =
        (Agent::with_forms(&["--name", "ada"]), Agent::with_forms(&["--name", "bob"]));
    let opened = host.call("pair_open", &json!({ "goal": "meet", "verify": "required" }));
    let joined = guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    assert_eq!(joined["state"], "unverified", "{joined}");
    host.call("pair_status", &json!({}));
    guest.call("pair_status", &json!({}));
    let ((of_host, at_host), (of_guest, at_guest)) = (shown(&mut host), shown(&mut guest));
    assert!(at_host.contains("bob") && at_guest.contains("the host"), "{at_host} {at_guest}");
    // Wrong ones are asked for again.
    answer(&mut guest, &of_guest, "three wrong words");
    let (of_guest, again) = shown(&mut guest);
    assert!(again.starts_with("These are not the words"), "{again}");
    answer(&mut guest, &of_guest, &own_words(&at_host));
    answer(&mut host, &of_host, &own_words(&at_guest));
    let told = |agent: &mut Agent| agent.call("pair_status", &json!({}))["sessions"][0].clone();
    let begun = std::time::Instant::now();
    while told(&mut guest)["state"] != "connected" || told(&mut host)["state"] != "connected" {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{}", told(&mut guest));
    }
    let status = told(&mut guest);
    assert_eq!((&status["verification"], &status["goal"]), (&"ok".into(), &"meet".into()), "{status}");
    assert!(!status.to_string().contains(&own_words(&at_guest)), "{status}");

    let proposed = guest.call("pair_propose", &json!({ "action": "rm -r target", "risk": "a long build" }));
    assert_eq!(told(&mut guest)["approvals"][0]["state"], "pending");
    while told(&mut host)["approvals"][0]["approval"] != proposed["approval"] {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{}", told(&mut host));
    }
    fill(&mut host, |message| {
        assert!(
            message.contains("bob proposes: rm -r target") && message.contains("a long build"),
            "{message}"
        );
        json!({ "decision": "deny" })
    });
    let heard = guest.call("pair_listen", &json!({}));
    let decision = &heard["messages"][0];
    assert_eq!(
        (&decision["data"]["verdict"], &decision["data"]["by"], &decision["reply_to"]),
        (&"denied".into(), &"human".into(), &proposed["approval"]),
        "{heard}"
    );
    let approval = &told(&mut guest)["approvals"][0];
    assert_eq!((&approval["state"], &approval["by"]), (&"denied".into(), &"human".into()), "{approval}");
}

#[test]
fn words_that_were_typed_for_somebody_who_is_gone_are_no_try_at_those_of_the_next_by_that_name() {
    let mut host = Agent::with_forms(&["--name", "ada"]);
    let opened = host.call("pair_open", &json!({ "goal": "meet", "verify": "required", "invites": 2 }));
    let mut forms = Vec::new();
    for invite in 0..2 {
        let mut guest = Agent::new(&["--name", "bob"]);
        guest.call("pair_join", &json!({ "secret": opened["invites"][invite]["text"] }));
        if let Some((form, _)) = forms.first() {
            answer(&mut host, form, "three wrong words");
        }
        let begun = std::time::Instant::now();
        while host.server().asked.is_empty() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "no form");
            host.call("pair_status", &json!({}));
        }
        forms.push(shown(&mut host));
        host.user.run_with(&["pair", "kick", "bob", "--json"], &[]).succeeded();
    }
    let [(_, first), (_, second)] = forms.try_into().unwrap();
    assert!(second.starts_with("Compare words with the person of bob"), "{second}");
    assert_ne!(own_words(&first), own_words(&second));
}

#[test]
fn a_form_that_is_put_aside_is_not_shown_again_and_the_terminal_stays() {
    let (mut host, mut guest) = (Agent::with_forms(&["--name", "ada"]), Agent::new(&["--name", "bob"]));
    let opened = host.call("pair_open", &json!({ "goal": "meet" }));
    guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    let propose = |guest: &mut Agent, action: &str| {
        guest.call("pair_propose", &json!({ "action": action, "risk": "none" }))["approval"].clone()
    };
    let first = propose(&mut guest, "the first");
    host.call("pair_listen", &json!({}));
    let (form, message) = shown(&mut host);
    assert!(message.contains("the first"), "{message}");
    host.server().write(&json!({ "jsonrpc": "2.0", "id": form, "result": { "action": "decline" } }));
    propose(&mut guest, "the second");
    host.call("pair_listen", &json!({}));
    fill(&mut host, |message| {
        assert!(message.contains("the second"), "{message}");
        json!({ "decision": "approve" })
    });
    assert_eq!(guest.call("pair_listen", &json!({}))["messages"][0]["data"]["verdict"], "approved");
    host.user.run_at_terminal(&["pair", "approve", &first.to_string(), "--json"], "").succeeded();
    let heard = guest.call("pair_listen", &json!({}));
    assert_eq!(heard["messages"][0]["reply_to"], first, "{heard}");
}
