//! What a tunnel may set at a visitor's browser: cookies for its own host and no other.
//!
//! Every tunnel of a relay lives under one parent domain. A `Set-Cookie` with `Domain=` would reach the siblings, so
//! the attribute goes and the cookie becomes host-only; ports share one jar (RFC 6265 §8.5), so that where nothing is served
//! in the clear each is `Secure`, which keeps it from a server of another's at a port of the same host; a cookie that poses as one of the gate's own, or that has no
//! name, is dropped (RFC 6265bis §5.7 lets a nameless one be read back as any other). Works on bytes: a single odd
//! byte in a value must not decide what is checked.

use http::HeaderValue;

/// What to do with one `Set-Cookie` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Harmless as it is.
    Keep,
    /// Harmless after this change.
    Replace(HeaderValue),
    /// Not to be sent.
    Drop,
}

/// Part of the name of every cookie of ours.
const OWN: &[u8] = b"mtk_";

/// Judges one `Set-Cookie` value. `only_secure`: it is to go back over TLS alone.
pub fn judge(value: &HeaderValue, only_secure: bool) -> Verdict {
    let bytes = value.as_bytes();
    let pair = bytes.split(|&byte| byte == b';').next().unwrap_or_default();
    let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { return Verdict::Drop };
    let name = trim(&pair[..equals]);
    // Anywhere in the name: browsers and servers disagree about which odd spaces around a name count.
    if name.is_empty() || contains_ignore_case(name, OWN) {
        return Verdict::Drop;
    }
    let mut attributes = bytes[pair.len()..].split(|&byte| byte == b';');
    let lacks = only_secure && !attributes.clone().any(is_secure);
    if !attributes.any(is_domain) && !lacks {
        return Verdict::Keep;
    }
    let mut kept: Vec<&[u8]> = bytes
        .split(|&byte| byte == b';')
        .enumerate()
        .filter(|(at, part)| *at == 0 || !is_domain(part))
        .map(|(_, part)| part)
        .collect();
    if lacks {
        kept.push(b" Secure");
    }
    HeaderValue::from_bytes(&kept.join(&b';')).map_or(Verdict::Drop, Verdict::Replace)
}

fn is_domain(attribute: &[u8]) -> bool {
    is_named(attribute, b"domain")
}

fn is_secure(attribute: &[u8]) -> bool {
    is_named(attribute, b"secure")
}

fn is_named(attribute: &[u8], wanted: &[u8]) -> bool {
    let name = attribute.split(|&byte| byte == b'=').next().unwrap_or_default();
    trim(name).eq_ignore_ascii_case(wanted)
}

fn contains_ignore_case(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(value: &[u8]) -> Verdict {
        judge(&HeaderValue::from_bytes(value).unwrap(), false)
    }

    fn replaced(value: &str) -> Verdict {
        Verdict::Replace(HeaderValue::from_str(value).unwrap())
    }

    #[test]
    fn where_nothing_is_in_the_clear_each_goes_back_over_tls_alone() {
        let judged = |value: &str| judge(&HeaderValue::from_str(value).unwrap(), true);
        assert_eq!(judged("a=b"), replaced("a=b; Secure"));
        assert_eq!(judged("a=b; Domain=x.test; Path=/"), replaced("a=b; Path=/; Secure"));
        assert_eq!(judged("secure=1; Path=/"), replaced("secure=1; Path=/; Secure"));
        assert_eq!(judged("a=b; secure; Path=/"), Verdict::Keep);
        assert_eq!(judged("a=b; domain=x; SECURE"), replaced("a=b; SECURE"));
        assert_eq!(judged("mtk_x=1"), Verdict::Drop);
    }

    #[test]
    fn host_only_cookies_are_left_alone() {
        for value in [
            "a=b",
            "a=b; Path=/; HttpOnly",
            "__Host-sid=1; Secure; Path=/",
            "domain=x; Path=/",
            "a=\"x;y\"; Path=/",
        ] {
            assert_eq!(judged(value.as_bytes()), Verdict::Keep, "{value}");
        }
        assert_eq!(judged(b"a=\xff\xfe; Path=/"), Verdict::Keep);
    }

    #[test]
    fn the_domain_attribute_goes_in_every_spelling() {
        assert_eq!(judged(b"a=b; Domain=tun.example; Path=/"), replaced("a=b; Path=/"));
        assert_eq!(judged(b"a=b;DOMAIN=.tun.example"), replaced("a=b"));
        assert_eq!(judged(b"a=b; domain =tun.example"), replaced("a=b"));
        assert_eq!(judged(b"a=b;\tdomain\t= tun.example; Domain=x; Secure"), replaced("a=b; Secure"));
        assert_eq!(judged(b"a=b; Domain"), replaced("a=b"));
        let odd = Verdict::Replace(HeaderValue::from_bytes(b"a=\xff; Path=/").unwrap());
        assert_eq!(judged(b"a=\xff; Domain=tun.example; Path=/"), odd);
    }

    #[test]
    fn nameless_cookies_and_ours_are_dropped() {
        let hostile: &[&[u8]] = &[
            b"=__Host-mtk_gate=1",
            b"value-only",
            b"",
            b" =x",
            b"__Host-mtk_gate=evil; Secure; Path=/",
            b"__host-MTK_gate=evil",
            b"\xe2\x80\x80__Host-mtk_gate=evil",
        ];
        for value in hostile {
            assert_eq!(judged(value), Verdict::Drop, "{:?}", String::from_utf8_lossy(value));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_passes_names_a_domain(parts in proptest::collection::vec("[ \\t]?(a=b|[dD]omain=x|DOMAIN|Path=/|[ -~]{0,8})", 1..6), only_secure: bool) {
            let value = HeaderValue::from_str(&parts.join(";")).unwrap();
            let passed = match judge(&value, only_secure) {
                Verdict::Drop => return Ok(()),
                Verdict::Keep => value,
                Verdict::Replace(value) => value,
            };
            let text = passed.to_str().unwrap();
            let named = text.split(';').skip(1).any(|part| part.split('=').next().unwrap().trim().eq_ignore_ascii_case("domain"));
            prop_assert!(!named, "{text}");
            prop_assert_eq!(judge(&passed, only_secure), Verdict::Keep);
        }
    }
}
