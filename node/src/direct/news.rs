//! Why peers are reached through the relay, and not past it.

use libp2p::swarm::ConnectionId;

use super::{Finder, LOOKING, asking::Outcome, candidates, session::Session};

impl Finder {
    /// Why the peer at the other end of this connection is reached through the relay.
    pub(crate) fn why_relayed(&self, connection: ConnectionId) -> &'static str {
        if !self.is_wanted {
            return "direct paths are switched off here";
        }
        let Some(session) = self.sessions.get(&connection) else { return LOOKING };
        match session.role.outcome() {
            Outcome::None => LOOKING,
            Outcome::Silent => "the other node does not answer about direct paths",
            Outcome::Declined => "direct paths are switched off at the other end",
            Outcome::Tried => candidates::obstacle(&session.ours, &session.theirs),
        }
    }

    /// A relayed connection whose reason has changed, until there is none.
    pub(crate) fn next_news(&mut self) -> Option<(ConnectionId, &'static str)> {
        let why = |(connection, session): (&ConnectionId, &Session)| {
            let why = self.why_relayed(*connection);
            (session.told != why).then_some((*connection, why))
        };
        let (connection, why) = self.sessions.iter().find_map(why)?;
        self.sessions.get_mut(&connection)?.told = why;
        Some((connection, why))
    }
}
