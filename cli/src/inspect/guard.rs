//! Who may ask the page of requests: this machine's person, and no page of somebody else's in the same browser.
//!
//! The address has a secret in its path, made anew for each share. Beside it, the `Host` has to be ours, so that no name
//! of a stranger that leads here (DNS rebinding) is served; and what changes or sends anything has to come from
//! our own page, or from no browser.

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Method};
use subtle::ConstantTimeEq as _;

/// What a request is refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("this page is not served under that name; use the address that `mytunnel share` printed")]
    Host,
    #[error("there is nothing here; use the whole address that `mytunnel share` printed")]
    Token,
    #[error("another page may not ask this one")]
    Foreign,
}

/// What is ours.
#[derive(Debug)]
pub(super) struct Guard {
    /// In the path.
    pub(super) token: String,
    pub(super) port: u16,
}

impl Guard {
    /// What is asked for below the secret, of a request that may be answered.
    pub(super) fn admit<'a>(
        &self,
        method: &Method,
        path: &'a str,
        headers: &HeaderMap,
    ) -> Result<&'a str, Refused> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).ok_or(Refused::Host)?;
        if !self.is_ours(host) {
            return Err(Refused::Host);
        }
        let (token, rest) =
            path.strip_prefix('/').and_then(|path| path.split_once('/')).ok_or(Refused::Token)?;
        if !bool::from(token.as_bytes().ct_eq(self.token.as_bytes())) {
            return Err(Refused::Token);
        }
        if self.is_foreign(method, rest, host, headers) {
            return Err(Refused::Foreign);
        }
        Ok(rest)
    }

    fn is_ours(&self, host: &str) -> bool {
        let Some((name, port)) = host.rsplit_once(':') else { return false };
        port.parse() == Ok(self.port)
            && (name.eq_ignore_ascii_case("localhost")
                || name == "[::1]"
                || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()))
    }

    fn is_foreign(&self, method: &Method, rest: &str, host: &str, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let origin = headers.get(ORIGIN).map(|value| value.to_str().unwrap_or("?"));
        if origin.is_some_and(|origin| origin != format!("http://{host}")) {
            return true;
        }
        // The page itself may be opened from anywhere, by whoever knows the address.
        if rest.starts_with("api/")
            && text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"))
        {
            return true;
        }
        // No form of another page can send this type.
        let json =
            headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        *method == Method::POST && !json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(
        method: Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<String, Refused> {
        let guard = Guard { token: "secret".to_owned(), port: 4040 };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        guard.admit(&method, path, &map).map(str::to_owned)
    }

    #[test]
    fn only_our_own_names_are_served() {
        for host in ["127.0.0.1:4040", "localhost:4040", "LOCALHOST:4040", "[::1]:4040", "127.0.0.2:4040"] {
            assert_eq!(admit(Method::GET, "/secret/", &[("host", host)]), Ok(String::new()), "{host}");
        }
        for host in [
            "evil.example:4040",
            "127.0.0.1",
            "127.0.0.1:4041",
            "localhost.evil.example:4040",
            "10.0.0.1:4040",
        ] {
            assert_eq!(admit(Method::GET, "/secret/", &[("host", host)]), Err(Refused::Host), "{host}");
        }
        assert_eq!(admit(Method::GET, "/secret/", &[]), Err(Refused::Host));
    }

    #[test]
    fn nothing_is_served_without_the_secret() {
        for path in ["/", "/secret", "/Secret/", "/secre/", "//secret/", "/secrets/"] {
            assert_eq!(
                admit(Method::GET, path, &[("host", "localhost:4040")]),
                Err(Refused::Token),
                "{path}"
            );
        }
    }

    #[test]
    fn other_pages_are_refused_and_programs_are_not() {
        let post = |headers: &[(&'static str, &'static str)]| {
            let ours = [("host", "localhost:4040"), ("content-type", "application/json")];
            admit(Method::POST, "/secret/api/clear", &[&ours, headers].concat())
        };
        assert!(post(&[]).is_ok());
        assert!(post(&[("origin", "http://localhost:4040"), ("sec-fetch-site", "same-origin")]).is_ok());
        for foreign in [
            ("origin", "https://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "http://127.0.0.1:4040"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("content-type", "text/plain"),
        ] {
            assert_eq!(post(&[foreign]), Err(Refused::Foreign), "{foreign:?}");
        }
        let form = [("host", "localhost:4040")];
        assert_eq!(admit(Method::POST, "/secret/api/clear", &form), Err(Refused::Foreign));
    }
}
