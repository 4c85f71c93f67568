//! What is heard of a node on its connection, whichever of its tunnels that belongs to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A write of less tells nothing about how busy a line is.
const MUCH: usize = 4 * 1024;

/// Signs of one node, for all tunnels that it serves on one connection.
///
/// Only bytes that come from it are signs of life. What is written to it tells that the line is busy, on which an answer takes its
/// time; a node that stands still has a kernel, which takes some megabytes.
#[derive(Debug, Default)]
pub(crate) struct Life {
    heard: Sign,
    taken: Sign,
}

impl Life {
    /// The node has said something.
    pub(crate) fn hear(&self) {
        self.heard.note();
    }

    /// Its line has taken so many bytes.
    pub(crate) fn take(&self, bytes: usize) {
        if bytes >= MUCH {
            self.taken.note();
        }
    }

    /// For [`is_heard_since`](Self::is_heard_since).
    pub(crate) fn heard(&self) -> Look {
        self.heard.look()
    }

    pub(crate) fn is_heard_since(&self, look: Look) -> bool {
        self.heard.is_noted_since(look)
    }

    /// For [`has_taken_since`](Self::has_taken_since).
    pub(crate) fn taken(&self) -> Look {
        self.taken.look()
    }

    /// Whether the line has taken much since.
    pub(crate) fn has_taken_since(&self, look: Look) -> bool {
        self.taken.is_noted_since(look)
    }
}

/// How something stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look(u64);

/// Tells whether something has happened since one looked. Noting it again costs a read: only the first time after a look is written down.
#[derive(Debug, Default)]
struct Sign(AtomicU64);

impl Sign {
    /// Odd from here on, until somebody looks.
    fn note(&self) {
        if self.0.load(Relaxed) & 1 == 0 {
            self.0.fetch_or(1, Relaxed);
        }
    }

    fn look(&self) -> Look {
        let even = |noted: u64| (noted & 1 == 1).then(|| noted.wrapping_add(1));
        Look(match self.0.fetch_update(Relaxed, Relaxed, even) {
            Ok(odd) => odd.wrapping_add(1),
            Err(even) => even,
        })
    }

    fn is_noted_since(&self, Look(look): Look) -> bool {
        self.0.load(Relaxed) != look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_who_looks_sees_what_happened_since() {
        let life = Life::default();
        life.hear();
        let one = life.heard();
        assert!(!life.is_heard_since(one));
        life.hear();
        life.hear();
        assert!(life.is_heard_since(one));
        let two = life.heard();
        assert!(life.is_heard_since(one) && !life.is_heard_since(two));
        life.hear();
        assert!(life.is_heard_since(one) && life.is_heard_since(two));
    }

    #[test]
    fn what_is_written_is_no_sign_of_life_and_a_little_none_of_a_busy_line() {
        let life = Life::default();
        let (heard, taken) = (life.heard(), life.taken());
        life.take(MUCH - 1);
        assert!(!life.has_taken_since(taken));
        life.take(MUCH);
        assert!(life.has_taken_since(taken) && !life.is_heard_since(heard));
    }
}
