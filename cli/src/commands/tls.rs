//! `mytunnel tls TARGET`: a server that ends TLS itself, at a name of the relay.

use crate::commands::share::{self, Kind};
use crate::context::Context;
use crate::failure::Failure;
use crate::span;

/// Share a server that ends TLS itself: the relay passes its connections on by name, unread
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tls 8443 --name app         a web server with a certificate of its own
  mytunnel tls 8883 --name mqtt        a message broker behind TLS

Its certificate has to be for the public name. The relay sees that name, who comes from where, and how much; no more.
It has nobody asked for a password or the like: only --allow-ip, --deny-ip and --expires can be set.")]
pub(crate) struct Args {
    /// Port of the local server, host:port, or unix:/path
    #[arg(value_name = "TARGET")]
    target: String,

    /// Name in the URL [default: one that stays the same for this target]
    #[arg(long, visible_alias = "subdomain", value_name = "NAME")]
    name: Option<String>,

    /// End the share after this time, e.g. 2h
    #[arg(long, value_name = "TIME", value_parser = span::parse_some)]
    expires: Option<u64>,

    /// Tell the server who the visitor is, by the PROXY protocol, version 2 (it has to expect that)
    #[arg(long)]
    proxy_protocol: bool,

    #[command(flatten)]
    addresses: share::AddressFlags,

    #[command(flatten)]
    access: share::Access,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let gates = share::GateFlags { addresses: args.addresses.clone(), ..share::GateFlags::default() };
    let options = share::Options {
        name: args.name.clone(),
        expires: args.expires,
        gates,
        access: args.access.clone(),
        ..share::Options::default()
    };
    share::share_raw(Kind::Tls { proxy_protocol: args.proxy_protocol }, &args.target, &options, context)
}
