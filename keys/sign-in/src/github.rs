//! GitHub: OAuth 2 without ID tokens. The person's number is the subject; the address is the verified primary one.

use serde::Deserialize;
use url::Url;

use crate::claims::Person;
use crate::error::SignInError;

/// Addresses of one person that are looked at.
const MAX_ADDRESSES: usize = 100;

/// Where the parts of a GitHub are.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    pub(crate) authorization: Url,
    pub(crate) token: Url,
    pub(crate) user: Url,
    pub(crate) emails: Url,
}

impl Endpoints {
    /// Of github.com, or of an Enterprise Server at that address.
    pub(crate) fn of(issuer: &str) -> Result<Self, SignInError> {
        let base = issuer.trim_end_matches('/');
        let api = match base {
            "https://github.com" => "https://api.github.com".to_owned(),
            own => format!("{own}/api/v3"),
        };
        let url = |text: String| {
            Url::parse(&text).map_err(|error| SignInError::answer("address", error.to_string()))
        };
        Ok(Self {
            authorization: url(format!("{base}/login/oauth/authorize"))?,
            token: url(format!("{base}/login/oauth/access_token"))?,
            user: url(format!("{api}/user"))?,
            emails: url(format!("{api}/user/emails?per_page={MAX_ADDRESSES}"))?,
        })
    }
}

/// The person's number, which is theirs for ever; their login name is not.
pub(crate) fn subject(body: &[u8]) -> Result<String, SignInError> {
    #[derive(Deserialize)]
    struct User {
        id: u64,
    }
    let user: User =
        serde_json::from_slice(body).map_err(|error| SignInError::answer("user", error.to_string()))?;
    Ok(user.id.to_string())
}

/// The person by their primary address, if it is verified.
pub(crate) fn person(body: &[u8]) -> Result<Person, SignInError> {
    #[derive(Deserialize)]
    struct Address {
        email: String,
        primary: bool,
        verified: bool,
    }
    let addresses: Vec<Address> =
        serde_json::from_slice(body).map_err(|error| SignInError::answer("addresses", error.to_string()))?;
    let primary = addresses.into_iter().find(|address| address.primary && address.verified);
    Ok(primary.map_or_else(Person::default, |address| Person::verified(address.email)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_verified_primary_address_counts() {
        let of = |list: serde_json::Value| person(list.to_string().as_bytes()).unwrap().email;
        let address = |email: &str, primary: bool, verified: bool| json!({"email": email, "primary": primary, "verified": verified, "visibility": null});
        let list = json!([address("old@b.c", false, true), address("ann@b.c", true, true)]);
        assert_eq!(of(list).as_deref(), Some("ann@b.c"));
        assert_eq!(of(json!([address("ann@b.c", true, false), address("old@b.c", false, true)])), None);
        assert_eq!(of(json!([])), None);
        assert!(person(br#"{"message":"Requires authentication"}"#).is_err());
    }

    #[test]
    fn the_subject_is_the_number_and_not_the_name() {
        assert_eq!(subject(br#"{"id": 583231, "login": "octocat"}"#).unwrap(), "583231");
        assert!(subject(br#"{"login": "octocat"}"#).is_err());
    }

    #[test]
    fn an_enterprise_server_has_its_api_below_itself() {
        let own = Endpoints::of("https://git.example.com").unwrap();
        assert_eq!(own.user.as_str(), "https://git.example.com/api/v3/user");
        assert_eq!(Endpoints::of("https://github.com").unwrap().user.as_str(), "https://api.github.com/user");
    }
}
