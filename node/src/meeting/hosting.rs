//! Other nodes that reach what is shared here privately: who they are, and the streams that they have opened.
//!
//! A connection is a guest's. It has to show a certificate in time; each name that the certificate is good for is opened to
//! it.

mod apart;
mod fate;
mod guest;
mod streams;
mod whole;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{PeerId, Stream, swarm::ConnectionId};
use mytunnel_carrier::{frame, stream::Opener};
use mytunnel_keys::{
    id::{Serial, TunnelName},
    trust::Trust,
    wire::peer::{Answer, Hello, Opening, VERSION},
};
use tokio::{
    io::AsyncWriteExt as _,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::{
    Grounds,
    line::{Connected, LineId, Subject},
};
use crate::{
    lasting::{flow::Limits, pump::Arrival},
    peers::acquaint,
    serve::{pulse::Pulses, table::Service},
    share::Path,
    state::link::Refusal,
    status::PeerStatus,
};
use apart::Apart;
use fate::{MOST_UNDER_WAY, has_place, most_read, to_be_cut};
use guest::Guest;
use streams::{Streams, Taken};

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Hosting {
    guests: HashMap<ConnectionId, Guest>,
    apart: Apart,
    streams: Streams,
    heard: JoinSet<Heard>,
    answers: JoinSet<()>,
}

/// A first message.
pub(super) enum Heard {
    Hello(ConnectionId, Hello, Stream),
    Leg(ConnectionId, Opening, Stream),
    Nothing(ConnectionId),
}

impl Hosting {
    pub(super) fn new(most_streams: usize, limits: Limits, pulses: Pulses) -> Self {
        Self {
            guests: HashMap::new(),
            apart: Apart::default(),
            streams: Streams::new(most_streams, limits, pulses),
            heard: JoinSet::new(),
            answers: JoinSet::new(),
        }
    }

    /// A connection of another node that may be a guest's. `false` when there are too many.
    pub(super) fn on_connected(&mut self, line: LineId, connected: &Connected, now: Instant) -> bool {
        let Connected { peer, connection, opener, is_relayed, why, .. } = connected;
        let guests: Vec<_> = self.guests.values().map(|guest| (guest.peer, guest.is_shown())).collect();
        if !has_place(peer, &guests) {
            tracing::debug!(%peer, "guest turned away: there are too many");
            return false;
        }
        let path = if *is_relayed { Path::Relayed } else { Path::Direct };
        self.guests.insert(*connection, Guest::new((*peer, line), (path, why), opener.clone(), now));
        true
    }

    /// Whether this peer has shown on a connection that it is a guest.
    pub(super) fn knows(&self, peer: PeerId) -> bool {
        self.guests.values().any(|guest| guest.peer == peer && guest.is_shown())
    }

    /// Whether a connection is a guest's, or may become one's.
    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.guests.contains_key(&connection)
    }

    /// A connection is gone, or is none of a guest's any more.
    pub(super) fn on_closed(&mut self, connection: ConnectionId) {
        self.guests.remove(&connection);
    }

    /// A guest has opened a stream: to say who it is, or as a leg. Nobody else may.
    pub(super) fn on_stream(&mut self, connection: ConnectionId, subject: Subject, mut stream: Stream) {
        if !self.may_read(connection, subject) {
            return;
        }
        self.heard.spawn(async move {
            match subject {
                Subject::Greeting => match acquaint::hear(&mut stream).await {
                    Some(hello) => Heard::Hello(connection, hello, stream),
                    None => Heard::Nothing(connection),
                },
                Subject::Leg => match timeout(acquaint::PATIENCE, frame::read(&mut stream)).await {
                    Ok(Ok(Some(opening))) => Heard::Leg(connection, opening, stream),
                    Ok(Ok(None) | Err(_)) | Err(_) => Heard::Nothing(connection),
                },
            }
        });
    }

    /// Whether one more first message of this guest is to be read, which then counts as under way.
    fn may_read(&mut self, connection: ConnectionId, subject: Subject) -> bool {
        let Some(guest) = self.guests.get_mut(&connection) else { return false };
        let most = most_read(guest.is_shown(), subject == Subject::Greeting);
        let may = self.heard.len() < MOST_UNDER_WAY && guest.reading < most;
        guest.reading += usize::from(may);
        may
    }

    /// What a guest has said first; meanwhile ended streams are put away. Pending for ever while there is nothing. Safe
    /// to cancel.
    pub(super) async fn next(&mut self) -> Result<Heard, JoinError> {
        loop {
            tokio::select! {
                Some(heard) = self.heard.join_next(), if !self.heard.is_empty() => {
                    let heard = heard?;
                    if let Some(guest) = self.guests.get_mut(&heard.connection()) {
                        guest.reading = guest.reading.saturating_sub(1);
                    }
                    return Ok(heard);
                }
                panicked = self.streams.reap() => return Err(panicked),
                Some(answered) = self.answers.join_next(), if !self.answers.is_empty() => answered?,
                else => pending().await,
            }
        }
    }

    /// A guest has shown its certificate; whether it is the first that was good. `find` says what is shared here under a
    /// name on a line.
    pub(super) fn on_hello(
        &mut self,
        connection: ConnectionId,
        (hello, stream): (Hello, Stream),
        grounds: &Grounds<'_>,
        find: impl FnOnce(LineId, &TunnelName) -> Option<Arc<Service>>,
    ) -> bool {
        let Some(guest) = self.guests.get_mut(&connection) else { return false };
        let (was_shown, line) = (guest.is_shown(), guest.line);
        let answer = match guest.admit(hello, grounds, |name| find(line, name)) {
            Ok((tunnel, service)) => Answer::Welcome {
                version: VERSION,
                certificate: grounds.certificate.to_vec(),
                tunnel,
                carries: service.carries(),
            },
            Err(Refusal { code, message, help }) => {
                tracing::debug!(peer = %guest.peer, %code, message, "guest refused");
                Answer::Refused { code, message, help }
            }
        };
        let is_new = !was_shown && guest.is_shown();
        if self.answers.len() < MOST_UNDER_WAY {
            self.answers.spawn(acquaint::answer(stream, answer));
        }
        is_new
    }

    /// A guest has begun a leg. `find` says what is shared here under a name on a line now.
    pub(super) fn on_opening(
        &mut self,
        connection: ConnectionId,
        (opening, stream): (Opening, Stream),
        find: impl FnOnce(LineId, &TunnelName) -> Option<Arc<Service>>,
        now: Instant,
    ) {
        let Some(guest) = self.guests.get_mut(&connection) else { return };
        let arrival =
            Arrival { leg: Box::new(stream.compat()), attempt: opening.attempt, received: opening.received };
        let taken = match guest.name(&opening.tunnel).cloned() {
            Some(name) => {
                guest.used = Some(now);
                let (peer, line) = (guest.peer, guest.line);
                self.streams.take(peer, &opening, arrival, || find(line, &name))
            }
            None => Taken::No(crate::lasting::frames::NOTHING, arrival),
        };
        if let Taken::No(word, mut arrival) = taken
            && self.answers.len() < MOST_UNDER_WAY
        {
            self.answers.spawn(async move {
                let leg = &mut arrival.leg;
                let answering = async {
                    leg.write_all(&word).await?;
                    mytunnel_carrier::pipe_end::close(leg).await
                };
                // Whoever does not take it learns it otherwise.
                let _ = timeout(acquaint::PATIENCE, answering).await;
            });
        }
    }

    /// Breaks off what is open, which the other ends are told where there is a way, and takes nothing more.
    pub(super) fn break_off(&self) {
        self.streams.break_off();
    }

    pub(super) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// When [`Self::overdue`] has something to say.
    pub(super) fn next_timeout(&self, now: Instant, unix: u64) -> Option<Instant> {
        let ends = self.guests.values().map(|guest| guest.ends(now, unix));
        ends.chain(self.apart.next_timeout()).min()
    }

    /// Guests whose time is over, which are none any more: their connections are to be closed. What they have opened is cut, unless they have
    /// another connection on which their certificate is good. `is_online`: whether we are at a relay.
    pub(super) fn overdue(&mut self, now: Instant, unix: u64, is_online: bool) -> Vec<ConnectionId> {
        let shown = self.guests.values().filter(|guest| guest.is_shown());
        self.apart.look(shown.map(|guest| (guest.peer, guest.path)), is_online, now);
        let apart = std::mem::take(&mut self.apart);
        let over = self.part_with(|guest| guest.is_over(now, unix) || apart.is_over(&guest.peer, now));
        self.apart = apart;
        over
    }

    /// The trust has changed: guests whose certificates hold no longer are parted with.
    pub(super) fn judge_again(&mut self, trust: &Trust, unix: u64) -> Vec<ConnectionId> {
        self.part_with(|guest| guest.is_distrusted(trust, unix))
    }

    /// A relay says that this certificate of a peer counts no longer. Connections on which the peer has shown nothing yet are over
    /// too, and so is what it has open without any, unless it has shown another certificate.
    pub(super) fn on_revoked(&mut self, peer: PeerId, serial: Serial) -> Vec<ConnectionId> {
        let is_over = |guest: &Guest| {
            guest.peer == peer && guest.certificate().is_none_or(|(shown, _)| shown == serial)
        };
        let over = self.part_with(is_over);
        if !self.knows(peer) {
            self.streams.cut(&HashSet::from([peer]));
        }
        over
    }

    /// The certificates that guests have shown.
    pub(super) fn certificates(&self) -> impl Iterator<Item = (Serial, (PeerId, &[u8]))> {
        self.guests.values().filter_map(|guest| {
            let (serial, bytes) = guest.certificate()?;
            Some((serial, (guest.peer, bytes)))
        })
    }

    fn part_with(&mut self, is_over: impl Fn(&Guest) -> bool) -> Vec<ConnectionId> {
        let (mut over, mut standings) = (Vec::new(), Vec::new());
        for (connection, guest) in &self.guests {
            let is_over = is_over(guest);
            if is_over {
                over.push(*connection);
            }
            standings.push((guest.peer, guest.standing(is_over)));
        }
        self.streams.cut(&to_be_cut(&standings));
        for connection in &over {
            self.guests.remove(connection);
        }
        over
    }

    /// A ping was not answered in time; whether that has gone on for too long.
    pub(super) fn is_silent(&mut self, connection: ConnectionId) -> bool {
        self.guests.get_mut(&connection).is_some_and(Guest::is_silent)
    }

    /// The round trip to a guest is known.
    pub(super) fn on_alive(&mut self, connection: ConnectionId, trip: Duration) {
        if let Some(guest) = self.guests.get_mut(&connection) {
            guest.on_alive(trip);
        }
    }

    /// Why a guest's connection still leads through a relay.
    pub(super) fn on_why(&mut self, connection: ConnectionId, why: &'static str) {
        if let Some(guest) = self.guests.get_mut(&connection) {
            guest.why = why;
        }
    }

    /// Guests' connections that lead through the relay of a line.
    pub(super) fn relayed_through(&self, line: LineId) -> Vec<ConnectionId> {
        let is_it = |guest: &Guest| guest.line == line && guest.path == Path::Relayed;
        self.guests.iter().filter(|(_, guest)| is_it(guest)).map(|(connection, _)| *connection).collect()
    }

    /// The line of a guest's connection that leads through a relay.
    pub(super) fn relayed_by(&self, connection: ConnectionId) -> Option<LineId> {
        let guest = self.guests.get(&connection).filter(|guest| guest.path == Path::Relayed)?;
        Some(guest.line)
    }

    /// Opens streams on a guest's connection.
    pub(super) fn opener(&self, connection: ConnectionId) -> Option<Opener> {
        self.guests.get(&connection).map(|guest| guest.opener.clone())
    }

    /// Each peer once, with the path that it has used last: which one is taken is for the other end to choose.
    pub(super) fn status(&self) -> impl Iterator<Item = PeerStatus> {
        let mut peers: BTreeMap<PeerId, Vec<&Guest>> = BTreeMap::new();
        for guest in self.guests.values().filter(|guest| guest.is_shown()) {
            peers.entry(guest.peer).or_default().push(guest);
        }
        peers.into_values().filter_map(|guests| {
            let rank = |guest: &&&Guest| (guest.used, guest.path == Path::Direct, Reverse(guest.rtt));
            let taken = guests.iter().max_by_key(rank)?;
            Some(PeerStatus {
                id: taken.peer.to_string(),
                path: taken.path,
                rtt: taken.rtt,
                reason: taken.why.to_owned(),
                paths: guests.len(),
            })
        })
    }
}

impl Heard {
    fn connection(&self) -> ConnectionId {
        match self {
            Self::Hello(connection, ..) | Self::Leg(connection, ..) | Self::Nothing(connection) => {
                *connection
            }
        }
    }
}
