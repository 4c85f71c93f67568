//! The private side: shares something local through a relay.
//!
//! A [`Node`] holds one credential. It connects to relays of its cluster, two where there are two, checks that they are
//! such, registers a tunnel for each [`Share`], and answers the pipes that the relay opens from what was shared: a server, a socket, a folder or a
//! file. After a loss it comes back by itself under the same names.
//!
//! ```no_run
//! # async fn example(config: mytunnel_node::Config) -> Result<(), Box<dyn std::error::Error>> {
//! use mytunnel_node::{Node, Target, TunnelSpec};
//!
//! let node = Node::start(config)?;
//! let target = Target::parse("3000")?;
//! let spec = TunnelSpec::new("preview".parse()?, "http".parse()?, target);
//! let mut share = node.share(spec).await?;
//! println!("{}", share.ready().await?.urls[0]);
//! node.shutdown(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::wildcard_enum_match_arm,
        reason = "a test names what it expects, and fails at anything else"
    )
)]

mod access;
mod carrier;
mod clock;
mod direct;
mod driver;
pub mod inspect;
mod lanes;
mod lasting;
mod lines;
mod local;
mod mapping;
mod meeting;
mod node;
mod peers;
mod ping;
mod relays;
mod serve;
mod share;
mod state;
mod status;
mod target;
mod tasks;
#[cfg(test)]
mod testing;

#[doc(hidden)]
pub use self::mapping::fuzz as fuzz_router;
pub use self::{
    access::{Access, AccessEvent, Door, Outcome, Reached},
    carrier::Carrier,
    direct::nat::Nat,
    local::{Local, LocalPipe, Terminal},
    mapping::{Router, look_at_router},
    node::{Config, Node, StartError},
    relays::{RelayAddress, RelayAddressError},
    share::{Closed, Path, Ready, Share, ShareError, ShareEvent, TunnelSpec},
    status::{PeerStatus, RelayStatus, Status, TunnelStatus},
    target::{DialError, OriginTrust, Target, TargetError},
};
