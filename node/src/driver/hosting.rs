//! Other nodes that reach what is shared here privately: who they are, and the streams that they have opened.
//!
//! A connection is a guest's. It has to show a certificate in time; each name that the certificate is good for is opened to it.
//! A stream belongs to its peer, not to a connection: the same peer goes on with it over another one.

mod fate;
mod whole;

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{PeerId, Stream, swarm::ConnectionId};
use mytunnel_carrier::{frame, stream::Opener};
use mytunnel_keys::{
    Verified,
    certificate::{self, Claims},
    id::{TunnelId, TunnelName},
    trust::{CLOCK_SKEW, Trust},
    wire::peer::{Answer, Hello, Opening, VERSION},
};
use tokio::{
    io::{AsyncWriteExt as _, duplex},
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::timeout,
};
use tokio_util::{compat::FuturesAsyncReadCompatExt as _, sync::CancellationToken};

use fate::{MOST_STRANGERS, MOST_UNDER_WAY, Standing, most_read, to_be_cut};
use whole::until_both;

use crate::{
    lasting::{
        exchange::Verdict,
        flow::Limits,
        frames::{ALL, NOTHING},
        pump::{self, Arrival, Outcome},
    },
    peers::{
        acquaint,
        rights::{self, Own},
    },
    serve::{self, Patience, PipeError, pulse::Pulses, table::Service},
    state::link::Refusal,
    status::PeerStatus,
};

/// Connections of guests at once.
const MOST_GUESTS: usize = 64;

/// Names that one connection may reach.
const MOST_NAMES: usize = 16;

/// Streams of one peer.
const MOST_STREAMS_OF_PEER: usize = 256;

/// Time in which a guest has to show its certificate.
const STRANGER: Duration = Duration::from_secs(10);

/// Streams that have ended are remembered, so that a leg of theirs that comes late does not begin them anew.
const REMEMBERED: usize = 4096;

/// Bytes under way between a stream and what serves it, in each direction.
const BUFFER: usize = 64 * 1024;

/// Pings in a row, of two seconds each, that a busy path may delay.
pub(super) const MOST_SILENCES: u32 = 8;

/// Names a stream.
type Key = (PeerId, [u8; 16]);

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Hosting {
    guests: HashMap<ConnectionId, Guest>,
    streams: HashMap<Key, Live>,
    most_streams: usize,
    limits: Limits,
    /// Streams that have ended, and whether they are done.
    ended: HashMap<Key, bool>,
    ended_in_order: VecDeque<Key>,
    tasks: JoinSet<(Key, Outcome)>,
    heard: JoinSet<Heard>,
    answers: JoinSet<()>,
    pulses: Pulses,
    ending: CancellationToken,
}

#[derive(Debug)]
struct Guest {
    peer: PeerId,
    opener: Opener,
    since: Instant,
    shown: Option<Shown>,
    /// What its certificate is good for.
    names: HashMap<TunnelId, TunnelName>,
    /// First messages that are being read.
    reading: usize,
    rtt: Option<Duration>,
    /// Pings in a row that were not answered in time.
    silences: u32,
}

/// The certificate of a guest.
#[derive(Debug)]
struct Shown {
    bytes: Vec<u8>,
    claims: Verified<Claims>,
}

#[derive(Debug)]
struct Live {
    tunnel: TunnelId,
    arrivals: mpsc::Sender<Arrival>,
    task: AbortHandle,
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
            streams: HashMap::new(),
            most_streams,
            limits,
            ended: HashMap::new(),
            ended_in_order: VecDeque::new(),
            tasks: JoinSet::new(),
            heard: JoinSet::new(),
            answers: JoinSet::new(),
            pulses,
            ending: CancellationToken::new(),
        }
    }

    /// A connection that another node has opened. `false` when there are too many.
    pub(super) fn on_connected(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        opener: Opener,
        now: Instant,
    ) -> bool {
        let strangers = self.guests.values().filter(|guest| guest.shown.is_none()).count();
        if self.guests.len() >= MOST_GUESTS || strangers >= MOST_STRANGERS {
            tracing::debug!(%peer, "guest turned away: there are too many");
            return false;
        }
        let names = HashMap::new();
        let guest =
            Guest { peer, opener, since: now, shown: None, names, reading: 0, rtt: None, silences: 0 };
        self.guests.insert(connection, guest);
        true
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId) {
        self.guests.remove(&connection);
    }

    pub(super) fn is_guest(&self, connection: ConnectionId) -> bool {
        self.guests.contains_key(&connection)
    }

    /// A guest has opened the stream on which it says who it is.
    pub(super) fn on_greeting(&mut self, connection: ConnectionId, mut stream: Stream) {
        if self.may_read(connection, true) {
            self.heard.spawn(async move {
                match acquaint::hear(&mut stream).await {
                    Some(hello) => Heard::Hello(connection, hello, stream),
                    None => Heard::Nothing(connection),
                }
            });
        }
    }

    /// A guest has opened a leg.
    pub(super) fn on_leg(&mut self, connection: ConnectionId, mut stream: Stream) {
        if self.may_read(connection, false) {
            self.heard.spawn(async move {
                match timeout(acquaint::PATIENCE, frame::read(&mut stream)).await {
                    Ok(Ok(Some(opening))) => Heard::Leg(connection, opening, stream),
                    Ok(Ok(None) | Err(_)) | Err(_) => Heard::Nothing(connection),
                }
            });
        }
    }

    /// Whether one more first message of this guest is to be read, which then counts as under way.
    fn may_read(&mut self, connection: ConnectionId, is_greeting: bool) -> bool {
        let Some(guest) = self.guests.get_mut(&connection) else { return false };
        let most = most_read(guest.shown.is_some(), is_greeting);
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
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => match ended {
                    Ok((key, outcome)) => self.bury(key, outcome),
                    Err(error) if error.is_panic() => return Err(error),
                    Err(_) => {}
                },
                Some(answered) = self.answers.join_next(), if !self.answers.is_empty() => answered?,
                else => pending().await,
            }
        }
    }

    /// A guest has shown its certificate; whether it is the first that was good. `find` says what is shared here under a
    /// name.
    pub(super) fn on_hello(
        &mut self,
        connection: ConnectionId,
        (hello, stream): (Hello, Stream),
        (own, certificate): (&Own, &[u8]),
        trust: Option<&Trust>,
        find: impl FnOnce(&TunnelName) -> Option<Arc<Service>>,
        now: u64,
    ) -> bool {
        let Some(guest) = self.guests.get_mut(&connection) else { return false };
        let was_shown = guest.shown.is_some();
        let answer = match guest.admit(hello, own, trust, find, now) {
            Ok((tunnel, service)) => Answer::Welcome {
                version: VERSION,
                certificate: certificate.to_vec(),
                tunnel,
                carries: service.carries(),
            },
            Err(Refusal { code, message, help }) => {
                tracing::debug!(peer = %guest.peer, %code, message, "guest refused");
                Answer::Refused { code, message, help }
            }
        };
        let is_new = !was_shown && guest.shown.is_some();
        if self.answers.len() < MOST_UNDER_WAY {
            self.answers.spawn(acquaint::answer(stream, answer));
        }
        is_new
    }

    /// A guest has begun a leg. `find` says what is shared here under a name now.
    pub(super) fn on_opening(
        &mut self,
        connection: ConnectionId,
        opening: Opening,
        stream: Stream,
        find: impl FnOnce(&TunnelName) -> Option<Arc<Service>>,
    ) {
        let Some(guest) = self.guests.get(&connection) else { return };
        let key = (guest.peer, opening.stream);
        let name = guest.names.get(&opening.tunnel);
        let mut arrival =
            Arrival { leg: Box::new(stream.compat()), attempt: opening.attempt, received: opening.received };
        let word = match (name, self.streams.get(&key)) {
            (Some(_), Some(live)) if live.tunnel == opening.tunnel => {
                // One that is about to end takes no more; whoever sees the leg end without a word comes again.
                let _ = live.arrivals.try_send(arrival);
                return;
            }
            (Some(_), None) if self.ended.get(&key).is_some_and(|is_done| *is_done) => ALL,
            (Some(name), None) if opening.fresh && self.has_place(&key) => match find(name) {
                Some(service) => return self.begin(key, service, &opening, arrival),
                None => NOTHING,
            },
            (Some(_), None | Some(_)) | (None, _) => NOTHING,
        };
        if self.answers.len() < MOST_UNDER_WAY {
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

    fn has_place(&self, key: &Key) -> bool {
        let of_peer = self.streams.keys().filter(|(peer, _)| *peer == key.0).count();
        !self.ending.is_cancelled()
            && !self.ended.contains_key(key)
            && self.streams.len() < self.most_streams
            && of_peer < MOST_STREAMS_OF_PEER
    }

    fn begin(&mut self, key: Key, service: Arc<Service>, opening: &Opening, first: Arrival) {
        let (arrivals, receiver) = mpsc::channel(4);
        // It has room for the first.
        let _ = arrivals.try_send(first);
        let (near, far) = duplex(BUFFER);
        let asked = Duration::from_secs(opening.patience.into());
        let limits = Limits { patience: self.limits.patience.min(asked), ..self.limits };
        let (pulse, ending) = (self.pulses.begin(), self.ending.clone());
        let verdict = Verdict::default();
        let told = verdict.clone();
        let task = self.tasks.spawn(async move {
            let served = async {
                let served = serve::serve_lane(far, &service, Patience::default(), pulse, || ()).await;
                if let Err(error) = &served {
                    // That the target is not there was said in its status.
                    if !matches!(error, PipeError::Target(_)) {
                        verdict.set_broken();
                    }
                    tracing::debug!(error = error as &dyn std::error::Error, "stream ended early");
                }
                served.is_ok()
            };
            (key, until_both(served, pump::accept(near, told, receiver, limits, &ending)).await)
        });
        self.streams.insert(key, Live { tunnel: opening.tunnel, arrivals, task });
    }

    /// Breaks off what is open, which the other ends are told where there is a way, and takes nothing more.
    pub(super) fn break_off(&self) {
        self.ending.cancel();
    }

    pub(super) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    fn bury(&mut self, key: Key, outcome: Outcome) {
        tracing::debug!(peer = %key.0, %outcome, "stream ended");
        self.streams.remove(&key);
        self.remember(key, outcome == Outcome::Done);
    }

    fn remember(&mut self, key: Key, is_done: bool) {
        if self.ended.insert(key, is_done).is_none() {
            self.ended_in_order.push_back(key);
        }
        if self.ended_in_order.len() > REMEMBERED
            && let Some(oldest) = self.ended_in_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// When [`Self::overdue`] has something to say.
    pub(super) fn next_timeout(&self, now: Instant, unix: u64) -> Option<Instant> {
        let ends = self.guests.values().map(|guest| match &guest.shown {
            None => guest.since + STRANGER,
            Some(shown) => now + Duration::from_secs(shown.until().saturating_sub(unix).min(30)),
        });
        ends.min()
    }

    /// Guests whose time is over: their connections are to be closed. What they have opened is cut, unless they have
    /// another connection on which their certificate is good.
    pub(super) fn overdue(&mut self, now: Instant, unix: u64) -> Vec<ConnectionId> {
        let is_over = |guest: &Guest| match &guest.shown {
            None => guest.since + STRANGER <= now,
            Some(shown) => shown.until() <= unix,
        };
        self.part_with(is_over)
    }

    /// The trust has changed: guests whose certificates hold no longer are parted with.
    pub(super) fn judge_again(&mut self, trust: &Trust, unix: u64) -> Vec<ConnectionId> {
        self.part_with(|guest| {
            guest.shown.as_ref().is_some_and(|shown| {
                let key = &shown.claims.subject;
                certificate::verify(&shown.bytes, trust, key, unix).is_err()
            })
        })
    }

    fn part_with(&mut self, is_over: impl Fn(&Guest) -> bool) -> Vec<ConnectionId> {
        let (mut over, mut standings) = (Vec::new(), Vec::new());
        for (connection, guest) in &self.guests {
            let is_over = is_over(guest);
            if is_over {
                over.push(*connection);
            }
            standings.push((guest.peer, Standing::of(guest.shown.is_some(), is_over)));
        }
        let cut = to_be_cut(&standings);
        let keys: Vec<Key> = self.streams.keys().filter(|(peer, _)| cut.contains(peer)).copied().collect();
        for key in keys {
            if let Some(live) = self.streams.remove(&key) {
                live.task.abort();
            }
            self.remember(key, false);
        }
        over
    }

    /// A ping was not answered in time; whether that has gone on for too long.
    pub(super) fn is_silent(&mut self, connection: ConnectionId) -> bool {
        self.guests.get_mut(&connection).is_some_and(|guest| {
            guest.silences += 1;
            guest.silences > MOST_SILENCES
        })
    }

    /// The round trip to a guest is known.
    pub(super) fn on_alive(&mut self, connection: ConnectionId, trip: Duration) {
        if let Some(guest) = self.guests.get_mut(&connection) {
            (guest.rtt, guest.silences) = (Some(trip), 0);
        }
    }

    /// Opens streams on a guest's connection.
    pub(super) fn opener(&self, connection: ConnectionId) -> Option<Opener> {
        self.guests.get(&connection).map(|guest| guest.opener.clone())
    }

    pub(super) fn status(&self) -> impl Iterator<Item = PeerStatus> {
        self.guests
            .values()
            .filter(|guest| guest.shown.is_some())
            .map(|guest| PeerStatus::relayed(guest.peer.to_string(), guest.rtt))
    }
}

impl Guest {
    fn admit(
        &mut self,
        hello: Hello,
        own: &Own,
        trust: Option<&Trust>,
        find: impl FnOnce(&TunnelName) -> Option<Arc<Service>>,
        now: u64,
    ) -> Result<(TunnelId, Arc<Service>), Refusal> {
        let name = hello.name.clone();
        let unknown = || rights::unknown(&name);
        // Without a relay's welcome there is no way to us.
        let (Some(trust), Some(key)) = (trust, mytunnel_carrier::public_key(&self.peer)) else {
            return Err(unknown());
        };
        let claims = rights::of_guest(&hello.certificate, &key, &hello.name, trust, own, now)?;
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
}

impl Shown {
    /// The second in which the certificate ends for us.
    fn until(&self) -> u64 {
        self.claims.not_after.saturating_add(CLOCK_SKEW)
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
