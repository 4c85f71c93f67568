//! When the file has changed: seen by looking at it twice a second, or told by `SIGHUP`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::failure::Failure;

/// How often it is looked at. A file that is being written is not read before it has been the same for so long.
const LOOK: Duration = Duration::from_millis(500);

/// By what a file is seen to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    written: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// Nothing while there is no such file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self { written: metadata.modified().ok(), length: metadata.len(), inode: metadata.ino() })
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    looks: Looks,
    ticks: Interval,
    heard: Signal,
}

impl Watch {
    /// `stamp` was the file's when it was read.
    pub(super) fn begin(path: PathBuf, stamp: Option<Stamp>) -> Result<Self, Failure> {
        let heard = signal(SignalKind::hangup())
            .map_err(|error| Failure::local(format!("cannot watch signals: {error}"), ""))?;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { path, looks: Looks { read: stamp, last: None }, ticks, heard })
    }

    /// Waits until it is to be read again. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::select! {
                _ = self.heard.recv() => {
                    self.looks.read = Stamp::of(&self.path);
                    return;
                }
                _ = self.ticks.tick() => {
                    if self.looks.look(Stamp::of(&self.path)) {
                        return;
                    }
                }
            }
        }
    }
}

/// What was seen so far.
#[derive(Debug, PartialEq, Eq)]
struct Looks {
    /// When it was read.
    read: Option<Stamp>,
    /// At the last look, where it was another.
    last: Option<Stamp>,
}

impl Looks {
    /// Whether it is to be read: it is another than the one that was read, and the same as half a second ago. A file that is
    /// not there is being exchanged.
    fn look(&mut self, seen: Option<Stamp>) -> bool {
        let Some(stamp) = seen.filter(|_| seen != self.read) else {
            self.last = None;
            return false;
        };
        if self.last.replace(stamp) != Some(stamp) {
            return false;
        }
        *self = Self { read: Some(stamp), last: None };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(length: u64) -> Stamp {
        Stamp { written: None, length, inode: 1 }
    }

    #[test]
    fn a_file_is_read_once_it_rests() {
        let mut looks = Looks { read: Some(stamp(1)), last: None };
        assert!(!looks.look(Some(stamp(1))), "it is the one that was read");
        assert!(!looks.look(Some(stamp(2))), "it is being written");
        assert!(!looks.look(Some(stamp(3))));
        assert!(looks.look(Some(stamp(3))));
        assert!(!looks.look(Some(stamp(3))), "once");
    }

    #[test]
    fn a_file_that_is_exchanged_or_gone_is_waited_for() {
        let mut looks = Looks { read: Some(stamp(1)), last: None };
        assert!(!looks.look(Some(stamp(2))) && !looks.look(None) && !looks.look(Some(stamp(2))));
        assert!(looks.look(Some(stamp(2))));
        assert!(!looks.look(None) && !looks.look(None));
    }
}
