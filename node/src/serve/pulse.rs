//! Whether anything is under way on a pipe, told without reading what passes.
//!
//! A pipe whose last bytes came from the visitor awaits an answer; one whose last bytes went to the visitor is busy
//! for as long as more follow. That is a guess for what is not request and answer, and used only to decide how long a
//! node that shuts down waits.

use std::sync::atomic::{AtomicU32, Ordering};

/// Written by the one task that serves the pipe, read by whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU32);

/// What a [`Pulse`] was at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample(u32);

impl Pulse {
    /// Bytes came from the visitor.
    pub(crate) fn up(&self) {
        self.beat(1);
    }

    /// Bytes went to the visitor.
    pub(crate) fn down(&self) {
        self.beat(0);
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample(self.0.load(Ordering::Relaxed))
    }

    /// Whether something is under way, judged by what has changed since `before`.
    pub(crate) fn is_busy_since(&self, before: Sample) -> bool {
        let now = self.sample();
        now.0 & 1 == 1 || now != before
    }

    /// The lowest bit is the direction, the others count. There is one writer, so that no read-modify-write is needed.
    fn beat(&self, direction: u32) {
        let count = self.0.load(Ordering::Relaxed) >> 1;
        self.0.store(count.wrapping_add(1) << 1 | direction, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_and_answered_pipes_rest() {
        let pulse = Pulse::default();
        assert!(!pulse.is_busy_since(pulse.sample()));
        pulse.up();
        assert!(pulse.is_busy_since(pulse.sample()), "a question is open, however long");
        let before = pulse.sample();
        pulse.down();
        assert!(pulse.is_busy_since(before), "the answer flows");
        assert!(!pulse.is_busy_since(pulse.sample()));
    }
}
