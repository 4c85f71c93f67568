//! The same for the relay: one function for each parser of what visitors and tunnels send over HTTP.
//! `relay/tests/fuzz_corpus.rs` calls these with the committed seeds, and with what proptest makes up.
//!
//! Each says whether its input was accepted, so that a replay can tell that it gets that far.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
};

use futures::FutureExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri,
    header::{CONNECTION, HOST, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE},
};
use mytunnel_carrier::{
    datagram,
    greeting::{self, Greeting},
};
use mytunnel_relay::ingress::{
    ProxyNetwork, TrustedProxies,
    cookies::{self, Verdict},
    framing::{Position, Scanner},
    head::{self, Visitor},
    host::{self, Destination},
};

const DOMAIN: &str = "tun.test";
const CONSOLE: &str = "console.test";
/// So short that inputs reach it.
const LINE: usize = 40;

/// A `Host`: one normal form, made of what host names are made of.
pub fn host(data: &[u8]) -> bool {
    if let (Ok(value), Ok(target)) = (HeaderValue::from_bytes(data), Uri::try_from(data)) {
        let headers = HeaderMap::from_iter([(HOST, value)]);
        let root = Uri::from_static("/");
        let named = host::requested(&root, &headers);
        assert_eq!(named, host::parse(data), "the header is read as it is");
        if let Ok(both) = host::requested(&target, &headers) {
            assert_eq!(Ok(both), named, "a target changes nothing, or is refused");
        }
    }
    let Ok(authority) = host::parse(data) else { return false };
    let name = &*authority.host;
    assert_eq!(host::parse(name.as_bytes()).map(|again| again.host), Ok(authority.host.clone()));
    assert!(!name.is_empty() && name.len() <= 253 && !name.ends_with('.'), "{name}");
    let allowed =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'[' | b']' | b':');
    assert!(name.bytes().all(allowed), "{name}");
    if let Destination::Tunnel(label) = host::destination(name, DOMAIN, CONSOLE) {
        assert_eq!(format!("{label}.{DOMAIN}"), name);
        assert!(!label.is_empty() && !label.contains('.'), "{label}");
    }
    true
}

/// The bytes of a connection: it does not matter how they are cut into reads, and nothing moves after an objection.
/// The first byte of the input says how they are cut.
pub fn framing(data: &[u8]) -> bool {
    let Some((&step, bytes)) = data.split_first() else { return false };
    let mut whole = Scanner::new(LINE);
    let verdict = whole.scan(bytes);
    for size in [1, usize::from(step).max(1)] {
        let mut cut = Scanner::new(LINE);
        let mut first = Ok(());
        for part in bytes.chunks(size) {
            let heads = cut.heads();
            let now = cut.scan(part);
            if first.is_err() {
                assert_eq!((now, cut.heads()), (Ok(()), heads), "an objection is made once, and is the end");
            }
            first = first.and(now);
        }
        assert_eq!(first, verdict, "in parts of {size}");
        let state = |scanner: &Scanner| (scanner.heads(), scanner.message(), scanner.position());
        assert_eq!(state(&cut), state(&whole), "in parts of {size}");
    }
    if verdict.is_err() {
        assert_eq!(whole.position(), Position::Body);
        assert!((whole.heads()..=whole.heads() + 1).contains(&whole.message()));
    }
    verdict.is_ok() && whole.heads() > 0 && whole.position() == Position::Between
}

/// A `Set-Cookie`: what is passed on stays at home, and passes again unchanged.
pub fn cookies(data: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(data) else { return false };
    let kept = match cookies::judge(&value, false) {
        Verdict::Keep => value,
        Verdict::Replace(better) => {
            assert_eq!(cookies::judge(&better, false), Verdict::Keep, "{better:?}");
            assert!(better.len() < value.len(), "{better:?}");
            better
        }
        Verdict::Drop => return false,
    };
    stays_at_home(&kept);
    true
}

/// A head, one `name: value` a line, as a visitor's request and trailers, and as a tunnel's response.
pub fn head(data: &[u8]) -> bool {
    let sent = fields(data);
    let hosts = sent.get_all(HOST).iter().count();
    for upgrade in [false, true] {
        let mut headers = sent.clone();
        head::to_node(&mut headers, &visitor(), upgrade);
        says_only_what_the_relay_says(&headers, hosts > 0);
        assert_eq!(headers.get_all(HOST).iter().count(), hosts, "the host reaches the server");
        assert_eq!(headers.contains_key(CONNECTION), upgrade);
        assert!(upgrade || !headers.contains_key(UPGRADE));
        let mut again = headers.clone();
        head::to_node(&mut again, &visitor(), upgrade);
        assert_eq!(again, headers, "what has passed passes unchanged");
    }
    let mut trailers = sent.clone();
    head::trailers_to_node(&mut trailers);
    says_only_what_the_relay_says(&trailers, false);
    for name in ["host", "content-length", "transfer-encoding", "cookie", "authorization", "connection"] {
        assert!(!trailers.contains_key(name), "{name} in trailers");
    }
    answered(sent)
}

/// A head that asks for another protocol, and one that agrees to it: one protocol alone, and none in which a visitor would
/// speak past the relay.
pub fn upgrade(data: &[u8]) -> bool {
    let mut request = Request::new(());
    *request.headers_mut() = fields(data);
    let Some(protocol) = head::wanted_upgrade(&request, false) else { return false };
    assert_eq!(head::wanted_upgrade(&request, true), None, "with a body");
    let asked = protocol.as_bytes().to_ascii_lowercase();
    assert!(
        !asked.is_empty() && asked.iter().all(|byte| byte.is_ascii_graphic() && !b",;\"()".contains(byte))
    );
    for other in [&b"h2"[..], b"h2c", b"h3", b"http", b"tls"] {
        assert!(!asked.starts_with(other), "{protocol:?}");
    }
    let mut passed = request.headers().clone();
    head::to_node(&mut passed, &visitor(), true);
    let named: Vec<_> = passed.get_all(UPGRADE).iter().collect();
    assert_eq!(named, [&protocol], "the server is asked for what was looked at");
    assert!(!passed.contains_key("http2-settings"));
    assert!(head::is_switched_to(&protocol, request.headers()));
    let mut twice = passed;
    twice.append(UPGRADE, HeaderValue::from_static("h2c"));
    assert!(!head::is_switched_to(&protocol, &twice));
    true
}

/// Fields of `X-Forwarded-For`, one a line: who is not trusted is believed nothing, and what stands before the last address
/// that is no proxy's changes nothing.
pub fn proxies(data: &[u8]) -> bool {
    let trusted: TrustedProxies = ["10.0.0.0/8", "127.0.0.1", "2001:db8:aa::/48"]
        .into_iter()
        .filter_map(|text| text.parse::<ProxyNetwork>().ok())
        .collect();
    let lines =
        data.split(|byte| *byte == b'\n').take(20).filter_map(|line| HeaderValue::from_bytes(line).ok());
    let lines: Vec<_> = lines.collect();
    let name = HeaderName::from_static("x-forwarded-for");
    let head = |lines: &[HeaderValue]| -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.clone())).collect()
    };
    let stranger = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    assert_eq!(trusted.client(stranger, &head(&lines)), stranger);
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = trusted.client(peer, &head(&lines));
    assert_eq!(client, client.to_canonical());
    if trusted.trust(client) {
        return false;
    }
    let more: Vec<_> =
        [HeaderValue::from_static("203.0.113.66, 10.0.0.1")].into_iter().chain(lines).collect();
    assert_eq!(trusted.client(peer, &head(&more)), client, "a visitor has chosen their address");
    true
}

/// The first bytes of a pipe of a TCP or UDP tunnel.
pub fn greeting(data: &[u8]) -> bool {
    let Ok(Some((read, length))) = Greeting::decode(data) else { return false };
    assert!(length <= greeting::MAX && length <= data.len());
    for cut in 0..length {
        assert_eq!(Greeting::decode(&data[..cut]), Ok(None), "{cut}");
    }
    let written = read.encode();
    assert_eq!(Greeting::decode(&written), Ok(Some((read, written.len()))));
    true
}

/// Datagrams on a pipe: what was read is written alike, and what is too long or cut is an error.
pub fn datagrams(data: &[u8]) -> bool {
    let (mut rest, mut read, mut written) = (data, Vec::new(), Vec::new());
    loop {
        let before = rest;
        match datagram::read(&mut rest, &mut read).now_or_never().expect("bytes are there at once") {
            Ok(true) => {
                assert!(read.len() <= datagram::MAX);
                let writing = datagram::write(&mut written, &read).now_or_never().expect("there is room");
                writing.expect("what was read can be written");
            }
            Ok(false) => {
                assert_eq!(written, data);
                return !data.is_empty();
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData), "{error}");
                assert!(data.starts_with(&written) && !before.is_empty());
                return false;
            }
        }
    }
}

fn answered(sent: HeaderMap) -> bool {
    for status in [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS] {
        let mut headers = sent.clone();
        if head::to_visitor(status, &mut headers, false).is_err() {
            assert!(sent.contains_key(TRANSFER_ENCODING), "{sent:?}");
            return false;
        }
        for name in [TRANSFER_ENCODING, TE, HeaderName::from_static("keep-alive")] {
            assert!(!headers.contains_key(&name), "{name} in a response");
        }
        headers.get_all(SET_COOKIE).iter().for_each(stays_at_home);
    }
    !sent.is_empty()
}

fn visitor() -> Visitor {
    Visitor::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), true)
}

fn says_only_what_the_relay_says(headers: &HeaderMap, said: bool) {
    let ours = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
    for (name, value) in headers {
        let name = name.as_str();
        if said && ours.contains(&name) {
            assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
            assert!(name != "x-forwarded-for" || value == "192.0.2.1", "{value:?}");
            continue;
        }
        let lies = ["x-forwarded-", "x-auth-request-", "x-mtk-", "x-mytunnel-", "remote-", "x-remote-"];
        assert!(!lies.iter().any(|lie| name.starts_with(lie)) && !name.contains('_'), "{name}");
        assert!(!["forwarded", "x-real-ip", "keep-alive", "proxy-connection"].contains(&name), "{name}");
        assert!(name != "te" || value == "trailers", "{value:?}");
    }
}

fn stays_at_home(cookie: &HeaderValue) {
    let lower = cookie.as_bytes().to_ascii_lowercase();
    let mut parts = lower.split(|byte| *byte == b';');
    let name = parts.next().and_then(|pair| pair.split(|byte| *byte == b'=').next()).unwrap_or_default();
    assert!(!name.trim_ascii().is_empty(), "{cookie:?} has no name");
    assert!(!name.windows(4).any(|part| part == b"mtk_"), "{cookie:?} poses as the relay's");
    for part in parts {
        let attribute = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        assert_ne!(attribute.trim_ascii(), b"domain", "{cookie:?} reaches others");
    }
}

fn fields(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
            headers.append(name, value);
        }
    }
    headers
}
