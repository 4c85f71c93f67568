//! What is proposed in a session, and what was decided on it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    content::{By, Content, MemberId, Said, Verdict},
    daemon::session::Session,
    ledger::Entry,
    limits, text,
};

/// Proposals in the status of a session, the newest.
const SHOWN: usize = 16;
/// Bytes of what is shown of each text of a proposal: an agent reads all of a status, and the record has the rest.
const WORDS: usize = 1024;
/// Files that are shown of a proposal, and bytes of each name.
const FILES: (usize, usize) = (16, 256);

/// A proposal, and the decision that counts here.
struct Proposed<'a> {
    entry: &'a Entry,
    said: &'a Said,
    decided: Option<(Verdict, By, MemberId)>,
}

impl Session {
    /// The newest proposals that this end can see. On those of others only this end's own decision counts here, on its own what
    /// others say, who are named with it; who proposed something does not decide on it.
    pub(super) fn approvals(&self) -> Vec<Value> {
        let me = self.me();
        let mut found: BTreeMap<u64, Proposed<'_>> = BTreeMap::new();
        for entry in self.after(0).filter(|entry| entry.is_for(me)) {
            let Some(Content::Said(said)) = entry.envelope.as_ref().map(|envelope| &envelope.content) else {
                continue;
            };
            match said {
                Said::Proposal { .. } => {
                    found.insert(entry.number, Proposed { entry, said, decided: None });
                }
                Said::Decision { proposal, verdict, by, .. } => {
                    let counts = |proposed: &&mut Proposed<'_>| {
                        let author = proposed.entry.author;
                        author != entry.author && (entry.author == me || author == me)
                    };
                    if let Some(proposed) = found.get_mut(proposal).filter(counts) {
                        proposed.decided = Some((*verdict, *by, entry.author));
                    }
                }
                Said::Chat { .. }
                | Said::Code { .. }
                | Said::Plan { .. }
                | Said::Question { .. }
                | Said::Answer { .. }
                | Said::Task { .. }
                | Said::Offer { .. } => {}
            }
        }
        let (mut shown, mut bytes) = (Vec::new(), 0);
        for proposed in found.values().rev().take(SHOWN) {
            let one = self.shown_proposal(proposed);
            // As it is written: escapes may double it.
            bytes += one.to_string().len();
            if bytes > limits::BATCH_BYTES {
                break;
            }
            shown.push(one);
        }
        shown.reverse();
        shown
    }

    fn shown_proposal(&self, proposed: &Proposed<'_>) -> Value {
        let Proposed { entry, said, decided } = proposed;
        let mut cut = false;
        let mut part = |words: &str, most: usize| {
            let shown = text::begin(words, most);
            cut |= shown.len() < words.len();
            text::neutral(shown).0
        };
        let mut shown = json!({});
        if let Said::Proposal { text, action, risk, files } = said {
            for (field, words) in [("text", text), ("action", action), ("risk", risk)] {
                shown[field] = part(words, WORDS).into();
            }
            shown["files"] = files.iter().take(FILES.0).map(|file| part(file, FILES.1)).collect();
            cut |= files.len() > FILES.0;
        }
        shown["cut"] = cut.into();
        shown["approval"] = entry.number.into();
        shown["from"] = self.shown_member(entry.author);
        shown["own"] = (entry.author == self.me()).into();
        shown["untrusted"] = (entry.author != self.me() || decided.is_some()).into();
        shown["state"] = "pending".into();
        if let Some((verdict, by, author)) = decided {
            shown["state"] = json!(verdict);
            shown["by"] = json!(by);
            shown["decided_by"] = self.shown_member(*author);
        }
        shown
    }
}
