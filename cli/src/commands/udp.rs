//! `mytunnel udp PORT`: a server that takes UDP datagrams, at a port of the relay.

use crate::commands::share::{self, Kind};
use crate::commands::tcp::Options;
use crate::context::Context;
use crate::failure::Failure;

/// Share a server that takes UDP datagrams: DNS, a game, WireGuard
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel udp 53                          a name server, at udp://RELAY:PORT
  mytunnel udp 51820 --remote-port 21820   WireGuard, at that port
  mytunnel udp 53 --private --name dns     for your own machines only: mytunnel access dns")]
pub(crate) struct Args {
    /// Port of the local server, or host:port
    #[arg(value_name = "PORT")]
    target: String,

    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let kind = if args.options.private {
        Kind::Private { datagrams: true }
    } else {
        Kind::Udp { port: args.options.port() }
    };
    share::share_raw(kind, &args.target, &args.options.of_share(), context)
}
