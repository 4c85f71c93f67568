//! Which name a request is for: strict reading of `Host` and of the request target, RFC 9112 §3.2 and RFC 9110 §7.2.
//!
//! Promises one normal form per host (lower case, no port, no trailing dot), so that the table of routes, the gates
//! and the certificate never disagree about who was asked for. Pure; safe to call on anything a stranger sends.

use std::borrow::Cow;

use http::{HeaderMap, Uri, header::HOST};

/// The longest name the DNS can hold, in text form.
const MAX_HOST: usize = 253;

/// A host and its port, as in `Host` or in the authority of an absolute target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower case, without port and trailing dot; an IPv6 address keeps its brackets.
    pub host: Cow<'a, str>,
    /// The port, when one is written.
    pub port: Option<u16>,
}

/// Why a request does not say clearly whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No `Host` at all.
    #[error("the request has no host header")]
    Missing,
    /// More than one `Host`.
    #[error("the request has more than one host header")]
    Repeated,
    /// `Host` and the target name different places.
    #[error("the host header and the request target differ")]
    Differs,
    /// Not a host name.
    #[error("the host is not a valid name")]
    Invalid,
}

/// Whom a normalised host belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// The dashboard and the API.
    Console,
    /// A name under the base domain.
    Tunnel(&'a str),
    /// Nothing this relay answers for.
    Nowhere,
}

/// The host a request is for. `Host` is required once, also from HTTP/1.0; an absolute target must name the same
/// place.
pub fn requested<'a>(target: &'a Uri, headers: &'a HeaderMap) -> Result<Authority<'a>, HostError> {
    let mut values = headers.get_all(HOST).iter();
    let value = values.next().ok_or(HostError::Missing)?;
    if values.next().is_some() {
        return Err(HostError::Repeated);
    }
    let named = parse(value.as_bytes())?;
    if let Some(authority) = target.authority() {
        let default = if target.scheme_str() == Some("https") { 443 } else { 80 };
        let targeted = parse(authority.as_str().as_bytes())?;
        let same_port = targeted.port.unwrap_or(default) == named.port.unwrap_or(default);
        if targeted.host != named.host || !same_port {
            return Err(HostError::Differs);
        }
    }
    Ok(named)
}

/// Reads `host[:port]`. No user information, no percent-encoding, no characters outside of host names: all of these
/// are read differently by different servers.
pub fn parse(bytes: &[u8]) -> Result<Authority<'_>, HostError> {
    let text = std::str::from_utf8(bytes).map_err(|_| HostError::Invalid)?;
    let (host, port) = split_port(text)?;
    let host = if host.starts_with('[') { ipv6(host)? } else { name(host)? };
    Ok(Authority { host, port })
}

/// Whom `host` (normalised by [`parse`]) belongs to, given the base domain and the console's host in the same form.
pub fn destination<'a>(host: &'a str, domain: &str, console: &str) -> Destination<'a> {
    if host == console {
        return Destination::Console;
    }
    let label = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    match label {
        Some(label) if !label.is_empty() && !label.contains('.') => Destination::Tunnel(label),
        Some(_) | None => Destination::Nowhere,
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), HostError> {
    let after_address = text.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = text[after_address..].find(':').map(|at| at + after_address) else {
        return Ok((text, None));
    };
    let digits = &text[colon + 1..];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostError::Invalid);
    }
    // RFC 3986 allows "host:" and means the default port.
    let port = match digits {
        "" => None,
        digits => Some(digits.parse().map_err(|_| HostError::Invalid)?),
    };
    Ok((&text[..colon], port))
}

fn name(host: &str) -> Result<Cow<'_, str>, HostError> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let well_formed = !host.is_empty()
        && host.len() <= MAX_HOST
        && host.bytes().all(allowed)
        && !host.starts_with('.')
        && !host.ends_with('.')
        && !host.contains("..");
    if !well_formed {
        return Err(HostError::Invalid);
    }
    Ok(lower(host))
}

fn ipv6(host: &str) -> Result<Cow<'_, str>, HostError> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(HostError::Invalid)?;
    inner.parse::<std::net::Ipv6Addr>().map_err(|_| HostError::Invalid)?;
    Ok(lower(host))
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked(target: &str, hosts: &[&str]) -> Result<String, HostError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        requested(&target.parse().unwrap(), &headers).map(|authority| authority.host.into_owned())
    }

    #[test]
    fn one_form_for_every_spelling() {
        for spelling in [
            "demo.localhost",
            "DEMO.LocalHost:8080",
            "demo.localhost.",
            "demo.localhost.:80",
            "demo.localhost:",
        ] {
            assert_eq!(parse(spelling.as_bytes()).unwrap().host, "demo.localhost", "{spelling}");
        }
        assert_eq!(parse(b"[::1]:8080").unwrap(), Authority { host: "[::1]".into(), port: Some(8080) });
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        let hostile: &[&[u8]] = &[
            b"",
            b".",
            b"a..b",
            b".a",
            b"user@a",
            b"a b",
            b"a,b",
            b"a/b",
            b"a%2eb",
            b"a:80:80",
            b"a:+80",
            b"a:65536",
            b"a:-1",
            b"a:8o",
            b"[::1",
            b"::1",
            b"[::1]x:80",
            b"[zz]",
            "ö.example".as_bytes(),
            b"\xff",
            b"a\0b",
            b"a\tb",
            b"a#b",
            b"a?b",
            b"a\\b",
            b"a.. ",
        ];
        for host in hostile {
            assert_eq!(parse(host), Err(HostError::Invalid), "{:?}", String::from_utf8_lossy(host));
        }
        assert_eq!(parse("a".repeat(254).as_bytes()), Err(HostError::Invalid));
    }

    #[test]
    fn exactly_one_host_header_that_agrees_with_the_target() {
        assert_eq!(asked("/", &["demo.localhost"]), Ok("demo.localhost".into()));
        assert_eq!(asked("/", &[]), Err(HostError::Missing));
        assert_eq!(asked("/", &["a", "a"]), Err(HostError::Repeated));
        assert_eq!(asked("http://demo.localhost/", &["DEMO.localhost:80"]), Ok("demo.localhost".into()));
        assert_eq!(
            asked("http://demo.localhost:8080/", &["demo.localhost:8080"]),
            Ok("demo.localhost".into())
        );
        assert_eq!(asked("http://other.localhost/", &["demo.localhost"]), Err(HostError::Differs));
        assert_eq!(asked("http://demo.localhost:81/", &["demo.localhost"]), Err(HostError::Differs));
        assert_eq!(asked("http://demo.localhost/", &[]), Err(HostError::Missing));
    }

    #[test]
    fn only_one_label_under_the_domain_is_a_tunnel() {
        let to = |host| destination(host, "tun.example", "console.tun.example");
        assert_eq!(to("demo.tun.example"), Destination::Tunnel("demo"));
        assert_eq!(to("console.tun.example"), Destination::Console);
        for host in [
            "tun.example",
            "a.b.tun.example",
            "demotun.example",
            "demo.tun.example.evil",
            ".tun.example",
            "[::1]",
        ] {
            assert_eq!(to(host), Destination::Nowhere, "{host}");
        }
        assert_eq!(destination("localhost", "localhost", "localhost"), Destination::Console);
    }

    proptest! {
        #[test]
        fn never_panics_and_the_normal_form_is_stable(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(authority) = parse(&bytes) {
                let again = parse(authority.host.as_bytes()).unwrap();
                prop_assert_eq!(&again.host, &authority.host);
                prop_assert_eq!(again.port, None);
            }
        }

        #[test]
        fn case_port_and_dot_do_not_matter(host in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,10}){0,4}", port in any::<u16>()) {
            let spelt = format!("{}.:{port}", host.to_uppercase());
            let read = parse(spelt.as_bytes()).unwrap();
            prop_assert_eq!(read.host, host);
            prop_assert_eq!(read.port, Some(port));
        }
    }
}
