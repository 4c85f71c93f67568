//! The fuzzer's seeds, and whatever it has found, go through the fuzzer's own functions on a stable compiler.

#[expect(unreachable_pub, reason = "several crates take it in")]
#[path = "../../tests/fuzz/src/replay.rs"]
mod seeds;

#[test]
fn pipes_that_are_inspected() {
    seeds::replay("inspect", mytunnel_node::inspect::fuzz);
}

#[test]
fn what_a_router_answers() {
    seeds::replay("router", mytunnel_node::fuzz_router);
}
