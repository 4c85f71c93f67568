//! One access: it searches through every line, holds the paths that lead to the share, and takes one of them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{PeerId, swarm::ConnectionId};
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::{
    error::Code,
    id::{Serial, TunnelName},
    trust::Trust,
    wire::peer::Answer,
};
use tokio::sync::{broadcast, watch};

use super::{
    LineState,
    path::{PathTo, Welcomed},
};
use crate::{
    access::{AccessEvent, Reached},
    driver::plain,
    lasting::pump::Route,
    meeting::{
        Grounds,
        line::{Connected, Found, LineId},
    },
    peers::acquaint::NoAnswer,
    share::{Closed, Path},
    state::{
        chooser::{Candidate, Chooser, Reason},
        faith::Faith,
        link::Refusal,
        reach::{Command, Reach},
    },
    status::PeerStatus,
};

/// Why a path is none any more.
const BROKE: &str = "the connection to the other node broke";
const ENDED: &str = "the other node's certificate has ended";

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: TunnelName,
    /// One for each line.
    searches: Vec<Search>,
    faith: Faith,
    chooser: Chooser,
    /// The relayed path on which a direct one is being looked for.
    sought: Option<ConnectionId>,
    pub(super) paths: BTreeMap<ConnectionId, PathTo>,
    events: broadcast::Sender<AccessEvent>,
    routes: watch::Sender<Option<Arc<Route>>>,
    is_over: bool,
}

#[derive(Debug)]
struct Search {
    reach: Reach,
    /// Why there is no way through this line's relay, by the last word of it.
    nowhere: Option<Refusal>,
}

impl Search {
    /// What its relay has said last, if that counts: a name that was there may come back, whichever relay knows it not.
    fn word(&self, has_reached: bool) -> Option<&Refusal> {
        self.nowhere.as_ref().filter(|refusal| !(has_reached && refusal.code == Code::NotFound))
    }
}

impl Entry {
    pub(super) fn new(
        name: TunnelName,
        lines: &[LineState],
        events: broadcast::Sender<AccessEvent>,
        routes: watch::Sender<Option<Arc<Route>>>,
        now: Instant,
    ) -> Self {
        let search = |line: &LineState| Search { reach: Reach::new(line.is_online(), now), nowhere: None };
        Self {
            name,
            searches: lines.iter().map(search).collect(),
            faith: Faith::default(),
            chooser: Chooser::default(),
            sought: None,
            paths: BTreeMap::new(),
            events,
            routes,
            is_over: false,
        }
    }

    /// A session with a relay stands. What led through an earlier one is over, which its other end need not have said;
    /// these connections are to be closed.
    pub(super) fn on_online(&mut self, line: LineId, now: Instant, jitter: u32) -> Vec<ConnectionId> {
        if let Some(search) = self.searches.get_mut(line) {
            search.reach.on_online(now);
        }
        self.part_with(|path| path.line == line && path.path == Path::Relayed, BROKE, now, jitter)
    }

    pub(super) fn on_offline(&mut self, line: LineId, now: Instant) {
        if let Some(search) = self.searches.get_mut(line) {
            search.reach.on_offline(now);
        }
    }

    /// No line has a session with a relay.
    pub(super) fn on_all_offline(&self, attempt: u32, reason: &str) {
        if !self.is_reached() && attempt > 1 {
            self.tell(AccessEvent::Reconnecting { attempt, reason: reason.to_owned() });
        }
    }

    pub(super) fn on_found(&mut self, line: LineId, found: Found, now: Instant, jitter: u32) {
        let Some(search) = self.searches.get_mut(line) else { return };
        match found {
            Found::Here(peers) => {
                search.nowhere = None;
                search.reach.on_found(self.faith.choose(peers, now), now, jitter);
            }
            Found::Nowhere(refusal) => {
                search.reach.on_not_found(refusal, self.faith.has_reached(), now, jitter);
            }
        }
    }

    pub(super) fn on_dialling(&mut self, line: LineId, connection: ConnectionId) {
        if let Some(search) = self.searches.get_mut(line) {
            search.reach.on_dialling(connection);
        }
    }

    /// A dial came to nothing, or could not even begin.
    pub(super) fn on_dial_failed(
        &mut self,
        (line, dial): (LineId, Option<ConnectionId>),
        reason: &str,
        now: Instant,
        jitter: u32,
    ) {
        if let Some(search) = self.searches.get_mut(line) {
            search.reach.on_dial_failed(dial, reason, now, jitter);
        }
    }

    /// A dial of ours has led to a connection.
    pub(super) fn on_connected(&mut self, line: LineId, connected: &Connected, now: Instant) {
        self.paths.insert(connected.connection, PathTo::new(line, connected));
        if let Some(search) = self.searches.get_mut(line) {
            search.reach.on_connected(connected.connection, now);
        }
    }

    /// A direct connection stands; whether it is one with the node that is reached, which is then to be greeted.
    pub(super) fn on_direct(&mut self, line: LineId, connected: &Connected) -> bool {
        let is_it = self.peer() == Some(connected.peer);
        if is_it {
            self.paths.insert(connected.connection, PathTo::new(line, connected));
        }
        is_it
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId, now: Instant, jitter: u32) {
        self.on_lost(connection, BROKE, now, jitter);
    }

    fn on_lost(&mut self, connection: ConnectionId, why: &str, now: Instant, jitter: u32) {
        let Some(path) = self.paths.remove(&connection) else { return };
        self.choose_else(why, now);
        if let Some(search) = self.searches.get_mut(path.line) {
            search.reach.on_closed(connection, now, jitter);
        }
    }

    /// The other end has answered our greeting, or has not; whether it is the one that was looked for.
    pub(super) fn on_greeted(
        &mut self,
        connection: ConnectionId,
        answer: Result<Answer, NoAnswer>,
        grounds: &Grounds<'_>,
        (now, jitter): (Instant, u32),
    ) -> bool {
        let Some(path) = self.paths.get_mut(&connection) else { return false };
        let Some(search) = self.searches.get_mut(path.line) else { return false };
        let trouble = match answer {
            Ok(Answer::Welcome { version, certificate, tunnel, carries }) => {
                match path.judge(version, (&self.name, tunnel, carries), certificate, grounds) {
                    Ok(Welcomed { key, .. }) if !self.faith.on_reached(key) => {
                        "another node that serves the name is reached".to_owned()
                    }
                    Ok(welcomed) => {
                        path.welcomed = Some(welcomed);
                        search.reach.on_welcomed(connection);
                        self.choose(now);
                        return true;
                    }
                    Err(false_host) => {
                        tracing::warn!(name = %self.name, %false_host, "a relay led to another node");
                        false_host.to_string()
                    }
                }
            }
            Ok(Answer::Refused { code, message, help }) => {
                let refusal = Refusal { code, message: plain(&message), help: plain(&help) };
                search.reach.on_refused(connection, refusal, now, jitter);
                return false;
            }
            Err(none) => none.to_string(),
        };
        search.reach.on_false_host(connection, &trouble, now, jitter);
        false
    }

    /// Forgets a direct path whose other end has not shown that it is the one, so that another is looked for.
    pub(super) fn drop_unwelcomed(&mut self, connection: ConnectionId) -> bool {
        let is_vain = |path: &PathTo| path.path == Path::Direct && path.welcomed.is_none();
        self.paths.get(&connection).is_some_and(is_vain) && self.paths.remove(&connection).is_some()
    }

    /// Why a path still leads through a relay.
    pub(super) fn on_why(&mut self, connection: ConnectionId, why: &'static str) {
        let Some(path) = self.paths.get_mut(&connection) else { return };
        path.why = why;
        if self.taken() == Some(connection) {
            self.tell_path();
        }
    }

    /// A relayed path on which a direct one is to be looked for from now on: one of them, for as long as it stands.
    pub(super) fn seek(&mut self) -> Option<(LineId, Opener)> {
        if self.is_over || self.sought.is_some_and(|sought| self.paths.contains_key(&sought)) {
            return None;
        }
        let is_fit = |path: &PathTo| path.path == Path::Relayed && path.welcomed.is_some();
        let (connection, path) = self.paths.iter().find(|(_, path)| is_fit(path))?;
        self.sought = Some(*connection);
        Some((path.line, path.opener.clone()))
    }

    /// The round trip over a path is known.
    pub(super) fn on_alive(&mut self, connection: ConnectionId, trip: Duration, now: Instant) {
        let Some(path) = self.paths.get_mut(&connection) else { return };
        let is_first = path.on_alive(trip);
        let was_taken = self.taken() == Some(connection);
        self.choose(now);
        if is_first && was_taken && self.taken() == Some(connection) {
            self.tell_path();
        }
    }

    /// A ping was not answered in time; whether that has gone on for too long.
    pub(super) fn is_silent(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let Some(path) = self.paths.get_mut(&connection) else { return false };
        let is_dead = path.is_silent();
        self.choose(now);
        is_dead
    }

    /// When [`Self::tick`] is to be called.
    pub(super) fn next_timeout(&self, now: Instant, unix: u64) -> Option<Instant> {
        let searches = self.searches.iter().filter_map(|search| search.reach.next_timeout());
        let lefts = self.paths.values().filter_map(|path| path.left(unix));
        // Looked at again every half minute, as the wall's clock may jump.
        searches.chain(lefts.map(|left| now + Duration::from_secs(left.min(30)))).min()
    }

    /// The time has come; these connections are to be closed, and are no paths any more.
    pub(super) fn tick(&mut self, now: Instant, unix: u64, jitter: u32) -> Vec<ConnectionId> {
        for search in &mut self.searches {
            search.reach.tick(now, jitter);
        }
        self.part_with(|path| path.left(unix) == Some(0), ENDED, now, jitter)
    }

    /// The trust has changed; connections are to be closed whose other ends' certificates hold no longer.
    pub(super) fn judge_again(
        &mut self,
        trust: &Trust,
        unix: u64,
        (now, jitter): (Instant, u32),
    ) -> Vec<ConnectionId> {
        self.part_with(|path| path.is_distrusted(trust, unix), ENDED, now, jitter)
    }

    /// A relay says that this certificate counts no longer; connections are to be closed whose other ends have shown it.
    pub(super) fn on_revoked(
        &mut self,
        serial: Serial,
        refusal: &Refusal,
        (now, jitter): (Instant, u32),
    ) -> Vec<ConnectionId> {
        let why = format!("the other node's key counts no longer: {}", refusal.message);
        self.part_with(|path| path.serial() == Some(serial), &why, now, jitter)
    }

    /// The certificates that the other ends of its paths have shown.
    pub(super) fn certificates(&self) -> impl Iterator<Item = (Serial, (PeerId, &[u8]))> {
        let shown = self.paths.values().filter_map(|path| Some((path.peer, path.welcomed.as_ref()?)));
        shown.map(|(peer, welcomed)| (welcomed.serial, (peer, &*welcomed.certificate)))
    }

    fn part_with(
        &mut self,
        is_over: impl Fn(&PathTo) -> bool,
        why: &str,
        now: Instant,
        jitter: u32,
    ) -> Vec<ConnectionId> {
        let over = self.paths.iter().filter(|(_, path)| is_over(path));
        let over: Vec<ConnectionId> = over.map(|(connection, _)| *connection).collect();
        for connection in &over {
            self.on_lost(*connection, why, now, jitter);
        }
        over
    }

    /// What the search through a line wants, until there is nothing.
    pub(super) fn next_command(&mut self) -> Option<(LineId, Command)> {
        if self.is_over {
            return None;
        }
        let mut searches = self.searches.iter_mut().enumerate();
        searches.find_map(|(line, search)| Some((line, search.reach.next_command()?)))
    }

    /// A search has failed once more.
    pub(super) fn on_away(&self, attempt: u32, reason: String) {
        // While there is another way, that is nobody's concern.
        if !self.is_reached() {
            self.tell(AccessEvent::Reconnecting { attempt, reason });
        }
    }

    /// There is no way through a line's relay.
    pub(super) fn on_nowhere(&mut self, line: LineId, refusal: Refusal) {
        if let Some(search) = self.searches.get_mut(line) {
            search.nowhere = Some(refusal);
        }
    }

    /// When it is given up, if nothing changes, and why: every relay that can be asked has said that there is no way, and
    /// those that are away had time to come back.
    pub(super) fn gives_up(&self, lines: &[LineState], now: Instant) -> Option<(Instant, Refusal)> {
        if self.is_over || self.is_reached() {
            return None;
        }
        let has_reached = self.faith.has_reached();
        let words = || self.searches.iter().filter_map(|search| search.word(has_reached));
        // That there is no such name says less than that it may not be reached.
        let telling = words().find(|refusal| refusal.code != Code::NotFound).or_else(|| words().next())?;
        let mut open =
            self.searches.iter().zip(lines).filter(|(search, _)| search.word(has_reached).is_none());
        let at = open.try_fold(now, |at, (_, line)| Some(at.max(line.is_gone_at()?)))?;
        Some((at, telling.clone()))
    }

    /// Gives up when that is due.
    pub(super) fn conclude(&mut self, lines: &[LineState], now: Instant) {
        if let Some((_, refusal)) = self.gives_up(lines, now).filter(|(at, _)| *at <= now) {
            self.close(refusal);
        }
    }

    pub(super) fn close(&mut self, refusal: Refusal) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.tell(AccessEvent::Closed(Closed::from(refusal)));
            // Streams that wait for a way wait no longer.
            (self.routes, _) = watch::channel(None);
        }
    }

    /// The node that is reached, by the path that is taken.
    pub(super) fn status(&self) -> Option<PeerStatus> {
        let path = self.paths.get(&self.taken()?)?;
        let reason = self.reason();
        let paths = self.candidates().len();
        Some(PeerStatus { id: path.peer.to_string(), path: path.path, rtt: path.rtt, reason, paths })
    }

    fn is_reached(&self) -> bool {
        self.taken().is_some()
    }

    fn taken(&self) -> Option<ConnectionId> {
        self.routes.borrow().as_ref().map(|route| route.connection)
    }

    fn peer(&self) -> Option<PeerId> {
        self.routes.borrow().as_ref().map(|route| route.peer)
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.paths.iter().filter_map(|(connection, path)| path.candidate(*connection)).collect()
    }

    /// Takes the best path.
    fn choose(&mut self, now: Instant) {
        self.choose_else(BROKE, now);
    }

    /// The same; if there is none any more, for this reason.
    fn choose_else(&mut self, why: &str, now: Instant) {
        let before = self.taken();
        let taken = self.chooser.choose(&self.candidates(), now);
        if self.is_over || before == taken {
            return;
        }
        let Some((connection, path)) = taken.and_then(|taken| self.paths.get_key_value(&taken)) else {
            self.faith.on_lost(now);
            self.routes.send_replace(None);
            return self.tell(AccessEvent::Reconnecting { attempt: 0, reason: why.to_owned() });
        };
        let route = Route { peer: path.peer, connection: *connection, opener: path.opener.clone() };
        self.routes.send_replace(Some(Arc::new(route)));
        if before.is_none()
            && let Some(welcomed) = &path.welcomed
        {
            self.tell(AccessEvent::Ready(Reached {
                tunnel_id: welcomed.tunnel,
                name: self.name.clone(),
                carries: welcomed.carries,
                peer: path.peer.to_string(),
                path: path.path,
            }));
        }
        self.tell_path();
    }

    /// Tells which path is taken, once its round trip is known.
    fn tell_path(&self) {
        let path = self.taken().and_then(|taken| self.paths.get(&taken));
        if let Some(PathTo { path, rtt: Some(rtt), .. }) = path {
            self.tell(AccessEvent::Path { path: *path, rtt: *rtt, reason: self.reason() });
        }
    }

    fn reason(&self) -> String {
        let why = self.taken().and_then(|taken| self.paths.get(&taken)).map_or("", |path| path.why);
        let words = match self.chooser.reason(&self.candidates()) {
            Reason::Only | Reason::Direct => why,
            Reason::Shorter => "relayed, by the relay that was nearer",
            Reason::Answers => "relayed, the other path does not answer",
        };
        words.to_owned()
    }

    fn tell(&self, event: AccessEvent) {
        // The owner may have left; he will be noticed by the dropped handle.
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests;
