//! The fuzzer's seeds, and whatever it has found, go through the fuzzer's own functions on a stable compiler.

#[expect(unreachable_pub, reason = "several crates take it in")]
#[path = "../../../tests/fuzz/src/replay.rs"]
mod seeds;

#[test]
fn what_strangers_and_peers_send() {
    seeds::replay("pairing", mytunnel_pairing::fuzz);
}
