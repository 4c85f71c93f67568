//! The fuzzer's seeds, and whatever it has found, go through the fuzzer's own functions on a stable compiler.

#[expect(unreachable_pub, reason = "a library of its own when the fuzzer builds it")]
#[path = "../../tests/fuzz/src/lib.rs"]
mod entries;

use std::{fs, path::Path};

fn replay(target: &str, entry: fn(&[u8]) -> bool) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let (mut count, mut accepted) = (0, 0);
    for file in files {
        let path = file.expect("the directory can be read").path();
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        accepted += u32::from(entry(&bytes));
        count += 1;
    }
    assert!(accepted > 0 && count > accepted, "{target}: {accepted} of {count} seeds were accepted");
}

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
