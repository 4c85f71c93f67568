//! What the tools work with: the way to the daemon, whose agent it is, the session that is meant where none is named, and
//! what the agent was handed.
//!
//! A session is pinned when the agent opens, joins or names it: another that happens to be open is never meant instead.
//! What `listen` gave counts as read when the agent asks for the next thing, or ends in order: an answer that it gave up
//! on is given again.

use std::sync::{Mutex, PoisonError};

use mytunnel_pairing::api::Request;
use rmcp::model::RequestId;
use serde_json::Value;

use crate::commands::pair::client::Client;
use crate::failure::Failure;

/// By what name agents read.
pub(super) const READER: &str = "agent";

/// See the module.
pub(super) struct Desk {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) agent: String,
    pinned: Mutex<Option<String>>,
    handed: Mutex<Vec<(RequestId, Handed)>>,
}

/// What one answer held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Handed {
    session: Option<String>,
    number: u64,
    end: bool,
}

impl Desk {
    pub(super) fn new(client: Client, name: String, agent: String) -> Self {
        Self { client, name, agent, pinned: Mutex::default(), handed: Mutex::default() }
    }

    /// The session that is named, or else the pinned one; nothing where there is none yet.
    pub(super) fn session(&self, named: Option<String>) -> Option<String> {
        named.or_else(|| self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Asks, and pins the session of the answer.
    pub(super) fn ask(&self, request: &Request) -> Result<Value, Failure> {
        self.client.ask(request).inspect(|answer| self.pin(answer))
    }

    /// As [`Self::ask`], of a daemon that is started if none runs.
    pub(super) fn ask_or_start(&self, request: &Request) -> Result<Value, Failure> {
        self.client.ask_or_start(request).inspect(|answer| self.pin(answer))
    }

    fn pin(&self, answer: &Value) {
        if let Some(session) = answer["session"].as_str() {
            *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.to_owned());
        }
    }

    /// Remembers what the answer to this call hands to the agent.
    pub(super) fn hand(&self, call: RequestId, answer: &Value) {
        let handed = Handed {
            session: answer["session"].as_str().map(str::to_owned),
            number: answer["next"].as_u64().unwrap_or_default(),
            end: answer["reason"] == "closed",
        };
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).push((call, handed));
    }

    /// The agent does not look at the answer to this call.
    pub(super) fn take_back(&self, call: &RequestId) {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| other != call);
    }

    /// The agent goes on: what it was handed is read.
    pub(super) fn settle(&self) {
        let handed = std::mem::take(&mut *self.handed.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, Handed { session, number, end }) in handed {
            let reader = READER.to_owned();
            if let Err(failure) = self.client.ask(&Request::Read { session, reader, number, end }) {
                // It is handed out once more, if its session still is.
                tracing::debug!(message = failure.message(), "not marked as read");
            }
        }
    }
}
