//! Ways that ended for a reason that may pass, such as a clock that is off, begin anew.

use std::time::Duration;

use mytunnel_carrier::address;

use super::{Passage, Session};
use crate::{
    clock::Now,
    daemon::Daemon,
    ways::{Pass, State},
};

/// How long after its end a way begins anew whose end has a reason that may pass; each time twice as long, up to the other.
pub(super) const ANEW: Duration = Duration::from_secs(30);
/// See [`ANEW`].
pub(super) const ANEW_MOST: Duration = Duration::from_secs(600);

impl Passage {
    /// It is over for a reason that may pass, and has waited for that.
    fn is_due(&mut self, now: Duration) -> bool {
        let (state, passes) = {
            let stand = self.stand.borrow();
            (stand.state, stand.passes)
        };
        if state != State::Closed || !passes {
            self.again = None;
            if state == State::Open {
                self.tries = 0;
            }
            return false;
        }
        let pause = ANEW.saturating_mul(1 << self.tries.min(8)).min(ANEW_MOST);
        *self.again.get_or_insert(now + pause) <= now
    }
}

impl Daemon {
    /// Ways that ended for a reason that may pass begin anew.
    pub(super) fn begin_anew(&mut self, now: Now) {
        let due =
            self.passages.of.iter_mut().filter_map(|(id, passage)| passage.is_due(now.steady).then_some(*id));
        for id in due.collect::<Vec<_>>() {
            let Some(old) = self.passages.of.remove(&id) else { continue };
            let pass = self.sessions.get(&id).and_then(Session::pass).cloned();
            let door = old.listener.and_then(|listener| self.passages.inner.get(&listener));
            let door = door.and_then(address::socket).map(|(target, _)| target);
            let key = old.stand.borrow().key.clone();
            let began = match (pass, door) {
                (Some(Pass::Key(key)), Some(target)) => {
                    self.passages.start(|ways, line| ways.serve(key, target, line), &self.changed)
                }
                (Some(pass), None) if old.listener.is_none() => {
                    let pass = key.map_or(pass, Pass::Key);
                    self.passages.start(|ways, line| ways.reach(pass, line), &self.changed)
                }
                _ => None,
            };
            let tries = old.tries + 1;
            // Where none begins the old one stays, and says why it is none.
            let next = match began {
                Some(new) => Passage { listener: old.listener, tries, ..new },
                None => Passage { tries, again: None, ..old },
            };
            self.passages.of.insert(id, next);
        }
    }
}
