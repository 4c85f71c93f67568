//! Requests that a tunnel leads back to the relay: each hop leaves a mark (`CDN-Loop`, RFC 8586), and who comes with too many of ours
//! goes round in circles.

use http::{HeaderMap, HeaderName, HeaderValue};

const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// Tunnels of one domain that may lead to one another.
const MOST: usize = 4;

/// Whether a request has come through as many tunnels of the domain as one may.
pub(super) fn is_loop(headers: &HeaderMap, domain: &str) -> bool {
    let marks =
        headers.get_all(CDN_LOOP).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_ours = |mark: &&[u8]| {
        let name = mark.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(domain.as_bytes())
    };
    marks.filter(is_ours).count() >= MOST
}

/// Marks a request that goes on to a tunnel of the domain.
pub(super) fn mark(headers: &mut HeaderMap, domain: &str) {
    // A domain has the letters of a header's value; if it had not, nothing would be lost but the mark.
    if let Ok(mark) = HeaderValue::from_str(domain) {
        headers.append(CDN_LOOP, mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_round_is_known_by_our_marks_and_no_others() {
        let mut headers = HeaderMap::new();
        headers.insert(CDN_LOOP, HeaderValue::from_static("cdn.example; v=1, other.test"));
        for round in 0..MOST {
            assert!(!is_loop(&headers, "tun.test"), "{round}");
            mark(&mut headers, "tun.test");
        }
        assert!(is_loop(&headers, "tun.test") && !is_loop(&headers, "other.test"));
        let joined = HeaderValue::from_static("a.test,TUN.test ;x=y , tun.test,tun.test;q, tun.test");
        assert!(is_loop(&HeaderMap::from_iter([(CDN_LOOP, joined)]), "tun.test"));
    }
}
