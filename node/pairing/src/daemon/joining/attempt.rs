//! One attempt to join a session, or to come back to it: finds the host, proves, and hears the first word.

use std::{net::SocketAddr, time::Duration};

use libp2p::{Multiaddr, PeerId};
use mytunnel_carrier::{address, stream::Opener};
use mytunnel_keys::{error::Code, secret::Seed};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    super::{discovery, links, net::PROTOCOL, queue::queue, wire},
    Begun, Joined, Reply, Wishes,
};
use crate::{
    api::Trouble,
    content::SessionId,
    frame::Channel,
    handshake::{Ends, Signer},
    message::ToGuest,
};

/// Time in which a host has to be reached.
const REACH: Duration = Duration::from_millis(4_500);
/// Everything that an attempt needs.
pub(super) struct Attempt {
    pub(super) way: Reach,
    pub(super) approach: wire::Approach,
    pub(super) own: PeerId,
    pub(super) name: String,
    pub(super) agent: String,
    pub(super) seed: Seed,
    pub(super) events: mpsc::Sender<links::Event>,
    pub(super) begun: Instant,
}

/// Where the host is looked for.
pub(super) enum Reach {
    /// It is known, and is being dialled.
    Peer(oneshot::Receiver<Option<Opener>>),
    /// Whoever is at one of these addresses; none: whoever says on the network that it has that number.
    At(u16, Vec<SocketAddr>),
}

/// A stream to the host, proved, with the host's first word.
struct Reached {
    wire: wire::Wire,
    channel: Channel,
    host: PeerId,
    /// Where, if it was not known before.
    at: Option<SocketAddr>,
    handshake: [u8; 32],
    first: ToGuest,
}

impl Attempt {
    pub(super) async fn join(self, addresses: Vec<Multiaddr>, wishes: Wishes, client: Reply) {
        let events = self.events.clone();
        let (begun_at, seed) = (self.begun, self.seed.clone());
        let reached = match self.reach().await {
            Ok(reached) => reached,
            Err(code) => {
                let trouble = Trouble::new(code, words(code, &addresses));
                // Without an owner there is no client either.
                let _ = events.send(links::Event::Joined(Joined::NotNew { trouble, client })).await;
                return;
            }
        };
        let Reached { wire, channel, host, at, handshake, first } = reached;
        // There it is found again.
        let found = at.map(address::listen_on).into_iter().flatten();
        let addresses: Vec<Multiaddr> = found.chain(addresses).collect();
        let ToGuest::Welcome(welcome) = first else {
            let code = refusal(&first);
            let trouble = Trouble::new(code, words(code, &addresses));
            let _ = events.send(links::Event::Joined(Joined::NotNew { trouble, client })).await;
            return;
        };
        let (outgoing, queued) = queue();
        let (reply, link) = oneshot::channel();
        let begun = Box::new(Begun { host, handshake, seed, wishes, addresses, outgoing, client });
        let joined = Joined::New { welcome, begun, reply };
        if events.send(links::Event::Joined(joined)).await.is_ok()
            && let Ok(Some(link)) = link.await
        {
            links::run(link, wire, channel, queued, &events, begun_at).await;
        }
    }

    pub(super) async fn come_back(self, session: SessionId) {
        let events = self.events.clone();
        let begun_at = self.begun;
        let not_back = |code| links::Event::Joined(Joined::NotBack { session, code });
        let reached = match self.reach().await {
            Ok(reached) => reached,
            // Without an owner there is nobody to come back.
            Err(code) => return drop(events.send(not_back(code)).await),
        };
        let Reached { wire, channel, first, .. } = reached;
        if !matches!(first, ToGuest::Resumed { .. }) {
            let code = refusal(&first);
            return drop(events.send(not_back(code)).await);
        }
        let (outgoing, queued) = queue();
        let (reply, link) = oneshot::channel();
        let back = Joined::Back { session, first, outgoing, reply };
        if events.send(links::Event::Joined(back)).await.is_ok()
            && let Ok(Some(link)) = link.await
        {
            links::run(link, wire, channel, queued, &events, begun_at).await;
        }
    }

    /// Finds the host, proves, and hears the first word.
    async fn reach(self) -> Result<Reached, Code> {
        let Self { way, approach, own, name, agent, seed, events, begun } = self;
        let signer = Signer { name: &name, agent: &agent, seed: &seed };
        match way {
            Reach::Peer(opener) => {
                let opener = timeout(REACH, opener).await.ok().and_then(Result::ok).flatten();
                meet(opener, &approach, own, &signer, begun).await
            }
            Reach::At(number, given) => {
                let hosts = if given.is_empty() { discovery::find(number).await } else { given };
                let mut outcome = Err(Code::PairNoHost);
                for at in hosts.into_iter().take(discovery::RESPONDERS) {
                    let (found, opener) = oneshot::channel();
                    events.send(links::Event::Dial { at, found }).await.map_err(|_| Code::PairClosed)?;
                    let opener = timeout(REACH, opener).await.ok().and_then(Result::ok).flatten();
                    outcome = meet(opener, &approach, own, &signer, begun).await;
                    if let Ok(reached) = &mut outcome {
                        reached.at = Some(at);
                        break;
                    }
                }
                outcome
            }
        }
    }
}

/// Proves to who was found, within a bound.
async fn meet(
    opener: Option<Opener>,
    approach: &wire::Approach,
    own: PeerId,
    signer: &Signer<'_>,
    begun: Instant,
) -> Result<Reached, Code> {
    let opener = opener.ok_or(Code::PairUnreachable)?;
    let host = opener.peer();
    let met = async {
        let stream = opener.open(PROTOCOL).await.map_err(|_| Code::PairUnreachable)?;
        let mut wire = wire::wire(stream);
        let ends = Ends { host, guest: own };
        let established = wire::prove(&mut wire, approach, &ends, signer).await;
        let established = established.map_err(|error| refused(&error, approach))?;
        let handshake = established.hash;
        let mut channel = Channel::new(established, begun.elapsed());
        let first = wire::first_message(&mut wire, &mut channel).await;
        let first = first.map_err(|error| refused(&error, approach))?;
        let first = ToGuest::parse(&first).ok_or(Code::PairVersion)?;
        Ok(Reached { wire, channel, host, at: None, handshake, first })
    };
    timeout(REACH, met).await.unwrap_or(Err(Code::PairUnreachable))
}

/// Why a host lets nobody in, as it says: one of pairing's reasons, since others have remedies that are not its to give.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other message is none for who comes in")]
fn refusal(first: &ToGuest) -> Code {
    match first {
        ToGuest::No { code } if code.name().starts_with("PAIR_") => *code,
        ToGuest::No { .. } => Code::PairRefused,
        _ => Code::PairVersion,
    }
}

fn refused(error: &wire::WireError, approach: &wire::Approach) -> Code {
    tracing::debug!(%error, "not let in");
    match approach {
        wire::Approach::Psk(..) => Code::PairRefused,
        wire::Approach::Spoken(_) => Code::PairSecret,
    }
}

/// What is told of a failure.
#[expect(clippy::wildcard_enum_match_arm, reason = "a host says no for few reasons")]
fn words(code: Code, addresses: &[Multiaddr]) -> String {
    match code {
        Code::PairUnreachable if !addresses.is_empty() => {
            let tried: Vec<String> = addresses.iter().map(Multiaddr::to_string).collect();
            format!("the host does not answer; tried {}", tried.join(", "))
        }
        Code::PairNoHost => "nobody on this network answers to that code; try --addr".to_owned(),
        Code::PairSecret => "the code did not match; three wrong ones spoil it".to_owned(),
        Code::PairUnreachable => "the host does not answer".to_owned(),
        Code::PairUsed => "this invite was already used, or this machine is in that session already; ask the host for a new one".to_owned(),
        Code::PairExpired => "this invite has expired; ask the host for a new one".to_owned(),
        Code::PairBurned => "this invite was taken back or spoilt; ask the host for a new one".to_owned(),
        Code::PairLocked => "the session is locked".to_owned(),
        Code::PairClosed => "the session is over".to_owned(),
        Code::PairFull => "the session is full; the invite is still good".to_owned(),
        Code::PairVersion => "the host speaks another version of pairing".to_owned(),
        _ => "the host lets nobody in with this".to_owned(),
    }
}
