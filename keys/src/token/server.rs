//! The address of a coordinator, as a token carries it.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::id::text_serde;

/// Longest address in a token: more would make the token too long.
const MAX_SERVER: usize = 96;

/// Base URL of a coordinator: `http` or `https`, host and port, nothing behind them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl(String);

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
}

impl ServerUrl {
    /// The address without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port, as they stand in the address.
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Whether the address is one of TLS.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for ServerUrl {
    type Err = ServerError;

    /// Reads an address; a slash at its end is dropped, the scheme and the host are put in lower case.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        if text.len() > MAX_SERVER {
            return Err(ServerError::TooLong);
        }
        let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let authority = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .ok_or(ServerError::Scheme)?;
        check_authority(authority)?;
        Ok(Self(text))
    }
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
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
