//! The cookie of the refresh token: read as bytes, because whoever shares a parent domain can set cookies that are not
//! text, and taken from this origin's own pages only.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use mytunnel_keys::error::Code;
use mytunnel_keys::token::ServerUrl;
use zeroize::Zeroizing;

use super::{ApiError, App};
use crate::authority::SESSION_IDLE;

/// `__Host-`: no other host can have set it.
const NAME: &str = "__Host-mtk_rt";

/// The refresh token of a request, if it has one.
#[derive(Debug)]
pub(super) struct RefreshCookie(pub(super) Option<Zeroizing<String>>);

impl FromRequestParts<App> for RefreshCookie {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = read(&parts.headers, NAME)?;
        if token.is_some() && !is_own(&parts.headers, &app.public().url) {
            return Err(ApiError::refused(
                Code::ScopeDenied,
                "the cookie of a session is taken from this server's own pages only",
            ));
        }
        Ok(Self(token))
    }
}

/// The header that gives a browser a refresh token.
pub(super) fn set(token: &str) -> HeaderValue {
    let text = format!("{NAME}={token}; Path=/; Max-Age={SESSION_IDLE}; Secure; HttpOnly; SameSite=Strict");
    // Tokens are base64url.
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The header that takes it back.
pub(super) const CLEAR: HeaderValue =
    HeaderValue::from_static("__Host-mtk_rt=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict");

/// The one cookie of that very name.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Result<Option<Zeroizing<String>>, ApiError> {
    let mut found = headers.get_all(header::COOKIE).iter().flat_map(|line| {
        line.as_bytes().split(|byte| *byte == b';').filter_map(|pair| {
            let pair = pair.trim_ascii();
            pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        })
    });
    let Some(token) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(ApiError::bad_request(format!("more than one cookie {name}")));
    }
    let text = std::str::from_utf8(token).map_err(|_| ApiError::bad_request(format!("cookie {name}")))?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

/// Does the request come from a page of this server, as far as the browser says? Programs say nothing.
fn is_own(headers: &HeaderMap, own: &ServerUrl) -> bool {
    let site = headers.get_all("sec-fetch-site").iter().all(|site| site == "same-origin");
    let origin = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let Ok(origin) = origin.to_str() else { return false };
        // A proxy in front may have put another name into Host, and the address may be another than the public one.
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        origin == own.base() || (authority.is_some() && authority == host)
    });
    site && origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(lines: &[&[u8]]) -> Result<Option<String>, ()> {
        let lines = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        let headers: HeaderMap = lines.map(|line| (header::COOKIE, line)).collect();
        read(&headers, NAME).map(|token| token.map(|token| token.to_string())).map_err(drop)
    }

    fn own(headers: &[(&'static str, &'static str)]) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        is_own(&headers, &"https://console.example".parse().unwrap())
    }

    #[test]
    fn one_cookie_of_that_very_name_is_read_among_whatever_else() {
        let found = Ok(Some("abc".to_owned()));
        assert_eq!(cookie(&[b"a=1; __Host-mtk_rt=abc; b=2"]), found);
        assert_eq!(cookie(&[b"x=\xff\xfe", b"__Host-mtk_rt=abc"]), found);
        for other in
            ["", "__host-mtk_rt=abc", "x__Host-mtk_rt=abc", "__Host-mtk_rtx=abc", "\u{2000}__Host-mtk_rt=abc"]
        {
            assert_eq!(cookie(&[other.as_bytes()]), Ok(None), "{other}");
        }
        assert_eq!(cookie(&[b"__Host-mtk_rt=abc; __Host-mtk_rt=def"]), Err(()));
        assert_eq!(cookie(&[b"__Host-mtk_rt=\xff"]), Err(()));
    }

    #[test]
    fn other_sites_and_siblings_are_told_from_own_pages() {
        assert!(own(&[]));
        assert!(own(&[("sec-fetch-site", "same-origin"), ("origin", "https://console.example")]));
        assert!(own(&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")]));
        for site in ["same-site", "cross-site", "none"] {
            assert!(!own(&[("sec-fetch-site", site)]), "{site}");
        }
        for origin in ["https://evil.example", "https://console.example.evil.example", "null", ""] {
            assert!(!own(&[("origin", origin), ("host", "console.example")]), "{origin}");
        }
    }

    #[test]
    fn a_cookie_is_for_this_host_and_no_script() {
        let text = set("abc");
        for part in
            ["__Host-mtk_rt=abc; ", "Path=/;", "Secure", "HttpOnly", "SameSite=Strict", "Max-Age=1209600"]
        {
            assert!(text.to_str().unwrap().contains(part), "{part}");
        }
        assert!(!text.to_str().unwrap().contains("Domain") && CLEAR.to_str().unwrap().contains("Max-Age=0"));
    }
}
