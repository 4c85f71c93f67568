//! The gates' own cookies in a request's head.
//!
//! Cookies are bytes: a sibling tunnel may send one that is no text, and one whose name is ours behind a space that only
//! some programs take for one. So nothing but blanks and tabs is trimmed, a name is ours or it is not, and where one stands
//! twice it cannot be known which is ours.

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, Entry},
};

/// What the name of every cookie of ours has in it.
const OWN: &[u8] = b"mtk_";

/// A cookie of ours. Where the visitor came over TLS its name has a prefix that makes browsers refuse it from anybody but
/// this very host; over plain HTTP they would refuse it from us too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(&'static str);

impl Name {
    const PREFIX: &'static str = "__Host-";

    /// Who knew the number.
    pub(super) const PIN: Self = Self("__Host-mtk_pin");
    /// Who has signed in.
    pub(super) const GATE: Self = Self("__Host-mtk_gate");
    /// Ties a sign-in to the browser at the tunnel's host, and at the sign-in's.
    pub(super) const PRE: Self = Self("__Host-mtk_pre");
    pub(super) const VISIT: Self = Self("__Host-mtk_visit");

    /// How it is called on such a connection.
    pub(super) fn on(self, secure: bool) -> &'static str {
        match secure {
            true => self.0,
            false => &self.0[Self::PREFIX.len()..],
        }
    }
}

/// The value of the only cookie of that name.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        .filter_map(pair)
        .filter(|(of, _)| *of == name.as_bytes())
        .map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Sets one for this host, for so many seconds; none at all take it away.
pub(super) fn set(name: Name, secure: bool, value: &str, seconds: u64) -> Option<HeaderValue> {
    let only_tls = if secure { "; Secure" } else { "" };
    let name = name.on(secure);
    // Lax: a link from elsewhere leads in. That is no wall between siblings, nor is it taken for one.
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{only_tls}");
    HeaderValue::try_from(cookie).ok()
}

/// Takes out of a head what no server behind the gates may see.
pub(super) fn strip(headers: &mut HeaderMap) {
    if !headers.get_all(COOKIE).iter().any(|header| holds_own(header.as_bytes())) {
        return;
    }
    let Entry::Occupied(held) = headers.entry(COOKIE) else { return };
    let (name, values) = held.remove_entry_mult();
    let kept: Vec<HeaderValue> = values.filter_map(|header| without_own(&header)).collect();
    for value in kept {
        headers.append(&name, value);
    }
}

fn without_own(header: &HeaderValue) -> Option<HeaderValue> {
    let others = header.as_bytes().split(|byte| *byte == b';').filter(|part| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        !holds_own(name)
    });
    let kept = others.collect::<Vec<_>>().join(&b';');
    let kept = trim(&kept);
    if kept.is_empty() { None } else { HeaderValue::from_bytes(kept).ok() }
}

/// Anywhere, in any case: what the server behind us takes for a name is its own matter.
fn holds_own(bytes: &[u8]) -> bool {
    let is_here = |at: usize| bytes[at..].get(..OWN.len()).is_some_and(|part| part.eq_ignore_ascii_case(OWN));
    memchr::memchr2_iter(b'm', b'M', bytes).any(is_here)
}

fn pair(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = part.iter().position(|byte| *byte == b'=')?;
    Some((trim(&part[..equals]), trim(&part[equals + 1..])))
}

fn trim(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(cookies: &[&[u8]]) -> HeaderMap {
        cookies.iter().map(|value| (COOKIE, HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn ours(cookies: &[&[u8]]) -> Option<Vec<u8>> {
        only(&head(cookies), Name::PIN.on(true)).map(<[u8]>::to_vec)
    }

    fn left(cookies: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut headers = head(cookies);
        strip(&mut headers);
        headers.get_all(COOKIE).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    #[test]
    fn ours_is_found_among_others_whatever_they_are() {
        let found = Some(b"right".to_vec());
        assert_eq!(ours(&[b"__Host-mtk_pin=right"]), found);
        assert_eq!(ours(&[b"a=b; __Host-mtk_pin=right; c=d"]), found);
        assert_eq!(ours(&[b"a=b", b"\t__Host-mtk_pin =  right\t"]), found);
        // One odd byte of a sibling locks nobody out.
        assert_eq!(ours(&[b"a=\xff\xfe; __Host-mtk_pin=right; \xe2\x80\x80=x"]), found);
        assert_eq!(ours(&[b"a; =; __Host-mtk_pin=right"]), found);
        for none in [
            &b"a=b"[..],
            b"",
            b"__Host-mtk_pin",
            b"x__Host-mtk_pin=right",
            b"__host-mtk_pin=right",
            b"mtk_pin=right",
        ] {
            assert_eq!(ours(&[none]), None, "{:?}", String::from_utf8_lossy(none));
        }
    }

    #[test]
    fn of_two_neither_counts_and_a_name_that_looks_like_ours_is_another() {
        assert_eq!(ours(&[b"__Host-mtk_pin=evil; __Host-mtk_pin=right"]), None);
        assert_eq!(ours(&[b"__Host-mtk_pin=evil", b"__Host-mtk_pin=right"]), None);
        // U+2000 is a blank to `str::trim`, and part of a name to browsers: they let a sibling set this one.
        assert_eq!(ours(&[b"\xe2\x80\x80__Host-mtk_pin=evil"]), None);
        assert_eq!(
            ours(&[b"\xe2\x80\x80__Host-mtk_pin=evil; __Host-mtk_pin=right"]),
            Some(b"right".to_vec())
        );
    }

    #[test]
    fn the_server_behind_us_sees_none_of_ours_and_all_others() {
        assert_eq!(left(&[b"a=b; c=d"]), [b"a=b; c=d".to_vec()]);
        assert_eq!(left(&[b"a=b; __Host-mtk_pin=x; c=mtk_value"]), [b"a=b; c=mtk_value".to_vec()]);
        assert_eq!(left(&[b"__Host-mtk_pin=x", b"a=\xff"]), [b"a=\xff".to_vec()]);
        assert_eq!(left(&[b"\xe2\x80\x80__HOST-MTK_gate=x; mtk_pin=y; mtk_z"]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn it_is_set_for_one_host_and_for_no_script() {
        let set = |secure| set(Name::PIN, secure, "v", 60).unwrap();
        let common = "=v; Path=/; HttpOnly; SameSite=Lax; Max-Age=60";
        assert_eq!(set(true), format!("__Host-mtk_pin{common}; Secure"));
        assert_eq!(set(false), format!("mtk_pin{common}"));
    }

    proptest! {
        #[test]
        fn nothing_of_ours_is_left_whatever_stands_there(
            parts in prop::collection::vec("[ \\t]?([aAmM][tT][kK]_?|__Host-mtk_pin|mtk_|=|\u{2000}|[!-:<-~]){0,6}", 0..6)
        ) {
            let joined = parts.join(";");
            let Ok(value) = HeaderValue::from_bytes(joined.as_bytes()) else { return Ok(()) };
            let mut headers = HeaderMap::from_iter([(COOKIE, value)]);
            strip(&mut headers);
            for header in headers.get_all(COOKIE) {
                for part in header.as_bytes().split(|byte| *byte == b';') {
                    let name = part.split(|byte| *byte == b'=').next().unwrap();
                    prop_assert!(!holds_own(name));
                }
            }
        }
    }
}
