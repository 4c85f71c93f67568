//! What comes in: the bytes that the owner has not read, and what the other end was told of it.

use std::collections::VecDeque;

use super::Violation;

#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) unread: VecDeque<u8>,
    pub(super) received: u64,
    pub(super) ended: bool,
    /// The position up to which the other end was told that the owner has read.
    pub(super) told: u64,
    /// The other end is to be told again: it may not have heard.
    pub(super) tell: bool,
    /// The other end needs to be told no more.
    pub(super) is_known: bool,
}

impl Incoming {
    pub(super) fn take(&mut self, bytes: &[u8], window: usize) -> Result<(), Violation> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.ended || self.unread.len() + bytes.len() > window {
            return Err(Violation);
        }
        self.unread.extend(bytes);
        self.received += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn position(&self) -> u64 {
        self.received + u64::from(self.ended)
    }

    /// How far the owner has read; the end is read with the last byte.
    pub(super) fn read(&self) -> u64 {
        self.received - self.unread.len() as u64 + u64::from(self.ended && self.unread.is_empty())
    }

    /// All is read, and the other end knows it.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.unread.is_empty() && !self.tell && (self.is_known || self.told == self.position())
    }
}
