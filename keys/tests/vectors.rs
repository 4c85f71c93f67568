//! Golden vectors: what is made today is, byte for byte, what was made when the files were committed, and the files
//! verify. A difference means that other versions no longer understand this one.
//!
//! `MYTUNNEL_WRITE_VECTORS=1 cargo test -p mytunnel-keys --all-features --test vectors` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vectors/golden.rs"]
mod golden;

use std::{env, fs, path::PathBuf};

use data_encoding::HEXLOWER;
use golden::{NONCE, NOW, seed};
use mytunnel_keys::{
    certificate,
    feed::{Accepted, FeedReader},
    proof::UnverifiedRequest,
    token::Token,
    trust::Trust,
};

/// The committed text, after comparing it with what was just made.
fn committed(name: &str, made: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    if env::var_os("MYTUNNEL_WRITE_VECTORS").is_some() {
        fs::write(&path, format!("{made}\n")).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text.trim_end(), made, "{name}");
    text.trim_end().to_owned()
}

fn committed_bytes(name: &str, made: &[u8]) -> Vec<u8> {
    HEXLOWER.decode(committed(name, &HEXLOWER.encode(made)).as_bytes()).unwrap()
}

fn trust() -> Trust {
    Trust::open(&committed_bytes("bundle.hex", &golden::bundle()), &golden::root()).unwrap()
}

#[test]
fn bundle() {
    assert_eq!(trust().bundle().keys.len(), 2);
    committed("root-fingerprint.hex", &golden::root().to_string());
}

#[test]
fn certificate_of_a_child() {
    let bytes = committed_bytes("certificate.hex", &golden::certificate());
    let verified = certificate::verify(&bytes, &trust(), &seed(4).public(), NOW).unwrap();
    assert_eq!(*verified, golden::claims());
}

#[test]
fn certificate_of_a_renewal() {
    let bytes = committed_bytes("certificate-renewal.hex", &golden::renewal_certificate());
    let verified = certificate::verify(&bytes, &trust(), &seed(4).public(), NOW).unwrap();
    assert_eq!(*verified, golden::renewal());
}

#[test]
fn tokens() {
    for (name, token) in golden::tokens() {
        let text = committed(name, &token.to_text());
        assert_eq!(*Token::parse(&text).unwrap().to_text(), text);
    }
}

#[test]
fn proof_of_a_request() {
    let header = committed("proof.txt", &golden::proof());
    let proof = UnverifiedRequest::parse(&header).unwrap();
    assert!(proof.verify(&seed(6).public(), &golden::request(&golden::cluster()), NOW).is_ok());
}

#[test]
fn feed() {
    let mut reader = FeedReader::new(NONCE, trust(), None);
    let accepted = golden::frames().map(|(name, frame)| {
        reader.accept(&committed_bytes(name, &frame), NOW).expect("the frame is the next one")
    });
    assert!(matches!(accepted[0], Accepted::Snapshot { .. }));
    assert!(matches!(accepted[1], Accepted::Delta { .. }));
    assert!(
        matches!(accepted[2], Accepted::Heartbeat { offset: 2, audit_head, .. } if audit_head == [0xad; 32])
    );
    committed("feed-head.hex", &HEXLOWER.encode(&reader.position().unwrap().head));
}
