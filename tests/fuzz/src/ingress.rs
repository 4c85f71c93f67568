//! The same for the relay: one function for each parser of what visitors and tunnels send over HTTP.
//! `relay/tests/fuzz_corpus.rs` calls these with the committed seeds, and with what proptest makes up.
//!
//! Each says whether its input was accepted, so that a replay can tell that it gets that far.

use std::net::{IpAddr, Ipv4Addr};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{CONNECTION, HOST, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE},
};
use mytunnel_relay::ingress::{
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
