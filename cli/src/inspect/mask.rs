//! Secrets out of what is shown: names stay, values go.

/// What stands for a secret.
pub(crate) const MASK: &str = "***";

/// Parts of names whose values are secrets.
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
/// Fields of queries and forms with a secret that is not told by a part of the name.
const FIELDS: [&str; 12] =
    ["auth", "code", "jwt", "key", "otp", "pass", "pin", "pw", "pwd", "sid", "sig", "signature"];

fn is_secret(name: &str, whole: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    whole.contains(&&*name) || SECRET.iter().any(|part| name.contains(part))
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

/// A name may be written in ways that hide it.
fn decoded(name: &str) -> String {
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
    fn a_query_keeps_what_is_no_secret() {
        assert_eq!(target("/a"), "/a");
        assert_eq!(
            target("/a?q=1&password=x&p%61ssword=y&API_KEY=z&code=1&flag&token="),
            "/a?q=1&password=***&p%61ssword=***&API_KEY=***&code=***&flag&token="
        );
        assert_eq!(target("/a?100%&%zz=1"), "/a?100%&%zz=1");
    }
}
