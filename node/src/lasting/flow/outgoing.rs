//! What goes out of a stream: the bytes that the other end may not have, and how far the legs have got.

use std::collections::VecDeque;

use super::{Violation, frames, shrink};

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// From `first` on: what the other end may not have, and what is still to go on the leg.
    pub(super) bytes: VecDeque<u8>,
    pub(super) first: u64,
    /// What the other end has said that it has.
    pub(super) known: u64,
    /// What goes on the leg next.
    pub(super) next: u64,
    /// How far any leg has got.
    pub(super) sent: u64,
    /// How far the other end's owner has read, as far as is known.
    pub(super) read: u64,
    /// Nothing is added any more.
    pub(super) finished: bool,
    /// Its end is read too.
    pub(super) over: bool,
}

impl Outgoing {
    /// The position behind everything that was written, its end not counted.
    pub(super) fn end(&self) -> u64 {
        self.first + self.bytes.len() as u64
    }

    pub(super) fn last(&self) -> u64 {
        self.end() + u64::from(self.finished)
    }

    pub(super) fn has_sent_all(&self) -> bool {
        self.sent == self.last()
    }

    /// Goes on from what the other end has received, which is not less than what is known.
    pub(super) fn go_back(&mut self, received: u64) -> Result<(), Violation> {
        self.acknowledge(received)?;
        self.next = received;
        self.forget();
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, position: u64) -> Result<(), Violation> {
        // It may have got it on an earlier leg, and cannot have what was never on its way.
        if position > self.sent {
            return Err(Violation);
        }
        self.known = self.known.max(position);
        self.forget();
        Ok(())
    }

    /// Lets go of what the other end has. Where bytes stand is not said on a leg: what it goes on from is to be sent on it, also
    /// what the other end has got elsewhere meanwhile.
    fn forget(&mut self) {
        let to = self.known.min(self.next).min(self.end());
        let count = usize::try_from(to - self.first).expect("no more than is held");
        self.bytes.drain(..count);
        self.first = to;
        shrink(&mut self.bytes);
    }

    /// The other end's owner has read this far.
    pub(super) fn on_read(&mut self, position: u64) -> Result<(), Violation> {
        self.acknowledge(position)?;
        self.read = self.read.max(position);
        self.over |= self.finished && position == self.last();
        Ok(())
    }

    /// Appends one frame; `false` when there is none.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, window: usize) -> bool {
        let end = self.end();
        let allowed = self.read + window as u64;
        if self.next < end && self.next >= allowed {
            return false;
        }
        if self.next < end {
            let at = usize::try_from(self.next - self.first).expect("a position within the buffer");
            let (front, back) = self.bytes.as_slices();
            let run = front.get(at..).filter(|run| !run.is_empty());
            let run = run.unwrap_or_else(|| &back[at - front.len()..]);
            let most = usize::try_from(allowed - self.next).unwrap_or(usize::MAX).min(frames::MOST);
            let count = run.len().min(most);
            frames::put_data(out, &run[..count]);
            self.advance(count as u64);
            return true;
        }
        if self.finished && self.next == end {
            frames::put_end(out);
            self.advance(1);
            return true;
        }
        false
    }

    fn advance(&mut self, count: u64) {
        self.next += count;
        self.sent = self.sent.max(self.next);
        self.forget();
    }
}
