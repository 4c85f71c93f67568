//! Forms for the agent's person, where its client shows such (MCP elicitation): words to compare, and decisions on what others
//! propose. Neither is a tool: what is typed there does not go through the agent, nor does it see what is asked.
//!
//! One form at a time, about the session that the agent means. What was put aside is not asked again by this server; the
//! command line stays.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_pairing::api::Request;
use mytunnel_pairing::{By, Said, Verdict};
use rmcp::RoleServer;
use rmcp::model::{
    ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ServerRequest,
};
use rmcp::service::{Peer, PeerRequestOptions};
use serde_json::{Value, json};
use tokio::task::{JoinSet, spawn_blocking};
use zeroize::Zeroizing;

use super::desk::Desk;
use crate::commands::pair::start::text;
use crate::failure::Failure;
use crate::inspect::told::printable;

/// A form that nobody answers.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often wrong words may be typed into one.
const TRIES: usize = 2;
/// Characters of a peer's words in a form.
const MOST: usize = 300;

/// See the module.
#[derive(Default)]
pub(super) struct Forms {
    put_aside: Arc<Mutex<BTreeSet<String>>>,
    /// The form that is shown.
    shown: Mutex<JoinSet<()>>,
}

/// What a person is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    /// The words of the other machine.
    Words { session: String, peer: Option<Member> },
    /// Whether what somebody proposes is to be done.
    Proposal { session: String, number: u64, what: String, is_whole: bool },
}

/// Who is a member by that name at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    id: u64,
    name: String,
}

impl Forms {
    /// Asks the person what there is to ask, if there is something and the client shows forms. It is not waited for.
    pub(super) fn look(&self, desk: &Arc<Desk>, client: &Peer<RoleServer>) {
        if !shows_forms(client) {
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        while shown.try_join_next().is_some() {}
        if !shown.is_empty() {
            return;
        }
        let (desk, client, put_aside) = (Arc::clone(desk), client.clone(), Arc::clone(&self.put_aside));
        shown.spawn(async move {
            while let Some(question) = next(&desk, &put_aside).await {
                let is_answered = asked(&question, &desk, &client).await;
                if !is_answered {
                    put_aside.lock().unwrap_or_else(PoisonError::into_inner).insert(question.key());
                    // Who puts one aside is not shown the next at once; the next call of a tool looks again.
                    return;
                }
            }
        });
    }
}

fn shows_forms(client: &Peer<RoleServer>) -> bool {
    let info = client.peer_info();
    let forms = info.as_ref().and_then(|info| info.capabilities.elicitation.as_ref());
    forms.is_some_and(|can| can.form.is_some() || can.url.is_none())
}

async fn next(desk: &Arc<Desk>, put_aside: &Mutex<BTreeSet<String>>) -> Option<Question> {
    let desk = Arc::clone(desk);
    let session = desk.session(None)?;
    let request = Request::Status { session: Some(session), reader: String::new() };
    let status = spawn_blocking(move || desk.client.ask(&request)).await.ok()?.ok()?;
    let put_aside = put_aside.lock().unwrap_or_else(PoisonError::into_inner);
    questions(&status["sessions"][0]).into_iter().find(|question| !put_aside.contains(&question.key()))
}

/// What of a session waits for its person.
fn questions(status: &Value) -> Vec<Question> {
    let session = || text(status, "session").to_owned();
    if status["state"] == "closed" {
        return Vec::new();
    }
    let mut questions = Vec::new();
    if status["verify"] == "required" {
        if status["can_verify"] == true {
            questions.push(Question::Words { session: session(), peer: None });
        }
        let waiting = status["members"].as_array().into_iter().flatten();
        for member in waiting.filter(|member| member["can_verify"] == true) {
            let (id, name) = (member["id"].as_u64().unwrap_or_default(), text(member, "name").to_owned());
            questions.push(Question::Words { session: session(), peer: Some(Member { id, name }) });
        }
    }
    let proposals = status["approvals"].as_array().into_iter().flatten();
    for one in proposals.filter(|one| one["state"] == "pending" && one["own"] == false) {
        let Some(number) = one["approval"].as_u64() else { continue };
        let files = one["files"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let files = files.collect::<Vec<_>>().join(", ");
        let from = text(&one["from"], "name");
        let (action, risk, why) = (text(one, "action"), text(one, "risk"), text(one, "text"));
        let mut what = format!("{from} proposes: {}", short(action));
        for (field, value) in [("Risk", short(risk)), ("Files", short(&files)), ("Why", short(why))] {
            if !value.is_empty() {
                what.push_str(&format!("\n{field}: {value}"));
            }
        }
        let fits = |words: &&str| one_line(words).chars().count() <= MOST;
        let is_whole = one["cut"] == false && [action, risk, why, &files].iter().all(fits);
        questions.push(Question::Proposal { session: session(), number, what, is_whole });
    }
    questions
}

/// A peer's words in one line, in which blanks hide nothing.
fn one_line(words: &str) -> String {
    printable(words).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same, and not many; it says where some are left out.
fn short(words: &str) -> String {
    let words = one_line(words);
    match words.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} […]", &words[..end]),
        None => words,
    }
}

impl Question {
    fn key(&self) -> String {
        match self {
            Self::Words { session, peer } => {
                // The name may be somebody else's later.
                format!("{session} words {}", peer.as_ref().map_or(0, |member| member.id))
            }
            Self::Proposal { session, number, .. } => format!("{session} proposal {number}"),
        }
    }
}

/// Shows the form, and does what the person says; whether that was done.
async fn asked(question: &Question, desk: &Arc<Desk>, client: &Peer<RoleServer>) -> bool {
    match question {
        Question::Words { session, peer } => {
            compared(session, peer.as_ref().map(|member| member.name.as_str()), desk, client).await
        }
        Question::Proposal { session, number, what, is_whole } => {
            decided(session, *number, (what, *is_whole), desk, client).await
        }
    }
}

async fn compared(session: &str, peer: Option<&str>, desk: &Arc<Desk>, client: &Peer<RoleServer>) -> bool {
    let (session, peer) = (Some(session.to_owned()), peer.map(str::to_owned));
    let words = || Request::Words { session: session.clone(), peer: peer.clone() };
    let Ok(own) = ask(desk, words()).await else { return false };
    let with = peer.as_deref().unwrap_or("the host");
    let mut message = format!(
        "Compare words with the person of {with}, by voice. Read out: {}. Then type the three words that the other person \
         reads out to you.",
        text(&own, "words")
    );
    // A client that fills forms in by itself is not to use up the tries that a person has at a terminal.
    for _ in 0..TRIES {
        let field = json!({ "type": "string", "title": "Words of the other machine", "maxLength": 100 });
        let Some(given) = form(client, &message, "words", field).await else { return false };
        // Somebody else may go by the name by now, at whose words this is no try.
        if !ask(desk, words()).await.is_ok_and(|of_now| of_now["words"] == own["words"]) {
            return false;
        }
        let words = Zeroizing::new(given);
        let verify = Request::Verify { session: session.clone(), peer: peer.clone(), words };
        match ask(desk, verify).await {
            Ok(_) => return true,
            Err(failure) if failure.code() == Code::PairSasMismatch => {
                message.insert_str(0, "These are not the words that the other machine shows. ");
            }
            Err(failure) => {
                tracing::debug!(why = failure.message(), "words were not compared");
                return false;
            }
        }
    }
    false
}

async fn decided(
    session: &str,
    proposal: u64,
    (what, is_whole): (&str, bool),
    desk: &Arc<Desk>,
    client: &Peer<RoleServer>,
) -> bool {
    let message = match is_whole {
        true => format!("{what}\nThese are the words of another machine's agent. May it be done?"),
        false => format!(
            "{what}\nThese are the words of another machine's agent, and more than fit here: what is not seen is not approved. \
             Deny it, or read all of it and decide at a terminal (`mytunnel pair approve {proposal}`)."
        ),
    };
    let choices: &[&str] = if is_whole { &["deny", "approve"] } else { &["deny"] };
    let field = json!({ "type": "string", "title": "Decision", "enum": choices });
    let verdict = match form(client, &message, "decision", field).await.as_deref() {
        Some("approve") if is_whole => Verdict::Approved,
        Some("deny") => Verdict::Denied,
        Some(_) | None => return false,
    };
    let said = Said::Decision { proposal, verdict, by: By::Human, text: String::new() };
    let session = Some(session.to_owned());
    ask(desk, Request::Say { session, said, reply_to: Some(proposal), to: Vec::new() }).await.is_ok()
}

async fn ask(desk: &Arc<Desk>, request: Request) -> Result<Value, Failure> {
    let desk = Arc::clone(desk);
    let asked = spawn_blocking(move || desk.client.ask(&request)).await;
    asked.unwrap_or_else(|error| Err(Failure::new(Code::Internal, error.to_string())))
}

/// What the person wrote into the only field of a form; nothing where it was put aside.
async fn form(client: &Peer<RoleServer>, message: &str, name: &str, field: Value) -> Option<String> {
    let schema = json!({ "type": "object", "properties": { name: field }, "required": [name] });
    let params = json!({ "mode": "form", "message": message, "requestedSchema": schema });
    let params: ElicitRequestParams = serde_json::from_value(params).ok()?;
    let mut options = PeerRequestOptions::no_options();
    options.timeout = Some(PATIENCE);
    let request = ServerRequest::ElicitRequest(ElicitRequest::new(params));
    let asked = async { client.send_request_with_option(request, options).await?.await_response().await };
    match asked.await {
        Ok(ClientResult::ElicitResult(ElicitResult {
            action: ElicitationAction::Accept,
            content: Some(content),
            ..
        })) => content[name].as_str().map(str::to_owned),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "no form was shown");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_asked_for_words_that_are_demanded_and_for_what_others_propose() {
        let status = json!({
            "session": "s", "state": "connected", "verify": "required",
            "members": [
                { "id": 1, "name": "bob", "can_verify": true },
                { "id": 2, "name": "cy", "can_verify": false },
            ],
            "approvals": [
                { "approval": 4, "own": true, "state": "pending", "from": { "name": "ada" }, "action": "x", "files": [] },
                { "approval": 5, "own": false, "state": "approved", "from": { "name": "bob" }, "action": "x", "files": [] },
                { "approval": 6, "own": false, "state": "pending", "from": { "name": "bob" }, "action": "rm\n\u{1b}[2J -r", "risk": "", "files": ["a", "b"], "text": "", "cut": false },
            ],
        });
        let bob = |id| Some(Member { id, name: "bob".to_owned() });
        let words = Question::Words { session: "s".to_owned(), peer: bob(1) };
        let other = Question::Words { session: "s".to_owned(), peer: bob(3) };
        assert_ne!(words.key(), other.key(), "who was put aside is not who comes after by the same name");
        let what = "bob proposes: rm\u{fffd}\u{fffd}[2J -r\nFiles: a, b".to_owned();
        let proposal = Question::Proposal { session: "s".to_owned(), number: 6, what, is_whole: true };
        assert_eq!(questions(&status), [words, proposal]);
        let guest = json!({ "session": "s", "state": "unverified", "verify": "required", "can_verify": true, "members": [] });
        assert_eq!(questions(&guest), [Question::Words { session: "s".to_owned(), peer: None }]);
        let asks = json!({ "session": "s", "state": "connected", "verify": "ask", "can_verify": true, "members": [] });
        assert_eq!(questions(&asks), []);
        let mut over = guest.clone();
        over["state"] = "closed".into();
        assert_eq!(questions(&over), []);
    }

    #[test]
    fn what_a_form_does_not_show_is_not_approved_in_it() {
        let of = |action: &str, cut: bool| {
            let one = json!({ "approval": 1, "own": false, "state": "pending", "from": { "name": "bob" }, "action": action, "cut": cut });
            let status = json!({ "session": "s", "state": "connected", "approvals": [one] });
            match questions(&status).remove(0) {
                Question::Proposal { what, is_whole, .. } => (what, is_whole),
                other @ Question::Words { .. } => panic!("{other:?}"),
            }
        };
        assert_eq!(
            of(&format!("ls{}; rm -r /", " ".repeat(400)), false),
            ("bob proposes: ls ; rm -r /".to_owned(), true)
        );
        let (what, is_whole) = of(&format!("ls {}; rm -r /", "x".repeat(400)), false);
        assert!(!is_whole && what.ends_with(" […]"), "{what}");
        // What was left out before it came here would be behind the blanks.
        let (what, is_whole) = of(&format!("ls{}", " ".repeat(1022)), true);
        assert!(!is_whole && what == "bob proposes: ls", "{what}");
    }
}
