//! The text around a token's payload: prefix, base58, checksum.

use zeroize::Zeroizing;

use super::{MAX_TOKEN, TokenError, TokenKind};

const PREFIX: &str = "mtk_";
const CHECKSUM: usize = 6;

/// No kind of token has less payload text than this.
const MIN_BODY: usize = 60;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub(super) fn seal(kind: TokenKind, payload: &[u8]) -> Zeroizing<String> {
    // Room for all of it, so that no copy of a secret is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(MAX_TOKEN));
    text.push_str(PREFIX);
    text.push_str(kind.as_str());
    text.push('_');
    text.push_str(&Zeroizing::new(bs58::encode(payload).into_string()));
    let checksum = checksum(text.as_bytes());
    text.extend(checksum.map(char::from));
    text
}

pub(super) fn open(text: &str) -> Result<(TokenKind, Zeroizing<Vec<u8>>), TokenError> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(TokenError::Empty);
    }
    if text.len() > MAX_TOKEN {
        return Err(TokenError::TooLong(text.chars().count()));
    }
    let rest = text.strip_prefix(PREFIX).ok_or_else(|| TokenError::Foreign(describe(text)))?;
    let (kind, rest) = rest.split_once('_').ok_or(TokenError::UnknownKind)?;
    let kind =
        TokenKind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or(TokenError::UnknownKind)?;
    if let Some((at, _)) = text.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || *c == '_')) {
        return Err(TokenError::Character(text[..at].chars().count() + 1));
    }
    if rest.len() < MIN_BODY + CHECKSUM {
        return Err(TokenError::Truncated);
    }
    let (checked, sum) = text.split_at(text.len() - CHECKSUM);
    if checksum(checked.as_bytes()) != sum.as_bytes() {
        return Err(TokenError::Checksum);
    }
    let body = &rest[..rest.len() - CHECKSUM];
    let payload = bs58::decode(body).into_vec().map_err(|_| TokenError::Payload)?;
    Ok((kind, Zeroizing::new(payload)))
}

/// CRC32 (IEEE) in base62, the highest digit first.
fn checksum(text: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// What a text is that somebody pasted instead of a token.
fn describe(text: &str) -> &'static str {
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text {
        _ if text.starts_with(['"', '\'', '`']) => "a text in quotes",
        _ if text.contains(PREFIX) => "more than the token alone",
        _ if text.starts_with("proj_") => "the id of a project",
        _ if text.starts_with("ten_") => "the id of a tenant",
        _ if text.starts_with("http://") || text.starts_with("https://") => "a web address",
        _ if text.starts_with("12D3KooW") => "a peer id",
        _ if text.starts_with("eyJ") => "a JSON web token",
        _ if text.starts_with("-----BEGIN") => "a PEM file",
        _ if hex && matches!(text.len(), 16 | 32) => "the serial of a key",
        _ if text.contains(char::is_whitespace) => "a text of several words",
        _ => "another text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_crc32_in_base62() {
        // CRC32("123456789") is cbf43926: 3421780262 is 3, 45, 35, 27, 22, 14 in base 62.
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn what_was_pasted_is_named() {
        let found = |text: &str| {
            let error = open(text).unwrap_err();
            let TokenError::Foreign(what) = error else { panic!("{error}") };
            what
        };
        assert_eq!(found("proj_abc"), "the id of a project");
        assert_eq!(found("export MYTUNNEL_AUTH_TOKEN=mtk_child_abc"), "more than the token alone");
        assert_eq!(found("'mtk_child_abc'"), "a text in quotes");
        assert_eq!(found("http://localhost:8080"), "a web address");
        assert_eq!(found("0011223344556677"), "the serial of a key");
        assert_eq!(found("12D3KooWabc"), "a peer id");
        assert_eq!(found("hello"), "another text");
    }

    #[test]
    fn texts_without_a_payload_are_refused_before_decoding() {
        assert_eq!(open("  ").unwrap_err(), TokenError::Empty);
        assert_eq!(open(&"x".repeat(1025)).unwrap_err(), TokenError::TooLong(1025));
        assert_eq!(open("mtk_").unwrap_err(), TokenError::UnknownKind);
        assert_eq!(open("mtk_admin_abc").unwrap_err(), TokenError::UnknownKind);
        assert_eq!(open("mtk_child_abc").unwrap_err(), TokenError::Truncated);
        assert_eq!(open("mtk_child_abé").unwrap_err(), TokenError::Character(13));
        assert_eq!(open(&format!("mtk_child_{}", "1".repeat(66))).unwrap_err(), TokenError::Checksum);
    }
}
