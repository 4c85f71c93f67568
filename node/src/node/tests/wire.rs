//! What a node lets others do on the wire, whatever relays and other nodes do.

use futures::FutureExt as _;
use mytunnel_keys::{
    certificate::Claims,
    id::TenantId,
    wire::{
        direct::{Candidate, MAX_CANDIDATES, Word},
        peer::{Answer, Carries, Opening, VERSION},
    },
};

use super::{
    private::{NAME, event, node_at, share, trouble, tunnel, until_reached},
    *,
};
use crate::{
    AccessEvent,
    lasting::frames::NOTHING,
    testing::{
        crooked::Crooked,
        peer::{Guest, credential, host, other_credential},
    },
};

/// A leg of a stream that is new.
fn opening() -> Opening {
    Opening { tunnel: tunnel(), stream: [9; 16], attempt: 0, received: 0, fresh: true, patience: 60 }
}

fn other_tenant(claims: &mut Claims) {
    claims.tenant = "ten_ffffffffffffffff".parse::<TenantId>().unwrap();
}

/// A node that shares the server behind `listener`, at a relay that leads to it.
struct Sharer {
    relay: Crooked,
    listener: TcpListener,
    key: mytunnel_keys::id::PublicKey,
    _node: (Node, Share),
}

impl Sharer {
    async fn start() -> Self {
        let mut relay = Crooked::start().await;
        let (listener, address) = origin().await;
        let (node, key) = node_at(std::slice::from_ref(&relay.address), 11, |_| {});
        let shared = share(&node, &address).await;
        relay.until_reserved(1).await;
        relay.name(vec![key]);
        Self { relay, listener, key, _node: (node, shared) }
    }

    async fn guest(&self, number: u8, change: impl FnOnce(&mut Claims)) -> Guest {
        Guest::dial(&self.relay, &self.key, credential(number, change)).await
    }

    #[track_caller]
    fn nobody_has_come(&self) {
        assert!(self.listener.accept().now_or_never().is_none(), "somebody has come to the target");
    }
}

#[tokio::test]
async fn who_has_shown_nothing_or_was_refused_opens_no_stream() {
    let sharer = Sharer::start().await;
    let silent = sharer.guest(21, |_| {}).await;
    assert_eq!(silent.leg(&opening()).await, [], "not even a word");
    let refused = sharer.guest(22, other_tenant).await;
    assert!(matches!(refused.greet(NAME).await, Answer::Refused { code: Code::NotFound, .. }));
    assert_eq!(refused.leg(&opening()).await, []);
    sharer.nobody_has_come();
}

#[tokio::test]
async fn a_guest_opens_streams_only_to_what_it_was_let_in_to() {
    let sharer = Sharer::start().await;
    let guest = sharer.guest(21, |_| {}).await;
    assert!(matches!(guest.greet(NAME).await, Answer::Welcome { .. }));
    let elsewhere = Opening { tunnel: TunnelId::from_bytes([1; 16]), ..opening() };
    assert_eq!(guest.leg(&elsewhere).await, NOTHING);
    sharer.nobody_has_come();
}

#[tokio::test]
async fn who_has_shown_nothing_or_was_refused_is_shown_no_address() {
    let sharer = Sharer::start().await;
    let silent = sharer.guest(21, |_| {}).await;
    assert_eq!(silent.offer().await, None, "not even a word");
    let refused = sharer.guest(22, other_tenant).await;
    assert!(matches!(refused.greet(NAME).await, Answer::Refused { code: Code::NotFound, .. }));
    assert_eq!(refused.offer().await, None);
    let guest = sharer.guest(23, |_| {}).await;
    assert!(matches!(guest.greet(NAME).await, Answer::Welcome { .. }));
    let answered = async {
        // The driver may hear of the greeting a moment later than the guest.
        loop {
            if let Some(word) = guest.offer().await {
                break word;
            }
        }
    };
    let Word::Offer { candidates } = timeout(SOON, answered).await.expect("an offer") else {
        panic!("no offer")
    };
    let is_elsewhere = |candidate: &Candidate| !candidate.address.ip().is_loopback();
    assert!(candidates.len() <= MAX_CANDIDATES && candidates.iter().all(is_elsewhere), "{candidates:?}");
    // One that begins long after the one before is within the pace.
    let paced = async { while guest.offer().await.is_some() {} };
    timeout(SOON, paced).await.expect("conversations have a pace");
}

#[tokio::test]
async fn a_stream_belongs_to_who_has_opened_it() {
    let sharer = Sharer::start().await;
    let owner = sharer.guest(21, |_| {}).await;
    let thief = sharer.guest(22, |_| {}).await;
    for guest in [&owner, &thief] {
        assert!(matches!(guest.greet(NAME).await, Answer::Welcome { .. }));
    }
    let mut owned = owner.taken_leg(&opening()).await;
    for fresh in [false, true] {
        let again = Opening { attempt: 1, fresh, ..opening() };
        if fresh {
            // One of the same name of their own, which has nothing to do with it.
            thief.taken_leg(&again).await;
        } else {
            assert_eq!(thief.leg(&again).await, NOTHING, "it is none of theirs");
        }
    }
    assert!(futures::AsyncReadExt::read(&mut owned, &mut [0]).now_or_never().is_none(), "it goes on");
}

#[tokio::test]
async fn a_host_of_another_tenant_is_not_taken_for_the_one_that_was_looked_for() {
    let mut relay = Crooked::start().await;
    let (seed, certificate) = credential(13, other_tenant);
    let welcome =
        Answer::Welcome { version: VERSION, certificate, tunnel: tunnel(), carries: Carries::Streams };
    let _host = host(&relay, &seed, welcome).await;
    relay.until_reserved(1).await;
    relay.name(vec![seed.public()]);
    let (accessor, _) = node_at(std::slice::from_ref(&relay.address), 12, |_| {});
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    let reason = trouble(&mut access).await;
    assert!(reason.contains("belongs to another project"), "{reason}");
}

#[tokio::test]
async fn a_host_whose_issuer_is_trusted_no_longer_is_left() {
    let mut relay = Crooked::start().await;
    relay.show(testing::wide_bundle(2));
    let (seed, certificate) = other_credential(13);
    let welcome =
        Answer::Welcome { version: VERSION, certificate, tunnel: tunnel(), carries: Carries::Streams };
    let _host = host(&relay, &seed, welcome).await;
    relay.until_reserved(1).await;
    relay.name(vec![seed.public()]);
    let (accessor, _) = node_at(std::slice::from_ref(&relay.address), 12, |_| {});
    let mut access = accessor.access(NAME.parse().unwrap()).await.unwrap();
    until_reached(&mut access).await;
    relay.show(testing::bundle(3));
    loop {
        match event(&mut access).await {
            AccessEvent::Reconnecting { reason, .. } if reason.contains("is refused") => break,
            AccessEvent::Reconnecting { .. } | AccessEvent::Path { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_guest_whose_issuer_is_trusted_no_longer_is_cut_off() {
    let sharer = Sharer::start().await;
    sharer.relay.show(testing::wide_bundle(2));
    let guest = Guest::dial(&sharer.relay, &sharer.key, other_credential(21)).await;
    let welcomed = async { while !matches!(guest.greet(NAME).await, Answer::Welcome { .. }) {} };
    timeout(SOON, welcomed).await.expect("the sharer has heard of the issuer");
    sharer.relay.show(testing::bundle(3));
    guest.until_closed().await;
}
