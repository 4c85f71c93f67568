//! `mytunnel access NAME`: a private share of another machine, at an address of this one.

mod events;
pub(crate) mod guest;
mod listening;
mod stdio;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::TunnelName;
use mytunnel_keys::wire::peer::Carries;
use mytunnel_node::{Access, AccessEvent, Closed, Door, Node, Outcome, Reached};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::events::Teller;
use self::guest::{Given, Guest};
use self::listening::{Held, listen};
use self::stdio::Stdio;
use crate::commands::share;
use crate::context::Context;
use crate::control::serve_status;
use crate::failure::Failure;
use crate::identity::{self, Holder, Identity};
use crate::names;
use crate::runtime::{GRACE, StopSignals, block_on, block_on_and_leave};
use crate::span;

/// How long the first way to the share may take to be found. Once there was one, it is never given up.
const FIRST_WAY: Duration = Duration::from_secs(15);

/// How soon a guest looks again for a share that is not there yet: the ticket is used up, and good for nothing else.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Time to tell the other machine that what is open is broken off.
const FAREWELL: Duration = Duration::from_secs(1);

/// Reach a private share of another machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel access box                         at a free port of this machine, which is printed
  mytunnel access box --bind 127.0.0.1:2222   then: ssh -p 2222 localhost
  ssh -o ProxyCommand='mytunnel access box --stdio' user@box
  mytunnel access mtk_ticket_…                with a ticket, and without an account

The other machine shares it with `mytunnel share 22 --private --name box`. Both are signed in to the same relay, or hold
keys of the same project. The relay between them sees ciphertext only. Connections survive the loss of a path: they wait
for the next one, and go on where they were.

A ticket (`mytunnel ticket box` makes one) is taken from MYTUNNEL_TICKET or a file, too: others on
this machine can read what is typed. It is used up by the first try, so that whoever comes with
one waits until the share is there.")]
pub(crate) struct Args {
    /// Name of the private share, or a ticket for one
    #[arg(value_name = "NAME|TICKET")]
    name: Option<String>,

    /// File that holds a ticket, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    ticket_file: Option<PathBuf>,

    /// Where it is to be reached on this machine [default: 127.0.0.1, a free port]
    #[arg(long, value_name = "ADDR:PORT")]
    bind: Option<SocketAddr>,

    /// Carry one connection over standard input and output
    #[arg(long, conflicts_with = "bind")]
    stdio: bool,

    /// How long open connections wait for a path to the other machine before they are reset; an hour at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span::parse_patience)]
    patience: u64,

    #[command(flatten)]
    access: share::Access,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    if args.stdio && context.report.is_json() {
        return Err(Failure::usage(
            "--stdio leaves no place for JSON on standard output",
            "Leave --json away; what goes wrong is told on standard error.",
        ));
    }
    let Whom { name, holder, is_guest, held } = whom(args, context)?;
    let if_revoked = holder.if_revoked.clone();
    let (config, skew) = share::node_of(holder, &args.access, context)?;
    let patience = Duration::from_secs(args.patience);
    let job = Job { name, bind: args.bind, stdio: args.stdio, patience, is_guest };
    let work = async {
        let mut signals = StopSignals::install()?;
        let node = Node::start(config)?;
        let outcome = job.serve(&node, held, &mut signals, context).await;
        signals.leave(GRACE, context.report, node.shutdown(Duration::ZERO)).await;
        outcome
    };
    // A read of the standard input that is under way would keep the process.
    let outcome = if args.stdio { block_on_and_leave(work) } else { block_on(work) };
    outcome.map_err(|failure| match if_revoked {
        None if is_guest => skew.explain(guest::told(failure)),
        Some(help) if failure.code() == Code::KeyRevoked => failure.with_help(help),
        Some(_) | None => skew.explain(failure),
    })
}

/// What is to be reached, and as whom.
struct Whom {
    name: TunnelName,
    holder: Holder,
    /// By a ticket.
    is_guest: bool,
    /// Where, if that had to be known before.
    held: Option<Held>,
}

fn whom(args: &Args, context: &Context) -> Result<Whom, Failure> {
    let given = Given {
        argument: args.name.as_deref(),
        file: args.ticket_file.as_deref(),
        server: args.access.server.as_deref(),
    };
    if args.stdio && args.ticket_file.as_deref().is_some_and(|file| file == Path::new("-")) {
        return Err(Failure::usage(
            "standard input cannot have both a ticket and a connection",
            "Put the ticket into a file or into MYTUNNEL_TICKET.",
        ));
    }
    if let Some(ticket) = given.ticket(context)? {
        let share::Access { token, token_file, project, .. } = &args.access;
        if token.is_some() || token_file.is_some() || project.is_some() {
            return Err(Failure::usage(
                "a ticket is for one share, and needs neither a key nor a project",
                "Leave --token, --token-file and --project away; the ticket was not used.",
            ));
        }
        let held = args.bind.map(Held::take).transpose().map_err(guest::not_used)?;
        let Guest { name, holder } = guest::enter(&ticket, &given, context)?;
        return Ok(Whom { name, holder, is_guest: true, held });
    }
    let Some(name) = &args.name else {
        return Err(Failure::usage(
            "what is to be reached? There is neither a name nor a ticket",
            "Write `mytunnel access NAME`, or set MYTUNNEL_TICKET to a ticket.",
        ));
    };
    let name = names::asked(name)?;
    match identity::resolve_beside(&args.access, context)? {
        Identity::Key(holder) => Ok(Whom { name, holder: *holder, is_guest: false, held: None }),
        Identity::Nobody => Err(share::nobody()),
    }
}

struct Job {
    name: TunnelName,
    bind: Option<SocketAddr>,
    stdio: bool,
    patience: Duration,
    /// Somebody with a ticket, which they could not use again.
    is_guest: bool,
}

/// Where the share is reached on this machine, for `mytunnel status`.
type Place = Arc<Mutex<Option<String>>>;

impl Job {
    async fn serve(
        &self,
        node: &Node,
        held: Option<Held>,
        signals: &mut StopSignals,
        context: &Context,
    ) -> Result<(), Failure> {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let place = Place::default();
        let (status, name, shown) = (node.watch_status(), self.name.clone(), Arc::clone(&place));
        let state = move || {
            let status = status.borrow();
            let bind = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            described(&status, &name, bind.as_deref())
        };
        serve_status(context, state, &stop, &mut tasks);
        let mut teller = Teller::new(context.report, self.stdio);
        let leaving = CancellationToken::new();
        let outcome = {
            let mut followed = pin!(self.follow(node, held, &mut teller, &place, &leaving));
            tokio::select! {
                () = signals.next() => {
                    leaving.cancel();
                    // Whatever takes longer the other end learns by itself.
                    timeout(FAREWELL, followed).await.unwrap_or(Ok(()))
                }
                outcome = &mut followed => outcome,
            }
        };
        if leaving.is_cancelled() {
            teller.closed(None, "stopped");
        }
        stop.cancel();
        tasks.shutdown().await;
        outcome
    }

    /// Waits for the way, serves, and tells what becomes of it, until it is over.
    async fn follow(
        &self,
        node: &Node,
        held: Option<Held>,
        teller: &mut Teller,
        place: &Place,
        leaving: &CancellationToken,
    ) -> Result<(), Failure> {
        let found = tokio::select! {
            found = self.first_way(node, teller) => found?,
            () = leaving.cancelled() => return Ok(()),
        };
        let (mut access, reached) = found;
        let door = access.door(&reached, self.patience);
        let mut serving = JoinSet::new();
        if self.stdio {
            if reached.carries == Carries::Datagrams {
                return Err(Failure::usage(
                    format!("{} carries datagrams, which standard input and output cannot", self.name),
                    "Leave --stdio away, or give it an address with --bind.",
                ));
            }
            serving.spawn(over_stdio(door, Stdio::take()?));
        } else {
            let bound = listen((self.bind, held), reached.carries, door, &mut serving).await?;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound.clone());
            teller.bound(bound, reached.carries);
        }
        teller.ready(&reached);
        loop {
            tokio::select! {
                Some(served) = serving.join_next() => return match served {
                    Ok(outcome) => ended(outcome),
                    Err(error) => Err(Failure::new(Code::Internal, error.to_string())),
                },
                () = leaving.cancelled() => {
                    access.break_off();
                    while serving.join_next().await.is_some() {}
                    return Ok(());
                }
                event = access.next() => match event {
                    Some(AccessEvent::Closed(closed)) => {
                        teller.closed(closed.code.map(|code| code.name()), &closed.message);
                        return Err(closed.into());
                    }
                    Some(event) => teller.tell(&event),
                    None => return Err(stopped()),
                },
            }
        }
    }

    /// Waits until there is a way to the share.
    async fn first_way(&self, node: &Node, teller: &mut Teller) -> Result<(Access, Reached), Failure> {
        let mut access = node.access(self.name.clone()).await?;
        let mut deadline = Instant::now() + FIRST_WAY;
        let (mut trouble, mut looked) = ("no answer".to_owned(), 0);
        loop {
            match timeout_at(deadline, access.next()).await {
                Ok(Some(AccessEvent::Ready(reached))) => return Ok((access, reached)),
                Ok(Some(AccessEvent::Closed(closed))) if self.is_guest && is_away(&closed) => {
                    looked += 1;
                    teller.waiting(looked, &closed.message);
                    sleep(LOOK_AGAIN).await;
                    access = node.access(self.name.clone()).await?;
                    deadline = Instant::now() + FIRST_WAY;
                }
                Ok(Some(AccessEvent::Closed(closed))) => return Err(closed.into()),
                Ok(Some(AccessEvent::Reconnecting { attempt, reason })) => {
                    teller.reconnecting(attempt, &reason);
                    trouble = reason;
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(stopped()),
                Err(_) if self.is_guest => {
                    looked += 1;
                    teller.waiting(looked, &trouble);
                    deadline = Instant::now() + FIRST_WAY;
                }
                Err(_) => return Err(self.unreachable(node, &trouble)),
            }
        }
    }

    fn unreachable(&self, node: &Node, trouble: &str) -> Failure {
        if node.status().relay.connected {
            Failure::new(
                Code::TargetUnreachable,
                format!("cannot reach the node that shares {}: {trouble}", self.name),
            )
            .with_help("Look whether it is up (`mytunnel status` there); then try again.")
        } else {
            Failure::new(Code::RelayUnreachable, format!("cannot reach the relay: {trouble}"))
        }
    }
}

/// One connection, from standard input to standard output.
async fn over_stdio(door: Door, stdio: Stdio) -> Outcome {
    let nowhere = SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), 0);
    door.carry(stdio, nowhere, nowhere).await.0
}

fn ended(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::TargetUnreachable => Err(Failure::new(Code::TargetUnreachable, outcome.to_string())
            .with_help("Start the service on the other machine.")),
        Outcome::Broken | Outcome::Lost | Outcome::Moved => {
            Err(Failure::new(Code::TargetUnreachable, format!("the connection was reset: {outcome}"))
                .with_help("Connect again."))
        }
    }
}

/// Is it that nobody shares it at the moment?
fn is_away(closed: &Closed) -> bool {
    closed.code == Some(Code::NotFound)
}

fn stopped() -> Failure {
    Failure::new(Code::Internal, "the node stopped")
}

fn described(status: &mytunnel_node::Status, name: &TunnelName, bind: Option<&str>) -> Value {
    let peers: Vec<Value> = share::peers(status).collect();
    json!({
        "tunnels": [],
        "accesses": [{"name": name, "bind": bind, "online": !peers.is_empty(), "pid": std::process::id()}],
        "peers": peers,
        "relay": {"addr": status.relay.address, "connected": status.relay.connected},
    })
}
