//! Whether anything is under way on a pipe, told without reading what passes.
//!
//! A pipe whose last bytes came from the visitor awaits an answer; one whose last bytes went to the visitor is busy
//! for as long as more follow. That is a guess for what is not request and answer, and used only to decide how long a
//! node that shuts down waits.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use mytunnel_carrier::splice::Watch;

/// Written by the one task that serves the pipe, read by whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU32);

impl Watch for &Pulse {
    fn up(&mut self, _: usize) {
        Pulse::up(self);
    }

    fn down(&mut self, _: usize) {
        Pulse::down(self);
    }
}

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

/// The pulses of all pipes that are open. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulses(Arc<Mutex<Vec<Watched>>>);

#[derive(Debug)]
struct Watched {
    pulse: Weak<Pulse>,
    before: Sample,
}

impl Pulses {
    /// The pulse of one more pipe. It is watched until the pipe drops it.
    pub(crate) fn begin(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        let mut watched = self.lock();
        if watched.len() == watched.capacity() {
            watched.retain(|watched| watched.pulse.strong_count() > 0);
        }
        watched.push(Watched { pulse: Arc::downgrade(&pulse), before: pulse.sample() });
        pulse
    }

    /// Whether anything is under way, judged by what has changed since this was asked the last time.
    pub(crate) fn are_busy(&self) -> bool {
        let mut busy = false;
        self.lock().retain_mut(|watched| {
            let Some(pulse) = watched.pulse.upgrade() else { return false };
            busy |= pulse.is_busy_since(watched.before);
            watched.before = pulse.sample();
            true
        });
        busy
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn all_rest_when_each_does() {
        let pulses = Pulses::default();
        let (first, second) = (pulses.begin(), pulses.begin());
        assert!(!pulses.are_busy());
        first.up();
        second.down();
        assert!(pulses.are_busy());
        assert!(pulses.are_busy(), "the first still awaits its answer");
        first.down();
        assert!(pulses.are_busy(), "it flows");
        assert!(!pulses.are_busy());
        second.up();
        drop(second);
        assert!(!pulses.are_busy(), "a pipe that has ended awaits nothing");
    }

    #[test]
    fn pipes_that_have_ended_take_no_room() {
        let pulses = Pulses::default();
        for _ in 0..10_000 {
            drop(pulses.begin());
        }
        assert!(pulses.lock().capacity() < 100);
    }
}
