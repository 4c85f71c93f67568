//! One connection on which another node reaches what is shared here.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::{
    Verified,
    certificate::{self, Claims},
    id::{Serial, TunnelId, TunnelName},
    trust::{CLOCK_SKEW, Trust},
    wire::peer::Hello,
};

use super::fate::Standing;
use crate::{
    meeting::{Grounds, line::LineId},
    peers::rights,
    serve::table::Service,
    share::Path,
    state::link::Refusal,
};

/// Names that one connection may reach.
const MOST_NAMES: usize = 16;

/// Time in which a guest has to show its certificate.
const STRANGER: Duration = Duration::from_secs(10);

/// Pings in a row, of two seconds each, that a busy path may delay.
const MOST_SILENCES: u32 = 8;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) peer: PeerId,
    pub(super) line: LineId,
    pub(super) path: Path,
    /// Why this path.
    pub(super) why: &'static str,
    pub(super) opener: Opener,
    since: Instant,
    shown: Option<Shown>,
    /// What its certificate is good for.
    names: HashMap<TunnelId, TunnelName>,
    /// First messages that are being read.
    pub(super) reading: usize,
    pub(super) rtt: Option<Duration>,
    /// Pings in a row that were not answered in time.
    silences: u32,
    /// When it has begun a leg last.
    pub(super) used: Option<Instant>,
}

/// The certificate of a guest.
#[derive(Debug)]
struct Shown {
    bytes: Vec<u8>,
    claims: Verified<Claims>,
}

impl Guest {
    pub(super) fn new(
        (peer, line): (PeerId, LineId),
        (path, why): (Path, &'static str),
        opener: Opener,
        now: Instant,
    ) -> Self {
        Self {
            peer,
            line,
            path,
            why,
            opener,
            since: now,
            shown: None,
            names: HashMap::new(),
            reading: 0,
            rtt: None,
            silences: 0,
            used: None,
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// What one of its names is, if the guest has shown that it may reach it.
    pub(super) fn name(&self, tunnel: &TunnelId) -> Option<&TunnelName> {
        self.names.get(tunnel)
    }

    /// It shows its certificate for a name. `find` says what is shared here under one.
    pub(super) fn admit(
        &mut self,
        hello: Hello,
        grounds: &Grounds<'_>,
        find: impl FnOnce(&TunnelName) -> Option<Arc<Service>>,
    ) -> Result<(TunnelId, Arc<Service>), Refusal> {
        let name = hello.name.clone();
        let unknown = || rights::unknown(&name);
        // Without a relay's welcome there is no way to us.
        let (Some(trust), Some(key)) = (grounds.trust, mytunnel_carrier::public_key(&self.peer)) else {
            return Err(unknown());
        };
        let Grounds { own, unix, .. } = grounds;
        let claims = rights::of_guest(&hello.certificate, &key, &hello.name, trust, own, *unix)?;
        let service = find(&hello.name).ok_or_else(unknown)?;
        let tunnel = own.tunnel(&hello.name);
        if self.names.len() >= MOST_NAMES && !self.names.contains_key(&tunnel) {
            return Err(unknown());
        }
        if self.shown.as_ref().is_none_or(|shown| shown.bytes != hello.certificate) {
            // What an older one was good for need not be what this one is good for.
            self.names.clear();
        }
        self.names.insert(tunnel, hello.name);
        self.shown = Some(Shown { bytes: hello.certificate, claims });
        Ok((tunnel, service))
    }

    /// When its time is over, if nothing changes; looked at again every half minute, as the wall's clock may jump.
    pub(super) fn ends(&self, now: Instant, unix: u64) -> Instant {
        match &self.shown {
            None => self.since + STRANGER,
            Some(shown) => now + Duration::from_secs(shown.until().saturating_sub(unix).min(30)),
        }
    }

    pub(super) fn is_over(&self, now: Instant, unix: u64) -> bool {
        match &self.shown {
            None => self.since + STRANGER <= now,
            Some(shown) => shown.until() <= unix,
        }
    }

    /// The certificate that it has shown, and its serial.
    pub(super) fn certificate(&self) -> Option<(Serial, &[u8])> {
        self.shown.as_ref().map(|shown| (shown.claims.serial, &*shown.bytes))
    }

    /// Whether its certificate holds no longer.
    pub(super) fn is_distrusted(&self, trust: &Trust, unix: u64) -> bool {
        self.shown.as_ref().is_some_and(|shown| {
            certificate::verify(&shown.bytes, trust, &shown.claims.subject, unix).is_err()
        })
    }

    pub(super) fn standing(&self, is_over: bool) -> Standing {
        Standing::of(self.is_shown(), is_over)
    }

    /// The round trip is known.
    pub(super) fn on_alive(&mut self, trip: Duration) {
        (self.rtt, self.silences) = (Some(trip), 0);
    }

    /// A ping was not answered in time; whether that has gone on for too long.
    pub(super) fn is_silent(&mut self) -> bool {
        self.silences += 1;
        self.silences > MOST_SILENCES
    }
}

impl Shown {
    /// The second in which the certificate ends for us.
    fn until(&self) -> u64 {
        self.claims.not_after.saturating_add(CLOCK_SKEW)
    }
}
