//! The tunnels this node wants, and how far each has come: registered, refused, expired.
//!
//! The driver calls the methods with what happened and [`Tunnels::tick`] when [`Tunnels::next_timeout`] has come, and
//! after each call carries out what [`Tunnels::next_command`] gives until it gives nothing.
//!
//! A tunnel keeps its name for as long as it is wanted. Whenever a session stands it is asked for again; a refusal
//! that a person must mend ends it, any other is asked again later. It ends by itself when the credential does, whether
//! a relay says so or not.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use mytunnel_keys::{
    error::Code,
    id::{TunnelId, TunnelKind, TunnelName},
    wire::ToRelay,
};

use super::{
    backoff,
    link::Refusal,
    verdict::{self, Verdict},
};

/// A relay that has not answered a request by then is asked again.
const ANSWER: Duration = Duration::from_secs(10);

/// Requests that wait for their answer. A relay drops a node that lets it queue more answers than it has room for.
const MOST_ASKED: usize = 8;

/// Warning before the end, where the credential's life is long enough; else a tenth of what is left.
const WARNING: u64 = 300;

/// The wall clock may be set while we wait: it is looked at this often at least.
const LOOK: Duration = Duration::from_secs(30);

/// Numbers a share within its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShareId(pub(crate) u64);

/// What the relay answered to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) tunnel: TunnelId,
    pub(crate) name: TunnelName,
    pub(crate) urls: Vec<String>,
    /// Unix seconds.
    pub(crate) expires_at: u64,
}

/// What is asked of the relay.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: TunnelName,
    pub(crate) kind: TunnelKind,
    pub(crate) port: Option<u16>,
    /// Nobody is to serve the name beside us.
    pub(crate) alone: bool,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Send it on the current session.
    Send(ToRelay),
    /// The tunnel stands.
    Ready(ShareId, Grant),
    /// The tunnel does not stand for now, though the session does.
    Waiting { share: ShareId, attempt: u32, reason: String },
    /// So many nodes serve the name of a tunnel that stands.
    Backends { share: ShareId, count: u16 },
    /// The tunnel ends at this time (Unix seconds).
    Expiring { share: ShareId, expires_at: u64 },
    /// The tunnel has ended; the share is forgotten.
    Ended { share: ShareId, refusal: Refusal },
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Tunnels {
    instance: [u8; 16],
    shares: BTreeMap<ShareId, Share>,
    online: bool,
    requests: u32,
    next_share: u64,
    commands: VecDeque<Command>,
}

#[derive(Debug)]
struct Share {
    name: TunnelName,
    kind: TunnelKind,
    port: Option<u16>,
    alone: bool,
    /// Nodes that serve the name, as the relay said last.
    backends: u16,
    phase: Phase,
    /// Refusals in a row.
    refusals: u32,
    refused_since: Option<Instant>,
    end: Option<End>,
}

#[derive(Debug)]
enum Phase {
    /// For a session, or for its turn.
    Queued,
    Asked {
        request: u32,
        until: Instant,
    },
    /// Before it is asked for again.
    Refused {
        until: Instant,
    },
    Live {
        tunnel: TunnelId,
    },
}

/// When the credential ends; known once a relay has told its time.
#[derive(Debug)]
struct End {
    expires_at: u64,
    warn_at: Option<u64>,
}

impl Tunnels {
    /// No tunnels. `instance` is random: it tells a reconnect from a second node.
    pub(crate) fn new(instance: [u8; 16]) -> Self {
        Self {
            instance,
            shares: BTreeMap::new(),
            online: false,
            requests: 0,
            next_share: 0,
            commands: VecDeque::new(),
        }
    }

    /// What to do next.
    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::tick`]; `unix` is the time in Unix seconds.
    pub(crate) fn next_timeout(&self, now: Instant, unix: u64) -> Option<Instant> {
        self.shares.values().filter_map(|share| share.next_timeout(now, unix)).min()
    }

    /// The time has come.
    pub(crate) fn tick(&mut self, now: Instant, unix: u64) {
        let shares: Vec<_> = self.shares.keys().copied().collect();
        for id in shares {
            self.tick_end(id, unix);
            if let Some(share) = self.shares.get_mut(&id)
                && share.asks_again_at().is_some_and(|at| at <= now)
            {
                share.phase = Phase::Queued;
            }
        }
        self.ask(now);
    }

    /// A tunnel is wanted.
    pub(crate) fn add(&mut self, wanted: Wanted, now: Instant) -> ShareId {
        let id = ShareId(self.next_share);
        self.next_share += 1;
        let Wanted { name, kind, port, alone } = wanted;
        let share = Share {
            name,
            kind,
            port,
            alone,
            backends: 1,
            phase: Phase::Queued,
            refusals: 0,
            refused_since: None,
            end: None,
        };
        self.shares.insert(id, share);
        self.ask(now);
        id
    }

    /// A tunnel is not wanted any more.
    pub(crate) fn remove(&mut self, id: ShareId) {
        if let Some(Share { phase: Phase::Live { tunnel }, .. }) = self.shares.remove(&id)
            && self.online
        {
            self.commands.push_back(Command::Send(ToRelay::Unregister { tunnel }));
        }
    }

    /// Whether a tunnel of this name is wanted already.
    pub(crate) fn has(&self, name: &TunnelName) -> bool {
        self.shares.values().any(|share| share.name == *name)
    }

    /// A session stands.
    pub(crate) fn on_online(&mut self, now: Instant) {
        self.on_offline();
        self.online = true;
        self.ask(now);
    }

    /// No session stands.
    pub(crate) fn on_offline(&mut self) {
        self.online = false;
        for share in self.shares.values_mut() {
            share.phase = Phase::Queued;
        }
    }

    /// A request was granted.
    pub(crate) fn on_registered(&mut self, request: u32, grant: Grant, now: Instant, unix: u64) {
        let Some((id, share)) = self.shares.iter_mut().find(|(_, share)| share.is_asked(request)) else {
            // Given up while the relay was answering.
            let unregister = ToRelay::Unregister { tunnel: grant.tunnel };
            self.commands.push_back(Command::Send(unregister));
            return;
        };
        share.phase = Phase::Live { tunnel: grant.tunnel };
        (share.refusals, share.refused_since) = (0, None);
        share.end = Some(End::new(grant.expires_at, unix));
        self.commands.push_back(Command::Ready(*id, grant));
        self.ask(now);
    }

    /// A request was refused.
    pub(crate) fn on_refused(&mut self, request: u32, refusal: Refusal, now: Instant, jitter: u32) {
        if let Some(id) = self.find(|share| share.is_asked(request)) {
            self.refuse(id, refusal, now, jitter);
        }
    }

    /// The relay has ended a tunnel.
    pub(crate) fn on_closed(&mut self, tunnel: TunnelId, refusal: Refusal, now: Instant, jitter: u32) {
        if let Some(id) =
            self.find(|share| matches!(share.phase, Phase::Live { tunnel: live } if live == tunnel))
        {
            self.refuse(id, refusal, now, jitter);
        }
    }

    /// The relay has said how many nodes serve the name of a tunnel.
    pub(crate) fn on_backends(&mut self, tunnel: TunnelId, count: u16) {
        let live = |share: &Share| matches!(share.phase, Phase::Live { tunnel: live } if live == tunnel);
        if let Some((id, share)) = self.shares.iter_mut().find(|(_, share)| live(share)) {
            share.backends = count;
            self.commands.push_back(Command::Backends { share: *id, count });
        }
    }

    /// Every tunnel is about to end: where others serve the name, they are to get the visitors that come.
    pub(crate) fn leave(&mut self) {
        if !self.online {
            return;
        }
        for share in self.shares.values().filter(|share| share.backends > 1) {
            if let Phase::Live { tunnel } = share.phase {
                self.commands.push_back(Command::Send(ToRelay::Leave { tunnel }));
            }
        }
    }

    /// Every tunnel has ended, for the same reason.
    pub(crate) fn end_all(&mut self, refusal: &Refusal) {
        let ended = std::mem::take(&mut self.shares).into_keys();
        self.commands.extend(ended.map(|share| Command::Ended { share, refusal: refusal.clone() }));
    }

    fn find(&self, wanted: impl Fn(&Share) -> bool) -> Option<ShareId> {
        self.shares.iter().find(|(_, share)| wanted(share)).map(|(id, _)| *id)
    }

    /// Asks for what is queued, as far as there is room.
    fn ask(&mut self, now: Instant) {
        if !self.online {
            return;
        }
        let asked = self.shares.values().filter(|share| matches!(share.phase, Phase::Asked { .. })).count();
        let queued = self.shares.values_mut().filter(|share| matches!(share.phase, Phase::Queued));
        for share in queued.take(MOST_ASKED.saturating_sub(asked)) {
            let request = self.requests;
            self.requests = self.requests.wrapping_add(1);
            share.phase = Phase::Asked { request, until: now + ANSWER };
            let Share { ref name, kind, port, alone, .. } = *share;
            let (name, instance) = (name.clone(), self.instance);
            let register = ToRelay::Register { request, name, kind, instance, port, alone };
            self.commands.push_back(Command::Send(register));
        }
    }

    fn refuse(&mut self, id: ShareId, refusal: Refusal, now: Instant, jitter: u32) {
        if verdict::on(refusal.code) == Verdict::Final {
            self.shares.remove(&id);
            self.commands.push_back(Command::Ended { share: id, refusal });
            self.ask(now);
            return;
        }
        let Some(share) = self.shares.get_mut(&id) else { return };
        let since = *share.refused_since.get_or_insert(now);
        share.refusals = share.refusals.saturating_add(1);
        let pause = backoff::delay(share.refusals, now.duration_since(since), jitter);
        share.phase = Phase::Refused { until: now + pause };
        let (attempt, reason) = (share.refusals, refusal.message);
        self.commands.push_back(Command::Waiting { share: id, attempt, reason });
        self.ask(now);
    }

    fn tick_end(&mut self, id: ShareId, unix: u64) {
        let Some(end) = self.shares.get_mut(&id).and_then(|share| share.end.as_mut()) else { return };
        if end.expires_at <= unix {
            self.remove(id);
            let refusal = Refusal {
                code: Code::KeyExpired,
                message: "the key has expired".to_owned(),
                help: Code::KeyExpired.help().to_owned(),
            };
            self.commands.push_back(Command::Ended { share: id, refusal });
        } else if end.warn_at.take_if(|at| *at <= unix).is_some() {
            let expires_at = end.expires_at;
            self.commands.push_back(Command::Expiring { share: id, expires_at });
        }
    }
}

impl Share {
    fn is_asked(&self, number: u32) -> bool {
        matches!(self.phase, Phase::Asked { request, .. } if request == number)
    }

    fn asks_again_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Refused { until } | Phase::Asked { until, .. } => Some(until),
            Phase::Queued | Phase::Live { .. } => None,
        }
    }

    fn next_timeout(&self, now: Instant, unix: u64) -> Option<Instant> {
        let end = self.end.as_ref().map(|end| {
            let next = end.warn_at.unwrap_or(end.expires_at);
            now + Duration::from_secs(next.saturating_sub(unix)).min(LOOK)
        });
        [self.asks_again_at(), end].into_iter().flatten().min()
    }
}

impl End {
    fn new(expires_at: u64, unix: u64) -> Self {
        let left = expires_at.saturating_sub(unix);
        Self { expires_at, warn_at: Some(expires_at.saturating_sub(WARNING.min(left / 10))) }
    }
}

#[cfg(test)]
mod tests;
