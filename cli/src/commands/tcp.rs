//! `mytunnel tcp PORT`: a server that takes TCP connections, at a port of the relay.

use std::num::NonZeroU16;

use crate::commands::share::{self, Kind};
use crate::context::Context;
use crate::failure::Failure;
use crate::span;

/// Share a server that takes TCP connections: a database, SSH, a game
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tcp 5432                     a database, at tcp://RELAY:PORT
  mytunnel tcp 22 --remote-port 20022   SSH at that port: ssh -p 20022 RELAY
  mytunnel tcp 192.168.1.7:25565        a server on another machine
  mytunnel tcp 22 --private --name box  for your own machines only: mytunnel access box")]
pub(crate) struct Args {
    /// Port of the local server, host:port, or unix:/path
    #[arg(value_name = "PORT")]
    target: String,

    #[command(flatten)]
    options: Options,

    /// Tell the server who the visitor is, by the PROXY protocol, version 2 (it has to expect that)
    #[arg(long, conflicts_with = "private")]
    proxy_protocol: bool,
}

/// What shares at ports have in common.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Public port to ask for [default: one that stays the same for this name]
    #[arg(long, value_name = "PORT")]
    pub(crate) remote_port: Option<NonZeroU16>,

    /// Share it with your own machines only, without a public port: they reach it with `mytunnel access NAME`
    #[arg(long, conflicts_with_all = ["remote_port", "allow_ip", "deny_ip"])]
    pub(crate) private: bool,

    /// Name of the tunnel in lists and limits [default: one that stays the same for this target]
    #[arg(long, visible_alias = "subdomain", value_name = "NAME")]
    name: Option<String>,

    /// End the share after this time, e.g. 2h
    #[arg(long, value_name = "TIME", value_parser = span::parse_some)]
    expires: Option<u64>,

    #[command(flatten)]
    addresses: share::AddressFlags,

    #[command(flatten)]
    access: share::Access,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let port = args.options.port();
    let kind = if args.options.private {
        Kind::Private { datagrams: false }
    } else {
        Kind::Tcp { port, proxy_protocol: args.proxy_protocol }
    };
    share::share_raw(kind, &args.target, &args.options.of_share(), context)
}

impl Options {
    /// The public port that is wanted.
    pub(crate) fn port(&self) -> Option<u16> {
        self.remote_port.map(NonZeroU16::get)
    }

    /// The same as options of any share.
    pub(crate) fn of_share(&self) -> share::Options {
        let (name, expires, access) = (self.name.clone(), self.expires, self.access.clone());
        let gates = share::GateFlags { addresses: self.addresses.clone(), ..share::GateFlags::default() };
        share::Options { name, expires, gates, access, ..share::Options::default() }
    }
}
