//! Private shares of nodes that are at two relays, either of which may die or not know the name.

use mytunnel_keys::{
    id::{PublicKey, TunnelId},
    wire::ToNode,
};

use super::{
    private::{NAME, config_at, event, share},
    *,
};
use crate::{Access, AccessEvent, Outcome, Reached, testing::crooked::Crooked};

async fn relays() -> [Crooked; 2] {
    [Crooked::start().await, Crooked::start().await]
}

/// A node that looks for no way past the relays, which these tests are about.
fn node(relays: &[RelayAddress], number: u8) -> (Node, PublicKey) {
    let mut config = config_at(relays, number, |_| {});
    config.direct = false;
    let key = config.seed.public();
    (Node::start(config).unwrap(), key)
}

/// A node that shares `target` at both relays, which name it.
async fn sharer(relays: &mut [Crooked; 2], target: &str) -> (Node, Share, PublicKey) {
    let (node, key) = node(&addresses(relays), 11);
    let shared = share(&node, target).await;
    for relay in relays {
        relay.until_reserved(1).await;
        relay.name(vec![key]);
    }
    (node, shared, key)
}

fn addresses(relays: &[Crooked; 2]) -> Vec<RelayAddress> {
    relays.iter().map(|relay| relay.address.clone()).collect()
}

async fn ready_access(access: &mut Access) -> Reached {
    loop {
        if let AccessEvent::Ready(reached) = event(access).await {
            return reached;
        }
    }
}

/// Bytes that tell their place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 19) as u8).collect()
}

/// Answers one connection with what it says.
async fn echo(listener: &TcpListener) {
    let (mut local, _) = listener.accept().await.unwrap();
    let (mut read, mut write) = local.split();
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_over_the_other_relay_whichever_of_the_two_dies() {
    const PART: usize = 2 << 20;
    const DEATHS: usize = 4;
    let mut relays = relays().await;
    let (listener, address) = origin().await;
    let (_sharer, _shared, key) = sharer(&mut relays, &address).await;
    let (accessor, _) = node(&addresses(&relays), 12);
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    let reached = ready_access(&mut access).await;
    for relay in &mut relays {
        relay.until_circuits(1).await;
    }
    let door = access.door(&reached, SOON);
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut read, mut write) = tokio::io::split(near);
    let sent = bytes((DEATHS + 1) * PART);
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let reading = async {
        let mut received = vec![0; PART];
        read.read_exact(&mut received).await.unwrap();
        for death in 0..DEATHS {
            // In mid-transfer one dies, comes back where it was, and has led to the sharer again before the other dies.
            let relay = &mut relays[death % 2];
            relay.restart().await;
            relay.name(vec![key]);
            let at = received.len();
            received.resize(at + PART, 0);
            read.read_exact(&mut received[at..]).await.unwrap();
            relay.until_reserved(1).await;
            relay.until_circuits(1).await;
        }
        read.read_to_end(&mut received).await.unwrap();
        received
    };
    let whole = async { tokio::join!(writing, reading, echo(&listener), door.carry(far, nowhere, nowhere)) };
    let ((), received, (), (outcome, _)) = timeout(3 * SOON, whole).await.expect("it stands still");
    assert_eq!(outcome, Outcome::Done);
    assert!(received == sent, "{} bytes of {} came back", received.len(), sent.len());
}

#[tokio::test]
async fn a_node_that_only_the_second_relay_knows_is_reached() {
    let [first, mut second] = relays().await;
    let (sharer, key) = node(&[second.address.clone()], 11);
    let _shared = share(&sharer, "3000").await;
    second.until_reserved(1).await;
    second.name(vec![key]);
    let (accessor, _) = node(&[first.address.clone(), second.address.clone()], 12);
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    ready_access(&mut access).await;
    let mut status = accessor.watch_status();
    let is_shown =
        |status: &Status| matches!(&status.peers[..], [peer] if peer.rtt.is_some() && peer.paths == 1);
    timeout(SOON, status.wait_for(is_shown)).await.expect("one peer, whose round trip is known").unwrap();
}

/// What a relay says that has no place for the share any more.
fn no_place() -> ToNode {
    let (tunnel, message) = (TunnelId::from_bytes([0x77; 16]), "there are too many".to_owned());
    ToNode::Closed { tunnel, code: Code::TunnelLimit, message }
}

#[tokio::test]
async fn a_stream_goes_on_when_one_of_two_relays_has_no_place_for_its_share_and_is_cut_when_both_have_none() {
    let mut relays = relays().await;
    let (listener, address) = origin().await;
    let (sharer, _shared, key) = sharer(&mut relays, &address).await;
    let [first, second] = relays;
    // The stream begins by the relay that is the first to end the share.
    second.name(Vec::new());
    let (accessor, _) = node(&[first.address.clone(), second.address.clone()], 12);
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    let reached = ready_access(&mut access).await;
    second.name(vec![key]);
    let door = access.door(&reached, SOON);
    let (mut near, far) = tokio::io::duplex(64 << 10);
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let using = async {
        let mut status = sharer.watch_status();
        let mut word = [0; 4];
        near.write_all(b"here").await.unwrap();
        near.read_exact(&mut word).await.unwrap();
        first.say(no_place());
        let has_ended = |status: &Status| status.tunnels.is_empty();
        status.wait_for(has_ended).await.unwrap();
        near.write_all(b"goes").await.unwrap();
        near.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"goes");
        second.say(no_place());
        near.read_to_end(&mut Vec::new()).await.unwrap()
    };
    let serving = async {
        let (mut local, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = local.split();
        // It is cut, which may come as a reset.
        let _ = tokio::io::copy(&mut read, &mut write).await;
    };
    let carrying = async { door.carry(far, nowhere, nowhere).await.0 };
    let whole = async { tokio::join!(using, serving, carrying) };
    let (_, (), outcome) = timeout(SOON, whole).await.expect("it stands still");
    assert_eq!(outcome, Outcome::Broken);
}

#[tokio::test]
async fn a_name_is_given_up_when_no_relay_that_can_be_asked_knows_it() {
    let [first, second] = relays().await;
    let nowhere = first.address.clone();
    for other in [second.address.clone(), dead().await] {
        let (accessor, _) = node(&[nowhere.clone(), other], 12);
        let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
        let closed = loop {
            if let AccessEvent::Closed(closed) = event(&mut access).await {
                break closed;
            }
        };
        assert_eq!(closed.code, Some(Code::NotFound));
    }
}

/// The address of a relay that is not there any more.
async fn dead() -> RelayAddress {
    Crooked::start().await.address.clone()
}
