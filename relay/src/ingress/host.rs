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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// The dashboard and the API.
    Console,
    /// The name of a tunnel.
    Tunnel(Cow<'a, str>),
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

/// Whom `host` (normalised by [`parse`]) belongs to by itself, given the base domain and the console's host in the same
/// form. Tenants' own domains are [`Routes::destination`](crate::route::Routes::destination)'s to know.
pub fn destination<'a>(host: &'a str, domain: &str, console: &str) -> Destination<'a> {
    if host == console {
        return Destination::Console;
    }
    let label = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    match label {
        Some(label) if !label.is_empty() && !label.contains('.') => Destination::Tunnel(label.into()),
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
mod tests;
