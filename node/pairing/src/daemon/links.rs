//! Streams of peers: from a stranger's hello to the link of a member, and what travels on it.

use std::{collections::BTreeSet, net::SocketAddr, panic, sync::Arc};

use libp2p::{PeerId, Stream, swarm::ConnectionId};
use mytunnel_carrier::stream::{self, Opener};
use mytunnel_keys::error::Code;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinError,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{
    Daemon, Link, LinkId, files,
    passages::{self, Via},
    queue::{Outbound, Queue, queue},
    random,
    session::{Session, Side},
    wire,
};
use crate::{
    card::Card,
    clock::Now,
    content::{HOST, MemberId, SessionId},
    frame::Channel,
    handshake::Ends,
    hello::Hello,
    hello::SeatId,
    invite::Verifier,
    limits,
    link::InviteId,
    message::{ToGuest, ToHost},
    room::{Fresh, Outgoing},
    sas::Nonce,
    secret::ResumeSecret,
    spoken::Spoken,
    ways::Stand,
};

/// What a link's task tells the owner.
pub(super) enum Event {
    /// A stranger says what it could prove.
    Hello { hello: Hello, reply: oneshot::Sender<Option<Verifier>> },
    /// A stranger's proof of a code is to be looked at.
    Guess { number: u16, reply: oneshot::Sender<bool> },
    /// Somebody at this address is to be reached, whoever that is.
    Dial { at: SocketAddr, found: oneshot::Sender<Option<Opener>> },
    /// A guest needs a way past the network.
    Detour { wanted: passages::Wanted, reply: oneshot::Sender<watch::Receiver<Stand>> },
    /// This peer is to be reached through the local end of one.
    DialThrough { at: SocketAddr, peer: PeerId, found: oneshot::Sender<Option<Opener>> },
    /// It has.
    Proved { proof: Box<Proof>, reply: oneshot::Sender<Result<LinkId, Code>> },
    /// Something of a file.
    Files(files::Event),
    /// A guest of ours has its place in a session, or has it again.
    Joined(super::joining::Joined),
    /// Messages of an established link, as they came together.
    Messages { link: LinkId, batch: Vec<Vec<u8>> },
    /// The link is over.
    Gone { link: LinkId },
}

/// Somebody who knows an invite's or a seat's secret.
pub(super) struct Proof {
    hello: Hello,
    card: Card,
    peer: PeerId,
    handshake: [u8; 32],
    outgoing: Outbound,
    connection: ConnectionId,
}

impl Daemon {
    pub(super) fn on_stream(&mut self, event: stream::Event) {
        match event {
            stream::Event::Opened { peer, opener, .. } => {
                self.connected.entry(peer).or_default().push(opener.clone());
                if let Some(found) = self.dialling_at.remove(&opener.connection()) {
                    // Who waited may have given up.
                    let _ = found.send(Some(opener.clone()));
                }
                self.tell_dialler(peer, Some(&opener));
            }
            stream::Event::Closed { peer, connection, .. } => {
                self.passages.gone(connection);
                if let Some(openers) = self.connected.get_mut(&peer) {
                    openers.retain(|opener| opener.connection() != connection);
                    if openers.is_empty() {
                        self.connected.remove(&peer);
                    }
                }
            }
            stream::Event::Inbound { peer, connection, stream, .. } => {
                self.on_stranger(peer, connection, stream);
            }
        }
    }

    /// Hears a stranger out, unless it has tried too often.
    fn on_stranger(&mut self, peer: PeerId, connection: ConnectionId, stream: Stream) {
        let now = self.now();
        let bounds = &self.swarm.behaviour().bounds;
        let (origin, is_known) = (bounds.origin(connection), bounds.knows(&peer));
        if !self.tries.allows(peer, origin, is_known, now.steady) {
            tracing::debug!(%peer, "too many attempts");
            return;
        }
        self.strangers.retain(|stranger| !stranger.is_finished());
        let ends = Ends { host: self.own, guest: peer };
        let (established, carried) = oneshot::channel();
        let stranger = Stranger { ends, connection, events: self.events.clone(), begun: self.begun };
        let heard = self.tasks.spawn(async move {
            // An aborted stranger leaves nothing behind for the second task, and has used no invite.
            let _ = established.send(stranger.hear(stream).await);
        });
        // A proof takes two round trips, an idler has no end.
        if let Some(idler) = self.strangers.enter(peer, origin, is_known, heard) {
            idler.abort();
        }
        let (events, begun, refusals) = (self.events.clone(), self.begun, Arc::clone(&self.refusals));
        self.tasks.spawn(async move {
            if let Ok(Some(proved)) = carried.await
                && let Some(guest) = proved.admit(&events, begun, &refusals).await
            {
                carry(guest, events, begun).await;
            }
        });
    }

    /// What happened, in its order. What members say in it is answered, and told to who waits for it, once.
    pub(super) fn on_events(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut due = BTreeSet::new();
        for event in events {
            // Nothing that a member has said before is told behind this.
            if !matches!(event, Event::Messages { .. }) {
                self.flush_all(&mut due);
            }
            due.extend(self.on_event(event));
        }
        self.flush_all(&mut due);
    }

    fn flush_all(&mut self, due: &mut BTreeSet<SessionId>) {
        while let Some(session) = due.pop_first() {
            self.flush(session);
        }
    }

    /// The session of which something is to be sent yet.
    fn on_event(&mut self, event: Event) -> Option<SessionId> {
        let now = self.now();
        match event {
            Event::Hello { hello, reply } => {
                let psk = self.sessions.values().find_map(|session| match &session.side {
                    Side::Host(room) => room.verifier(hello),
                    Side::Guest(seat, _) => seat.verifier(hello),
                });
                // The stranger may have gone.
                let _ = reply.send(psk);
            }
            Event::Guess { number, reply } => {
                let granted = self.sessions.iter_mut().find_map(|(id, session)| match &mut session.side {
                    Side::Host(room) => room.guess(number).then_some(*id),
                    Side::Guest(..) => None,
                });
                // The stranger may have gone, which costs the guess.
                self.grant(granted, reply);
            }
            Event::Dial { at, found } => self.dial_at(at, found),
            Event::Detour { wanted, reply } => self.detour(wanted, reply),
            Event::DialThrough { at, peer, found } => self.dial_through(at, peer, found),
            Event::Proved { proof, reply } => {
                let outcome = self.on_proof(*proof, now);
                let session =
                    outcome.as_ref().ok().and_then(|link| self.links.get(link)).map(|link| link.session);
                if let Err(Ok(link)) = reply.send(outcome) {
                    self.on_gone(link, now);
                }
                if let Some(session) = session {
                    self.flush(session);
                }
            }
            Event::Files(event) => self.on_files(event),
            Event::Joined(joined) => self.on_joined(joined),
            Event::Messages { link, batch } => return self.on_messages(link, &batch, now),
            Event::Gone { link } => self.on_gone(link, now),
        }
        None
    }

    fn on_proof(&mut self, proof: Proof, now: Now) -> Result<LinkId, Code> {
        let Proof { hello, card, peer, handshake, outgoing, connection } = proof;
        let via = self.via(connection);
        let rooms = self.sessions.iter_mut().filter_map(|(id, session)| match &mut session.side {
            Side::Host(room) => Some((*id, room)),
            Side::Guest(..) => None,
        });
        let mut rooms = rooms.filter(|(_, room)| room.verifier(hello).is_some());
        let (session, room) = rooms.next().ok_or(Code::PairRefused)?;
        let comes_back = matches!(hello, Hello::Resume { .. });
        if room.closed.is_some() && (room.is_over() || !comes_back) {
            return Err(Code::PairClosed);
        }
        let member = match hello {
            Hello::Link(_) | Hello::Code { .. } => {
                let fresh = || -> Result<Fresh, getrandom::Error> {
                    let nonce = Nonce::from_bytes(random()?);
                    Ok(Fresh { seat: SeatId(random()?), resume: ResumeSecret::from_bytes(random()?), nonce })
                };
                room.admit(
                    invite_of(hello),
                    card,
                    peer,
                    handshake,
                    fresh().map_err(|_| Code::Internal)?,
                    now,
                )?
            }
            Hello::Resume { seat, attempt } => room.resume(seat, attempt, peer, now)?,
            // Such a stream is no member's link.
            Hello::Files { .. } => return Err(Code::PairRefused),
        };
        Ok(self.add_link(session, member, outgoing, via))
    }

    /// A new link of a member takes the place of an old one.
    pub(super) fn add_link(
        &mut self,
        session: SessionId,
        member: MemberId,
        outgoing: Outbound,
        via: Via,
    ) -> LinkId {
        let id = self.next_link;
        self.next_link += 1;
        self.links.insert(id, Link { session, member, outgoing, via });
        if let Some(old) = self.by_member.insert((session, member), id) {
            self.links.remove(&old);
        }
        id
    }

    fn on_messages(&mut self, link: LinkId, batch: &[Vec<u8>], now: Now) -> Option<SessionId> {
        let (session, member) = self.links.get(&link).map(|link| (link.session, link.member))?;
        let held = self.sessions.get_mut(&session)?;
        if let Err(code) = held.on_messages(member, batch, now) {
            tracing::debug!(%session, member, %code, "a link is cut");
            self.flush(session);
            self.cut(session, member, now);
        }
        Some(session)
    }

    fn on_gone(&mut self, link: LinkId, now: Now) {
        let Some(Link { session, member, .. }) = self.links.get(&link) else { return };
        let (session, member) = (*session, *member);
        self.cut(session, member, now);
        self.flush(session);
    }

    /// Ends a member's link; it may come back.
    pub(super) fn cut(&mut self, session: SessionId, member: MemberId, now: Now) {
        if let Some(link) = self.by_member.remove(&(session, member)) {
            self.links.remove(&link);
        }
        match self.sessions.get_mut(&session).map(|session| &mut session.side) {
            Some(Side::Host(room)) => room.disconnected(member, now),
            Some(Side::Guest(seat, way)) => {
                seat.disconnected(now);
                way.next = now.steady;
            }
            None => {}
        }
    }

    /// Sends what a session has to say, and wakes who waits for it.
    pub(super) fn flush(&mut self, id: SessionId) {
        let now = self.now();
        if let Some(held) = self.sessions.get_mut(&id) {
            held.note_end(now);
            if held.closed().is_some() {
                self.files.close(id);
            }
        }
        self.keep(id);
        while let Some((member, bytes, last)) = self.next_message(id) {
            self.send(id, member, bytes, last);
        }
        // Last words that wait for the disk have their links until then.
        if self.is_kept(id) && self.sessions.get(&id).is_some_and(Session::is_over) {
            let members: Vec<MemberId> = self
                .by_member
                .keys()
                .filter(|(session, _)| *session == id)
                .map(|(_, member)| *member)
                .collect();
            for member in members {
                self.cut(id, member, now);
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// For whom, what, and whether it is the last thing that it is told.
    fn next_message(&mut self, id: SessionId) -> Option<(MemberId, Vec<u8>, bool)> {
        match &mut self.sessions.get_mut(&id)?.side {
            Side::Host(room) => {
                let Outgoing { member, message } = room.poll_message()?;
                Some((member, message.to_bytes(), matches!(message, ToGuest::Bye { .. })))
            }
            Side::Guest(seat, _) => {
                let message = seat.poll_message()?;
                Some((HOST, message.to_bytes(), matches!(message, ToHost::Bye)))
            }
        }
    }
}

fn invite_of(hello: Hello) -> InviteId {
    match hello {
        Hello::Link(invite) => invite,
        Hello::Code { number, .. } => InviteId::of_number(number),
        Hello::Resume { seat, .. } | Hello::Files { seat } => InviteId::from_bytes(seat.0),
    }
}

/// A stream that has proved nothing yet.
struct Stranger {
    ends: Ends,
    connection: ConnectionId,
    events: mpsc::Sender<Event>,
    begun: Instant,
}

/// One that has.
struct Proved {
    proof: Proof,
    wire: wire::Wire,
    channel: Channel,
    outgoing: Queue,
}

/// One that is in.
enum LetIn {
    /// A member, on its link.
    Member { link: LinkId, wire: wire::Wire, channel: Channel, outgoing: Queue },
    /// A member, on a stream for a file.
    Files(files::Asker, files::Line),
}

impl Stranger {
    /// From the hello to the proof. Whoever fails is told nothing but that.
    async fn hear(self, stream: Stream) -> Option<Proved> {
        let mut wire = wire::wire(stream);
        let proved = timeout(limits::PROOF, self.proof(&mut wire)).await;
        let Ok(Ok((proof, channel, outgoing))) = proved else {
            tracing::debug!(peer = %self.ends.guest, "a stranger was refused");
            wire::refuse(wire).await;
            return None;
        };
        Some(Proved { proof, wire, channel, outgoing })
    }

    async fn proof(&self, wire: &mut wire::Wire) -> Result<(Proof, Channel, Queue), wire::WireError> {
        let hello = wire::hear_hello(wire).await?;
        let (reply, answer) = oneshot::channel();
        let gone = || wire::WireError::Refused;
        self.events.send(Event::Hello { hello, reply }).await.map_err(|_| gone())?;
        let verifier = match answer.await.map_err(|_| gone())? {
            Some(verifier) => verifier,
            // A secret that nobody has: the handshake fails where a wrong one would.
            None => nobodys(hello).map_err(|_| gone())?,
        };
        let may = async || match hello {
            Hello::Code { number, .. } => {
                let (reply, granted) = oneshot::channel();
                let asked = self.events.send(Event::Guess { number, reply }).await.is_ok();
                asked && granted.await.unwrap_or_default()
            }
            Hello::Link(_) | Hello::Resume { .. } | Hello::Files { .. } => true,
        };
        let (established, card) = wire::check(wire, hello, verifier, &self.ends, may).await?;
        let (outgoing, queued) = queue();
        let (peer, handshake) = (self.ends.guest, established.hash);
        let proof = Proof { hello, card, peer, handshake, outgoing, connection: self.connection };
        Ok((proof, Channel::new(established, self.begun.elapsed()), queued))
    }
}

impl Proved {
    /// Lets it in, or tells it why not: who knows the secret may know that, while not too many are being told.
    async fn admit(
        self,
        events: &mpsc::Sender<Event>,
        begun: Instant,
        refusals: &Semaphore,
    ) -> Option<LetIn> {
        let Self { proof, wire, channel, outgoing } = self;
        if let Hello::Files { seat } = proof.hello {
            let asker = files::Asker { seat, peer: proof.peer, key: proof.card.key };
            return Some(LetIn::Files(asker, files::Line::new(wire, channel, begun)));
        }
        let (reply, answer) = oneshot::channel();
        events.send(Event::Proved { proof: Box::new(proof), reply }).await.ok()?;
        match answer.await.ok()? {
            Ok(link) => Some(LetIn::Member { link, wire, channel, outgoing }),
            Err(code) => {
                let _place = refusals.try_acquire().ok()?;
                tell_no(wire, channel, code, begun).await;
                None
            }
        }
    }
}

async fn tell_no(wire: wire::Wire, channel: Channel, code: Code, begun: Instant) {
    let (outgoing, queued) = queue();
    let no = ToGuest::No { code }.to_bytes();
    if outgoing.send(no) {
        drop(outgoing);
        let told = wire::carry(wire, channel, queued, begun, |_| async { true });
        if let Ok(Err(error)) = timeout(limits::PROOF, told).await {
            tracing::debug!(%error, "a refusal was not read");
        }
    }
}

/// What nobody can prove.
fn nobodys(hello: Hello) -> Result<Verifier, getrandom::Error> {
    Ok(match hello {
        Hello::Link(_) | Hello::Resume { .. } | Hello::Files { .. } => {
            Verifier::Psk(Zeroizing::new(random()?))
        }
        Hello::Code { number, .. } => Verifier::Spoken(Spoken::new(number, u64::from_be_bytes(random()?))),
    })
}

async fn carry(guest: LetIn, events: mpsc::Sender<Event>, begun: Instant) {
    match guest {
        LetIn::Member { link, wire, channel, outgoing } => {
            run(link, wire, channel, outgoing, &events, begun).await;
        }
        LetIn::Files(asker, line) => files::answer(asker, line, events).await,
    }
}

/// Carries an established link to its end.
pub(super) async fn run(
    link: LinkId,
    wire: wire::Wire,
    channel: Channel,
    outgoing: Queue,
    events: &mpsc::Sender<Event>,
    begun: Instant,
) {
    let ended = wire::carry(wire, channel, outgoing, begun, |batch| async move {
        events.send(Event::Messages { link, batch }).await.is_ok()
    });
    if let Err(error) = ended.await {
        tracing::debug!(link, %error, "a link ended");
    }
    // Without an owner there is nobody to tell.
    let _ = events.send(Event::Gone { link }).await;
}

/// A task has ended; a panic in it is one of the daemon.
pub(super) fn ended(outcome: Result<(), JoinError>) {
    if let Err(error) = outcome
        && let Ok(panic) = error.try_into_panic()
    {
        panic::resume_unwind(panic);
    }
}
