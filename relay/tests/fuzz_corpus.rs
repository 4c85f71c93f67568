//! The fuzzer's seeds go through the fuzzer's own functions on a stable compiler, and so does what proptest makes up.

#![cfg(test)]

#[expect(unreachable_pub, reason = "a part of a library when the fuzzer builds it")]
#[path = "../../tests/fuzz/src/ingress.rs"]
mod entries;

#[expect(unreachable_pub, reason = "two crates take it in")]
#[path = "../../tests/fuzz/src/replay.rs"]
mod seeds;

use proptest::{collection::vec, prelude::*};

use seeds::replay;

#[test]
fn hosts() {
    replay("host", entries::host);
}

#[test]
fn framings() {
    replay("framing", entries::framing);
}

#[test]
fn cookies() {
    replay("cookies", entries::cookies);
}

#[test]
fn heads() {
    replay("head", entries::head);
}

/// Bytes that are made of these words and of noise.
fn made_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let piece = prop_oneof![8 => word, 1 => vec(any::<u8>(), 0..4)];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const HOSTS: &[&str] = &[
    "a",
    "Demo",
    ".",
    "tun.test",
    "console.test",
    "-",
    "_",
    ":",
    "80",
    "[",
    "]",
    "::1",
    "%41",
    "@",
    "é",
    "xn--",
];

const FRAMINGS: &[&str] = &[
    "\u{1}",
    "\u{7}",
    "GET / HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: ",
    "chunked",
    "\r\n",
    "\n",
    "\r",
    "hello",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\n",
    ";ext=1",
    "x: y\r\n",
    " ",
    "\t",
    ":",
    "ffffffffffffffff",
];

const COOKIES: &[&str] = &[
    "a=b", "; ", ";", "=", "Domain", "domain", "tun.test", "Path=/", "mtk_", "MTK_", "__Host-", " ", "\t",
    "\"", "\u{c}", "a",
];

const HEADS: &[&str] = &[
    "Host: a\n",
    "Connection: ",
    "close",
    "upgrade",
    "x-hop",
    ",",
    "\n",
    ":",
    " ",
    "X-Forwarded-For: 6.6.6.6\n",
    "x-forwarded-",
    "Forwarded: for=6.6.6.6\n",
    "TE: trailers\n",
    "TE: gzip\n",
    "Upgrade: websocket\n",
    "Content-Length: 3\n",
    "Transfer-Encoding: chunked\n",
    "Transfer-Encoding: gzip\n",
    "x_y: 1\n",
    "Set-Cookie: a=b; Domain=tun.test\n",
    "Set-Cookie: mtk_a=b\n",
    "Cookie: a=b\n",
    "Remote-User: root\n",
    "X-Hop: 1\n",
    "Keep-Alive: 1\n",
    "host",
    "content-length",
    "x-real-ip",
    "forwarded",
    "te",
];

proptest! {
    #[test]
    fn made_up_hosts(data in made_of(HOSTS)) {
        entries::host(&data);
    }

    #[test]
    fn made_up_framings(data in made_of(FRAMINGS)) {
        entries::framing(&data);
    }

    #[test]
    fn made_up_cookies(data in made_of(COOKIES)) {
        entries::cookies(&data);
    }

    #[test]
    fn made_up_heads(data in made_of(HEADS)) {
        entries::head(&data);
    }
}
