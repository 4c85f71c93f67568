//! What is proposed in a session, and what was decided on it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use mytunnel_keys::error::Code;
use serde_json::{Value, json};

use crate::{
    api::Trouble,
    content::{By, Content, MemberId, Said, Verdict},
    daemon::session::Session,
    ledger::Entry,
    text,
};

/// Proposals in the status of a session: the newest of each member before those that are older, so that nobody who proposes much hides what others
/// propose.
const SHOWN: usize = 16;
/// Bytes of those that are shown at length.
const BYTES: usize = 32 << 10;
/// What is shown of a proposal: an agent reads all of a status, and the record has the rest.
const LONG: Size = Size { words: 1024, files: 16, name: 256 };
/// The same where there is no room for that.
const SHORT: Size = Size { words: 100, files: 0, name: 0 };

/// Bytes of each text, how many files, and bytes of the name of each.
struct Size {
    words: usize,
    files: usize,
    name: usize,
}

/// A proposal, and the decision that counts here.
struct Proposed<'a> {
    entry: &'a Entry,
    said: &'a Said,
    decided: Option<(Verdict, By, MemberId)>,
}

/// The numbers of entries that are given with their authors, the oldest first: the newest of each author, then the one before it of each, and so on, and of those of one rank the newest first.
fn of_each_the_newest_first(entries: impl DoubleEndedIterator<Item = (u64, MemberId)>) -> Vec<u64> {
    let mut newer: BTreeMap<MemberId, usize> = BTreeMap::new();
    let ranked = entries.rev().map(|(number, author)| {
        let rank = newer.entry(author).or_default();
        *rank += 1;
        (*rank, Reverse(number))
    });
    let ranked: BTreeSet<_> = ranked.collect();
    ranked.into_iter().map(|(_, Reverse(number))| number).collect()
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
        let order = of_each_the_newest_first(
            found.values().map(|proposed| (proposed.entry.number, proposed.entry.author)),
        );
        let (mut shown, mut bytes) = (BTreeMap::new(), 0);
        for number in order.into_iter().take(SHOWN) {
            let Some(proposed) = found.get(&number) else { continue };
            let mut one = self.shown_proposal(proposed, &LONG);
            // As it is written: escapes may double it.
            let size = one.to_string().len();
            if bytes + size > BYTES {
                one = self.shown_proposal(proposed, &SHORT);
            } else {
                bytes += size;
            }
            shown.insert(number, one);
        }
        shown.into_values().collect()
    }

    /// Whether this end may decide on what has this number: it is a proposal, and of somebody else.
    pub(in crate::daemon) fn may_decide(&self, proposal: u64) -> Result<(), Trouble> {
        let me = self.me();
        let found = self.after(0).find(|entry| entry.number == proposal && entry.is_for(me));
        let content = found.and_then(|entry| Some((entry, &entry.envelope.as_ref()?.content)));
        match content {
            Some((entry, Content::Said(Said::Proposal { .. }))) if entry.author == me => {
                Err(Trouble::new(Code::BadRequest, format!("{proposal} is this end's own proposal"))
                    .with_help(
                        "The others decide on it: `mytunnel pair status --json` shows what they have said.",
                    ))
            }
            Some((_, Content::Said(Said::Proposal { .. }))) => Ok(()),
            Some(_) | None => {
                Err(Trouble::new(Code::NotFound, format!("{proposal} is no proposal of this session"))
                    .with_help("`mytunnel pair log` shows their numbers."))
            }
        }
    }

    fn shown_proposal(&self, proposed: &Proposed<'_>, size: &Size) -> Value {
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
                shown[field] = part(words, size.words).into();
            }
            shown["files"] = files.iter().take(size.files).map(|file| part(file, size.name)).collect();
            cut |= files.len() > size.files;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_proposes_much_hides_nothing_of_what_others_propose() {
        let authors: [MemberId; 8] = [1, 2, 2, 3, 2, 2, 1, 2];
        let entries: Vec<_> = (1..).zip(authors).collect();
        assert_eq!(of_each_the_newest_first(entries.into_iter()), [8, 7, 4, 6, 1, 5, 3, 2]);
    }
}
