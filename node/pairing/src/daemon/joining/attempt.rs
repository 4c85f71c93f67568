//! One attempt to join a session, or to come back to it: finds the host, proves, and hears the first word.

use std::{net::SocketAddr, pin::pin, time::Duration};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use mytunnel_carrier::{address, stream::Opener};
use mytunnel_keys::{error::Code, secret::Seed};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    super::{discovery, links, net::PROTOCOL, passages::Wanted, queue::queue, wire},
    Begun, Joined, Reply, Wishes,
};
use crate::{
    api::Trouble,
    content::SessionId,
    frame::Channel,
    handshake::{Ends, Signer},
    limits,
    link::Ticket,
    message::ToGuest,
    ways::{Stand, State},
};

/// Time in which a host has to be reached.
const REACH: Duration = Duration::from_millis(4_500);
/// By how much addresses of the network go before a way through a relay.
const HEAD_START: Duration = Duration::from_millis(500);
/// Time for who joins by a way: the ticket is used, both ends find the relay, and the host is dialled through it. The ticket is
/// good once, so that giving up costs more than waiting.
const DETOUR: Duration = Duration::from_secs(25);
/// The same for who comes back, whose way stands as a rule, and who tries again.
const DETOUR_BACK: Duration = Duration::from_secs(8);
/// How long it takes until a host is dialled again that was not reached through a way that stands.
const REDIAL: Duration = Duration::from_millis(500);
/// Time in which a host that was reached through a way has to let somebody in: each byte goes through the relay.
const MEET_BY_WAY: Duration = Duration::from_secs(10);
/// How long who is cut off waits until it tries again; each time is one of the few that a host grants in a minute.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// Time that is left for another try at least.
const TRY: Duration = Duration::from_millis(500);

const _: () = {
    let by_way = HEAD_START.as_millis() + REACH.as_millis() + DETOUR.as_millis() + MEET_BY_WAY.as_millis();
    // By the network, three who answer to a code are each dialled, and met.
    let by_code = discovery::PATIENCE.as_millis() + 2 * discovery::RESPONDERS as u128 * REACH.as_millis();
    assert!(by_way <= limits::JOIN.as_millis() && by_code <= limits::JOIN.as_millis());
};

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
    /// Seconds for which the invite lives from here on, by what is written in it; less than none where it has ended.
    pub(super) left: Option<i64>,
}

/// Where the host is looked for.
pub(super) enum Reach {
    /// It is known, and is being dialled; where that is in vain, there may be a way.
    Peer(oneshot::Receiver<Option<Opener>>, Option<Detour>),
    /// Whoever is at one of these addresses; none: whoever says on the network that it has that number.
    At(u16, Vec<SocketAddr>),
}

/// A way past the network, for where the host's addresses lead nowhere.
pub(super) struct Detour {
    pub(super) host: PeerId,
    pub(super) wanted: Wanted,
    pub(super) events: mpsc::Sender<links::Event>,
}

/// Why nobody was reached by a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoWay {
    code: Option<Code>,
    why: String,
    help: String,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) code: Code,
    /// Where a way was tried, too.
    no_way: Option<NoWay>,
}

impl From<Code> for Failed {
    fn from(code: Code) -> Self {
        Self { code, no_way: None }
    }
}

impl Failed {
    fn no_way(no_way: NoWay) -> Self {
        Self { code: no_way.code.unwrap_or(Code::PairUnreachable), no_way: Some(no_way) }
    }

    /// The whole of it for who wanted to join.
    fn told(&self, addresses: &[Multiaddr]) -> Trouble {
        match &self.no_way {
            None => Trouble::new(self.code, words(self.code, addresses)),
            Some(NoWay { code: Some(code), why, .. }) => {
                Trouble::new(*code, format!("{} ({why})", words(*code, addresses)))
            }
            Some(NoWay { code: None, why, help }) => {
                let tried = words(Code::PairUnreachable, addresses);
                let trouble = Trouble::new(self.code, format!("{tried}; and not through a relay: {why}"));
                if help.is_empty() { trouble } else { trouble.with_help(help.clone()) }
            }
        }
    }
}

/// A stream to the host, proved, with the host's first word.
struct Reached {
    wire: wire::Wire,
    channel: Channel,
    host: PeerId,
    /// Where, if it was not known before.
    at: Option<SocketAddr>,
    connection: ConnectionId,
    handshake: [u8; 32],
    first: ToGuest,
}

impl Attempt {
    pub(super) async fn join(self, addresses: Vec<Multiaddr>, wishes: Wishes, client: Reply) {
        let events = self.events.clone();
        let (begun_at, seed, ticket, left) = (self.begun, self.seed.clone(), self.ticket(), self.left);
        let reached = match self.reach().await {
            Ok(reached) => reached,
            Err(failed) => {
                let trouble = in_time(failed.told(&addresses), left);
                // Without an owner there is no client either.
                let _ = events.send(links::Event::Joined(Joined::NotNew { trouble, ticket, client })).await;
                return;
            }
        };
        let Reached { wire, channel, host, at, connection, handshake, first } = reached;
        // There it is found again.
        let found = at.map(address::listen_on).into_iter().flatten();
        let addresses: Vec<Multiaddr> = found.chain(addresses).collect();
        let ToGuest::Welcome(welcome) = first else {
            let code = refusal(&first);
            let trouble = in_time(Trouble::new(code, words(code, &addresses)), left);
            let _ = events.send(links::Event::Joined(Joined::NotNew { trouble, ticket, client })).await;
            return;
        };
        let (outgoing, queued) = queue();
        let (reply, link) = oneshot::channel();
        let begun = Begun { host, handshake, seed, wishes, addresses, outgoing, connection, ticket, client };
        let begun = Box::new(begun);
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
            Err(failed) => return drop(events.send(not_back(failed.code)).await),
        };
        let Reached { wire, channel, connection, first, .. } = reached;
        if !matches!(first, ToGuest::Resumed { .. }) {
            let code = refusal(&first);
            return drop(events.send(not_back(code)).await);
        }
        let (outgoing, queued) = queue();
        let (reply, link) = oneshot::channel();
        let back = Joined::Back { session, first, outgoing, connection, reply };
        if events.send(links::Event::Joined(back)).await.is_ok()
            && let Ok(Some(link)) = link.await
        {
            links::run(link, wire, channel, queued, &events, begun_at).await;
        }
    }

    /// The ticket of the link.
    fn ticket(&self) -> Option<Ticket> {
        match &self.way {
            Reach::Peer(_, Some(Detour { wanted: Wanted::Join(ticket), .. })) => Some(ticket.clone()),
            Reach::Peer(..) | Reach::At(..) => None,
        }
    }

    /// Finds the host, proves, and hears the first word.
    async fn reach(self) -> Result<Reached, Failed> {
        let Self { way, approach, own, name, agent, seed, events, begun, left: _ } = self;
        let signer = Signer { name: &name, agent: &agent, seed: &seed };
        match way {
            Reach::Peer(opener, detour) => {
                find(opener, detour, &Prover { approach: &approach, own, signer: &signer, begun }).await
            }
            Reach::At(number, given) => {
                let hosts = if given.is_empty() { discovery::find(number).await } else { given };
                let mut outcome = Code::PairNoHost;
                for at in hosts.into_iter().take(discovery::RESPONDERS) {
                    let (found, opener) = oneshot::channel();
                    events
                        .send(links::Event::Dial { at, found })
                        .await
                        .map_err(|_| Failed::from(Code::PairClosed))?;
                    let opener = timeout(REACH, opener).await.ok().and_then(Result::ok).flatten();
                    let prover = Prover { approach: &approach, own, signer: &signer, begun };
                    match prover.meet(opener, REACH).await {
                        Ok(reached) => return Ok(Reached { at: Some(at), ..reached }),
                        // A guess that may be spent is told, whatever others answer behind it.
                        Err(_) if outcome == Code::PairSecret => {}
                        Err(code) => outcome = code,
                    }
                }
                Err(outcome.into())
            }
        }
    }
}

/// By the network, and where that leads nowhere, or to somebody who does not answer, by the way.
async fn find(
    opener: oneshot::Receiver<Option<Opener>>,
    detour: Option<Detour>,
    prover: &Prover<'_>,
) -> Result<Reached, Failed> {
    let by_network = async { timeout(REACH, opener).await.ok().and_then(Result::ok).flatten() };
    let Some(detour) = detour else { return Ok(prover.meet(by_network.await, REACH).await?) };
    let mut by_network = pin!(by_network);
    let early = timeout(HEAD_START, &mut by_network).await;
    let is_pending = early.is_err();
    if let Ok(Some(opener)) = early {
        // A connection that stands may be one that leads nowhere any more.
        match prover.meet(Some(opener), REACH).await {
            Err(Code::PairUnreachable) => {}
            outcome => return Ok(outcome?),
        }
    }
    let mut no_way = None;
    let opener = {
        let by_way = async { detour.reach().await.map_err(|why| no_way = Some(why)).ok() };
        let mut by_way = pin!(by_way);
        if is_pending {
            tokio::select! {
                Some(opener) = &mut by_network => Some(opener),
                Some(opener) = &mut by_way => Some(opener),
                else => None,
            }
        } else {
            by_way.await
        }
    };
    match opener {
        Some(opener) => Ok(prover.meet(Some(opener), MEET_BY_WAY).await?),
        None => Err(no_way.map_or_else(|| Code::PairUnreachable.into(), Failed::no_way)),
    }
}

impl Detour {
    /// Has the way made, if it is not there yet, and dials the host through it.
    async fn reach(self) -> Result<Opener, NoWay> {
        let Self { host, wanted, events } = self;
        let patience = if matches!(wanted, Wanted::Join(_)) { DETOUR } else { DETOUR_BACK };
        let end = Instant::now() + patience;
        let none = |why: &str| NoWay { code: None, why: why.to_owned(), help: String::new() };
        let (reply, answer) = oneshot::channel();
        let gone = |_| none("this program is stopping");
        events.send(links::Event::Detour { wanted, reply }).await.map_err(|_| none("stopping"))?;
        let mut stand = answer.await.map_err(gone)?;
        loop {
            let Ok(at) = timeout_at(end, standing(&mut stand)).await else {
                let why = stand.borrow().why.clone();
                return Err(none(if why.is_empty() { "no answer" } else { &why }));
            };
            let (found, opener) = oneshot::channel();
            let dial = links::Event::DialThrough { at: at?, peer: host, found };
            events.send(dial).await.map_err(|_| none("stopping"))?;
            if let Ok(Ok(Some(opener))) = timeout_at(end, opener).await {
                return Ok(opener);
            }
            // The path may have changed under the dial, or either end had no time for its handshake.
            let again = Instant::now() + REDIAL;
            if again >= end {
                return Err(none("the host does not answer there"));
            }
            sleep_until(again).await;
        }
    }
}

/// Waits until a way stands, and answers where it begins.
async fn standing(stand: &mut watch::Receiver<Stand>) -> Result<SocketAddr, NoWay> {
    let decided = |stand: &Stand| stand.state != State::Opening;
    let Ok(stand) = stand.wait_for(decided).await else {
        return Err(NoWay { code: None, why: "it ended".to_owned(), help: String::new() });
    };
    match (stand.state, stand.at) {
        (State::Open, Some(at)) => Ok(at),
        (State::Open | State::Opening | State::Closed, _) => {
            Err(NoWay { code: stand.code, why: stand.why.clone(), help: stand.help.clone() })
        }
    }
}

/// Proves to who was found, within a bound.
struct Prover<'a> {
    approach: &'a wire::Approach,
    own: PeerId,
    signer: &'a Signer<'a>,
    begun: Instant,
}

impl Prover<'_> {
    /// A host with more strangers than it hears out at once cuts some of them off, who come again; with a code until its proof
    /// was shown, which is one guess for whoever is there.
    async fn meet(&self, opener: Option<Opener>, within: Duration) -> Result<Reached, Code> {
        let opener = opener.ok_or(Code::PairUnreachable)?;
        let end = Instant::now() + within;
        let mut shown = false;
        let met = async {
            let mut pauses = PAUSES.iter();
            loop {
                let missed = match self.meet_once(&opener, &mut shown).await {
                    Ok(reached) => return Ok(reached),
                    Err(missed) => missed,
                };
                let pause = pauses.next().filter(|_| missed == Missed::CutOff && !self.has_guessed(shown));
                // Who has no time for the answer shows no proof.
                let pause =
                    pause.map(|pause| jittered(*pause)).filter(|pause| Instant::now() + *pause + TRY <= end);
                let Some(pause) = pause else { return Err(missed) };
                // If it was the connection that ended, the next stream tells.
                sleep(pause).await;
            }
        };
        let met = timeout_at(end, met).await.unwrap_or(Err(Missed::Gone));
        met.map_err(|missed| match missed {
            Missed::Is(code) => code,
            Missed::CutOff | Missed::Refused | Missed::Gone if self.has_guessed(shown) => Code::PairSecret,
            Missed::CutOff => Code::PairRate,
            Missed::Refused => Code::PairRefused,
            Missed::Gone => Code::PairUnreachable,
        })
    }

    async fn meet_once(&self, opener: &Opener, shown: &mut bool) -> Result<Reached, Missed> {
        let (host, connection) = (opener.peer(), opener.connection());
        let stream = opener.open(PROTOCOL).await.map_err(|_| Missed::Gone)?;
        let mut wire = wire::wire(stream);
        let ends = Ends { host, guest: self.own };
        let established = wire::prove(&mut wire, self.approach, &ends, self.signer, shown).await;
        let established = established.map_err(|error| Missed::of(&error))?;
        let handshake = established.hash;
        let mut channel = Channel::new(established, self.begun.elapsed());
        let first = wire::first_message(&mut wire, &mut channel).await;
        let first = first.map_err(|error| Missed::of(&error))?;
        let first = ToGuest::parse(&first).ok_or(Missed::Is(Code::PairVersion))?;
        Ok(Reached { wire, channel, host, at: None, connection, handshake, first })
    }

    /// Whether a host may count a guess of the code.
    fn has_guessed(&self, shown: bool) -> bool {
        shown && matches!(self.approach, wire::Approach::Spoken(_))
    }
}

/// Up to twice as long: those who were cut off at one moment do not come again at one.
fn jittered(pause: Duration) -> Duration {
    // Without randomness nobody has got so far.
    let part = getrandom::u32().unwrap_or_default();
    pause + pause.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// Why a stream led to no first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missed {
    /// It was ended, and nothing said.
    CutOff,
    Refused,
    /// The host does not answer, or no longer.
    Gone,
    Is(Code),
}

impl Missed {
    fn of(error: &wire::WireError) -> Self {
        tracing::debug!(%error, "not let in");
        match error {
            wire::WireError::Cut => Self::CutOff,
            wire::WireError::Foreign => Self::Is(Code::PairVersion),
            wire::WireError::Refused | wire::WireError::Garbage | wire::WireError::Io(_) => Self::Refused,
        }
    }
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

/// Says of an invite that has expired since when, where that is written in it.
fn in_time(trouble: Trouble, left: Option<i64>) -> Trouble {
    match left.filter(|left| trouble.code == Code::PairExpired && *left <= 0) {
        Some(left) => trouble.with_message(format!(
            "this invite expired {} min ago; ask the host for a new one",
            left.unsigned_abs().div_ceil(60).max(1)
        )),
        None => trouble,
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
        Code::PairSecret => "the code did not match, or the host went away or fell silent while it checked it; three wrong ones spoil it".to_owned(),
        Code::PairUnreachable => "the host does not answer".to_owned(),
        Code::PairUsed => "this invite was already used, or this machine is in that session already; ask the host for a new one".to_owned(),
        Code::PairExpired => "this invite has expired; ask the host for a new one".to_owned(),
        Code::PairBurned => "this invite was taken back or spoilt; ask the host for a new one".to_owned(),
        Code::PairLocked => "the session is locked".to_owned(),
        Code::PairClosed => "the session is over".to_owned(),
        Code::PairFull => "the session is full; the invite is still good".to_owned(),
        Code::PairRate => "the host hears out nobody more at the moment: many are at its door, or this machine came too often within a minute; this try used up no invite".to_owned(),
        Code::PairVersion => "the host speaks another version of pairing".to_owned(),
        _ => "the host lets nobody in with this".to_owned(),
    }
}

#[cfg(test)]
mod tests;
