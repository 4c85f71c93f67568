//! What is said in a session, and what the host notes of it.

use mytunnel_keys::{error::Code, id::PublicKey};
use serde::{Deserialize, Serialize};

use crate::{
    files::tree::{Digest, PIECE},
    limits,
    signed::Hash,
    text,
};

/// Number of a member in its session; the host is 0.
pub(crate) type MemberId = u8;
/// The host's.
pub(crate) const HOST: MemberId = 0;

/// Which session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SessionId(#[serde(with = "crate::bytes")] pub [u8; 8]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// Something that a member says. The names of kinds and fields are those of `--kind` and `--data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// Plain words.
    Chat {
        /// The words.
        text: String,
    },
    /// A piece of a program.
    Code {
        /// The piece.
        text: String,
        /// Its language.
        lang: String,
        /// Where it stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// What is to be done, in order.
    Plan {
        /// The plan in a sentence.
        text: String,
        /// Its steps.
        steps: Vec<Step>,
    },
    /// Wants an answer.
    Question {
        /// The question.
        text: String,
    },
    /// To a question, which it replies to.
    Answer {
        /// The answer.
        text: String,
    },
    /// What somebody would do if nobody minds.
    Proposal {
        /// Why.
        text: String,
        /// What.
        action: String,
        /// What may go wrong.
        risk: String,
        /// Files that it touches.
        #[serde(default)]
        files: Vec<String>,
    },
    /// On a proposal.
    Decision {
        /// Its number in the session.
        proposal: u64,
        /// Yes or no.
        verdict: Verdict,
        /// Whose word it is, as the member says.
        by: By,
        /// Why.
        text: String,
    },
    /// How the work goes.
    Task {
        /// The state.
        state: TaskState,
        /// More of it.
        text: String,
    },
    /// A file that may be had of this member, by the number of this entry.
    Offer {
        /// What it is for.
        text: String,
        /// The file.
        file: Shared,
    },
}

/// A file as its owner offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Its name, which who receives it makes harmless for himself.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// BLAKE3 of it, against which each piece is checked.
    pub blake3: Digest,
    /// SHA-256 of it.
    pub sha256: Digest,
    /// Bytes of a piece.
    pub piece: u32,
    /// Its media type.
    pub media: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What.
    pub text: String,
    /// Whether it is done.
    pub state: TaskState,
}

/// States of a task, as A2A names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum TaskState {
    Submitted,
    Working,
    InputRequired,
    Completed,
    Canceled,
    Failed,
    Rejected,
}

/// On a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Verdict {
    Approved,
    Denied,
}

/// Whose word something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum By {
    Human,
    Agent,
}

impl Said {
    /// The part that is meant to be read.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Chat { text }
            | Self::Code { text, .. }
            | Self::Plan { text, .. }
            | Self::Question { text }
            | Self::Answer { text }
            | Self::Proposal { text, .. }
            | Self::Decision { text, .. }
            | Self::Task { text, .. }
            | Self::Offer { text, .. } => text,
        }
    }
}

/// A member as the host introduces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduced {
    /// Its number.
    pub id: MemberId,
    /// Its name, unique in the session.
    pub name: String,
    /// What runs there, as it says.
    pub agent: String,
    /// What signs its words.
    pub key: PublicKey,
    /// Whether the host's person has compared words with it.
    pub verified: bool,
}

/// What the host notes. No field of it is a peer's free text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum System {
    Opened,
    Joined { member: Introduced },
    Left { member: MemberId },
    Kicked { member: MemberId },
    Verified { member: MemberId },
    Locked,
    Closed { why: Why },
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    Host,
    Left,
    Kicked,
    Denied,
    Idle,
    Old,
    Stopped,
    Fork,
}

/// What an entry of the record holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    /// By a member.
    Said(Said),
    /// By the host of the session itself.
    System(System),
}

/// One entry as its author signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope {
    /// The session.
    pub session: SessionId,
    /// Who says it.
    pub author: MemberId,
    /// Its number among what the author said, from 1.
    pub number: u64,
    /// Hash of the one before.
    pub before: Hash,
    /// When, by the author's clock, in milliseconds of the Unix epoch.
    pub at: u64,
    /// The entry that it replies to.
    pub reply_to: Option<u64>,
    /// To whom; everybody if empty.
    pub to: Vec<MemberId>,
    /// What.
    pub content: Content,
}

/// Its place in the record, as the host signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    /// The session.
    pub session: SessionId,
    /// Its number in the session, from 1.
    pub number: u64,
    /// Hash of the seal before.
    pub before: Hash,
    /// Who said it.
    pub author: MemberId,
    /// Its number among what the author said.
    pub by_author: u64,
    /// To whom; everybody if empty. What is withheld from one of them is missed by that.
    pub to: Vec<MemberId>,
    /// Hash of the envelope.
    pub envelope: Hash,
}

/// Where the record goes on for who was away too long, as the host signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skip {
    /// The session.
    pub session: SessionId,
    /// Behind this entry,
    pub number: u64,
    /// of this hash.
    pub head: Hash,
    /// Who was in the session there.
    pub members: Vec<Introduced>,
}

impl Seal {
    /// Whether this member may read what it places.
    pub(crate) fn is_for(&self, member: MemberId) -> bool {
        self.to.is_empty() || self.author == member || self.to.contains(&member)
    }
}

impl Introduced {
    /// As it may be shown, if its name may.
    pub(crate) fn checked(self) -> Option<Self> {
        let name = text::name(&self.name)?;
        let agent = text::field(&self.agent)?;
        Some(Self { name, agent, ..self })
    }
}

/// What an author signs.
pub(crate) const ENVELOPE: &str = "mytunnel pair envelope 1";
/// What the host signs.
pub(crate) const SEAL: &str = "mytunnel pair seal 2";
/// What the host signs where it goes on.
pub(crate) const SKIP: &str = "mytunnel pair skip 1";

/// Whether something is small enough to be said, as a whole and in each of its parts: a list of very many very small
/// ones takes far more memory, and far more room in an answer, than its bytes.
pub(crate) fn check(said: &Said) -> Result<(), Code> {
    let is_short = |text: &str| text.len() <= limits::PART;
    let fits = match said {
        Said::Code { lang, path, .. } => is_short(lang) && path.as_deref().is_none_or(is_short),
        Said::Plan { steps, .. } => {
            steps.len() <= limits::PARTS && steps.iter().all(|step| is_short(&step.text))
        }
        Said::Proposal { action, risk, files, .. } => {
            let files_fit = files.len() <= limits::PARTS && files.iter().all(|file| is_short(file));
            files_fit && is_short(action) && is_short(risk)
        }
        Said::Offer { file, .. } => {
            let named = file.name.len() <= limits::FILE_NAME && file.media.len() <= limits::FIELD;
            // Other pieces would be another kind of offer.
            named && file.size <= limits::FILE_MOST && file.piece as usize == PIECE
        }
        Said::Chat { .. }
        | Said::Question { .. }
        | Said::Answer { .. }
        | Said::Decision { .. }
        | Said::Task { .. } => true,
    };
    let is_small =
        || said.text().len() <= limits::TEXT && crate::bytes::encode(said).len() <= limits::ENTRY - 1024;
    if fits && is_small() { Ok(()) } else { Err(Code::PairTooLarge) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(files: Vec<String>) -> Said {
        let part = |length| "x".repeat(length);
        Said::Proposal { text: part(limits::TEXT), action: part(limits::PART), risk: String::new(), files }
    }

    #[test]
    fn every_part_of_what_is_said_has_its_bound() {
        let step = |length| Step { text: "x".repeat(length), state: TaskState::Working };
        let plan = |steps| Said::Plan { text: String::new(), steps };
        let code = |lang: usize, path: usize| Said::Code {
            text: String::new(),
            lang: "x".repeat(lang),
            path: Some("x".repeat(path)),
        };
        let fit = [
            proposal(vec![String::new(); limits::PARTS]),
            plan(vec![step(10); limits::PARTS]),
            code(limits::PART, limits::PART),
        ];
        for said in fit {
            assert_eq!(check(&said), Ok(()));
        }
        let fit_and_not = [
            (limits::FILE_MOST, PIECE as u32, true),
            (limits::FILE_MOST + 1, PIECE as u32, false),
            (u64::MAX, PIECE as u32, false),
            (1, 1, false),
            (1, u32::MAX, false),
        ];
        for (size, piece, fits) in fit_and_not {
            let (blake3, sha256) = (Digest([0; 32]), Digest([0; 32]));
            let (name, media) = (String::new(), String::new());
            let file = Shared { name, size, blake3, sha256, piece, media };
            let offer = Said::Offer { text: String::new(), file };
            assert_eq!(check(&offer).is_ok(), fits, "{size}, {piece}");
        }
        let too_large = [
            proposal(vec![String::new(); limits::PARTS + 1]),
            proposal(vec!["x".repeat(limits::PART + 1)]),
            proposal(vec!["x".repeat(limits::PART); limits::PARTS]),
            plan(vec![step(0); limits::PARTS + 1]),
            plan(vec![step(limits::PART + 1)]),
            code(limits::PART + 1, 0),
            code(0, limits::PART + 1),
            Said::Chat { text: "x".repeat(limits::TEXT + 1) },
        ];
        for said in too_large {
            assert_eq!(check(&said), Err(Code::PairTooLarge));
        }
    }
}
