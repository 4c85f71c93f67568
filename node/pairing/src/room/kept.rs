//! A room as it is on disk.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use mytunnel_keys::secret::Seed;
use serde::{Deserialize, Serialize};

use super::{Fresh, Member, Opening, Room, Standing};
use crate::{
    bytes,
    card::Card,
    content::{HOST, MemberId, SessionId, Why},
    era::Shift,
    hello::SeatId,
    invite::KeptInvite,
    ledger::{KeptLedger, Ledger},
    link::InviteId,
    message::Verify,
    sas::{self, Nonce},
    secret::ResumeSecret,
};

/// All of a room but its entries, and what may be older than they are.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeptRoom {
    session: SessionId,
    goal: String,
    name: String,
    agent: String,
    verify: Verify,
    #[serde(with = "bytes")]
    seed: [u8; 32],
    ledger: KeptLedger,
    members: BTreeMap<MemberId, KeptMember>,
    invites: Vec<([u8; 8], KeptInvite)>,
    locked: bool,
    closed: Option<Why>,
    closed_at: Duration,
    opened_at: Duration,
}

/// What may be older than the rest.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct LooseRoom {
    active_at: Duration,
    has: BTreeMap<MemberId, u64>,
}

#[derive(Serialize, Deserialize)]
struct KeptMember {
    #[serde(with = "bytes")]
    peer: Vec<u8>,
    card: Card,
    name: String,
    #[serde(with = "bytes")]
    invite: [u8; 8],
    #[serde(with = "bytes")]
    seat: [u8; 8],
    #[serde(with = "bytes")]
    resume: [u8; 32],
    attempt: u32,
    #[serde(with = "bytes")]
    handshake: [u8; 32],
    nonce: Nonce,
    guest_nonce: Option<Nonce>,
    wrong_words: u8,
    verified_here: bool,
    verified_there: bool,
    standing: KeptStanding,
    entered: bool,
    from: u64,
    joined: Option<u64>,
    left: Option<u64>,
    has_parted: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum KeptStanding {
    In,
    Left,
    Kicked,
}

impl Room {
    pub(crate) fn kept(&self) -> KeptRoom {
        let Opening { session, goal, name, agent, verify, seed, keep: _ } = &self.opening;
        // Nobody comes in, or back, where it is over: no secret of that stays.
        let is_over = self.is_over();
        let invites = self.invites.iter().filter(|_| !is_over);
        KeptRoom {
            session: *session,
            goal: goal.clone(),
            name: name.clone(),
            agent: agent.clone(),
            verify: *verify,
            seed: *seed.expose(),
            ledger: self.ledger.kept(),
            members: self.members.iter().map(|(id, member)| (*id, member.kept(is_over))).collect(),
            invites: invites.map(|(id, invite)| (*id.as_bytes(), invite.kept())).collect(),
            locked: self.locked,
            closed: self.closed,
            closed_at: self.closed_at,
            opened_at: self.opened_at,
        }
    }

    pub(crate) fn loose(&self) -> LooseRoom {
        let has = self.members.iter().map(|(id, member)| (*id, member.has)).collect();
        LooseRoom { active_at: self.active_at, has }
    }

    /// Nothing where it does not fit together. Everybody is away.
    pub(crate) fn restored(kept: KeptRoom, loose: &LooseRoom, rows: &[Vec<u8>], at: &Shift) -> Option<Self> {
        let KeptRoom { session, goal, name, agent, verify, seed, .. } = kept;
        let seed = Seed::from_bytes(seed);
        let ledger = Ledger::restored(session, seed.public(), HOST, kept.ledger, rows)?;
        let mut members = BTreeMap::new();
        for (id, member) in kept.members {
            let mut member = member.restored(at)?;
            member.has = loose.has.get(&id).copied().unwrap_or_default().min(ledger.number());
            members.insert(id, member);
        }
        let mut invites = BTreeMap::new();
        for (id, invite) in kept.invites {
            invites.insert(InviteId::from_bytes(id), invite.restored(at)?);
        }
        Some(Self {
            opening: Opening { session, goal, name, agent, verify, seed, keep: true },
            ledger,
            members,
            invites,
            locked: kept.locked,
            closed: kept.closed,
            closed_at: at.past(kept.closed_at),
            opened_at: at.past(kept.opened_at),
            active_at: at.past(loose.active_at),
            outgoing: VecDeque::new(),
            taken: BTreeMap::new(),
        })
    }
}

impl Member {
    fn kept(&self, is_over: bool) -> KeptMember {
        let standing = match self.standing {
            Standing::Online | Standing::Away(_) => KeptStanding::In,
            Standing::Left => KeptStanding::Left,
            Standing::Kicked => KeptStanding::Kicked,
        };
        KeptMember {
            peer: self.peer.to_bytes(),
            card: self.card.clone(),
            name: self.name.clone(),
            invite: *self.invite.as_bytes(),
            seat: self.seat.0,
            resume: if is_over { [0; 32] } else { self.resume.expose() },
            attempt: self.attempt,
            handshake: self.handshake,
            nonce: self.nonce,
            guest_nonce: self.guest_nonce,
            wrong_words: self.wrong_words,
            verified_here: self.verified_here,
            verified_there: self.verified_there,
            standing,
            entered: self.entered,
            from: self.from,
            joined: self.joined,
            left: self.left,
            has_parted: self.has_parted,
        }
    }
}

impl KeptMember {
    fn restored(self, at: &Shift) -> Option<Member> {
        let peer = PeerId::from_bytes(&self.peer).ok()?;
        let resume = ResumeSecret::from_bytes(self.resume);
        let fresh = Fresh { seat: SeatId(self.seat), resume, nonce: self.nonce };
        let invite = InviteId::from_bytes(self.invite);
        let mut member = Member::new(peer, self.card, self.name, invite, self.handshake, fresh, at.now);
        member.attempt = self.attempt;
        member.guest_nonce = self.guest_nonce;
        member.words = self.guest_nonce.map(|guest| sas::words(&self.handshake, self.nonce, guest));
        member.wrong_words = self.wrong_words;
        (member.verified_here, member.verified_there) = (self.verified_here, self.verified_there);
        member.standing = match self.standing {
            KeptStanding::In => Standing::Away(at.now.steady),
            KeptStanding::Left => Standing::Left,
            KeptStanding::Kicked => Standing::Kicked,
        };
        (member.entered, member.from) = (self.entered, self.from);
        (member.joined, member.left) = (self.joined, self.left);
        member.has_parted = self.has_parted;
        Some(member)
    }
}
