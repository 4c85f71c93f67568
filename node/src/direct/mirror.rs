//! Where this node is seen: what it knows, and what it has to ask the relay for.
//!
//! A relay is asked on connections of their own, from the sockets that are dialled from and listened on: what it sees there
//! is what the other node has to dial. What it said is true for as long as that connection stands, which keeps a router's memory of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;
use mytunnel_keys::wire::direct::Over;

/// How much later than TCP an answer by QUIC may come and be waited for.
const LATE: Duration = Duration::from_millis(250);

/// How long a carrier by which the relay was not reached is not tried again.
const REST: Duration = Duration::from_secs(10);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    quic: View,
    tcp: View,
    /// When QUIC is late, which takes fewer round trips than TCP: most likely nothing comes through.
    late_at: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum View {
    #[default]
    Unknown,
    /// The relay is to be dialled.
    Wanted,
    Dialling(ConnectionId),
    Asked(ConnectionId),
    Seen(ConnectionId, SocketAddr),
    Failed {
        until: Instant,
    },
}

impl View {
    fn is_open(self) -> bool {
        matches!(self, Self::Wanted | Self::Dialling(_) | Self::Asked(_))
    }

    fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Dialling(connection) | Self::Asked(connection) | Self::Seen(connection, _) => {
                Some(connection)
            }
            Self::Unknown | Self::Wanted | Self::Failed { .. } => None,
        }
    }
}

impl Mirror {
    /// Over what the relay is to be asked anew.
    pub(crate) fn gather(&mut self, now: Instant) -> Vec<Over> {
        let mut wanted = Vec::new();
        for over in [Over::Quic, Over::Tcp] {
            let view = self.view(over);
            let is_unknown = match view {
                View::Unknown => true,
                View::Failed { until } => *until <= now,
                View::Wanted | View::Dialling(_) | View::Asked(_) | View::Seen(..) => false,
            };
            if is_unknown {
                *view = View::Wanted;
                wanted.push(over);
            }
        }
        if !wanted.is_empty() {
            // Over TCP it may be known already.
            self.late_at = matches!(self.tcp, View::Seen(..)).then_some(now + LATE);
        }
        wanted
    }

    /// Whether an answer is still to come that is worth waiting for.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        let is_late = self.late_at.is_some_and(|at| at <= now);
        self.tcp.is_open() || (self.quic.is_open() && !is_late)
    }

    /// When [`Self::is_busy`] may change by itself.
    pub(crate) fn settles(&self) -> Option<Instant> {
        self.late_at.filter(|_| self.quic.is_open())
    }

    /// Where we are seen.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (Over, SocketAddr)> {
        [(Over::Quic, self.quic), (Over::Tcp, self.tcp)].into_iter().filter_map(|(over, view)| match view {
            View::Seen(_, address) => Some((over, address)),
            View::Unknown | View::Wanted | View::Dialling(_) | View::Asked(_) | View::Failed { .. } => None,
        })
    }

    /// The relay is being dialled; without a connection it cannot be.
    pub(crate) fn on_dialling(&mut self, over: Over, connection: Option<ConnectionId>, now: Instant) {
        let view = self.view(over);
        if *view == View::Wanted {
            *view = connection.map_or(View::Failed { until: now + REST }, View::Dialling);
        }
    }

    /// Whether a connection is one on which the relay is to be asked now.
    pub(crate) fn on_connected(&mut self, connection: ConnectionId) -> bool {
        match self.of(connection) {
            Some(view @ View::Dialling(_)) => {
                *view = View::Asked(connection);
                true
            }
            _ => false,
        }
    }

    /// What the relay says, if it says anything.
    pub(crate) fn on_answer(&mut self, connection: ConnectionId, seen: Option<SocketAddr>, now: Instant) {
        if let Some(view @ View::Asked(_)) = self.of(connection) {
            *view = match seen {
                Some(address) => View::Seen(connection, address),
                None => View::Failed { until: now + REST },
            };
            if self.tcp.connection() == Some(connection) {
                self.late_at = Some(now + LATE);
            }
        }
    }

    /// A connection is gone, or was never made. Whether it was one of these.
    pub(crate) fn on_ended(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let Some(view) = self.of(connection) else { return false };
        *view = match view {
            View::Seen(..) => View::Unknown,
            View::Unknown | View::Wanted | View::Dialling(_) | View::Asked(_) | View::Failed { .. } => {
                View::Failed { until: now + REST }
            }
        };
        true
    }

    /// The network has changed: nothing of it holds. What is to be closed.
    pub(crate) fn forget(&mut self) -> Vec<ConnectionId> {
        let views = [self.quic, self.tcp];
        *self = Self::default();
        views.into_iter().filter_map(View::connection).collect()
    }

    fn view(&mut self, over: Over) -> &mut View {
        match over {
            Over::Quic => &mut self.quic,
            Over::Tcp => &mut self.tcp,
        }
    }

    fn of(&mut self, connection: ConnectionId) -> Option<&mut View> {
        [&mut self.quic, &mut self.tcp].into_iter().find(|view| view.connection() == Some(connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn seen() -> SocketAddr {
        "192.0.2.1:5000".parse().unwrap()
    }

    #[test]
    fn what_the_relay_says_holds_while_its_connection_stands() {
        let (mut mirror, now) = (Mirror::default(), Instant::now());
        assert_eq!(mirror.gather(now), [Over::Quic, Over::Tcp]);
        assert_eq!(mirror.gather(now), [], "it is under way");
        mirror.on_dialling(Over::Quic, Some(connection(1)), now);
        mirror.on_dialling(Over::Tcp, None, now);
        assert!(
            mirror.is_busy(now) && mirror.on_connected(connection(1)) && !mirror.on_connected(connection(2))
        );
        mirror.on_answer(connection(1), Some(seen()), now);
        assert!(!mirror.is_busy(now));
        assert_eq!(mirror.seen().collect::<Vec<_>>(), [(Over::Quic, seen())]);
        assert_eq!(mirror.gather(now), [], "the one stands, the other has just failed");
        assert_eq!(mirror.gather(now + REST), [Over::Tcp]);
        assert!(mirror.on_ended(connection(1), now) && !mirror.on_ended(connection(1), now));
        assert_eq!(mirror.seen().count(), 0);
        assert_eq!(mirror.gather(now), [Over::Quic]);
    }

    #[test]
    fn a_relay_that_says_nothing_is_let_be_for_a_while() {
        let (mut mirror, now) = (Mirror::default(), Instant::now());
        mirror.gather(now);
        mirror.on_dialling(Over::Quic, Some(connection(1)), now);
        mirror.on_dialling(Over::Tcp, Some(connection(2)), now);
        mirror.on_connected(connection(1));
        mirror.on_answer(connection(1), None, now);
        mirror.on_ended(connection(2), now);
        assert!(!mirror.is_busy(now));
        assert_eq!((mirror.gather(now), mirror.gather(now + REST).len()), (Vec::new(), 2));
    }

    #[test]
    fn where_udp_is_blocked_nobody_waits_for_it() {
        let (mut mirror, now) = (Mirror::default(), Instant::now());
        mirror.gather(now);
        mirror.on_dialling(Over::Quic, Some(connection(1)), now);
        mirror.on_dialling(Over::Tcp, Some(connection(2)), now);
        mirror.on_connected(connection(2));
        assert_eq!(mirror.settles(), None);
        mirror.on_answer(connection(2), Some(seen()), now);
        assert!(mirror.is_busy(now) && !mirror.is_busy(now + LATE));
        assert_eq!(mirror.settles(), Some(now + LATE));
        mirror.on_ended(connection(1), now + LATE);
        assert_eq!(mirror.settles(), None);
    }

    #[test]
    fn another_network_is_looked_at_anew() {
        let (mut mirror, now) = (Mirror::default(), Instant::now());
        mirror.gather(now);
        mirror.on_dialling(Over::Tcp, Some(connection(7)), now);
        assert_eq!(mirror.forget(), [connection(7)]);
        assert_eq!(mirror.gather(now).len(), 2);
        assert!(!mirror.on_connected(connection(7)));
    }
}
