//! The address of a coordinator, as a token carries it.
//!
//! Where no public authority vouches for a server, its address names the one that does: `https://tun.example#ca=…`, 16
//! bytes of that certificate's SHA-256 in hexadecimal. Whoever has the address, or a token with it, needs nothing else
//! to know the right server, and trusts nobody on first use.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::id::text_serde;

/// Longest address in a token, without its pin: more would make the token too long.
const MAX_SERVER: usize = 96;

/// What stands before the pin.
const PIN: &str = "#ca=";

/// Base URL of a coordinator: `http` or `https`, host and port; with `https` perhaps the [pin](AuthorityPin) of its
/// authority; nothing behind them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    text: String,
    pin: Option<AuthorityPin>,
}

/// The first 16 bytes of SHA-256 of the certificate of an authority that vouches for a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityPin([u8; 16]);

impl AuthorityPin {
    /// The pin of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(certificate).into();
        let mut pin = [0; 16];
        pin.copy_from_slice(&digest[..16]);
        Self(pin)
    }
}

impl fmt::Display for AuthorityPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for AuthorityPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityPin({self})")
    }
}

/// Why a text is not the address of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No `http://` or `https://` in front.
    #[error("a server's address begins with http:// or https://")]
    Scheme,
    /// No host, or one with a character that hosts do not have.
    #[error("a server's address is a scheme, a host and perhaps a port, as in https://tun.example:8443")]
    Host,
    /// Not a port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// Too long to be carried by a token.
    #[error("a server's address has at most 96 characters")]
    TooLong,
    /// A pin that is none, or one of a server without TLS.
    #[error("the pin of a server's authority is #ca= and 32 hexadecimal digits, behind an https:// address")]
    Pin,
}

impl ServerUrl {
    /// The address without a slash at its end, with its pin.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address without its pin.
    pub fn base(&self) -> &str {
        self.text.split_once('#').map_or(&self.text, |(base, _)| base)
    }

    /// Host and port, as they stand in the address.
    pub fn authority(&self) -> &str {
        self.base().split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Whether the address is one of TLS.
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// The authority that vouches for the server; without one, any public authority.
    pub const fn pin(&self) -> Option<&AuthorityPin> {
        self.pin.as_ref()
    }

    /// The same server, vouched for by this authority. An address without TLS stays as it is.
    #[must_use]
    pub fn with_pin(&self, pin: AuthorityPin) -> Self {
        if !self.is_https() {
            return self.clone();
        }
        Self { text: format!("{}{PIN}{pin}", self.base()), pin: Some(pin) }
    }
}

impl FromStr for ServerUrl {
    type Err = ServerError;

    /// Reads an address; a slash at its end is dropped, the scheme and the host are put in lower case.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        let (text, pin) = match text.split_once('#') {
            Some((base, _)) => (base, Some(parse_pin(&text[base.len()..])?)),
            None => (text, None),
        };
        if text.len() > MAX_SERVER {
            return Err(ServerError::TooLong);
        }
        let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let authority = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .ok_or(ServerError::Scheme)?;
        check_authority(authority)?;
        let server = Self { text, pin: None };
        match pin {
            Some(_) if !server.is_https() => Err(ServerError::Pin),
            Some(pin) => Ok(server.with_pin(pin)),
            None => Ok(server),
        }
    }
}

fn parse_pin(text: &str) -> Result<AuthorityPin, ServerError> {
    let digits = text.strip_prefix(PIN).ok_or(ServerError::Pin)?.to_ascii_lowercase();
    let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| ServerError::Pin)?;
    bytes.try_into().map(AuthorityPin).map_err(|_| ServerError::Pin)
}

fn check_authority(authority: &str) -> Result<(), ServerError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(ServerError::Host)?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let bracketed = authority.starts_with('[');
    let fits = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'f' | b'.' => true,
        b':' => bracketed,
        b'g'..=b'z' | b'-' => !bracketed,
        _ => false,
    };
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(ServerError::Host);
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        None => Err(ServerError::Host),
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse::<std::num::NonZeroU16>().map(drop).map_err(|_| ServerError::Port)
        }
        Some(_) => Err(ServerError::Port),
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

text_serde!(ServerUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_scheme_host_and_port() {
        for (text, read) in [
            ("http://localhost:8080", "http://localhost:8080"),
            ("https://Tun.Example/", "https://tun.example"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("https://10.0.0.1", "https://10.0.0.1"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().as_str(), read);
        }
        let url: ServerUrl = "https://tun.example:8443".parse().unwrap();
        assert_eq!((url.authority(), url.is_https()), ("tun.example:8443", true));
    }

    #[test]
    fn an_address_may_name_the_authority_that_vouches_for_it() {
        let pin = AuthorityPin::of(b"a certificate");
        let plain: ServerUrl = "https://tun.example:8443".parse().unwrap();
        let pinned = plain.with_pin(pin);
        assert_eq!(pinned.as_str(), format!("https://tun.example:8443#ca={pin}"));
        assert_eq!(pinned.as_str().parse::<ServerUrl>().unwrap(), pinned);
        let typed = format!("https://Tun.Example:8443/#ca={}", pin.to_string().to_ascii_uppercase());
        assert_eq!(typed.parse::<ServerUrl>().unwrap(), pinned);
        assert_eq!((pinned.base(), pinned.authority()), (plain.as_str(), "tun.example:8443"));
        assert_eq!((pinned.pin(), plain.pin()), (Some(&pin), None));
        assert_ne!(pinned, plain);
        let http: ServerUrl = "http://localhost".parse().unwrap();
        assert_eq!(http.with_pin(pin), http);
    }

    #[test]
    fn a_pin_that_is_none_is_refused() {
        let pin = AuthorityPin::of(b"a certificate").to_string();
        for wrong in [
            "https://a#".to_owned(),
            "https://a#top".to_owned(),
            "https://a#ca=".to_owned(),
            format!("https://a#ca={}", &pin[..30]),
            format!("https://a#ca={pin}00"),
            format!("https://a#ca={pin}#ca={pin}"),
            format!("http://a#ca={pin}"),
        ] {
            assert_eq!(wrong.parse::<ServerUrl>().unwrap_err(), ServerError::Pin, "{wrong}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let refused = |text: &str| text.parse::<ServerUrl>().unwrap_err();
        assert_eq!(refused("tun.example"), ServerError::Scheme);
        assert_eq!(refused("https://"), ServerError::Scheme);
        assert_eq!(refused("ftp://tun.example"), ServerError::Scheme);
        for host in [
            "https://a/b",
            "https://u@h",
            "https://a b",
            "https://a?x",
            "https://[::1",
            "https://[g]",
            "https://[::1]x",
        ] {
            assert_eq!(refused(host), ServerError::Host, "{host}");
        }
        for port in
            ["http://a:", "http://a:0", "http://a:65536", "http://a:1x", "http://a:+1", "http://a:b:1"]
        {
            assert_eq!(refused(port), ServerError::Port, "{port}");
        }
        assert_eq!(refused(&format!("https://{}", "a".repeat(96))), ServerError::TooLong);
    }
}
