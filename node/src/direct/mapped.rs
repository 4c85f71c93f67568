//! Which ports a router is asked for, and what came of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mytunnel_keys::wire::direct::Over;

use super::candidates;
use crate::mapping::{Mapped, Ports};

/// How long an offer waits for the router, which is near: most have no answer at all.
const ANSWER: Duration = Duration::from_millis(150);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// What the router was asked for last.
    wanted: Ports,
    mapped: Mapped,
    /// Until when its answer is waited for.
    until: Option<Instant>,
}

impl Outside {
    /// We listen at these addresses: what is to be asked for, if that is not what was asked for last.
    pub(super) fn want<'a>(
        &mut self,
        interfaces: impl IntoIterator<Item = &'a (Over, SocketAddr)>,
        now: Instant,
    ) -> Option<Ports> {
        let inside = |(over, address): &(Over, SocketAddr)| match address {
            SocketAddr::V4(v4) if candidates::is_translated(address.ip()) => Some((*over, *v4)),
            SocketAddr::V4(_) | SocketAddr::V6(_) => None,
        };
        let wanted: Ports = interfaces.into_iter().filter_map(inside).collect();
        (wanted != self.wanted).then(|| {
            self.wanted.clone_from(&wanted);
            self.until = (!wanted.is_empty()).then(|| now + ANSWER);
            wanted
        })
    }

    /// What the router leads here; whether that is more than before.
    pub(super) fn set(&mut self, mapped: Mapped) -> bool {
        let is_more = mapped.iter().any(|address| !self.mapped.contains(address));
        (self.mapped, self.until) = (mapped, None);
        is_more
    }

    /// When its answer is waited for no longer.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.until
    }

    /// The time has come.
    pub(super) fn tick(&mut self, now: Instant) {
        self.until = self.until.filter(|until| *until > now);
    }

    pub(super) fn mapped(&self) -> impl Iterator<Item = (Over, SocketAddr)> + '_ {
        self.mapped.iter().copied()
    }
}
