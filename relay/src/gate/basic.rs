//! A user name and a password in a request's head (RFC 7617), and how any secret is compared with its hash.

use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use data_encoding::BASE64;
use http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Longest header that is looked at.
pub(super) const MAX_HEADER: usize = 4096;

/// What a visitor shows: the user's name, a colon and the password. Numbers and tokens are of a user without a name.
pub(super) struct Credentials(Zeroizing<Vec<u8>>);

/// The credentials of a request. A header that is not understood, or stands beside
/// another, shows nothing.
pub(super) fn shown(headers: &HeaderMap) -> Option<Credentials> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let header = values.next().filter(|value| value.len() <= MAX_HEADER)?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, rest) = header.as_bytes().split_at_checked(5)?;
    let encoded = rest.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"basic") || encoded.len() == rest.len() {
        return None;
    }
    let pair = Zeroizing::new(BASE64.decode(encoded).ok()?);
    pair.contains(&b':').then(|| Credentials(pair))
}

impl Credentials {
    /// A secret that no name belongs to.
    pub(super) fn of_nobody(secret: &[u8]) -> Self {
        Self(Zeroizing::new([b":", secret].concat()))
    }

    /// Name, colon and password.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are right. Takes as long for a wrong user, so that names cannot be found out. Costs tens of
    /// milliseconds.
    pub(super) fn fit(&self, user: &str, hash: &str) -> bool {
        let colon = self.0.iter().position(|byte| *byte == b':').unwrap_or(self.0.len());
        let (shown, password) = self.0.split_at(colon);
        let password = password.get(1..).unwrap_or_default();
        let fits = PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
        fits & bool::from(shown.ct_eq(user.as_bytes()))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use argon2::{Params, PasswordHasher as _};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// As the coordinator hashes, but cheap.
    pub(crate) fn hash(password: &str) -> String {
        let cheap = Argon2::from(Params::new(8, 1, 1, None).unwrap());
        let hash: PasswordHash = cheap.hash_password_with_salt(password.as_bytes(), &[7; 16]).unwrap();
        hash.to_string()
    }

    pub(crate) fn head(values: &[&[u8]]) -> HeaderMap {
        let values = values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value).unwrap()));
        values.collect::<HeaderMap>()
    }

    pub(crate) fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
    }

    fn pair(header: &str) -> Option<Vec<u8>> {
        shown(&head(&[header.as_bytes()])).map(|credentials| credentials.0.to_vec())
    }

    #[test]
    fn the_pair_is_read_as_the_rfc_says() {
        assert_eq!(pair("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), Some(b"Aladdin:open sesame".to_vec()));
        assert_eq!(pair("bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), Some(b"Aladdin:open sesame".to_vec()));
        for nothing in [
            "",
            "Basic",
            "Basic ",
            "Basic QWxh ZGRp",
            "Basic !!!",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbg==",
        ] {
            assert_eq!(pair(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn two_headers_and_a_long_one_show_nothing() {
        let one = basic("ann", "correct horse");
        assert!(shown(&head(&[one.as_bytes()])).is_some());
        assert!(shown(&head(&[one.as_bytes(), one.as_bytes()])).is_none());
        let long = basic("ann", &"x".repeat(MAX_HEADER));
        assert!(shown(&head(&[long.as_bytes()])).is_none());
        assert!(shown(&head(&[b"Basic \xff\xff"])).is_none());
    }

    #[test]
    fn user_and_password_must_both_be_right() {
        let hash = hash("correct: horse");
        let fit = |user: &str, password: &str| {
            let header = basic(user, password);
            shown(&head(&[header.as_bytes()])).unwrap().fit("ann", &hash)
        };
        assert!(fit("ann", "correct: horse"));
        assert!(!fit("ann", "correct: horsf"));
        assert!(!fit("bob", "correct: horse"));
        assert!(!fit("", "correct: horse"));
        assert!(!fit("ann", ""));
        let header = basic("ann", "x");
        assert!(!shown(&head(&[header.as_bytes()])).unwrap().fit("ann", "no hash at all"));
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_passed_over(value in prop::collection::vec(32..=255_u8, 0..200)) {
            prop_assume!(!value.contains(&127));
            let headers = head(&[&value]);
            if let Some(credentials) = shown(&headers) {
                prop_assert!(!credentials.fit("ann", "no hash"));
            }
        }
    }
}
