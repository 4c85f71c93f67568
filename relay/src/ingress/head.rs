//! What the ingress changes in the heads that pass it: fields for one hop only are taken out in both directions
//! (RFC 9110 §7.6.1), what only the relay may say about a visitor is taken out of requests and said anew, and what
//! would reach a sibling tunnel is taken out of responses.
//!
//! Pure functions over header maps. They look at every field once and touch the map only where something is found.

use std::{net::IpAddr, sync::Mutex};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHORIZATION,
        SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::{
    cookies::{self, Verdict},
    failure::ERROR_HEADER,
    locked,
    proxies::TrustedProxies,
};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Names with which proxies speak to servers about identity and origin. From a visitor they are lies.
const RELAYS_OWN: [&str; 8] = [
    "x-forwarded-",
    "x-auth-request-",
    "x-mtk-",
    "x-mytunnel-",
    "remote-",
    "x-remote-",
    "x-original-",
    "x-rewrite-",
];

/// What the relay says about the visitor of one connection, or of one request that a proxy brings.
#[derive(Debug)]
pub struct Visitor {
    ip: IpAddr,
    address: HeaderValue,
    node: Box<str>,
    secure: bool,
    /// The host that the visitor asked for, where a proxy says that it was another.
    host: Option<HeaderValue>,
    /// The last `Host` and what `Forwarded` says with it: a connection rarely asks for another.
    last: Mutex<Option<(HeaderValue, HeaderValue)>>,
}

impl Visitor {
    /// A visitor at `address`, over TLS or not.
    pub fn new(address: IpAddr, secure: bool) -> Self {
        let address = address.to_canonical();
        let text = address.to_string();
        // RFC 7239 §6: an IPv6 address stands in brackets and quotes.
        let node = if address.is_ipv6() { format!("\"[{text}]\"") } else { text.clone() };
        let value = HeaderValue::from_str(&text).expect("an address is plain ASCII");
        let node = node.into_boxed_str();
        Self { ip: address, address: value, node, secure, host: None, last: Mutex::default() }
    }

    /// The visitor of a request on this visitor's connection, if a trusted proxy has that.
    pub fn behind(&self, proxies: &TrustedProxies, headers: &HeaderMap) -> Option<Self> {
        proxies.trust(self.ip).then(|| Self {
            host: TrustedProxies::host(headers),
            ..Self::new(
                proxies.client(self.ip, headers),
                TrustedProxies::is_secure(headers).unwrap_or(self.secure),
            )
        })
    }

    /// Where the connection comes from.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether they came over TLS, as far as anybody knows.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host that their browser shows, for a request with these headers.
    pub(crate) fn host<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        self.host.as_ref().or_else(|| headers.get(HOST))
    }

    fn proto(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    fn forwarded(&self, host: &HeaderValue) -> HeaderValue {
        let mut last = locked(&self.last);
        if let Some((said_for, said)) = &*last
            && said_for == host
        {
            return said.clone();
        }
        let mut text = format!("for={};host=\"", self.node).into_bytes();
        // Quoted because of the port's colon. A host that passed the check has nothing to escape.
        text.extend_from_slice(host.as_bytes());
        text.extend_from_slice(b"\";proto=");
        text.extend_from_slice(self.proto().as_bytes());
        let said = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
        *last =
            Some((HeaderValue::from_bytes(host.as_bytes()).unwrap_or_else(|_| host.clone()), said.clone()));
        said
    }
}

/// About how many bytes a head takes on the wire, beside its first line.
pub(super) fn length(headers: &HeaderMap) -> u64 {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    fields.sum::<usize>() as u64
}

/// What a request asks its connection to become, if it does so in a way that can be passed on: HTTP/1.1, no body, named in
/// `Connection`, and one protocol in one field, so that no server takes another one than was looked at here. Never HTTP of any
/// kind or TLS, in which a visitor would speak past every check.
pub fn wanted_upgrade<B>(request: &Request<B>, has_body: bool) -> Option<HeaderValue> {
    let headers = request.headers();
    let protocol = only(headers, &UPGRADE)?;
    let may = request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && !has_body
        && is_protocol_beside_http(protocol.as_bytes())
        && headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case("upgrade"));
    may.then(|| protocol.clone())
}

/// Whether the head of a 101 says that the connection becomes what was asked for, and nothing else.
pub fn is_switched_to(protocol: &HeaderValue, headers: &HeaderMap) -> bool {
    only(headers, &UPGRADE).is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
}

/// The value of a field that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// One protocol, with its version or without (RFC 9110 §7.8), that is neither HTTP nor TLS.
fn is_protocol_beside_http(value: &[u8]) -> bool {
    let is_of =
        |family: &[u8]| value.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family));
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    !value.is_empty()
        && value.iter().all(is_token)
        && ![&b"h2"[..], b"h3", b"http", b"tls"].into_iter().any(is_of)
}

/// Makes a visitor's request head one for the node: cut down to what travels end to end, then told who asks.
/// `upgrade` keeps the fields that ask for another protocol.
pub fn to_node(headers: &mut HeaderMap, visitor: &Visitor, upgrade: bool) {
    strip_listed(headers, upgrade);
    let unwanted: Vec<HeaderName> = headers
        .iter()
        .filter(|(name, value)| is_unwanted(name, value, upgrade))
        .map(|(name, _)| name.clone())
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    // No other comes so far. Servers that know it in one spelling only would go by nothing at all.
    if let Some(coding) = headers.get_mut(TRANSFER_ENCODING) {
        *coding = HeaderValue::from_static("chunked");
    }
    let Some(host) = visitor.host(headers).cloned() else { return };
    headers.insert(FORWARDED, visitor.forwarded(&host));
    headers.insert(X_FORWARDED_FOR, visitor.address.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(visitor.proto()));
    headers.insert(X_FORWARDED_HOST, host);
}

/// Makes a visitor's trailers ones for the node. Some servers merge them into the head, so that nothing may come in
/// here that the head may not say, or has said (RFC 9110 §6.5.1).
pub fn trailers_to_node(trailers: &mut HeaderMap) {
    let unwanted: Vec<HeaderName> = trailers
        .iter()
        .filter(|(name, value)| {
            is_unwanted(name, value, false)
                || matches!(
                    **name,
                    AUTHORIZATION | CONNECTION | CONTENT_LENGTH | COOKIE | HOST | TRANSFER_ENCODING
                )
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in unwanted {
        trailers.remove(name);
    }
}

/// A response head that cannot be passed on: both a length and a transfer coding, so that two readers may see two
/// different bodies, or a coding that nobody here takes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response has a length beside a transfer coding, or another coding than chunked")]
pub struct AmbiguousResponse;

/// Makes the node's response head one for the visitor.
pub fn to_visitor(
    status: StatusCode,
    headers: &mut HeaderMap,
    only_secure: bool,
) -> Result<(), AmbiguousResponse> {
    if let Some(coding) = headers.get(TRANSFER_ENCODING)
        && (headers.contains_key(CONTENT_LENGTH) || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(AmbiguousResponse);
    }
    let upgrade = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    strip_listed(headers, upgrade);
    let mut cookies = false;
    let mut unwanted = Vec::new();
    for name in headers.keys() {
        match *name {
            SET_COOKIE => cookies = true,
            UPGRADE if upgrade => {}
            TRANSFER_ENCODING | UPGRADE | TE => unwanted.push(name.clone()),
            // Which says that the relay answers.
            _ if *name == ERROR_HEADER => unwanted.push(name.clone()),
            _ if ["keep-alive", "proxy-connection", "clear-site-data"].contains(&name.as_str()) => {
                unwanted.push(name.clone());
            }
            _ => {}
        }
    }
    for name in unwanted {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if cookies {
        keep_cookies_at_home(headers, only_secure);
    }
    Ok(())
}

/// Makes a node's trailers ones for the visitor: nothing may come in here that the head may not say, nor what only the head is judged by
/// (RFC 9110 §6.5.1).
pub(super) fn trailers_to_visitor(trailers: &mut HeaderMap) {
    let hop = ["keep-alive", "proxy-connection", "clear-site-data", "strict-transport-security"];
    let unwanted: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            matches!(
                **name,
                CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING | TE | UPGRADE | SET_COOKIE | HOST
            ) || **name == ERROR_HEADER
                || hop.contains(&name.as_str())
        })
        .cloned()
        .collect();
    for name in unwanted {
        trailers.remove(name);
    }
}

fn keep_cookies_at_home(headers: &mut HeaderMap, only_secure: bool) {
    if headers.get_all(SET_COOKIE).iter().all(|value| cookies::judge(value, only_secure) == Verdict::Keep) {
        return;
    }
    let judged: Vec<_> = headers
        .get_all(SET_COOKIE)
        .iter()
        .map(|value| (value.clone(), cookies::judge(value, only_secure)))
        .collect();
    headers.remove(SET_COOKIE);
    for (value, verdict) in judged {
        match verdict {
            Verdict::Keep => headers.append(SET_COOKIE, value),
            Verdict::Replace(value) => headers.append(SET_COOKIE, value),
            Verdict::Drop => continue,
        };
    }
}

/// Removes `Connection` and the fields it lists. What frames or routes a message, and what a gate reads, is not a
/// hop's own and stays (RFC 9110 §7.6.1 forbids listing it): a visitor could otherwise blind the server behind us.
fn strip_listed(headers: &mut HeaderMap, upgrade: bool) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let ordinary = |token: &str| {
        ["keep-alive", "close", "upgrade", "te"].iter().any(|known| token.eq_ignore_ascii_case(known))
    };
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(tokens)
        .filter(|token| !ordinary(token))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING, COOKIE, SET_COOKIE, EXPECT].contains(name))
        .collect();
    for name in listed {
        if !(upgrade && name == UPGRADE) {
            headers.remove(name);
        }
    }
    headers.remove(CONNECTION);
}

fn is_unwanted(name: &HeaderName, value: &HeaderValue, upgrade: bool) -> bool {
    match *name {
        // Kept where we pass trailers on, which needs no promise from the next hop.
        TE => value != "trailers",
        UPGRADE => !upgrade,
        PROXY_AUTHORIZATION | FORWARDED => true,
        _ => {
            let name = name.as_str();
            ["keep-alive", "proxy-connection", "x-real-ip", "http2-settings"].contains(&name)
                || name.contains('_')
                || RELAYS_OWN.iter().any(|prefix| name.starts_with(prefix))
        }
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    text.split(',').map(|token| token.trim_matches([' ', '\t'])).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests;
