//! `mytunnel share [TARGET]`: the main job.

mod base;
mod board;
mod end_to_end;
mod events;
mod flags;
mod gate;
mod inspect;
mod job;
mod local;
mod place;
mod plan;
mod run;
mod setter;
mod stands;
mod trouble;
mod voice;

use std::path::PathBuf;

use mytunnel_keys::id::TunnelKind;
use mytunnel_node::Target;

pub(crate) use self::base::Base;
pub(crate) use self::board::{Board, Entry, peers};
pub(crate) use self::end_to_end::EndToEndFlags;
pub(crate) use self::flags::{AddressFlags, GateFlags};
pub(crate) use self::gate::{Asked, Wanted, allowed};
pub(crate) use self::inspect::InspectFlags;
pub(crate) use self::job::Job;
pub(crate) use self::place::{Spot, nobody, node_of, plain_node};
pub(crate) use self::plan::Plan;
pub(crate) use self::stands::Stands;
pub(crate) use self::voice::Voice;
use crate::context::Context;
use crate::failure::Failure;
use crate::runtime::block_on;
use crate::span;

/// Share a folder, a file or a local server, and print its URL
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel share                     this folder
  mytunnel share 3000                what listens on port 3000
  mytunnel share ./dist --name demo  a folder, at a name of your choice
  mytunnel share unix:/run/app.sock  a server on a unix socket
  mytunnel share 3000 --basic ann    visitors need a password, which is asked for
  mytunnel share 3000 --pin          visitors need a PIN, which is made and shown
  mytunnel share 3000 --allow-ip 192.0.2.0/24 --expires 2h
  mytunnel share 3000 --e2e          the relay sees ciphertext only
  mytunnel share 22 --private --name box   for your own machines only: mytunnel access box

Without a relay (no login, no key) an own one is started on this machine.")]
pub(crate) struct Args {
    /// What to share: 3000, host:port, http(s)://…, unix:/path, a folder or a file
    #[arg(default_value = ".")]
    target: String,

    #[command(flatten)]
    options: Options,
}

/// What every way of sharing takes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Name in the URL [default: one that stays the same for this target]
    #[arg(long, visible_alias = "subdomain", value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Share it with your own machines only, without a public address: they reach it with `mytunnel access NAME`
    #[arg(long, conflicts_with_all = ["basic", "pin", "bearer", "allow_ip", "deny_ip", "google", "oidc", "allow", "e2e", "host_header", "inspect", "requests"])]
    pub(crate) private: bool,

    /// Serve the name alone: no other node beside this one [default: nodes that share one name get its visitors in turn]
    #[arg(long)]
    pub(crate) alone: bool,

    /// End the share after this time, e.g. 2h
    #[arg(long, value_name = "TIME", value_parser = span::parse_some)]
    pub(crate) expires: Option<u64>,

    /// Host header the local server gets [default: the public name]
    #[arg(long, value_name = "HOST")]
    pub(crate) host_header: Option<String>,

    #[command(flatten)]
    pub(crate) gates: GateFlags,

    #[command(flatten)]
    pub(crate) end_to_end: EndToEndFlags,

    #[command(flatten)]
    pub(crate) inspect: InspectFlags,

    #[command(flatten)]
    pub(crate) access: Access,
}

/// Which relay, as whom.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Access {
    /// Relay to use, of those you are signed in to [default: the last one]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Project the name belongs to, by id or name [default: the account's own]
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,

    /// Child key to share with; better in MYTUNNEL_AUTH_TOKEN, others can see it here
    #[arg(long, value_name = "TOKEN", hide_short_help = true)]
    pub(crate) token: Option<String>,

    /// File that holds the child key, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,

    /// Private shares go through the relay only: the other machine is not shown the addresses of this one
    #[arg(long, hide_short_help = true)]
    pub(crate) no_direct: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    share(&args.target, &args.options, context)
}

/// Everything that can be known without a network is checked first, then what needs the coordinator, then the relay.
pub(crate) fn share(target: &str, options: &Options, context: &Context) -> Result<(), Failure> {
    let kind = match (options.private, options.end_to_end.e2e) {
        (true, _) => Kind::Private { datagrams: false },
        (false, true) => Kind::EndToEnd,
        (false, false) => Kind::Http,
    };
    start(kind, target, options, context)
}

/// Shares what takes connections or datagrams of which nobody knows what is in them.
pub(crate) fn share_raw(
    kind: Kind,
    target: &str,
    options: &Options,
    context: &Context,
) -> Result<(), Failure> {
    start(kind, target, options, context)
}

fn start(kind: Kind, target: &str, options: &Options, context: &Context) -> Result<(), Failure> {
    let gates = || Wanted::read(&options.gates, options.expires, context);
    let plan = Plan::make(kind, target, options, gates, context)?;
    let spot = Spot::find(&options.access, (plan.asked.is_some(), plan.scope()), context)?;
    if plan.is_private() && spot.is_here() {
        return Err(nobody());
    }
    block_on(run::run(plan, spot, context))
}

/// What is shared, and what only that kind of thing has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A web site.
    Http,
    /// A web site whose TLS ends in this process.
    EndToEnd,
    /// A server that takes TCP connections.
    Tcp {
        /// The public port that is wanted.
        port: Option<u16>,
        /// It is told who the visitor is.
        proxy_protocol: bool,
    },
    /// A server that takes UDP datagrams.
    Udp {
        /// The public port that is wanted.
        port: Option<u16>,
    },
    /// Whatever can be shared, for other nodes.
    Private {
        /// It takes datagrams.
        datagrams: bool,
    },
    /// A server that ends TLS itself.
    Tls {
        /// It is told who the visitor is.
        proxy_protocol: bool,
    },
}

impl Kind {
    const fn tunnel(self) -> TunnelKind {
        match self {
            Self::Http => TunnelKind::Http,
            Self::Tcp { .. } => TunnelKind::Tcp,
            Self::Udp { .. } => TunnelKind::Udp,
            Self::Tls { .. } | Self::EndToEnd => TunnelKind::Tls,
            Self::Private { .. } => TunnelKind::Private,
        }
    }

    /// The target as this kind of visitor meets it.
    fn described(self, target: &Target) -> String {
        let text = target.to_string();
        match self {
            Self::Http | Self::EndToEnd => text,
            Self::Tcp { .. } | Self::Udp { .. } | Self::Tls { .. } | Self::Private { .. } => {
                text.strip_prefix("http://").map_or_else(|| text.clone(), str::to_owned)
            }
        }
    }

    /// Whether there is such a thing behind the target.
    fn check(self, target: &Target) -> Result<(), Failure> {
        let fits = match (self, target) {
            (Self::Http | Self::EndToEnd | Self::Private { datagrams: false }, _)
            | (_, Target::Port(_) | Target::Tcp { .. }) => true,
            (Self::Tcp { .. } | Self::Tls { .. }, Target::Unix(_)) => true,
            (Self::Tcp { .. } | Self::Udp { .. } | Self::Tls { .. } | Self::Private { .. }, _) => false,
        };
        let kind = match self {
            Self::Private { .. } => TunnelKind::Udp,
            Self::Http | Self::EndToEnd | Self::Tcp { .. } | Self::Udp { .. } | Self::Tls { .. } => {
                self.tunnel()
            }
        };
        if fits {
            return Ok(());
        }
        Err(Failure::usage(
            format!("`{target}` takes no {} connections", kind.to_string().to_uppercase()),
            format!(
                "Write a port (5432) or host:port: mytunnel {kind} 5432. Web sites, folders and files: mytunnel share."
            ),
        ))
    }
}
