mod connecting;
mod endings;
mod losses;
mod paths;
mod pipes;
mod private;
mod refusals;
mod trust;
mod two_relays;
mod wire;

use std::time::Instant;

use mytunnel_keys::{
    error::Code,
    id::{TunnelId, TunnelKind},
    wire::{ToNode, ToRelay},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use super::*;
use crate::{
    Closed, Ready, ShareEvent, Target,
    testing::{
        self,
        relay::{self, Manners, Noticed, Relay, SOON, TUNNEL, address_of, config, exchange},
    },
};

fn spec(target: &str) -> TunnelSpec {
    let target = Target::parse(target).unwrap();
    TunnelSpec::new("web".parse().unwrap(), TunnelKind::Http, target)
}

async fn origin() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn next(share: &mut Share) -> ShareEvent {
    timeout(SOON, share.next()).await.expect("nothing happens to the share").expect("the share is over")
}

async fn ready(share: &mut Share) -> Ready {
    timeout(SOON, share.ready()).await.expect("the share is not ready").unwrap()
}

/// The status, once it says so: what happens to a share is told before it is shown.
async fn shown(node: &Node, what: impl FnMut(&Status) -> bool) -> Status {
    let mut status = node.watch_status();
    let shown = status.wait_for(what);
    timeout(SOON, shown).await.expect("shown in time").expect("the node runs").clone()
}

async fn closed(share: &mut Share) -> Closed {
    loop {
        if let ShareEvent::Closed(closed) = next(share).await {
            return closed;
        }
    }
}

/// A relay, a node connected to it over one carrier, and a share that is ready.
struct Lab {
    relay: Relay,
    node: Node,
    share: Share,
}

async fn lab(carrier: Carrier, target: &str) -> Lab {
    lab_with(Manners::default(), carrier, target, |_| {}).await
}

async fn lab_with(manners: Manners, carrier: Carrier, target: &str, adjust: impl FnOnce(&mut Config)) -> Lab {
    let relay = Relay::start(manners).await;
    let mut config = config(vec![address_of(&relay.address().over(carrier))]);
    adjust(&mut config);
    let node = Node::start(config).unwrap();
    let mut share = node.share(spec(target)).await.unwrap();
    ready(&mut share).await;
    Lab { relay, node, share }
}

/// How long something takes, as `once` measures it, is less than `bound` in two of three tries: a machine that stands still for a
/// moment spoils one.
async fn takes_less_than(bound: Duration, mut once: impl AsyncFnMut() -> Duration) {
    let (mut good, mut slow) = (0, Vec::new());
    while good < 2 {
        let took = once().await;
        if took < bound {
            good += 1;
        } else {
            slow.push(took);
            assert!(slow.len() < 2, "{slow:?}");
        }
    }
}

const BOTH: [Carrier; 2] = [Carrier::Quic, Carrier::Tcp];
