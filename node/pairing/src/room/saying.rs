//! What members say, in the order that the host gives it, and no faster than each may.

use mytunnel_keys::error::Code;

use super::{Room, Standing};
use crate::{
    clock::Now,
    content::{self, Content, ENVELOPE, Envelope, MemberId, Why},
    signed::{Signed, Vouched},
};

impl Room {
    /// A member's own words. What is beyond its rate waits, and the member with it: it has a window.
    pub(super) fn take(&mut self, id: MemberId, signed: Signed, now: Now) -> Result<(), Code> {
        let member = self.members.get_mut(&id).filter(|member| member.flows).ok_or(Code::PairUnverified)?;
        member.hold(signed)?;
        self.take_held(id, now)
    }

    /// What has waited long enough. Nobody's connection brings it, so that a record that breaks puts its member out.
    pub(super) fn take_what_waits(&mut self, now: Now) {
        let flowing = self.members.iter().filter(|(_, member)| member.flows).map(|(id, _)| *id);
        for id in flowing.collect::<Vec<_>>() {
            if self.closed.is_none() && self.take_held(id, now).is_err() {
                self.leave(id, Standing::Kicked, Why::Fork, now);
            }
        }
    }

    fn take_held(&mut self, id: MemberId, now: Now) -> Result<(), Code> {
        while let Some(signed) = self.members.get_mut(&id).and_then(|member| member.next_said(now)) {
            self.place(id, signed, now)?;
        }
        Ok(())
    }

    fn place(&mut self, id: MemberId, signed: Signed, now: Now) -> Result<(), Code> {
        let key = self.ledger.key_of(id).ok_or(Code::PairNoSession)?;
        let said: Vouched<Envelope> = signed.vouched(ENVELOPE, key).ok_or(Code::PairFork)?;
        let envelope = said.value();
        // It is sealed under the author that it names.
        if envelope.author != id {
            return Err(Code::PairFork);
        }
        let (last, _) = self.ledger.last_of(id);
        if envelope.number <= last {
            self.taken.insert(id, last);
            return Ok(());
        }
        let Content::Said(content) = &envelope.content else { return Err(Code::PairFork) };
        content::check(content)?;
        let number = envelope.number;
        self.append(said).map_err(|_| Code::PairFork)?;
        self.active_at = now.steady;
        self.taken.insert(id, number);
        Ok(())
    }
}
