//! What a gate looks at in a request: who sends it from where, for which host, and whether a page of that host does.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method, Uri, header::ORIGIN};

use super::{cookies, session::Session};
use crate::ingress::{failure::Form, head::Visitor, host};

/// Below it everything is the gates' own, on every tunnel that has a gate which needs it.
pub(crate) const OWN: &str = "/.mytunnel/";

/// Longest path that a visitor is led back to.
const MAX_PATH: usize = 2048;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A request before it is let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) visitor: &'a Visitor,
    /// The host that it is for, in its one form.
    pub(crate) host: &'a str,
    /// Unix seconds.
    pub(crate) now: u64,
    /// Who shows the session of a sign-in has signed out.
    pub(crate) signed_out: bool,
}

impl Asked<'_> {
    pub(super) fn address(&self) -> IpAddr {
        self.visitor.ip()
    }

    /// The session of that name, if there is one.
    pub(super) fn session(
        &self,
        name: cookies::Name,
        key: &mytunnel_keys::feed::SessionKey,
    ) -> Option<Session> {
        let counts = name != cookies::Name::GATE || !self.signed_out;
        counts.then(|| Session::open(self.cookie(name)?, key, self.host, self.now))?
    }

    /// The value of the only cookie of that name.
    pub(super) fn cookie(&self, name: cookies::Name) -> Option<&[u8]> {
        cookies::only(self.headers, name.on(self.visitor.is_secure()))
    }

    /// The host that the browser shows, with its port, where it is one.
    pub(super) fn shown_host(&self) -> Option<&str> {
        let shown = self.visitor.host(self.headers)?;
        host::parse(shown.as_bytes()).ok()?;
        shown.to_str().ok()
    }

    /// Its port, if there is one.
    pub(super) fn shown_port(&self) -> Option<u16> {
        host::parse(self.visitor.host(self.headers)?.as_bytes()).ok()?.port
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.visitor.is_secure() { "https" } else { "http" }
    }

    /// Whether somebody waits for a page, and not a program for an answer.
    pub(super) fn is_navigation(&self) -> bool {
        if !matches!(*self.method, Method::GET | Method::HEAD) {
            return false;
        }
        match self.headers.get(SEC_FETCH_MODE) {
            Some(mode) => mode == "navigate",
            None => Form::asked(self.headers) == Form::Html,
        }
    }

    /// Where to lead whoever sent it, once they have passed: the same page, if looking at it changes nothing.
    pub(super) fn way_back(&self) -> &str {
        let looks = matches!(*self.method, Method::GET | Method::HEAD);
        let path = self.uri.path_and_query().filter(|_| looks).map_or("/", |path| path.as_str());
        at_home(path).unwrap_or("/")
    }

    /// The gates' own page that it is for.
    pub(super) fn own_page(&self) -> Option<&str> {
        self.uri.path().strip_prefix(OWN)
    }

    /// Whether a page of this very host sends it, or no browser at all. `SameSite` is no wall between tunnels, which are
    /// one site.
    pub(super) fn is_from_own_page(&self) -> bool {
        if let Some(site) = self.headers.get(SEC_FETCH_SITE) {
            return site == "same-origin" || site == "none";
        }
        let Some(origin) = self.headers.get(ORIGIN) else { return true };
        let scheme: &[u8] = if self.visitor.is_secure() { b"https://" } else { b"http://" };
        let Some(claimed) = origin.as_bytes().strip_prefix(scheme) else { return false };
        let default = if self.visitor.is_secure() { 443 } else { 80 };
        let shown = self.visitor.host(self.headers).and_then(|host| host::parse(host.as_bytes()).ok());
        match (host::parse(claimed), shown) {
            (Ok(claimed), Some(shown)) => {
                claimed.host == shown.host && claimed.port.unwrap_or(default) == shown.port.unwrap_or(default)
            }
            _ => false,
        }
    }
}

/// A path on the same host, which no browser takes for an address of another, and which is none of the gates' own.
pub(super) fn at_home(path: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let whole = path.starts_with('/') && !path[1..].starts_with('/') && path.len() <= MAX_PATH;
    (whole && path.bytes().all(plain) && !path.starts_with(OWN)).then_some(path)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn from_own_page(secure: bool, fields: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("web.tun.test:8443"));
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let visitor = Visitor::new([192, 0, 2, 1].into(), secure);
        let uri = Uri::from_static("/.mytunnel/pin");
        let (method, host) = (&Method::POST, "web.tun.test");
        Asked { method, uri: &uri, headers: &headers, visitor: &visitor, host, now: 0, signed_out: false }
            .is_from_own_page()
    }

    #[test]
    fn a_page_of_this_host_is_told_from_its_siblings() {
        assert!(from_own_page(true, &[]), "no browser: curl sends neither");
        assert!(from_own_page(true, &[("sec-fetch-site", "same-origin")]));
        assert!(from_own_page(true, &[("sec-fetch-site", "none")]));
        for site in ["same-site", "cross-site", "", "SAME-ORIGIN"] {
            assert!(!from_own_page(true, &[("sec-fetch-site", site)]), "{site}");
        }
        assert!(from_own_page(true, &[("origin", "https://web.tun.test:8443")]));
        assert!(from_own_page(false, &[("origin", "http://WEB.tun.test:8443")]));
        for (secure, origin) in [
            (true, "null"),
            (true, "http://web.tun.test:8443"),
            (true, "https://web.tun.test"),
            (true, "https://evil.tun.test:8443"),
            (true, "https://web.tun.test:8443.evil.example"),
            (true, "https://web.tun.test:8443@evil.example"),
            (false, "https://web.tun.test:8443"),
        ] {
            assert!(!from_own_page(secure, &[("origin", origin)]), "{origin}");
        }
        // What the browser says of itself counts before what a page can leave out.
        assert!(!from_own_page(
            true,
            &[("sec-fetch-site", "same-site"), ("origin", "https://web.tun.test:8443")]
        ));
    }

    #[test]
    fn the_way_back_stays_on_this_host() {
        for good in ["/", "/a/b?c=d#e", "/%2F%2Fevil.example", "/a//b", "/.well-known/x"] {
            assert_eq!(at_home(good), Some(good));
        }
        let long = format!("/{}", "a".repeat(MAX_PATH));
        for bad in [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "/a\\b",
            "https://evil.example",
            "/\tevil",
            "/\n/evil",
            "/ ",
            "/\u{e4}",
            "javascript:alert(1)",
            "/.mytunnel/pin?to=/",
            &long,
        ] {
            assert_eq!(at_home(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_browser_leaves_the_host_for_it(path in "[/\\\\a.:@\\t]{0,8}evil") {
            if let Some(path) = at_home(&path) {
                let base = url::Url::parse("https://web.tun.test/x/y").unwrap();
                let reached = base.join(path).unwrap();
                prop_assert_eq!(reached.host_str(), Some("web.tun.test"));
            }
        }
    }
}
