//! Secrets out of what is shown: names stay, values go.

mod json;

use mytunnel_node::inspect::Header;

use self::json::{json, restore_json};

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
/// Words of names, between separators or capitals, whose values are secrets.
const WORDS: [&str; 9] =
    ["auth", "authorization", "key", "jwt", "signature", "hmac", "assertion", "ticket", "saml"];
/// Headers with a secret that is not told by their name.
const HEADERS: [&str; 5] = ["cookie", "set-cookie", "dpop", "x-amzn-oidc-data", "x-ms-client-principal"];
/// Names with such a word that say nothing secret.
const PLAIN: [&str; 4] = ["sec-websocket-key", "idempotency-key", "surrogate-key", "cache-key"];
/// The same for fields of queries and forms.
const FIELDS: [&str; 9] = ["code", "oobcode", "otp", "pass", "pin", "pw", "pwd", "sid", "sig"];

fn is_secret(name: &str, whole: &[&str]) -> bool {
    let lower = name.to_ascii_lowercase();
    let tells = whole.contains(&&*lower) || SECRET.iter().any(|part| lower.contains(part));
    tells
        || !PLAIN.contains(&&*lower)
            && words(name).any(|word| WORDS.contains(&&*word) || word.starts_with("saml"))
}

/// The words of a name: `X-Auth-Key`, `auth_key` and `authKey` are of the same.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    let mut was_small = false;
    for letter in name.chars() {
        if was_small && letter.is_ascii_uppercase() {
            spaced.push(' ');
        }
        was_small = letter.is_ascii_lowercase();
        spaced.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { ' ' });
    }
    spaced.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// A header's value as text, without what is secret in it.
pub(crate) fn header(header: &Header) -> String {
    let value = String::from_utf8_lossy(&header.value).into_owned();
    if header.name.eq_ignore_ascii_case("sec-websocket-protocol") {
        return protocols(&value);
    }
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

/// Protocols of a WebSocket, among which scripts put what they can send in no other header.
fn protocols(value: &str) -> String {
    const LONGEST: usize = 32;
    let all: Vec<_> = value.split(',').map(str::trim).collect();
    let tells = |one: &&str| is_secret(one, &["bearer", "access_token"]);
    let has_secret = all.iter().any(tells);
    let shown = |one: &&str| (has_secret && !tells(one)) || one.len() > LONGEST;
    all.iter().map(|one| if shown(one) { MASK } else { one }).collect::<Vec<_>>().join(", ")
}

fn cookie(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) => format!("{name}={MASK}"),
        None => MASK.to_owned(),
    }
}

/// A path with its query, or a whole address, without the secrets of its query and of its fragment.
pub(crate) fn target(target: &str) -> String {
    let (rest, fragment) = target.split_once('#').map_or((target, None), |(rest, after)| (rest, Some(after)));
    let shown = match rest.split_once('?') {
        Some((path, query)) => format!("{path}?{}", form(query)),
        None => rest.to_owned(),
    };
    fragment.map_or_else(|| shown.clone(), |fragment| format!("{shown}#{}", form(fragment)))
}

/// Fields as forms and queries have them.
fn form(fields: &str) -> String {
    let masked = |field: &str| match field.split_once('=') {
        Some((name, value)) if !value.is_empty() && is_secret(&decoded(name), &FIELDS) => {
            format!("{name}={MASK}")
        }
        Some(_) | None => field.to_owned(),
    };
    fields.split('&').map(masked).collect::<Vec<_>>().join("&")
}

/// A body as text, without what is secret in it.
pub(crate) fn body(text: &str, headers: &[Header]) -> String {
    match Kind::of(headers) {
        Kind::Form => form(text),
        Kind::Json => json(text),
        Kind::Other => text.to_owned(),
    }
}

/// An edited body, with the secrets of the original where they are still masked.
pub(crate) fn restore_body(edited: String, original: &str, headers: &[Header]) -> String {
    match Kind::of(headers) {
        Kind::Form => restore_form(&edited, original),
        Kind::Json => restore_json(&edited, original),
        Kind::Other => edited,
    }
}

/// What a body with these headers is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Form,
    Json,
    Other,
}

impl Kind {
    fn of(headers: &[Header]) -> Self {
        let kind = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
        let kind = kind.map(|kind| kind.value.to_ascii_lowercase()).unwrap_or_default();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if essence == b"application/x-www-form-urlencoded" {
            Self::Form
        } else if essence == b"application/json" || essence.ends_with(b"+json") {
            Self::Json
        } else {
            Self::Other
        }
    }
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
fn restore_form(edited: &str, original: &str) -> String {
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

/// The same for headers: one that reads as its original was shown is the original, of several with one name each its own,
/// and a cookie that was left masked among others is the one of that name.
pub(crate) fn restore_headers(mut edited: Vec<Header>, original: &[Header]) -> Vec<Header> {
    let mut is_used = vec![false; original.len()];
    for one in &mut edited {
        let same = |known: &Header| {
            known.name.eq_ignore_ascii_case(&one.name) && header(known).as_bytes() == one.value
        };
        let found = original.iter().enumerate().find(|(index, known)| !is_used[*index] && same(known));
        if let Some((index, known)) = found {
            is_used[index] = true;
            one.value.clone_from(&known.value);
        } else if one.name.eq_ignore_ascii_case("cookie") {
            one.value = restore_cookies(&one.value, original);
        }
    }
    edited
}

fn restore_cookies(edited: &[u8], original: &[Header]) -> Vec<u8> {
    let pairs = |value: &[u8]| -> Vec<Vec<u8>> {
        value.split(|byte| *byte == b';').map(|pair| pair.trim_ascii().to_vec()).collect()
    };
    let cookies = original.iter().filter(|known| known.name.eq_ignore_ascii_case("cookie"));
    let known: Vec<_> = cookies.flat_map(|known| pairs(&known.value)).collect();
    let restored = |pair: Vec<u8>| {
        let Some(masked) = pair.strip_suffix(MASK.as_bytes()).filter(|name| name.ends_with(b"=")) else {
            return pair;
        };
        known.iter().find(|known| known.starts_with(masked)).cloned().unwrap_or(pair)
    };
    pairs(edited).into_iter().map(restored).collect::<Vec<_>>().join(&b"; "[..])
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
        for name in [
            "X-Api-Key",
            "X-Auth-Token",
            "x-csrf-token",
            "Client-Secret",
            "X-Session-Id",
            "X-Auth-Key",
            "X-Authorization",
            "X-Access-Key",
            "Ocp-Apim-Subscription-Key",
            "Cf-Access-Jwt-Assertion",
            "DPoP",
            "X-Amzn-Oidc-Data",
            "X-MS-Client-Principal",
        ] {
            assert_eq!(shown(name, "abc"), "***", "{name}");
        }
        for name in ["Sec-WebSocket-Key", "Idempotency-Key", "X-Author", "Keyword", "X-Monkey"] {
            assert_eq!(shown(name, "abc"), "abc", "{name}");
        }
        assert_eq!(shown("Sec-WebSocket-Protocol", "bearer, abc"), "bearer, ***");
        assert_eq!(shown("Sec-WebSocket-Protocol", "graphql-ws, v2.chat"), "graphql-ws, v2.chat");
        assert_eq!(
            shown("Location", "https://a.test/?x=1#access_token=abc&state=1"),
            "https://a.test/?x=1#access_token=***&state=1"
        );
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
        for name in [
            "X-Amz-Signature",
            "X-Goog-Signature",
            "hmac",
            "SAMLResponse",
            "assertion",
            "ticket",
            "oobCode",
            "auth_key",
            "accessKey",
        ] {
            assert_eq!(target(&format!("/a?{name}=x&q=1")), format!("/a?{name}=***&q=1"));
        }
    }

    fn sent(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: value.as_bytes().to_vec() }
    }

    #[test]
    fn bodies_are_masked_by_what_they_are() {
        let of = |kind: &str, text: &str| body(text, &[sent("Content-Type", kind)]);
        assert_eq!(of("application/x-www-form-urlencoded; charset=x", "pin=1&a=2"), "pin=***&a=2");
        assert_eq!(of("application/problem+json", r#"{"pin":1}"#), r#"{"pin":"***"}"#);
        assert_eq!(of("Application/JSON;charset=utf-8", r#"{"pin":1}"#), r#"{"pin":"***"}"#);
        assert_eq!(of("text/plain", "pin=1"), "pin=1");
    }

    #[test]
    fn an_edit_sends_of_each_masked_value_its_own() {
        let original = [sent("Cookie", "a=1; b=2"), sent("X-Api-Key", "one"), sent("X-Api-Key", "two")];
        let masked = || original.iter().map(|one| sent(&one.name, &header(one))).collect::<Vec<_>>();
        assert_eq!(restore_headers(masked(), &original), original);
        let mut edited = masked();
        edited[0].value = b"a=***; b=9; c=***".to_vec();
        assert_eq!(restore_headers(edited, &original)[0].value, b"a=1; b=9; c=***");
    }
}
