//! What is proposed in a session, and what was decided on it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::neutralise;
use crate::{
    content::{Content, MemberId, Said},
    daemon::session::Session,
};

/// Proposals in the status of a session, the newest.
const SHOWN: usize = 16;

impl Session {
    /// The newest proposals that this end can see. On those of others only this end's own decision counts here, on its own what
    /// others say, who are named with it; who proposed something does not decide on it.
    pub(super) fn approvals(&self) -> Vec<Value> {
        let mut found: BTreeMap<u64, (MemberId, Value)> = BTreeMap::new();
        for entry in self.after(0).filter(|entry| entry.is_for(self.me())) {
            let Some(Content::Said(said)) = entry.envelope.as_ref().map(|envelope| &envelope.content) else {
                continue;
            };
            match said {
                Said::Proposal { text, action, risk, files } => {
                    let mut shown = json!({ "text": text, "action": action, "risk": risk, "files": files });
                    neutralise(&mut shown, &mut 0);
                    shown["approval"] = entry.number.into();
                    shown["from"] = self.shown_member(entry.author);
                    shown["own"] = (entry.author == self.me()).into();
                    shown["untrusted"] = (entry.author != self.me()).into();
                    shown["state"] = "pending".into();
                    found.insert(entry.number, (entry.author, shown));
                }
                Said::Decision { proposal, verdict, by, .. } => {
                    let me = self.me();
                    let counts =
                        |author: MemberId| author != entry.author && (entry.author == me || author == me);
                    if let Some((_, shown)) = found.get_mut(proposal).filter(|(author, _)| counts(*author)) {
                        shown["state"] = json!(verdict);
                        shown["by"] = json!(by);
                        shown["decided_by"] = self.shown_member(entry.author);
                        shown["untrusted"] = true.into();
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
        let skipped = found.len().saturating_sub(SHOWN);
        found.into_values().skip(skipped).map(|(_, shown)| shown).collect()
    }
}
