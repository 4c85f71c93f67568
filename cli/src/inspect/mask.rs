//! Secrets out of what is shown: names stay, values go.

use mytunnel_node::inspect::Header;

/// What stands for a secret.
pub(crate) const MASK: &str = "***";

/// Parts of names whose values are secrets, in headers and in forms.
const SECRET: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "api-key",
    "api_key",
    "apikey",
    "session",
    "credential",
];
/// Headers with a secret that is not told by a part of the name.
const HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];
/// The same for fields of queries and forms.
const FIELDS: [&str; 12] =
    ["auth", "code", "jwt", "key", "otp", "pass", "pin", "pw", "pwd", "sid", "sig", "signature"];

fn is_secret(name: &str, whole: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    whole.contains(&&*name) || SECRET.iter().any(|part| name.contains(part))
}

/// A header's value as text, without what is secret in it.
pub(crate) fn header(header: &Header) -> String {
    let value = String::from_utf8_lossy(&header.value).into_owned();
    if !is_secret(&header.name, &HEADERS) {
        return if header.name.eq_ignore_ascii_case("referer") || header.name.eq_ignore_ascii_case("location")
        {
            target(&value)
        } else {
            value
        };
    }
    match header.name.to_ascii_lowercase().as_str() {
        "cookie" => value.split(';').map(|pair| cookie(pair.trim())).collect::<Vec<_>>().join("; "),
        "set-cookie" => match value.split_once(';') {
            Some((pair, attributes)) => format!("{};{attributes}", cookie(pair.trim())),
            None => cookie(value.trim()),
        },
        // The scheme is worth knowing.
        "authorization" | "proxy-authorization" => match value.split_once(' ') {
            Some((scheme, _)) => format!("{scheme} {MASK}"),
            None => MASK.to_owned(),
        },
        _ => MASK.to_owned(),
    }
}

fn cookie(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) => format!("{name}={MASK}"),
        None => MASK.to_owned(),
    }
}

/// A path with its query, or a whole address, without the query's secrets.
pub(crate) fn target(target: &str) -> String {
    match target.split_once('?') {
        Some((path, query)) => format!("{path}?{}", form(query)),
        None => target.to_owned(),
    }
}

/// Fields as forms and queries have them.
pub(crate) fn form(fields: &str) -> String {
    let masked = |field: &str| match field.split_once('=') {
        Some((name, value)) if !value.is_empty() && is_secret(&decoded(name), &FIELDS) => {
            format!("{name}={MASK}")
        }
        Some(_) | None => field.to_owned(),
    };
    fields.split('&').map(masked).collect::<Vec<_>>().join("&")
}

/// Whether a body with these headers is a form.
pub(crate) fn is_form(headers: &[Header]) -> bool {
    headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("content-type")
            && header.value.to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded")
    })
}

/// An edited target, with the secrets of the original where they are still masked.
pub(crate) fn restore_target(edited: &str, original: &str) -> String {
    let (path, query) = match (edited.split_once('?'), original.split_once('?')) {
        (Some(edited), Some((_, original))) => (edited.0, restore_form(edited.1, original)),
        (_, _) => return edited.to_owned(),
    };
    format!("{path}?{query}")
}

/// The same for fields.
pub(crate) fn restore_form(edited: &str, original: &str) -> String {
    let restored = |field: &str| match field.split_once('=') {
        Some((name, MASK)) => {
            let known =
                original.split('&').find(|known| known.split_once('=').is_some_and(|one| one.0 == name));
            known.unwrap_or(field).to_owned()
        }
        Some(_) | None => field.to_owned(),
    };
    edited.split('&').map(restored).collect::<Vec<_>>().join("&")
}

/// The same for headers: one that reads as its original was shown is the original.
pub(crate) fn restore_headers(mut edited: Vec<Header>, original: &[Header]) -> Vec<Header> {
    for one in &mut edited {
        let same = |known: &&Header| {
            known.name.eq_ignore_ascii_case(&one.name) && header(known).as_bytes() == one.value
        };
        if let Some(known) = original.iter().find(same) {
            one.value.clone_from(&known.value);
        }
    }
    edited
}

/// A name may be written in ways that hide it.
pub(super) fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten();
        match hex.and_then(|hex| data_encoding::HEXLOWER_PERMISSIVE.decode(hex).ok()) {
            Some(byte) => {
                bytes.extend(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_their_names_stay() {
        let shown = |name: &str, value: &str| {
            header(&Header { name: name.to_owned(), value: value.as_bytes().to_vec() })
        };
        assert_eq!(shown("Authorization", "Bearer abc"), "Bearer ***");
        assert_eq!(shown("authorization", "abc"), "***");
        assert_eq!(shown("Cookie", "a=1; __Host-b=2;c"), "a=***; __Host-b=***; ***");
        assert_eq!(shown("Set-Cookie", "a=1; Path=/; HttpOnly"), "a=***; Path=/; HttpOnly");
        for name in ["X-Api-Key", "X-Auth-Token", "x-csrf-token", "Client-Secret", "X-Session-Id"] {
            assert_eq!(shown(name, "abc"), "***", "{name}");
        }
        assert_eq!(shown("Content-Type", "text/plain"), "text/plain");
        assert_eq!(shown("Referer", "https://a.test/?token=abc&x=1"), "https://a.test/?token=***&x=1");
    }

    #[test]
    fn a_query_keeps_what_is_no_secret() {
        assert_eq!(target("/a"), "/a");
        assert_eq!(
            target("/a?q=1&password=x&p%61ssword=y&API_KEY=z&code=1&flag&token="),
            "/a?q=1&password=***&p%61ssword=***&API_KEY=***&code=***&flag&token="
        );
        assert_eq!(target("/a?100%&%zz=1"), "/a?100%&%zz=1");
    }
}
