//! What goes through is told to the coordinator, and keys with a budget live by its leases.

use mytunnel_keys::{feed::Change, usage::Standing};

use super::*;
use crate::testing::serial;

#[tokio::test]
async fn what_goes_through_is_told_and_the_last_of_it_at_the_end() {
    let lab = Lab::start().await;
    let _node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    let tunnel = lab.tunnel("web");
    let mut told = lab.coordinator.used();
    tunnel.traffic().count_out(1000);
    let taken = told.wait_for(|used| used.get(&serial(1)).is_some_and(|used| used.bytes_out == 1000));
    timeout(SOON, taken).await.expect("in time").expect("the coordinator lives");

    tunnel.traffic().count_in(7);
    lab.relay.shutdown().await;
    assert_eq!(told.borrow()[&serial(1)].bytes_in, 7);
}

#[tokio::test]
async fn a_coordinator_that_is_away_is_told_when_it_is_back() {
    let lab = Lab::start().await;
    let _node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    let tunnel = lab.tunnel("web");
    let mut told = lab.coordinator.used();
    lab.coordinator.set_reachable(false);
    tunnel.traffic().count_out(1000);
    lab.coordinator.set_reachable(true);
    let taken = told.wait_for(|used| used.get(&serial(1)).is_some_and(|used| used.bytes_out == 1000));
    timeout(SOON, taken).await.expect("in time").expect("the coordinator lives");
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_budget_is_leased_used_up_and_over() {
    let lab = Lab::start().await;
    lab.coordinator.change(Change::Budget { serial: serial(100), standing: Standing::Limited });
    let (mut node, _) = Node::hello(&lab.tcp(), &child(1)).await;
    assert_eq!(code_of(node.register("web", 1).await), Code::BudgetExceeded);

    lab.coordinator.set_means(100_000);
    // A budget that is raised comes by the feed.
    lab.coordinator.change(Change::Budget { serial: serial(100), standing: Standing::Limited });
    let mut node = Node::serve(&lab.quic(), &child(1), "web", 1).await;
    let tunnel = lab.tunnel("web");
    assert!(tunnel.traffic().ready().await);
    tunnel.traffic().count_out(64 << 20);
    assert!(!tunnel.traffic().ready().await, "new requests are refused");
    assert_eq!(code_of(node.hear().await), Code::BudgetExceeded);
    timeout(SOON, tunnel.closed()).await.expect("what is in flight is cut");
    lab.relay.shutdown().await;
}
