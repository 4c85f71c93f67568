//! What the host's person does: compare words, put somebody out, lock, close.

use mytunnel_keys::error::Code;

use super::{Member, Room, Standing};
use crate::{
    clock::Now,
    content::{HOST, Introduced, MemberId, System, Why},
    message::{ToGuest, Verify},
    sas, text,
};

impl Room {
    /// The words that the other side's person has read out.
    pub(crate) fn verify(&mut self, id: MemberId, typed: &str, now: Now) -> Result<(), Code> {
        let member = self.members.get_mut(&id).filter(|member| member.is_in()).ok_or(Code::PairNoSession)?;
        let words = member.words.as_ref().ok_or(Code::PairUnverified)?;
        sas::check(typed, &words.guest, &mut member.wrong_words)?;
        member.verified_here = true;
        if member.is_entered() {
            self.note(System::Verified { member: id }, now);
        }
        self.enter_when_verified(id, now);
        Ok(())
    }

    /// The host's person does not want this member: its invite never opens again.
    pub(crate) fn deny(&mut self, id: MemberId, now: Now) -> Result<(), Code> {
        let member = self.members.get(&id).filter(|member| member.is_in()).ok_or(Code::PairNoSession)?;
        if let Some(invite) = self.invites.get_mut(&member.invite) {
            invite.burn();
        }
        self.leave(id, Standing::Kicked, Why::Denied, now);
        Ok(())
    }

    /// Puts a member out for good; its seat and its key open nothing any more.
    pub(crate) fn kick(&mut self, id: MemberId, now: Now) -> Result<(), Code> {
        self.members.get(&id).filter(|member| member.is_in()).ok_or(Code::PairNoSession)?;
        self.leave(id, Standing::Kicked, Why::Kicked, now);
        Ok(())
    }

    /// Nobody comes in any more; open invites are taken back.
    pub(crate) fn lock(&mut self, now: Now) {
        if !self.locked {
            self.locked = true;
            self.revoke_all();
            self.note(System::Locked, now);
        }
    }

    /// Takes back every open invite; says how many there were.
    pub(crate) fn revoke_all(&mut self) -> usize {
        self.invites.values_mut().map(super::Invite::revoke).filter(|open| *open).count()
    }

    /// The same of those with these ids.
    pub(crate) fn revoke(&mut self, ids: &[String]) -> usize {
        let named = self.invites.iter_mut().filter(|(id, _)| ids.contains(&id.to_string()));
        named.filter_map(|(_, invite)| invite.revoke().then_some(())).count()
    }

    /// The end. Who has not heard everything yet hears it first, within a bound.
    pub(crate) fn close(&mut self, why: Why, now: Now) {
        if self.closed.is_some() {
            return;
        }
        self.revoke_all();
        // Who hears of the end hears nothing behind it.
        while let Some((member, number)) = self.taken.pop_first() {
            self.send(member, ToGuest::Taken { number });
        }
        self.note(System::Closed { why }, now);
        self.closed = Some(why);
        self.closed_at = now.steady;
        self.part(now);
    }

    /// Says goodbye, in a session that is closed, to everybody who has heard all of it or is waited for no longer.
    pub(super) fn part(&mut self, now: Now) {
        let Some(why) = self.closed else { return };
        let (closed_at, last) = (self.closed_at, self.ledger.number());
        let has_all = |member: &Member| !member.is_entered() || member.has >= last;
        let is_late = |member: &Member| now.steady >= member.last_words_until(closed_at, now);
        let is_done = |member: &Member| member.is_in() && (has_all(member) || is_late(member));
        let done = self.members.iter_mut().filter(|(_, member)| !member.has_parted && is_done(member));
        let mut parting = Vec::new();
        for (id, member) in done {
            member.has_parted = true;
            if member.is_online() {
                parting.push(*id);
            }
        }
        for id in parting {
            self.send(id, ToGuest::Bye { why });
        }
    }

    pub(super) fn leave(&mut self, id: MemberId, standing: Standing, why: Why, now: Now) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.is_in()) else { return };
        let (online, entered) = (member.is_online(), member.is_entered());
        member.standing = standing;
        member.flows = false;
        // The last that it is told: its link ends with that.
        if online {
            self.send(id, ToGuest::Bye { why });
        }
        if self.closed.is_some() {
            // The record has ended.
        } else if entered && standing == Standing::Kicked {
            self.note(System::Kicked { member: id }, now);
        } else if entered {
            self.note(System::Left { member: id }, now);
        }
        if let Some(member) = self.members.get_mut(&id).filter(|_| entered) {
            member.left = Some(self.ledger.number());
        }
    }

    /// Lets a guest into the session itself where both sides had to compare words, and have.
    pub(super) fn enter_when_verified(&mut self, id: MemberId, now: Now) {
        let both = |member: &Member| member.verified_here && member.verified_there && !member.is_entered();
        let Some(member) = self.members.get(&id).filter(|member| both(member)) else { return };
        if self.opening.verify == Verify::Required {
            if let Some(invite) = self.invites.get_mut(&member.invite) {
                invite.approve();
            }
            self.enter(id, now);
        }
    }

    /// Tells a guest of the session, and the session of the guest.
    pub(super) fn enter(&mut self, id: MemberId, now: Now) {
        self.tell_session(id);
        if let Some(member) = self.members.get(&id) {
            let joined = System::Joined { member: member.introduced(id) };
            self.note(joined, now);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joined = Some(self.ledger.number());
        }
    }

    /// The host itself.
    pub(super) fn introduced(&self) -> Introduced {
        Introduced {
            id: HOST,
            name: self.opening.name.clone(),
            agent: text::cut(&self.opening.agent),
            key: self.opening.seed.public(),
            verified: false,
        }
    }

    /// Tells a guest what the session is, and lets it have what comes from here on.
    pub(super) fn tell_session(&mut self, id: MemberId) {
        let host = self.introduced();
        let others = self.present().filter(|(_, member)| member.is_entered());
        let members = std::iter::once(host).chain(others.map(|(id, member)| member.introduced(id))).collect();
        let (number, head) = (self.ledger.number(), self.ledger.head());
        let Some(member) = self.members.get_mut(&id) else { return };
        member.flow_from(number);
        self.send(id, ToGuest::Admitted { goal: self.opening.goal.clone(), members, number, head });
    }
}
