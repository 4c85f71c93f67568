//! A request in HTTP/2 as one in HTTP/1.1, which is what the way to the node speaks. Everything that two readers could
//! understand in two ways once it is text is refused here (RFC 9113 §8.2, §8.3, §10.3); what breaks HTTP/2's own rules
//! (fields of one connection, upper case, a length that is not kept) has been refused by then.

use data_encoding::BASE64;
use h2::ext;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TE,
        UPGRADE,
    },
    request::Parts,
    uri::{self, Authority, Scheme},
};

use crate::ingress::{failure::Failure, forward::Protocol, framing, host, limits::Limits};

/// Makes `request` one in HTTP/1.1.
pub(in crate::ingress) fn translate<B>(
    request: &mut Request<B>,
    limits: &Limits,
) -> Result<Protocol, Failure> {
    check_size(request, limits.head_bytes)?;
    join_cookies(request.headers_mut());
    if request.headers().len() > limits.head_fields {
        return Err(Failure::HeadTooLarge);
    }
    let mut lengths = request.headers().get_all(CONTENT_LENGTH).iter();
    if lengths.next().is_some_and(|length| !framing::is_plain(length.as_bytes())) || lengths.next().is_some()
    {
        return Err(Failure::BadRequest);
    }
    name_host(request)?;
    *request.version_mut() = Version::HTTP_11;
    match request.extensions_mut().remove::<ext::Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" => {
            ask_for_websocket(request)?;
            Ok(Protocol::WebSocketOverHttp2)
        }
        // Another protocol stays the CONNECT that it is, which is refused.
        Some(_) | None => Ok(Protocol::Http2),
    }
}

/// A head has so many bytes at most, as HTTP/2 counts them (RFC 9113 §6.5.2).
fn check_size<B>(request: &Request<B>, most: usize) -> Result<(), Failure> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields =
        || request.headers().iter().map(|(name, value)| (name, name.as_str().len() + value.len() + 32));
    if target + fields().map(|(_, size)| size).sum::<usize>() <= most {
        return Ok(());
    }
    let cookies: usize = fields().filter(|(name, _)| **name == COOKIE).map(|(_, size)| size).sum();
    Err(if cookies > most / 2 { Failure::CookiesTooLarge } else { Failure::HeadTooLarge })
}

/// Makes a request to the node one in HTTP/2 again: the host is the authority, and trailers are taken.
pub(in crate::ingress) fn translate_back(parts: &mut Parts) {
    let host = parts.headers.remove(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut uri = uri::Parts::from(std::mem::take(&mut parts.uri));
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = host;
    // What is no URI for the want of a host is refused where it is sent.
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.version = Version::HTTP_2;
    // Whether the server says so is not heard (hyper/h2 takes interim answers out): the visitor is told to go on at once.
    parts.headers.remove(EXPECT);
    parts.headers.insert(TE, HeaderValue::from_static("trailers"));
}

/// The authority is the host (RFC 9113 §8.3.1). If both are there, whoever routes compares them.
fn name_host<B>(request: &mut Request<B>) -> Result<(), Failure> {
    if request.headers().contains_key(HOST) {
        return Ok(());
    }
    let authority = request.uri().authority().ok_or(Failure::BadRequest)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Failure::BadRequest)?;
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// One field again out of many (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// The handshake of RFC 6455 §4.1 in the place of RFC 8441's. The key proves to a client that its server has read the
/// request; here the client is the relay, and the node's server is asked by nobody else.
fn ask_for_websocket<B>(request: &mut Request<B>) -> Result<(), Failure> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|_| Failure::Broken)?;
    let key = HeaderValue::try_from(BASE64.encode(&key)).map_err(|_| Failure::Broken)?;
    // What follows on the stream is no body, whatever is said of its length.
    if request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return Err(Failure::BadRequest);
    }
    *request.method_mut() = Method::GET;
    request.headers_mut().remove(EXPECT);
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_KEY, key);
    headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    Ok(())
}

/// For fuzzers: a request as HTTP/2 brings it, its method and target in the first line, a field in each other one. Returns
/// whether it was made one in HTTP/1.1.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n').take(200);
    let first = lines.next().unwrap_or_default();
    let (method, target) = first.split_at(first.iter().position(|byte| *byte == b' ').unwrap_or(first.len()));
    let (Ok(method), Ok(target)) = (Method::from_bytes(method), Uri::try_from(target.trim_ascii())) else {
        return false;
    };
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (method, target, Version::HTTP_2);
    for line in lines {
        // A pseudo-field's name begins with a colon.
        let Some(colon) = line.iter().skip(1).position(|byte| *byte == b':').map(|at| at + 1) else {
            continue;
        };
        let Ok(value) = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()) else { continue };
        if &line[..colon] == b":protocol" {
            request.extensions_mut().insert(ext::Protocol::from_static("websocket"));
        } else if let Ok(name) = http::HeaderName::from_bytes(&line[..colon]) {
            request.headers_mut().append(name, value);
        }
    }
    let Ok(protocol) = translate(&mut request, &Limits::default()) else { return false };
    assert_eq!(request.version(), Version::HTTP_11);
    let count = |name: http::HeaderName| request.headers().get_all(name).iter().count();
    assert!(count(HOST) > 0 && count(CONTENT_LENGTH) <= 1 && count(COOKIE) <= 1);
    let length = request.headers().get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    assert!(length.is_none_or(framing::is_plain), "{length:?}");
    if protocol == Protocol::WebSocketOverHttp2 {
        assert!(request.method() == Method::GET && count(SEC_WEBSOCKET_KEY) == 1);
        assert_eq!(request.headers()[UPGRADE], "websocket");
        assert!(length.is_none_or(|length| length == b"0") && count(EXPECT) == 0);
    }
    let Ok(host) =
        host::requested(request.uri(), request.headers()).map(|authority| authority.host.into_owned())
    else {
        return false;
    };
    let (mut parts, ()) = request.into_parts();
    translate_back(&mut parts);
    assert!(parts.version == Version::HTTP_2 && !parts.headers.contains_key(HOST));
    let called = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    let called = called.as_deref().and_then(|called| host::parse(called.as_bytes()).ok());
    assert!(
        called.is_none_or(|called| called.host == host),
        "the server is called by another name than was routed by"
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_translated_comes_back_as_it_was() {
        let request = Request::post("https://rpc.tun.example/t.T/Call?x=1").version(Version::HTTP_2).body(());
        let mut request = request.unwrap();
        assert_eq!(translate(&mut request, &Limits::default()).unwrap(), Protocol::Http2);
        assert_eq!(request.headers()[HOST], "rpc.tun.example");
        let (mut parts, ()) = request.into_parts();
        parts.uri = "/t.T/Call?x=1".parse().unwrap();
        translate_back(&mut parts);
        assert_eq!(parts.uri, "http://rpc.tun.example/t.T/Call?x=1");
        assert_eq!((parts.version, parts.headers.get(HOST)), (Version::HTTP_2, None));
        assert_eq!(parts.headers[TE], "trailers");
    }
}
