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
fn messages() {
    replay("messages", mytunnel_relay::fuzz::messages);
}

#[test]
fn cookies() {
    replay("cookies", entries::cookies);
}

#[test]
fn heads() {
    replay("head", entries::head);
}

#[test]
fn gates() {
    replay("gate", mytunnel_relay::fuzz::gate);
}

#[test]
fn requests_in_http_2() {
    replay("request", mytunnel_relay::fuzz::request);
}

#[test]
fn questions_about_challenges() {
    replay("dns", mytunnel_relay::fuzz::dns);
}

#[test]
fn upgrades() {
    replay("upgrade", entries::upgrade);
}

#[test]
fn chains_of_proxies() {
    replay("proxies", entries::proxies);
}

#[test]
fn greetings() {
    replay("greeting", entries::greeting);
}

#[test]
fn datagrams() {
    replay("datagrams", entries::datagrams);
}

/// Bytes that are made of these words and of noise.
fn made_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let piece = prop_oneof![8 => word, 1 => vec(any::<u8>(), 0..4)];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Messages that are right but for what lies between their head's first line and the empty one, and what they hold.
fn messages_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let part = || {
        let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
        vec(word, 0..4).prop_map(|words| words.concat())
    };
    let framing = proptest::sample::select(vec![
        "",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: Chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "X: y\r\n",
    ]);
    let body = proptest::sample::select(vec![
        "",
        "hello",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ]);
    let message = (framing, part(), body, part()).prop_map(|(framing, odd, body, behind)| {
        [&b"POST / HTTP/1.1\r\nHost: a\r\n"[..], framing.as_bytes(), &odd, b"\r\n", body.as_bytes(), &behind]
            .concat()
    });
    vec(message, 1..4).prop_map(|messages| messages.concat())
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

const GATES: &[&str] = &[
    "c",
    "s",
    "x",
    "a",
    "f",
    "d",
    "__Host-mtk_pin",
    "mtk_",
    "=",
    "; ",
    ";",
    "\n",
    "cookie: ",
    "authorization: ",
    "Basic ",
    "YTpi",
    "Bearer ",
    "abc",
    "pin=",
    "&",
    "%20",
    "+",
    "to=",
    "/",
    "//",
    "\\",
    "evil.example",
    "{\"text\":\"a\",\"ends_at\":1900000000}",
    "{\"subject\":\"1\",\"shown\":\"a\"}",
    "sec-fetch-mode: navigate",
];

const REQUESTS: &[&str] = &[
    "GET ",
    "POST ",
    "CONNECT ",
    "https://demo.tun.test/",
    "https://a@demo.tun.test:80/",
    "/",
    "\n",
    "host: demo.tun.test\n",
    "host: other.tun.test\n",
    "cookie: a=b\n",
    "content-length: 5\n",
    "content-length: 05\n",
    "expect: x\n",
    ":protocol: websocket\n",
    "te: trailers\n",
    "upgrade: h2c\n",
    "x: y\n",
    ":",
    " ",
];

const QUESTIONS: &[&str] = &[
    "\x12\x34\x01\0\0\x01\0\0\0\0\0\0",
    "\x12\x34\x01\0\0\x01\0\0\0\0\0\x01",
    "\x0f_acme-challenge",
    "\x03tun\x04test\0",
    "\x01x",
    "\0\x10\0\x01",
    "\0\x06\0\x01",
    "\0\0\x29\x04\0\0\0\0\0\0\0",
    "\0",
];

const UPGRADES: &[&str] = &[
    "Host: a\n",
    "Connection: Upgrade\n",
    "Connection: ",
    "Upgrade: ",
    "websocket",
    "h2c",
    "HTTP/2.0",
    "tls",
    ",",
    " ",
    "\n",
    "custom/2",
    "HTTP2-Settings: AA\n",
    "upgrade",
];

const CHAINS: &[&str] = &[
    "192.0.2.1",
    "10.0.0.1",
    "127.0.0.1",
    "2001:db8:aa::1",
    "2001:db8:bb::1",
    "::ffff:10.0.0.1",
    "[",
    "]",
    ":80",
    ",",
    ", ",
    "\n",
    "unknown",
    "_x",
    " ",
    "\t",
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
    fn made_up_messages(data in made_of(FRAMINGS)) {
        mytunnel_relay::fuzz::messages(&data);
    }

    #[test]
    fn whole_messages(data in messages_of(FRAMINGS)) {
        mytunnel_relay::fuzz::messages(&data);
    }

    #[test]
    fn made_up_cookies(data in made_of(COOKIES)) {
        entries::cookies(&data);
    }

    #[test]
    fn made_up_heads(data in made_of(HEADS)) {
        entries::head(&data);
    }

    #[test]
    fn made_up_gates(data in made_of(GATES)) {
        mytunnel_relay::fuzz::gate(&data);
    }

    #[test]
    fn made_up_requests_in_http_2(data in made_of(REQUESTS)) {
        mytunnel_relay::fuzz::request(&data);
    }

    #[test]
    fn made_up_questions(data in made_of(QUESTIONS)) {
        mytunnel_relay::fuzz::dns(&data);
    }

    #[test]
    fn made_up_upgrades(data in made_of(UPGRADES)) {
        entries::upgrade(&data);
    }

    #[test]
    fn made_up_chains(data in made_of(CHAINS)) {
        entries::proxies(&data);
    }

    #[test]
    fn made_up_greetings_and_datagrams(data in vec(any::<u8>(), 0..80)) {
        let header = [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &data].concat();
        entries::greeting(&header);
        entries::datagrams(&data);
    }
}
