//! `mytunnel relay`: coordinator, relay and ingress in one process, or a relay that joins a coordinator elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Run a relay: accounts, keys, tunnels and the public web addresses, in one process
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel relay                              on this machine, for trying out
  mytunnel relay --domain t.example           public: t.example and *.t.example point here
  mytunnel relay --config /etc/mytunnel/relay.toml --check

The first start prints a setup code and the command that makes you the owner.")]
pub(crate) struct Args {
    /// Base domain; tunnels are at NAME.DOMAIN [default: localhost]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,

    /// Directory of the database and the keys [default: ~/.local/share/mytunnel]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Address for HTTP [default: 0.0.0.0:80, on localhost 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) http: Option<SocketAddr>,

    /// Address for HTTPS [default: 0.0.0.0:443, on localhost 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) https: Option<SocketAddr>,

    /// Address for nodes, UDP and TCP [default: 0.0.0.0:4001, on localhost 127.0.0.1:4001]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) p2p: Option<SocketAddr>,

    /// Host of the API and the sign-in [default: the domain itself]
    #[arg(long, value_name = "HOST")]
    pub(crate) console: Option<String>,

    /// Join the coordinator at URL instead of running one
    #[arg(long, value_name = "URL", requires = "join_source")]
    pub(crate) coordinator: Option<String>,

    /// Join token of that coordinator; better in a file, others can see it here
    #[arg(long, value_name = "TOKEN", hide_env_values = true, group = "join_source")]
    pub(crate) join: Option<String>,

    /// File that holds the join token
    #[arg(long, value_name = "FILE", group = "join_source")]
    pub(crate) join_file: Option<PathBuf>,

    /// Read settings from FILE (relay.toml); flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Say whether the settings are right, and exit
    #[arg(long)]
    pub(crate) check: bool,
}

/// An address to listen on, with an answer for the two usual mistakes.
pub(crate) fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.trim_start_matches(':').parse::<u16>() {
        Ok(port) => format!("write the address too: 0.0.0.0:{port} for everybody, 127.0.0.1:{port} for this machine"),
        Err(_) => "write it as IP:PORT, such as 0.0.0.0:8080 or [::]:8080".to_owned(),
    })
}
