//! Private shares over a relay that leads whoever it likes to whomever it likes.

use std::{net::SocketAddr, pin::Pin, slice};

use mytunnel_keys::{
    certificate::Claims,
    error::Code,
    id::{PublicKey, Serial, TenantId},
    wire::ToNode,
};

use super::*;
use crate::{
    Access, AccessEvent, Outcome, Reached,
    testing::{crooked::Crooked, peer::credential},
};

pub(super) const NAME: &str = "box";

/// What is other than it should be.
type Change = fn(&mut Claims);

/// The id that the name has in the project of this crate's tests.
pub(super) fn tunnel() -> TunnelId {
    let project = testing::node_claims().project.unwrap();
    TunnelId::derive(&testing::cluster(), &project, &NAME.parse().unwrap())
}

/// A node with a key of this number, and with claims that are changed.
fn node(relay: &Crooked, number: u8, change: impl FnOnce(&mut Claims)) -> (Node, PublicKey) {
    node_at(slice::from_ref(&relay.address), number, change)
}

/// The same at several relays.
pub(super) fn node_at(
    relays: &[RelayAddress],
    number: u8,
    change: impl FnOnce(&mut Claims),
) -> (Node, PublicKey) {
    let config = config_at(relays, number, change);
    let key = config.seed.public();
    (Node::start(config).unwrap(), key)
}

pub(super) fn config_at(relays: &[RelayAddress], number: u8, change: impl FnOnce(&mut Claims)) -> Config {
    let (seed, certificate) = credential(number, change);
    let root = testing::root().fingerprint();
    Config::new(seed, certificate, testing::cluster(), root, relays.to_vec())
}

fn other_tenant(claims: &mut Claims) {
    claims.tenant = "ten_ffffffffffffffff".parse::<TenantId>().unwrap();
}

pub(super) async fn share(node: &Node, target: &str) -> Share {
    let target = Target::parse(target).unwrap();
    let spec = TunnelSpec::new(NAME.parse().unwrap(), TunnelKind::Private, target);
    let mut share = node.share(spec).await.unwrap();
    ready(&mut share).await;
    share
}

pub(super) async fn event(access: &mut Access) -> AccessEvent {
    timeout(SOON, access.next()).await.expect("nothing happens to the access").expect("it is over")
}

/// What the access leads to, as soon as it does. A machine that is busy takes more than one try to get there.
pub(super) async fn until_reached(access: &mut Access) -> Reached {
    loop {
        match event(access).await {
            AccessEvent::Ready(reached) => return reached,
            AccessEvent::Reconnecting { reason, .. } if reason == "connecting" => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What the access is told when it does not get in: the reason of a try, or of the end.
pub(super) async fn trouble(access: &mut Access) -> String {
    loop {
        match event(access).await {
            // A machine that is busy takes more than one try to get anywhere.
            AccessEvent::Reconnecting { reason, .. } if reason == "connecting" => {}
            AccessEvent::Reconnecting { reason, .. } => return reason,
            AccessEvent::Closed(closed) => return closed.message,
            other => panic!("{other:?}"),
        }
    }
}

/// Two nodes that have met, one of which reaches what the other shares.
struct Met {
    relay: Crooked,
    listener: TcpListener,
    sharer: Node,
    accessor: Node,
    access: Access,
    reached: Reached,
    _shared: Share,
}

async fn met() -> Met {
    let mut relay = Crooked::start().await;
    let (listener, address) = origin().await;
    let (sharer, key) = node(&relay, 11, |_| {});
    let _shared = share(&sharer, &address).await;
    relay.until_reserved(1).await;
    relay.name(vec![key]);
    let (accessor, _) = node(&relay, 12, |_| {});
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    let reached = until_reached(&mut access).await;
    Met { relay, listener, sharer, accessor, access, reached, _shared }
}

/// Says something while the connection is `carried`, until the server has heard it: the server's end.
async fn until_served(
    near: &mut tokio::io::DuplexStream,
    listener: &TcpListener,
    carried: Pin<&mut impl Future>,
) -> tokio::net::TcpStream {
    let standing = async {
        near.write_all(b"half").await.unwrap();
        let (mut local, _) = listener.accept().await.unwrap();
        local.read_exact(&mut [0; 4]).await.unwrap();
        local
    };
    tokio::select! {
        local = timeout(SOON, standing) => local.expect("they do not meet"),
        _ = carried => panic!("it is over"),
    }
}

#[tokio::test]
async fn two_nodes_of_a_project_meet_whatever_the_relay_calls_their_tunnel() {
    let Met { listener, access, reached, sharer: _sharer, accessor: _accessor, relay: _relay, _shared } =
        met().await;
    assert_eq!(reached.tunnel_id, tunnel());
    let door = access.door(&reached, SOON);
    let (mut near, far) = tokio::io::duplex(1024);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let asking = async {
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let serving = async {
        let (mut local, _) = listener.accept().await.unwrap();
        let mut question = String::new();
        local.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        local.write_all(b"answer").await.unwrap();
    };
    let meeting = async { tokio::join!(asking, serving, door.carry(far, nowhere, nowhere)) };
    let (answer, (), (outcome, _)) = timeout(SOON, meeting).await.expect("they do not meet");
    assert_eq!((answer.as_str(), outcome), ("answer", Outcome::Done));
}

#[tokio::test]
async fn a_node_that_may_not_serve_the_name_is_not_taken_for_the_one_that_was_looked_for() {
    let changes: [(Change, &str); 2] = [
        (|claims| claims.hosts = vec!["web".parse().unwrap()], "may not serve this name"),
        (|claims| claims.scopes = "http".parse().unwrap(), "may not serve this name"),
    ];
    for (change, why) in changes {
        let mut relay = Crooked::start().await;
        let (listener, address) = origin().await;
        let (false_host, key) = node(&relay, 13, change);
        let _shared = share(&false_host, &address).await;
        relay.until_reserved(1).await;
        relay.name(vec![key]);
        let (accessor, _) = node(&relay, 12, |_| {});
        let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
        let reason = trouble(&mut access).await;
        assert!(reason.contains(why), "{why}: {reason}");
        drop(listener);
    }
}

#[tokio::test]
async fn a_guest_that_a_relay_lets_through_is_refused_by_the_sharer() {
    let mut relay = Crooked::start().await;
    let (listener, address) = origin().await;
    let (sharer, key) = node(&relay, 11, |_| {});
    let _shared = share(&sharer, &address).await;
    relay.until_reserved(1).await;
    relay.name(vec![key]);
    let changes: [(Change, &str); 4] = [
        (other_tenant, "there is no private share"),
        (|claims| claims.scopes = "http".parse().unwrap(), "may not reach private shares"),
        (|claims| claims.project = Some("proj_ffffffffffffffff".parse().unwrap()), "another project"),
        (|claims| claims.hosts = vec!["web".parse().unwrap()], "may not use the name"),
    ];
    for (number, (change, why)) in (20..).zip(changes) {
        let (accessor, _) = node(&relay, number, change);
        let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
        let reason = trouble(&mut access).await;
        assert!(reason.contains(why), "{why}: {reason}");
    }
    // That none of them gets to the target without being let in is shown on the wire (`wire.rs`).
    assert_eq!(sharer.status().peers, [], "nobody was let in");
    drop(listener);
}

/// A connection that stands is broken off at one end. `true`: where it is reached, else where it is shared.
async fn broken_off(where_it_is_reached: bool) {
    let Met { listener, sharer, access, reached, relay: _relay, accessor: _accessor, _shared } = met().await;
    // So long that nobody who waits for it is done in time.
    let door = access.door(&reached, Access::MOST_PATIENCE);
    let (mut near, far) = tokio::io::duplex(1024);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut carried = std::pin::pin!(door.carry(far, nowhere, nowhere));
    let mut local = until_served(&mut near, &listener, carried.as_mut()).await;
    let stopping = async {
        if where_it_is_reached {
            access.break_off();
        } else {
            sharer.shutdown(Duration::ZERO).await;
        }
    };
    let ending = async { tokio::join!(stopping, carried) };
    let ((), (outcome, _)) = timeout(SOON, ending).await.expect("who reaches it waits for a path");
    assert_eq!(outcome, Outcome::Broken);
    let end = timeout(SOON, local.read(&mut [0; 1])).await.expect("the server waits for a path");
    assert!(end.is_err(), "what was cut looks whole: {end:?}");
}

#[tokio::test]
async fn a_node_that_is_stopped_breaks_off_what_others_have_open() {
    broken_off(false).await;
}

#[tokio::test]
async fn an_access_that_is_broken_off_leaves_nothing_open_at_the_other_end() {
    broken_off(true).await;
}

#[tokio::test]
async fn what_a_revoked_key_has_open_is_cut_also_where_its_path_was_gone_before() {
    let Met { relay, listener, sharer, accessor, access, reached, _shared } = met().await;
    let door = access.door(&reached, Access::MOST_PATIENCE);
    let (mut near, far) = tokio::io::duplex(1024);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut carried = std::pin::pin!(door.carry(far, nowhere, nowhere));
    let mut local = until_served(&mut near, &listener, carried.as_mut()).await;
    // It vanishes, and what it has open waits for it.
    drop(accessor);
    let mut status = sharer.watch_status();
    timeout(SOON, status.wait_for(|status| status.peers.is_empty())).await.unwrap().unwrap();
    let mut byte = [0; 1];
    let mut end = std::pin::pin!(local.read(&mut byte));
    assert!(futures::poll!(&mut end).is_pending());
    let (serials, message) = (vec![Serial::from_bytes([12; 16])], "revoked".to_owned());
    relay.say(ToNode::Revoked { serials, code: Code::KeyRevoked, message });
    let end = timeout(SOON, end).await.expect("the server waits for a path");
    assert!(end.is_err(), "what was cut looks whole: {end:?}");
}

/// Seconds by which a relay lies, and after which a certificate has long ended.
const WEEKS: u64 = 3 * 7 * 86_400;

fn ended(claims: &mut Claims) {
    let end = claims.not_after;
    *claims = testing::node_claims_at(testing::unix() - WEEKS / 2);
    assert!(claims.not_after + 86_400 < end, "it ended long ago");
}

#[tokio::test]
async fn a_relay_that_lies_about_the_time_makes_no_ended_certificate_good_again() {
    let mut relay = Crooked::start_late(WEEKS / 2).await;
    let keep = |claims: &mut Claims| {
        let Claims { subject, serial, scopes, .. } = claims.clone();
        ended(claims);
        (claims.subject, claims.serial, claims.scopes) = (subject, serial, scopes);
    };
    let (sharer, key) = node(&relay, 11, |_| {});
    let _shared = share(&sharer, "3000").await;
    relay.until_reserved(1).await;
    relay.name(vec![key]);
    let (accessor, _) = node(&relay, 12, keep);
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    let reason = trouble(&mut access).await;
    assert!(reason.contains("ended at"), "the sharer lets it in: {reason}");
    assert_eq!(sharer.status().peers, []);
    // And the other way round: who reaches is not led to one that has ended.
    let (false_host, key) = node(&relay, 13, keep);
    let _shared_too = share(&false_host, "3000").await;
    relay.until_reserved(2).await;
    relay.name(vec![key]);
    let (accessor, _) = node(&relay, 14, |_| {});
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    let reason = trouble(&mut access).await;
    assert!(reason.contains("is refused") && reason.contains("ended at"), "it is believed: {reason}");
}

#[tokio::test]
async fn a_relays_own_pipe_does_not_lead_into_a_private_share() {
    let relay = Crooked::start().await;
    let (listener, address) = origin().await;
    let (sharer, _) = node(&relay, 11, |_| {});
    let _shared = share(&sharer, &address).await;
    let mut pipe = relay.pipe([0x77; 16]).await;
    let (answer, _) = exchange(&mut pipe, b"\r\n\r\n\0\r\nQUIT\nlet me in").await;
    assert_eq!(answer, [mytunnel_keys::wire::PipeStatus::UnknownTunnel as u8]);
    assert!(futures::FutureExt::now_or_never(listener.accept()).is_none());
}

#[tokio::test]
async fn a_key_cannot_reach_itself() {
    let mut relay = Crooked::start().await;
    let (sharer, key) = node(&relay, 11, |_| {});
    let _shared = share(&sharer, "3000").await;
    relay.until_reserved(1).await;
    relay.name(vec![key]);
    let mut access = sharer.access(NAME.parse().unwrap()).await.unwrap();
    assert!(trouble(&mut access).await.contains("a key of its own"));
}
