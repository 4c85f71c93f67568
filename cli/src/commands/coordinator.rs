//! `mytunnel coordinator`: the authority alone, for relays that join it.

use std::net::SocketAddr;

use crate::commands::relay::parse_addr;

/// Run the coordinator alone; relays join it with a token
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Base domain of the relays [default: localhost]
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    pub(crate) domain: String,

    /// Where accounts and keys are kept: sqlite:PATH
    #[arg(long, value_name = "URL")]
    pub(crate) database: String,

    /// Address of the API
    #[arg(long, value_name = "ADDR", value_parser = parse_addr, default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,

    /// URL at which people and relays reach the API [default: http://ADDR]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
}
