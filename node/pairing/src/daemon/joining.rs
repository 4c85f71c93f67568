//! How a session of somebody else is joined, and come back to.

mod attempt;

use std::{net::SocketAddr, time::Duration};

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    swarm::{ConnectionId, DialError, dial_opts::PeerCondition},
};
use mytunnel_carrier::{address, stream::Opener};
use mytunnel_keys::{error::Code, secret::Seed};
use tokio::sync::oneshot;

use self::attempt::{Attempt, Detour, Reach};
use super::{
    Daemon, LinkId, Way, net, passages,
    queue::Outbound,
    random,
    session::{Session, Side},
    wire,
};
use crate::{
    api::Trouble,
    clock::Now,
    content::{HOST, SessionId, Why},
    hello::Hello,
    link::{Link, LinkError, Ticket},
    message::{ToGuest, Verify, Welcome},
    sas::Nonce,
    seat::Seat,
    secret,
    spoken::Spoken,
};

/// Most outages are over by then,
const OUTAGE: Duration = Duration::from_secs(120);
/// so that until then no two attempts to come back are further apart.
const SOON: Duration = Duration::from_secs(3);
/// Longest wait between two attempts to come back.
const BACKOFF: Duration = Duration::from_secs(30);

type Reply = oneshot::Sender<Result<serde_json::Value, Trouble>>;

/// What this side's person wants, whatever the host says.
#[derive(Clone, Copy)]
pub(super) struct Wishes {
    pub(super) verify: Verify,
    /// On disk.
    pub(super) keep: bool,
    /// By the way that the link may name, too.
    pub(super) relay: bool,
}

/// How an attempt went.
pub(super) enum Joined {
    /// A new member; the client waits for it.
    New { welcome: Box<Welcome>, begun: Box<Begun>, reply: oneshot::Sender<Option<LinkId>> },
    /// The client is told why not.
    NotNew { trouble: Trouble, ticket: Option<Ticket>, client: Reply },
    /// Back at a seat.
    Back {
        session: SessionId,
        first: ToGuest,
        outgoing: Outbound,
        connection: ConnectionId,
        reply: oneshot::Sender<Option<LinkId>>,
    },
    /// Not back; worth another try unless the host says that it is over.
    NotBack { session: SessionId, code: Code },
}

/// What belongs to a new membership.
pub(super) struct Begun {
    host: PeerId,
    handshake: [u8; 32],
    seed: Seed,
    wishes: Wishes,
    addresses: Vec<Multiaddr>,
    outgoing: Outbound,
    connection: ConnectionId,
    /// For the way through a relay, if the link has one.
    ticket: Option<Ticket>,
    client: Reply,
}

impl Daemon {
    pub(super) fn join(
        &mut self,
        text: &str,
        name: String,
        agent: String,
        wishes: Wishes,
        extra: &[SocketAddr],
        client: Reply,
    ) {
        match self.attempt(text, (name, agent), wishes.relay, extra) {
            Ok((attempt, addresses)) => {
                self.tasks.spawn(attempt.join(addresses, wishes, client));
            }
            // The client may have gone.
            Err(trouble) => drop(client.send(Err(trouble))),
        }
    }

    fn attempt(
        &mut self,
        text: &str,
        (name, agent): (String, String),
        relay: bool,
        extra: &[SocketAddr],
    ) -> Result<(Attempt, Vec<Multiaddr>), Trouble> {
        if let Some(code) = Spoken::parse(text) {
            self.room_for_one()?;
            let addresses = extra.iter().flat_map(|socket| address::listen_on(*socket)).collect();
            let attempt = Attempt {
                way: Reach::At(code.number(), extra.to_vec()),
                approach: wire::Approach::Spoken(code),
                own: self.own,
                name,
                agent,
                seed: Seed::from_bytes(random().map_err(no_random)?),
                events: self.events.clone(),
                begun: self.begun,
                left: None,
            };
            return Ok((attempt, addresses));
        }
        let link = Link::parse(text).map_err(|error| Trouble::new(code_of(error), error.to_string()))?;
        self.room_for_one()?;
        let host = mytunnel_carrier::peer_id(&link.host);
        if host == self.own {
            return Err(Trouble::new(
                Code::PairRefused,
                "this link is one of this very machine's own session",
            ));
        }
        let left = i64::from(link.expires).saturating_sub(i64::try_from(self.now().wall).unwrap_or(i64::MAX));
        let late = left.min(0).unsigned_abs();
        // The host decides; but its answer cannot be had when it is gone, and this one is as good.
        if late > 24 * 3600 {
            return Err(Trouble::new(
                Code::PairExpired,
                format!("the link expired {} hours ago", late / 3600),
            ));
        }
        let extra = extra.iter().flat_map(|socket| address::listen_on(*socket));
        let addresses: Vec<Multiaddr> = extra.chain(link.addresses.iter().cloned()).collect();
        let detour = link.ticket.clone().filter(|_| relay && self.passages.are_there()).map(|ticket| {
            Detour { host, wanted: passages::Wanted::Join(ticket), events: self.events.clone() }
        });
        let attempt = Attempt {
            way: Reach::Peer(self.reach(host, addresses.clone()), detour),
            approach: wire::Approach::Psk(
                Hello::Link(link.invite),
                secret::of_link(&link.secret, link.invite),
            ),
            own: self.own,
            name,
            agent,
            seed: Seed::from_bytes(random().map_err(no_random)?),
            events: self.events.clone(),
            begun: self.begun,
            left: Some(left),
        };
        Ok((attempt, addresses))
    }

    /// Starts an attempt to come back to a seat.
    pub(super) fn come_back(&mut self, id: SessionId) {
        let own = self.own;
        let Some(Session { side: Side::Guest(seat, way), .. }) = self.sessions.get_mut(&id) else { return };
        way.trying = true;
        let (hello, psk) = seat.next_attempt();
        let (host, name, seed) = (seat.host, seat.name.clone(), seat.seed().clone());
        let addresses = way.addresses.clone();
        let has_way =
            self.passages.are_there() && self.sessions.get(&id).is_some_and(|one| one.pass().is_some());
        let detour =
            has_way.then(|| Detour { host, wanted: passages::Wanted::Back(id), events: self.events.clone() });
        let attempt = Attempt {
            way: Reach::Peer(self.reach(host, addresses), detour),
            approach: wire::Approach::Psk(hello, psk),
            own,
            name,
            agent: String::new(),
            seed,
            events: self.events.clone(),
            begun: self.begun,
            left: None,
        };
        self.tasks.spawn(attempt.come_back(id));
    }

    /// A connection to a peer: the one that stands, or one that is dialled.
    fn reach(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> oneshot::Receiver<Option<Opener>> {
        let (found, opener) = oneshot::channel();
        let standing =
            self.connected.get(&peer).and_then(|openers| openers.iter().find(|one| !one.is_closed()));
        if let Some(standing) = standing {
            // Received below.
            let _ = found.send(Some(standing.clone()));
            return opener;
        }
        let waiting = self.dialling.entry(peer).or_default();
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push(found);
        let options = net::to_peer(peer, PeerCondition::NotDialing, addresses);
        match self.swarm.dial(options) {
            // It is being dialled already, and the outcome serves this one, too.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => {
                tracing::debug!(%peer, %error, "cannot be dialled");
                self.tell_dialler(peer, None);
            }
        }
        opener
    }

    /// Reaches whoever is at an address.
    pub(super) fn dial_at(&mut self, at: SocketAddr, found: oneshot::Sender<Option<Opener>>) {
        let [_, tcp] = address::listen_on(at);
        let options = net::to_whoever(tcp);
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dialling_at.insert(connection, found)),
            Err(error) => {
                tracing::debug!(%error, "cannot be dialled");
                // Dropped: nobody is found there.
                drop(found);
            }
        }
    }

    /// The records by which open codes are found.
    pub(super) fn show_codes(&mut self, now: Now) {
        let rooms = self.sessions.values().filter_map(|session| match &session.side {
            Side::Host(room) if room.closed.is_none() => Some(room),
            Side::Host(_) | Side::Guest(..) => None,
        });
        let numbers: Vec<u16> = rooms.flat_map(|room| room.open_codes(now)).collect();
        // The first that guests are told of: by IPv4 where there is one, as the record is.
        let Some(port) = self.own_addresses().first().and_then(tcp_port) else { return };
        // A name that says nothing; without random numbers all have the same.
        let name = || format!("pair-{:016x}", u64::from_be_bytes(random().unwrap_or_default()));
        self.discovery.show(&numbers, port, name);
    }

    pub(super) fn tell_dialler(&mut self, peer: PeerId, opener: Option<&Opener>) {
        for waiting in self.dialling.remove(&peer).unwrap_or_default() {
            // Who waited may have given up.
            let _ = waiting.send(opener.cloned());
        }
    }

    pub(super) fn on_joined(&mut self, joined: Joined) {
        let now = self.now();
        match joined {
            Joined::New { welcome, begun, reply } => self.on_welcome(*welcome, *begun, reply),
            Joined::NotNew { trouble, ticket, client } => {
                // Whoever was not reached may be on the next try, as may who had no room; the ticket is good once.
                let is_over = matches!(
                    trouble.code,
                    Code::PairUsed
                        | Code::PairExpired
                        | Code::PairBurned
                        | Code::PairLocked
                        | Code::PairClosed
                        | Code::PairDenied
                );
                if let Some(ticket) = ticket.filter(|_| is_over) {
                    self.give_up(&ticket);
                }
                // The client may have gone.
                drop(client.send(Err(trouble)));
            }
            Joined::Back { session, first, outgoing, connection, reply } => {
                let via = self.via(connection);
                let Some(Session { side: Side::Guest(seat, way), .. }) = self.sessions.get_mut(&session)
                else {
                    return;
                };
                way.trying = false;
                way.failures = 0;
                let taken = seat.on_message(first, now);
                let link = taken.is_ok().then(|| self.add_link(session, HOST, outgoing, via));
                // The task ends without a link.
                let _ = reply.send(link);
                self.flush(session);
            }
            Joined::NotBack { session, code } => {
                let jitter = random::<1>().map_or(0, |[byte]| u64::from(byte));
                let Some(Session { side: Side::Guest(seat, way), .. }) = self.sessions.get_mut(&session)
                else {
                    return;
                };
                way.trying = false;
                way.failures = way.failures.saturating_add(1);
                let away = seat.away_since.map_or(Duration::ZERO, |since| now.steady.saturating_sub(since));
                let most = if away < OUTAGE { SOON } else { BACKOFF };
                let wait = Duration::from_secs(1 << way.failures.min(5)).min(most);
                way.next =
                    now.steady + wait / 2 + wait.mul_f64(0.5) * u32::try_from(jitter).unwrap_or(0) / 255;
                if code == Code::PairDenied {
                    seat.close(Why::Kicked);
                } else if code == Code::PairClosed {
                    seat.close(Why::Host);
                }
                self.flush(session);
            }
        }
    }

    fn on_welcome(&mut self, welcome: Welcome, begun: Begun, reply: oneshot::Sender<Option<LinkId>>) {
        let now = self.now();
        let Begun { host, handshake, seed, wishes, addresses, outgoing, connection, ticket, client } = begun;
        let Wishes { verify, keep, relay: _ } = wishes;
        let via = self.via(connection);
        let id = welcome.session;
        let seat = random()
            .map_err(no_random)
            .and_then(|nonce| {
                Seat::welcomed(welcome, host, handshake, seed, Nonce::from_bytes(nonce), verify, now)
                    .map_err(|code| Trouble::new(code, "the host does not show that it is the link's"))
            })
            .and_then(|seat| {
                self.forget_left(id, host);
                self.is_new(id).map(|()| seat)
            });
        match seat {
            Ok(seat) => {
                let way = Way { addresses, failures: 0, next: now.steady, trying: false };
                self.sessions.insert(id, Session::new(Side::Guest(seat, way), keep, now));
                let link = self.add_link(id, HOST, outgoing, via);
                if let Some(ticket) = &ticket {
                    self.settle(id, ticket);
                }
                // A task that has ended tells so itself.
                let _ = reply.send(Some(link));
                self.flush(id);
                // The client may have gone; the membership stays.
                self.reply(self.joined_answer(id), client);
            }
            Err(trouble) => drop(client.send(Err(trouble))),
        }
    }

    /// Who has left a host's session by itself comes in there again, and nothing of the time before is waited for.
    fn forget_left(&mut self, id: SessionId, host: PeerId) {
        let left = |session: &Session| {
            session.is_left() && matches!(&session.side, Side::Guest(seat, _) if seat.host == host)
        };
        if self.sessions.get(&id).is_some_and(left) {
            self.sessions.remove(&id);
            self.files.forget(id);
        }
    }

    /// The host says under which id its session is: what is here of another that had this one stays that one's.
    fn is_new(&self, id: SessionId) -> Result<(), Trouble> {
        if self.sessions.contains_key(&id) {
            return Err(Trouble::new(Code::PairUsed, "this machine is in that session already"));
        }
        if self.keeper.knows(id) {
            let help = format!(
                "`mytunnel pair close --forget --session {id}` removes the record, for a new invite."
            );
            return Err(Trouble::new(Code::PairUsed, "a record of that session is on this machine's disk")
                .with_help(help));
        }
        Ok(())
    }
}

fn tcp_port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None })
}

fn code_of(error: LinkError) -> Code {
    match error {
        LinkError::Other | LinkError::Damaged => Code::PairLinkDamaged,
        LinkError::Version => Code::PairVersion,
    }
}

fn no_random(error: getrandom::Error) -> Trouble {
    Trouble::new(Code::Internal, format!("the system gives no random numbers: {error}"))
}

#[cfg(test)]
mod tests;
