//! Dials relays: host names to addresses, addresses to the swarm, and which dial a connection came from.

use std::{collections::HashMap, io};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    swarm::{ConnectionId, DialError, NetworkBehaviour, dial_opts::DialOpts, dial_opts::PeerCondition},
};
use mytunnel_carrier::address;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};

use crate::{carrier::Carrier, relays::RelayAddress};

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Dialing {
    relays: Vec<RelayAddress>,
    lookups: JoinSet<Lookup>,
    under_way: HashMap<ConnectionId, (usize, Carrier)>,
    reached: mpsc::Receiver<PeerId>,
}

/// How far dials are.
#[derive(Debug)]
pub(super) enum Progress {
    /// To be dialled now.
    LookedUp(Lookup),
    /// The machine of this relay, by its number, has answered a dial over TCP.
    Reached(usize),
}

/// Host names that were looked up.
#[derive(Debug)]
pub(super) struct Lookup {
    relay: usize,
    peer: PeerId,
    carrier: Carrier,
    found: io::Result<Vec<Multiaddr>>,
}

/// A dial that came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) relay: usize,
    pub(super) carrier: Carrier,
    /// `None` when there was nothing to dial.
    pub(super) reason: Option<String>,
}

impl Dialing {
    /// Dials `relays`; the transport tells in `reached` which peers' machines answer.
    pub(super) fn new(relays: Vec<RelayAddress>, reached: mpsc::Receiver<PeerId>) -> Self {
        Self { relays, lookups: JoinSet::new(), under_way: HashMap::new(), reached }
    }

    /// Begins to dial relay number `relay`.
    pub(super) fn begin(&mut self, relay: usize, carrier: Carrier) {
        let Some(address) = self.relays.get(relay) else { return };
        let (peer, addresses) = (address.peer(), address.over(carrier));
        self.lookups.spawn(async move {
            let found = match carrier {
                Carrier::Quic | Carrier::Tcp => look_up(addresses).await,
                // A proxy looks names up by itself, and there may be no other way to.
                Carrier::WebSocket => Ok(addresses),
            };
            Lookup { relay, peer, carrier, found }
        });
    }

    /// Where a relay is reached over a carrier.
    pub(super) fn addresses(&self, peer: PeerId, carrier: Carrier) -> Vec<Multiaddr> {
        let relays = self.relays.iter().filter(|relay| relay.peer() == peer);
        relays.flat_map(|relay| relay.over(carrier)).collect()
    }

    /// What happens next. Pending for ever while nothing is dialled. Safe to cancel.
    pub(super) async fn progress(&mut self) -> Result<Progress, JoinError> {
        loop {
            tokio::select! {
                Some(done) = self.lookups.join_next() => return done.map(Progress::LookedUp),
                Some(peer) = self.reached.recv() => {
                    let relay = self.relays.iter().position(|relay| relay.peer() == peer);
                    if let Some(relay) = relay {
                        return Ok(Progress::Reached(relay));
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Dials what was looked up.
    pub(super) fn dial<B>(&mut self, swarm: &mut Swarm<B>, lookup: Lookup) -> Result<(), Failed>
    where
        B: NetworkBehaviour,
    {
        let Lookup { relay, peer, carrier, found } = lookup;
        let failed = |reason: String| Failed { relay, carrier, reason: Some(reason) };
        let addresses =
            found.map_err(|error| failed(format!("the relay's name cannot be resolved: {error}")))?;
        if addresses.is_empty() {
            return Err(Failed { relay, carrier, reason: None });
        }
        let options = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always);
        let options = match carrier {
            Carrier::Quic | Carrier::WebSocket => options,
            // Should the port at which we listen for peers lead there already, the relay would not take another from it.
            Carrier::Tcp => options.allocate_new_port(),
        };
        let options = options.build();
        let connection = options.connection_id();
        swarm.dial(options).map_err(|error| failed(reason(&error)))?;
        self.under_way.insert(connection, (relay, carrier));
        Ok(())
    }

    /// A connection stands: which relay was dialled and over what, if it was us who dialled.
    pub(super) fn succeeded(&mut self, connection: ConnectionId) -> Option<(usize, Carrier)> {
        self.under_way.remove(&connection)
    }

    /// A dial failed.
    pub(super) fn failed(&mut self, connection: ConnectionId, error: &DialError) -> Option<Failed> {
        let (relay, carrier) = self.under_way.remove(&connection)?;
        Some(Failed { relay, carrier, reason: Some(reason(error)) })
    }
}

pub(super) async fn look_up(addresses: Vec<Multiaddr>) -> io::Result<Vec<Multiaddr>> {
    let mut found = Vec::new();
    let mut trouble = None;
    for address in &addresses {
        match address::resolve(address).await {
            Ok(resolved) => found.extend(resolved),
            Err(error) => trouble = Some(error),
        }
    }
    // One name that resolves is enough.
    match trouble {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// In words for a person: what libp2p says spans many lines, one for each address.
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest cannot come from a dial of ours")]
fn reason(error: &DialError) -> String {
    match error {
        DialError::Transport(failures) => match failures.first() {
            Some((_, failure)) => format!("the relay cannot be reached: {}", innermost(failure)),
            None => "the relay cannot be reached".to_owned(),
        },
        DialError::WrongPeerId { .. } => "another peer answers at the relay's address".to_owned(),
        _ => "the relay cannot be reached".to_owned(),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    super::welcome::plain(&inner.to_string())
}
