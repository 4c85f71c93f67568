//! What the tools work with: the way to the daemon, whose agent it is, the session that is meant where none is named, and
//! what the agent was handed.
//!
//! A session is pinned when the agent opens, joins or names it: another that happens to be open is never meant instead,
//! nor is one to which an earlier question was, whose answer came late.
//! What `listen` gave counts as read when the agent asks for the next thing, or ends in order: an answer that it gave up
//! on is given again.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use mytunnel_pairing::api::{RelayGrant, Request};
use rmcp::model::RequestId;
use serde_json::Value;

use crate::commands::pair::client::Client;
use crate::commands::pair::relay::{self, Offer, Wish};
use crate::context::Context;
use crate::failure::Failure;

/// By what name agents read.
pub(super) const READER: &str = "agent";

/// See the module.
pub(super) struct Desk {
    pub(super) client: Client,
    /// For what takes a coordinator.
    context: Context,
    pub(super) name: String,
    pub(super) agent: String,
    pub(super) places: Places,
    pinned: Mutex<Pinned>,
    handed: Mutex<Vec<(RequestId, Handed)>>,
}

/// Where this agent's files are. Nothing of it is for the agent to choose.
#[derive(Debug)]
pub(super) struct Places {
    /// From where it may share: the repository or the folder in which its server was started.
    pub(super) folder: Option<PathBuf>,
    /// Where what it receives is put.
    pub(super) inbox: Option<PathBuf>,
}

/// What one answer held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Handed {
    session: Option<String>,
    number: u64,
    end: bool,
}

/// Which session is meant where none is named, and at which turn that was asked for.
#[derive(Debug, Default)]
struct Pinned {
    turns: u64,
    since: u64,
    session: Option<String>,
}

impl Pinned {
    /// For a question that may pin when it is answered: its place among the others.
    const fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Unless a later question has pinned another.
    fn pin(&mut self, turn: u64, session: &str) {
        if turn > self.since {
            (self.since, self.session) = (turn, Some(session.to_owned()));
        }
    }

    fn pin_if_none(&mut self, session: &str) {
        self.session.get_or_insert_with(|| session.to_owned());
    }
}

impl Desk {
    pub(super) fn new(
        client: Client,
        context: Context,
        (name, agent): (String, String),
        places: Places,
    ) -> Self {
        let (pinned, handed) = (Mutex::default(), Mutex::default());
        Self { client, context, name, agent, places, pinned, handed }
    }

    /// What guests need who come through a relay to a session that is to be opened, unless they are not to.
    pub(super) fn offer(&self, wanted: bool, links: (usize, u64)) -> Result<Offer, Failure> {
        let wish = if wanted { Wish::Maybe } else { Wish::Off };
        Offer::make(wish, links, &Value::Null, &self.context)
    }

    /// The same for further links of one that is open.
    pub(super) fn offer_more(
        &self,
        wanted: bool,
        session: Option<String>,
        links: (usize, u64),
    ) -> Result<Offer, Failure> {
        if !wanted {
            return Ok(Offer::default());
        }
        let there = relay::there(session, |request| self.ask(request))?;
        Offer::make(Wish::Maybe, links, &there, &self.context).map(Offer::for_living)
    }

    /// Takes back the tickets of links that let nobody in any more.
    pub(super) fn withdraw(&self, answer: &mut Value) {
        relay::withdraw(answer, &self.context);
    }

    /// See [`Offer::used`].
    pub(super) fn used(
        &self,
        offer: Offer,
        ask: impl FnOnce(Option<RelayGrant>) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        offer.used(&self.context, ask)
    }

    /// The session that is named, which is pinned with that, or else the pinned one; nothing where there is none yet.
    pub(super) fn session(&self, named: Option<String>) -> Option<String> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = named {
            let turn = pinned.turn();
            pinned.pin(turn, &named);
        }
        pinned.session.clone()
    }

    /// Asks. Where none is pinned yet, the session that the daemon took to be meant is, from here on.
    pub(super) fn ask(&self, request: &Request) -> Result<Value, Failure> {
        self.client.ask(request).inspect(|answer| {
            if let Some(session) = answer["session"].as_str() {
                self.pinned.lock().unwrap_or_else(PoisonError::into_inner).pin_if_none(session);
            }
        })
    }

    /// Opens or joins a session, with a daemon that is started if none runs, and pins it. The agent has a place there from
    /// here on, so that the session waits for it when it is over, whoever else has read it.
    pub(super) fn begin(&self, request: &Request) -> Result<Value, Failure> {
        let turn = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).turn();
        let answer = self.client.ask_or_start(request)?;
        if let Some(session) = answer["session"].as_str() {
            self.pinned.lock().unwrap_or_else(PoisonError::into_inner).pin(turn, session);
            self.read(Some(session.to_owned()), 0, false);
        }
        Ok(answer)
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
            self.read(session, number, end);
        }
    }

    fn read(&self, session: Option<String>, number: u64, end: bool) {
        let reader = READER.to_owned();
        if let Err(failure) = self.client.ask(&Request::Read { session, reader, number, end }) {
            // It is handed out once more, if its session still is.
            tracing::debug!(message = failure.message(), "not marked as read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_late_pins_nothing_over_what_was_asked_behind_it() {
        let mut pinned = Pinned::default();
        pinned.pin_if_none("found");
        pinned.pin_if_none("other");
        assert_eq!(pinned.session.as_deref(), Some("found"));
        let (opens, joins) = (pinned.turn(), pinned.turn());
        pinned.pin(joins, "joined");
        pinned.pin(opens, "opened");
        pinned.pin_if_none("found");
        assert_eq!(pinned.session.as_deref(), Some("joined"));
        let names = pinned.turn();
        pinned.pin(names, "named");
        assert_eq!(pinned.session.as_deref(), Some("named"));
    }
}
