//! What clients are shown of files.

use serde_json::{Value, json};

use super::{
    super::{
        Daemon,
        session::{Session, Side},
        verbs::no_session,
    },
    fetch::State,
    serve::Asker,
    trouble,
};
use crate::{
    api::Trouble,
    content::{Content, HOST, MemberId, Said, SessionId, Shared},
    files::{safe, talk::No},
    ledger::Entry,
    limits, text,
};

impl Daemon {
    /// How far a file is that is being received, or was.
    ///
    /// # Errors
    /// Why it does not come.
    pub(in crate::daemon) fn received(&self, session: Option<&str>, offer: u64) -> Result<Value, Trouble> {
        let id = self.chosen(session)?;
        let held = self.sessions.get(&id).ok_or_else(no_session)?;
        let receiving = self.files.receiving.get(&(id, offer));
        let state = receiving.map(|receiving| receiving.state.borrow().clone());
        let mut shown = match (receiving, state) {
            (_, Some(State::Failed(trouble))) => return Err(trouble),
            // Whatever was said since: the record may have the offer no more.
            (Some(receiving), Some(state)) => with_state(receiving.offer.clone(), state),
            (None, _) | (_, None) => {
                let (entry, file) = held.offer(offer).ok_or_else(|| trouble::of_no(No::Unknown))?;
                self.shown_offer(id, held, entry, file)
            }
        };
        shown["session"] = id.to_string().into();
        Ok(shown)
    }

    /// What is offered in a session, by this machine and by others, the newest last.
    pub(in crate::daemon) fn offers(&self, session: Option<&str>) -> Result<Value, Trouble> {
        let id = self.chosen(session)?;
        let held = self.sessions.get(&id).ok_or_else(no_session)?;
        let offers = self.newest_offers(id, held, limits::OFFERS_SHOWN);
        Ok(json!({ "session": id.to_string(), "offers": offers }))
    }

    /// The newest of them, `most` at most.
    pub(in crate::daemon) fn newest_offers(&self, id: SessionId, held: &Session, most: usize) -> Vec<Value> {
        let all: Vec<_> = held.after(0).filter_map(|entry| Some((entry, held.offered(entry)?))).collect();
        let newest = all.len().saturating_sub(most);
        all[newest..].iter().map(|(entry, file)| self.shown_offer(id, held, entry, file)).collect()
    }

    pub(super) fn shown_offer(&self, id: SessionId, held: &Session, entry: &Entry, file: &Shared) -> Value {
        let mut shown = held.described(entry, file);
        if entry.author == held.me() {
            let is_there = self.files.source(id, file.blake3).is_some();
            shown["state"] = if is_there { "shared" } else { "gone" }.into();
            return shown;
        }
        match self.files.receiving.get(&(id, entry.number)) {
            Some(receiving) => with_state(shown, receiving.state.borrow().clone()),
            None => shown,
        }
    }
}

/// An offer with how far its file has come.
fn with_state(mut shown: Value, state: State) -> Value {
    shown["state"] = match state {
        State::Receiving { received } => {
            shown["received"] = received.into();
            "receiving"
        }
        State::Received { path } => {
            shown["received"] = shown["size"].clone();
            shown["path"] = path.to_string_lossy().into();
            "received"
        }
        State::Failed(trouble) => {
            shown["code"] = trouble.code.name().into();
            shown["message"] = trouble.message.into();
            "failed"
        }
    }
    .into();
    shown
}

impl Session {
    /// The offer of this number that this end may read.
    pub(super) fn offer(&self, number: u64) -> Option<(&Entry, &Shared)> {
        let entry = self.after(number.checked_sub(1)?).next().filter(|entry| entry.number == number)?;
        Some((entry, self.offered(entry)?))
    }

    /// An offer, for whoever has done nothing about it yet.
    pub(super) fn described(&self, entry: &Entry, file: &Shared) -> Value {
        json!({
            "offer": entry.number,
            "state": "offered",
            "from": self.shown_member(entry.author),
            "name": safe(&file.name),
            "size": file.size,
            "media": text::line(&file.media),
            "blake3": file.blake3.to_string(),
            "sha256": file.sha256.to_string(),
            "untrusted": entry.author != self.me(),
            "private": entry.envelope.as_ref().is_some_and(|envelope| !envelope.to.is_empty()),
        })
    }

    fn offered<'a>(&self, entry: &'a Entry) -> Option<&'a Shared> {
        let envelope = entry.envelope.as_ref().filter(|_| entry.is_for(self.me()))?;
        match &envelope.content {
            Content::Said(Said::Offer { file, .. }) => Some(file),
            Content::Said(_) | Content::System(_) => None,
        }
    }

    /// As whom somebody asks here for files.
    pub(super) fn asks(&self, asker: &Asker) -> Option<MemberId> {
        match &self.side {
            Side::Host(room) => room.asks_for_files(asker.seat, &asker.peer, &asker.key),
            Side::Guest(seat, _) => {
                seat.is_asked_for_files(asker.seat, &asker.peer, &asker.key).then_some(HOST)
            }
        }
    }

    /// Whether a member can be asked now, as far as is known here.
    pub(super) fn is_there(&self, member: MemberId) -> bool {
        match &self.side {
            Side::Host(room) => room.members.get(&member).is_some_and(|member| member.is_online()),
            Side::Guest(seat, _) => {
                seat.away_since.is_none() && seat.members.get(&member).is_some_and(|known| known.online)
            }
        }
    }
}
