//! For fuzzers: what gates read of visitors. Behind a seal no fuzzer gets by itself, so that each text is tried as it comes,
//! and sealed with the right key.

use std::net::{IpAddr, Ipv4Addr};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header::AUTHORIZATION, header::COOKIE};
use mytunnel_keys::feed::{AddressGate, BasicGate, BearerGate, Gates, PinGate, SessionKey, SignInGate};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::{
    asked::Asked,
    basic,
    bearer::{self, Shown},
    cookies::{self, Name},
    decide::{Decision, Door, decide},
    pin,
    sealed::{self, Carried},
    session::Session,
    sign_in::Who,
};
use crate::ingress::head::Visitor;

const KEY: SessionKey = SessionKey::from_bytes([7; 32]);
const OTHER_KEY: SessionKey = SessionKey::from_bytes([8; 32]);
const HOST: &str = "web.tun.test";
const NOW: u64 = 1_800_000_000;

/// The first byte says what the others are. Returns whether they were accepted.
#[doc(hidden)]
pub fn gate(data: &[u8]) -> bool {
    let Some((&kind, data)) = data.split_first() else { return false };
    match kind {
        b'c' => in_cookies(data),
        b's' => in_session(data),
        b'x' => in_sealed(data),
        b'a' => in_authorization(data),
        b'f' => in_form(data),
        b'd' => in_decision(data),
        _ => false,
    }
}

/// Of a request's cookies, one a line: of ours one at most is found, and none goes on.
fn in_cookies(data: &[u8]) -> bool {
    let mut headers = lines(data, &COOKIE);
    let names = |headers: &HeaderMap| -> Vec<Vec<u8>> {
        let all =
            headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
        all.map(|part| part.split(|byte| *byte == b'=').next().unwrap_or_default().to_vec()).collect()
    };
    let is_own = |name: &Vec<u8>| name.to_ascii_lowercase().windows(4).any(|part| part == b"mtk_");
    let before = names(&headers);
    let found = cookies::only(&headers, Name::PIN.on(true)).map(<[u8]>::to_vec);
    let own = Name::PIN.on(true).as_bytes();
    let stand = before.iter().filter(|name| name.trim_ascii() == own).count();
    assert!(found.is_none() || stand > 0, "{before:?}");
    let valued =
        headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let valued = valued.filter(|part| part.contains(&b'=') && part.trim_ascii().starts_with(own));
    let valued =
        valued.filter(|part| part.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii() == own);
    assert!(valued.count() <= 1 || found.is_none(), "of two it cannot be known which is ours");
    let others: Vec<_> = before
        .iter()
        .filter(|name| !is_own(name) && !name.trim_ascii().is_empty())
        .map(|name| name.trim_ascii().to_vec())
        .collect();
    cookies::strip(&mut headers);
    let after = names(&headers);
    assert!(!after.iter().any(is_own), "{after:?}");
    let left: Vec<_> =
        after.iter().map(|name| name.trim_ascii().to_vec()).filter(|name| !name.is_empty()).collect();
    assert_eq!(left, others, "what is not ours goes on");
    found.is_some()
}

/// A session's cookie: nothing opens but what was sealed with this key for this host, in its time.
fn in_session(data: &[u8]) -> bool {
    if let Some(session) = Session::open(data, &KEY, HOST, NOW) {
        assert_eq!(session.seal(&KEY, HOST).as_bytes(), data, "one that nobody sealed");
    }
    let session = Session { ends_at: NOW + 60, who: data.to_vec() };
    let text = session.seal(&KEY, HOST);
    let open = |key: &SessionKey, host: &str, now| Session::open(text.as_bytes(), key, host, now);
    let opened = open(&KEY, HOST, NOW);
    assert!(opened.is_none() || opened == Some(session));
    assert_eq!(open(&KEY, HOST, NOW + 60), None);
    assert_eq!(open(&KEY, "web2.tun.test", NOW), None);
    assert_eq!(open(&OTHER_KEY, HOST, NOW), None);
    opened.is_some_and(|session| Who::read(&session).is_some())
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    text: String,
    ends_at: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OtherContent {
    text: String,
    ends_at: u64,
}

impl Carried for Content {
    const LABEL: &'static str = "fuzz";

    fn ends_at(&self) -> u64 {
        self.ends_at
    }
}

impl Carried for OtherContent {
    const LABEL: &'static str = "other";

    fn ends_at(&self) -> u64 {
        self.ends_at
    }
}

/// A sealed text, and content that somebody has sealed.
fn in_sealed(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let known: Option<Content> = sealed::peek(text);
    assert_eq!(sealed::open::<Content>(&KEY, text, NOW), None, "nobody has sealed {known:?}");
    let seal = sealed::derive(&KEY, Content::LABEL, text);
    let text = BASE64URL_NOPAD.encode(&[&seal[..], text.as_bytes()].concat());
    let opened: Option<Content> = sealed::open(&KEY, &text, NOW);
    if let Some(content) = &opened {
        assert!(NOW < content.ends_at);
        assert_eq!(sealed::peek::<Content>(&text).as_ref(), Some(content));
        assert_eq!(sealed::open::<Content>(&KEY, &text, content.ends_at), None);
        assert_eq!(sealed::open::<OtherContent>(&KEY, &text, NOW), None);
        assert_eq!(sealed::open::<Content>(&OTHER_KEY, &text, NOW), None);
        let again = sealed::seal(&KEY, content);
        assert!(again.is_none_or(|again| sealed::open(&KEY, &again, NOW).as_ref() == Some(content)));
    }
    opened.is_some()
}

/// Fields of `Authorization`, one a line, and as what a password or a token is made of.
fn in_authorization(data: &[u8]) -> bool {
    let headers = lines(data, &AUTHORIZATION);
    let count = headers.get_all(AUTHORIZATION).iter().count();
    let pair = basic::shown(&headers);
    if let Some(pair) = &pair {
        assert!(count == 1 && pair.as_bytes().contains(&b':'));
        assert!(!pair.fit("ann", "no hash"));
    }
    let token = bearer::shown(&headers);
    assert!(pair.is_none() || matches!(token, Shown::Nothing), "one header is of one scheme");
    if let Shown::Token(token) = &token {
        let (colon, token) = token.as_bytes().split_first().unwrap_or((&0, b""));
        assert!(count == 1 && *colon == b':' && !token.is_empty() && token.iter().all(u8::is_ascii_graphic));
    }
    let written = HeaderValue::try_from(format!("Basic {}", BASE64.encode(data)));
    let read = written.ok().and_then(|value| basic::shown(&HeaderMap::from_iter([(AUTHORIZATION, value)])));
    assert!(read.is_none_or(|read| read.as_bytes() == data));
    pair.is_some() || matches!(token, Shown::Token(_))
}

/// The form for a number: as it comes, and with these bytes typed into it.
fn in_form(data: &[u8]) -> bool {
    let typed = pin::typed(data);
    if let Some(typed) = &typed {
        assert!(!typed.pin.as_bytes().contains(&b' '));
        assert_eq!(form_urlencoded::parse(data).filter(|(name, _)| name == "pin").count(), 1);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("pin", text).finish();
        let read = pin::typed(form.as_bytes()).map(|typed| typed.pin.as_bytes().to_vec());
        assert_eq!(read, Some(format!(":{}", text.replace(' ', "")).into_bytes()));
        let to = pin::destination(Some(text));
        let base = url::Url::parse("https://web.tun.test/x/y").ok();
        let reached = base.and_then(|base| base.join(&to).ok());
        assert_eq!(reached.as_ref().and_then(url::Url::host_str), Some(HOST), "{to}");
    }
    typed.is_some()
}

/// A head, one `name: value` a line: whatever it says, it passes no gate that it would need a key for, and no list.
fn in_decision(data: &[u8]) -> bool {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(50) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
            headers.append(name, value);
        }
    }
    let hash = String::from("no hash");
    let pin = PinGate { hash: hash.clone(), generation: 1, session_key: KEY };
    let basic = BasicGate { user: "ann".to_owned(), hash: hash.clone(), generation: 1 };
    let sign_in = SignInGate {
        provider: "google".to_owned(),
        allowed_domains: Vec::new(),
        allowed_emails: Vec::new(),
        session_key: KEY,
    };
    let bearer = BearerGate { hash, generation: 1 };
    let Ok(allow) = "192.0.2.0/24".parse() else { return false };
    let addresses = AddressGate { allow: vec![allow], deny: Vec::new() };
    let mut asks = false;
    for gates in [
        Gates { pin: Some(pin.clone()), ..Gates::default() },
        Gates { sign_in: Some(sign_in.clone()), ..Gates::default() },
        Gates { basic: Some(basic.clone()), ..Gates::default() },
        Gates { bearer: Some(bearer.clone()), ..Gates::default() },
        Gates { addresses: Some(addresses), ..Gates::default() },
        Gates { ends_at: Some(NOW), ..Gates::default() },
        Gates {
            pin: Some(pin),
            basic: Some(basic),
            sign_in: Some(sign_in),
            bearer: Some(bearer),
            ..Gates::default()
        },
    ] {
        for path in ["/", "/.mytunnel/pin", "/.mytunnel/sign-in", "/.mytunnel/x"] {
            for method in [Method::GET, Method::POST] {
                let visitor = Visitor::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), true);
                let uri = Uri::from_static(path);
                let asked = Asked {
                    method: &method,
                    uri: &uri,
                    headers: &headers,
                    visitor: &visitor,
                    host: HOST,
                    now: NOW,
                    signed_out: false,
                };
                match decide(&gates, &asked, true) {
                    Decision::People(Door::Open(guest)) => {
                        panic!("{guest:?} passes {gates:?} with {headers:?}")
                    }
                    Decision::Program(..) | Decision::Person(..) => asks = true,
                    Decision::People(Door::Ask(_) | Door::Reject(_) | Door::Page(_)) | Decision::Deny(_) => {}
                }
            }
        }
    }
    asks
}

fn lines(data: &[u8], name: &HeaderName) -> HeaderMap {
    let values =
        data.split(|byte| *byte == b'\n').take(20).filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}
