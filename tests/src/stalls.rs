//! When the machine let this process stand still, so that its pauses are not taken for what is measured. Where both cores are
//! busy with what is measured, that is a pause, too.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};

use crate::origin::nanoseconds;

/// How often a watch looks at the clock.
const LOOK: Duration = Duration::from_millis(2);

/// A look that comes so much after the one before is a pause of the machine, in nanoseconds.
const PAUSE: u128 = 6_000_000;

/// Looks at the clock from a thread of its own, which nothing in this process can hold up.
#[derive(Debug)]
pub struct Stalls {
    found: Arc<Mutex<Vec<(u128, u128)>>>,
    end: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

impl Stalls {
    /// Begins to watch, until it is dropped.
    ///
    /// # Errors
    /// When the machine gives no thread or no timer.
    pub fn watch() -> std::io::Result<Self> {
        let found = Arc::<Mutex<Vec<_>>>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (end, ended) = mpsc::channel();
        let pauses = Arc::clone(&found);
        let watch = thread::Builder::new().name("stalls".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut looks = time::interval(LOOK);
                looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut before = nanoseconds();
                while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    looks.tick().await;
                    let now = nanoseconds();
                    if now.saturating_sub(before) >= PAUSE {
                        pauses.lock().unwrap_or_else(PoisonError::into_inner).push((before, now));
                    }
                    before = now;
                }
            });
        })?;
        Ok(Self { found, end: Some(end), watch: Some(watch) })
    }

    /// How many nanoseconds between two moments of the wall clock the machine stood still, as far as was seen by now.
    pub fn between(&self, from: u128, to: u128) -> u128 {
        let pauses = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.iter().map(|(began, ended)| to.min(*ended).saturating_sub(from.max(*began))).sum()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.end = None;
        if let Some(Err(panic)) = self.watch.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_count_as_far_as_they_lie_between_two_moments() -> std::io::Result<()> {
        let stalls = Stalls::watch()?;
        // Long past, where the watch adds nothing of its own.
        stalls.found.lock().unwrap_or_else(PoisonError::into_inner).extend([(100, 200), (300, 400)]);
        for (from, to, paused) in
            [(0, 100, 0), (0, 150, 50), (150, 350, 100), (0, 500, 200), (120, 180, 60), (220, 280, 0)]
        {
            assert_eq!(stalls.between(from, to), paused, "{from} to {to}");
        }
        Ok(())
    }
}
