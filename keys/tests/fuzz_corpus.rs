//! The fuzzer's seeds, and whatever it has found, go through the fuzzer's own functions on a stable compiler.

#[expect(unreachable_pub, reason = "a library of its own when the fuzzer builds it")]
#[path = "../../tests/fuzz/src/lib.rs"]
mod entries;

#[expect(unreachable_pub, reason = "two crates take it in")]
#[path = "../../tests/fuzz/src/replay.rs"]
mod seeds;

use seeds::replay;

#[test]
fn certificates() {
    replay("certificate", entries::certificate);
}

#[test]
fn tokens() {
    replay("token", entries::token);
}

#[test]
fn proofs() {
    replay("proof", entries::proof);
}

#[test]
fn feeds() {
    replay("feed", entries::feed);
}

#[test]
fn messages() {
    replay("wire", entries::wire);
}

#[test]
fn bundles() {
    replay("trust", entries::trust);
}
