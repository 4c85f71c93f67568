//! A token in a request's head (RFC 6750).

use http::{HeaderMap, header::AUTHORIZATION};

use super::basic::{Credentials, MAX_HEADER};

/// What a request shows in the way of programs.
#[derive(Debug)]
pub(super) enum Shown {
    /// Nothing of the kind: the header is absent or of another scheme.
    Nothing,
    /// A token.
    Token(Credentials),
    /// Something that can be no token, or more than one header.
    Garbage,
}

pub(super) fn shown(headers: &HeaderMap) -> Shown {
    let is_bearer =
        |value: &[u8]| value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (values.next(), values.next()) else {
        let any = headers.get_all(AUTHORIZATION).iter().any(|value| is_bearer(value.as_bytes()));
        return if any { Shown::Garbage } else { Shown::Nothing };
    };
    if !is_bearer(header.as_bytes()) {
        return Shown::Nothing;
    }
    let rest = &header.as_bytes()[6..];
    let token = rest.trim_ascii();
    let whole = token.len() < rest.len() && !token.is_empty() && header.len() <= MAX_HEADER;
    match whole && token.iter().all(u8::is_ascii_graphic) {
        true => Shown::Token(Credentials::of_nobody(token)),
        false => Shown::Garbage,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::basic::tests::head, *};

    fn token(values: &[&[u8]]) -> Option<Vec<u8>> {
        match shown(&head(values)) {
            Shown::Token(credentials) => Some(credentials.as_bytes().to_vec()),
            Shown::Nothing | Shown::Garbage => None,
        }
    }

    #[test]
    fn a_token_is_read_as_the_rfc_says() {
        assert_eq!(token(&[b"Bearer abc.DEF-_~+/="]), Some(b":abc.DEF-_~+/=".to_vec()));
        assert_eq!(token(&[b"bEARER   abc"]), Some(b":abc".to_vec()));
        for garbage in [&b"Bearer"[..], b"Bearer ", b"Bearerabc", b"Bearer a b", b"Bearer \xff"] {
            assert!(matches!(shown(&head(&[garbage])), Shown::Garbage), "{garbage:?}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_HEADER));
        assert!(matches!(shown(&head(&[long.as_bytes()])), Shown::Garbage));
    }

    #[test]
    fn another_scheme_is_somebody_elses_and_of_two_headers_neither_counts() {
        assert!(matches!(shown(&HeaderMap::new()), Shown::Nothing));
        assert!(matches!(shown(&head(&[b"Basic YTpi"])), Shown::Nothing));
        assert!(matches!(shown(&head(&[b"Basic YTpi", b"Basic YTpi"])), Shown::Nothing));
        assert!(matches!(shown(&head(&[b"Bearer abc", b"Basic YTpi"])), Shown::Garbage));
        assert!(matches!(shown(&head(&[b"Basic YTpi", b"Bearer abc"])), Shown::Garbage));
        assert!(matches!(shown(&head(&[b"Bearer abc", b"Bearer abc"])), Shown::Garbage));
    }
}
