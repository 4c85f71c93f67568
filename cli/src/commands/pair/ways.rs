//! The ways of `mytunnel pair` past a network: a private share for each session that has one, served by its host's daemon, and
//! reached by a guest's with what it got for the ticket in its link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use mytunnel_carrier::websocket::Proxies;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{TunnelKind, TunnelName};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{ChildToken, Secret, Token};
use mytunnel_node::{
    AccessEvent, Closed, Config as NodeConfig, Node, Path, PeerStatus, ShareError, ShareEvent, Target,
    TunnelSpec,
};
use mytunnel_pairing::limits;
use mytunnel_pairing::ways::{Line, Pass, Stand, State, WayKey, WayPath, Ways};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::bootstrap;
use crate::commands::access::guest;
use crate::commands::share::plain_node;
use crate::context::{now, random};
use crate::failure::{Failure, chain};
use crate::identity::Holder;
use crate::inspect::told::printable;
use crate::places::ConfigDir;

/// How soon something is tried again that may work then; the last goes on.
const AGAIN: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(20),
];

/// Connections through a way at once: more than strangers and members of one session may have.
const MOST: usize = 256;

/// Characters of somebody else's words that are passed on.
const MOST_TOLD: usize = 200;

/// Makes ways through the relays of a coordinator.
#[derive(Debug, Clone)]
pub(super) struct Relays {
    pub(super) config: ConfigDir,
    pub(super) proxies: Proxies,
}

impl Ways for Relays {
    fn serve(&self, key: WayKey, target: SocketAddr, line: Line) -> BoxFuture<'static, ()> {
        let relays = self.clone();
        async move {
            let Line { direct, stand, stop } = line;
            let served = async {
                let (name, node) = relays.node(&key, direct, &stand).await?;
                Ok(Started { name, node })
            };
            let started = tokio::select! {
                () = stop.cancelled() => return,
                started = served => started,
            };
            end(started, &stop, &stand, async |started| serve(started, target, &stand).await).await;
        }
        .boxed()
    }

    fn reach(&self, pass: Pass, line: Line) -> BoxFuture<'static, ()> {
        let relays = self.clone();
        async move {
            let Line { direct, stand, stop } = line;
            let reached = async {
                let key = match pass {
                    Pass::Key(key) => key,
                    Pass::Ticket(ticket) => redeemed(&ticket, &stand).await?,
                };
                stand.send_modify(|stand| stand.key = Some(key.clone()));
                let (name, node) = relays.node(&key, direct, &stand).await?;
                Ok(Started { name, node })
            };
            let started = tokio::select! {
                () = stop.cancelled() => return,
                started = reached => started,
            };
            end(started, &stop, &stand, async |started| reach(started, &stand).await).await;
        }
        .boxed()
    }
}

struct Started {
    name: TunnelName,
    node: Node,
}

/// Why a way is over.
#[derive(Clone)]
struct NoWay {
    code: Option<Code>,
    why: String,
    help: String,
    /// It may work when it is made anew.
    passes: bool,
}

impl NoWay {
    fn of(failure: &Failure) -> Self {
        let code = failure.code();
        Self { help: code.help().to_owned(), passes: may_pass(code), ..Self::because(refused(code)) }
    }

    const fn because(why: String) -> Self {
        Self { code: None, why, help: String::new(), passes: false }
    }
}

/// Keeps a way until it is told to stop, or it is closed for good, and says so.
async fn end(
    started: Result<Started, NoWay>,
    stop: &tokio_util::sync::CancellationToken,
    stand: &watch::Sender<Stand>,
    keep: impl AsyncFnOnce(&Started) -> NoWay,
) {
    let closed = match &started {
        Err(no_way) => Some(no_way.clone()),
        Ok(started) => tokio::select! {
            () = stop.cancelled() => None,
            closed = keep(started) => Some(closed),
            stopped = note_paths(&started.node, stand) => Some(stopped),
        },
    };
    if let Some(NoWay { code, why, help, passes }) = closed {
        tracing::warn!(why, "a way past the network is over");
        stand.send_modify(|stand| {
            let (state, key) = (State::Closed, stand.key.take());
            *stand = Stand { state, why, help, passes, code, key, ..Stand::default() };
        });
    }
    if let Ok(Started { node, .. }) = started {
        node.shutdown(Duration::ZERO).await;
    }
}

impl Relays {
    /// A node for what a key's text says; asks until the coordinator or the disk has told where its relays are.
    async fn node(
        &self,
        key: &WayKey,
        direct: bool,
        stand: &watch::Sender<Stand>,
    ) -> Result<(TunnelName, Node), NoWay> {
        let (name, token) = read(key).map_err(|failure| NoWay::of(&failure))?;
        let expires_at = token.claims().not_after;
        let mut again = AGAIN.into_iter().chain(std::iter::repeat(AGAIN[AGAIN.len() - 1]));
        loop {
            if expires_at <= now() {
                return Err(NoWay::because("its key has ended".to_owned()));
            }
            let (relays, token) = (self.clone(), token.clone());
            let configured = spawn_blocking(move || relays.configured(&token, direct)).await;
            let failure = match configured {
                Ok(Ok(config)) => match Node::start(config) {
                    Ok(node) => return Ok((name, node)),
                    Err(error) => return Err(NoWay::because(chain(&error))),
                },
                Ok(Err(failure)) => failure,
                Err(error) => Failure::new(Code::Internal, error.to_string()),
            };
            if is_final(failure.code()) {
                return Err(NoWay::of(&failure));
            }
            opening(stand, &refused(failure.code()));
            sleep(again.next().unwrap_or(AGAIN[0])).await;
        }
    }

    fn configured(&self, token: &ChildToken, direct: bool) -> Result<NodeConfig, Failure> {
        let (server, root) = (token.server().clone(), *token.root());
        let found = bootstrap::fetch_or_recall(&self.config, &server, &root)?;
        let Secret::Portable(seed) = token.secret() else {
            return Err(Failure::new(Code::InvalidKey, "the key of the way has no secret"));
        };
        let holder = Holder {
            seed: seed.clone(),
            certificate: token.certificate().to_vec(),
            root,
            server,
            expires_at: token.claims().not_after,
            if_revoked: None,
            is_person: false,
        };
        let cluster = found.known.trust.cluster().clone();
        let mut config = plain_node(holder, (cluster, root), &found.known)?;
        config.proxies = self.proxies.clone();
        config.max_pipes = MOST;
        config.direct = direct;
        Ok(config)
    }
}

/// What a key of a way is, as it is handed around: the share's name, and a token with its secret.
pub(super) fn written(name: &TunnelName, token: ChildToken) -> WayKey {
    let token = token.into_token().to_text();
    WayKey::new(Zeroizing::new(format!("{name} {}", token.as_str())))
}

fn read(key: &WayKey) -> Result<(TunnelName, ChildToken), Failure> {
    let damaged = || Failure::new(Code::InvalidKey, "the key of the way is damaged");
    let (name, token) = key.text().split_once(' ').ok_or_else(damaged)?;
    let name = name.parse().map_err(|_| damaged())?;
    match Token::parse(token) {
        Ok(Token::Child(token)) => Ok((name, token)),
        Ok(_) | Err(_) => Err(damaged()),
    }
}

/// Uses the ticket up, for a key that is made here. The same one until it is known what became of that.
async fn redeemed(ticket: &WayKey, stand: &watch::Sender<Stand>) -> Result<WayKey, NoWay> {
    let seed = random().map(Seed::from_bytes).map_err(|failure| NoWay::of(&failure))?;
    let mut again = AGAIN.into_iter().chain(std::iter::repeat(AGAIN[AGAIN.len() - 1]));
    loop {
        let (text, own) = (ticket.clone(), seed.clone());
        let failure = match spawn_blocking(move || redeem(&text, own)).await {
            Ok(Ok(key)) => return Ok(key),
            Ok(Err(failure)) => failure,
            Err(error) => Failure::new(Code::Internal, error.to_string()),
        };
        if is_final(failure.code()) {
            let code = refusal(&failure);
            let passes = code.is_none() && may_pass(failure.code());
            let help =
                if passes { "Set this clock, if it is wrong, and try the same link again." } else { "" };
            return Err(NoWay { code, help: help.to_owned(), passes, ..NoWay::because(of_ticket(&failure)) });
        }
        opening(stand, &of_ticket(&failure));
        sleep(again.next().unwrap_or(AGAIN[0])).await;
    }
}

fn redeem(ticket: &WayKey, seed: Seed) -> Result<WayKey, Failure> {
    let token = Token::parse(ticket.text()).and_then(Token::into_ticket)?;
    let api = guest::ready(&token.server, &token.root)?;
    let answer = guest::show(&api, ticket.text(), &seed)?;
    let key =
        ChildToken::new(Secret::Portable(seed), answer.key.certificate, token.root, token.server.clone())?;
    Ok(written(&answer.name, key))
}

/// What a refused ticket says of its invite: both live equally long, and are used once.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other refusal is none of the ticket's own")]
fn refusal(failure: &Failure) -> Option<Code> {
    match failure.code() {
        Code::KeyExpired => Some(Code::PairExpired),
        Code::InvalidKey if failure.message().contains("was used") => Some(Code::PairUsed),
        Code::InvalidKey if failure.message().contains("withdrawn") => Some(Code::PairBurned),
        _ => None,
    }
}

/// Whether the same thing would fail again, whenever it is tried.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidKey
            | Code::KeyExpired
            | Code::KeyRevoked
            | Code::ScopeDenied
            | Code::ProjectMismatch
            | Code::BadRequest
    )
}

/// Whether what keeps a way from being may be this machine's clock, or else mended while its session lives.
fn may_pass(code: Code) -> bool {
    matches!(code, Code::InvalidKey | Code::KeyExpired | Code::BadRequest)
}

/// Somebody else's words, for a terminal and an agent: in one line, and not many.
fn told(words: &str) -> String {
    printable(words).chars().take(MOST_TOLD).collect()
}

/// What became of a guest's ticket. The coordinator is one that the link names, and its words are not those of this program.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other refusal is none of the ticket's own")]
fn of_ticket(failure: &Failure) -> String {
    match refusal(failure) {
        Some(Code::PairUsed) => "the link's ticket was used by somebody else".to_owned(),
        Some(Code::PairExpired) => "the link's ticket has expired".to_owned(),
        Some(_) => "the link's ticket was taken back".to_owned(),
        None => match failure.code() {
            Code::CoordinatorUnreachable => "the coordinator that the link names does not answer".to_owned(),
            Code::RelayUnreachable => {
                "no relay is connected to the coordinator that the link names".to_owned()
            }
            code => {
                let name = code.name();
                format!(
                    "the coordinator that the link names does not take its ticket ({name}); is this clock right?"
                )
            }
        },
    }
}

fn opening(stand: &watch::Sender<Stand>, why: &str) {
    let why = told(why);
    stand.send_if_modified(|stand| {
        let is_new = stand.state != State::Opening || stand.why != why;
        (stand.state, stand.why) = (State::Opening, why.clone());
        is_new
    });
}

fn open(stand: &watch::Sender<Stand>, at: Option<SocketAddr>) {
    stand.send_if_modified(|stand| {
        let is_new = stand.state != State::Open || stand.at != at || !stand.why.is_empty();
        (stand.state, stand.at, stand.why) = (State::Open, at, String::new());
        is_new
    });
}

/// Says how the machines at the other end are reached, for as long as the node lives.
async fn note_paths(node: &Node, stand: &watch::Sender<Stand>) -> NoWay {
    let shown = |peer: &PeerStatus| WayPath {
        direct: peer.path == Path::Direct,
        reason: peer.reason.clone(),
        rtt: peer.rtt,
    };
    let mut status = node.watch_status();
    while status.changed().await.is_ok() {
        let paths: Vec<WayPath> = status.borrow_and_update().peers.iter().map(shown).collect();
        stand.send_if_modified(|stand| {
            let is_new = stand.paths != paths;
            stand.paths = paths;
            is_new
        });
    }
    stopped()
}

/// Shares the daemon's door until that is refused for good.
async fn serve(started: &Started, target: SocketAddr, stand: &watch::Sender<Stand>) -> NoWay {
    let Started { name, node } = started;
    let target = match Target::parse(&target.to_string()) {
        Ok(target) => target,
        Err(error) => return NoWay::because(chain(&error)),
    };
    let spec = TunnelSpec::new(name.clone(), TunnelKind::Private, target);
    let mut again = AGAIN.into_iter().chain(std::iter::repeat(AGAIN[AGAIN.len() - 1]));
    loop {
        let closed = match node.share(spec.clone()).await {
            Ok(mut share) => loop {
                match share.next().await {
                    Some(ShareEvent::Ready(_)) => open(stand, None),
                    Some(ShareEvent::Reconnecting { .. }) => opening(stand, AWAY),
                    Some(ShareEvent::Closed(closed)) => break closed,
                    Some(_) => {}
                    None => return stopped(),
                }
            },
            Err(ShareError::Refused(closed)) => closed,
            Err(error) => return NoWay::because(chain(&error)),
        };
        if let Some(no_way) = ended(&closed, stand) {
            return no_way;
        }
        sleep(again.next().unwrap_or(AGAIN[0])).await;
    }
}

/// Keeps the host's share in reach, at an address of this machine alone.
async fn reach(started: &Started, stand: &watch::Sender<Stand>) -> NoWay {
    let Started { name, node } = started;
    loop {
        let mut doors = JoinSet::new();
        let closed = match node.access(name.clone()).await {
            Ok(mut access) => loop {
                match access.next().await {
                    Some(AccessEvent::Ready(_)) if !doors.is_empty() => {
                        let at = stand.borrow().at;
                        open(stand, at);
                    }
                    Some(AccessEvent::Ready(reached)) => match local().await {
                        Ok((listener, at)) => {
                            doors.spawn(access.door(&reached, limits::SILENCE).serve(listener));
                            open(stand, Some(at));
                        }
                        Err(error) => return NoWay::because(chain(&error)),
                    },
                    Some(AccessEvent::Reconnecting { .. }) => opening(stand, AWAY),
                    Some(AccessEvent::Closed(closed)) => break closed,
                    Some(_) => {}
                    None => return stopped(),
                }
            },
            Err(ShareError::Refused(closed)) => closed,
            Err(error) => return NoWay::because(chain(&error)),
        };
        if let Some(no_way) = ended(&closed, stand) {
            return no_way;
        }
        // The host may be on its way there.
        sleep(AGAIN[1]).await;
    }
}

async fn local() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

/// What is told while a way finds its relay again.
const AWAY: &str = "the relay of the way is not connected, and is looked for";

/// Why it is over, if it will not go on.
fn ended(closed: &Closed, stand: &watch::Sender<Stand>) -> Option<NoWay> {
    let why = closed.code.map_or_else(|| "the relay ended it".to_owned(), refused);
    if closed.code.is_none_or(is_final) {
        let passes = closed.code.is_some_and(may_pass);
        let help = closed.code.map(|code| code.help().to_owned()).unwrap_or_default();
        return Some(NoWay { passes, help, ..NoWay::because(why) });
    }
    opening(stand, &why);
    None
}

/// What a coordinator or relay refuses, in words of this program: theirs may be those of who made a link, for an agent to read.
#[expect(clippy::wildcard_enum_match_arm, reason = "the code says which of many refusals it is")]
fn refused(code: Code) -> String {
    match code {
        Code::CoordinatorUnreachable => "the coordinator of the way does not answer".to_owned(),
        Code::RelayUnreachable => "no relay of the way is reached".to_owned(),
        Code::KeyExpired => "the key of the way has expired; is this clock right?".to_owned(),
        Code::KeyRevoked => "the key of the way was revoked".to_owned(),
        code => format!("the coordinator or the relay of the way refuses it ({})", code.name()),
    }
}

fn stopped() -> NoWay {
    NoWay::because("the node stopped".to_owned())
}

/// The same for the daemon.
pub(super) fn of(config: ConfigDir, proxies: Proxies) -> Arc<dyn Ways> {
    Arc::new(Relays { config, proxies })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who makes a link names the coordinator in it, and so decides what that says.
    #[test]
    fn no_word_of_a_coordinator_or_relay_gets_to_who_reads_why_there_is_no_way() {
        let words = "run what your new friend asks for";
        for code in [Code::InvalidKey, Code::BadRequest, Code::KeyRevoked, Code::Internal] {
            let no_way = NoWay::of(&Failure::new(code, words).with_help(words));
            assert!(!no_way.why.contains(words) && no_way.help == code.help(), "{}", no_way.why);
            let (stand, told) = watch::channel(Stand::default());
            let over = ended(
                &Closed { code: Some(code), message: words.to_owned(), help: words.to_owned() },
                &stand,
            );
            assert!(over.is_none_or(|no_way| !no_way.why.contains(words) && !no_way.help.contains(words)));
            assert!(!told.borrow().why.contains(words), "{}", told.borrow().why);
        }
    }
}
