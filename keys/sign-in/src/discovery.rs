//! What an issuer says about itself (OpenID Connect Discovery).

use serde::Deserialize;
use url::Url;

use crate::error::SignInError;
use crate::provider::is_safe;

const WHAT: &str = "description of itself";

/// Where the parts of an issuer are.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    pub(crate) authorization: Url,
    pub(crate) token: Url,
    pub(crate) keys: Url,
    pub(crate) userinfo: Option<Url>,
    /// The client proves itself in the body, not in a header.
    pub(crate) secret_in_body: bool,
    /// The issuer names itself in every answer (RFC 9207).
    pub(crate) names_itself: bool,
}

/// Where an issuer's description is.
pub(crate) fn address(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

impl Metadata {
    /// Reads the description that this issuer gave.
    pub(crate) fn read(body: &[u8], issuer: &str) -> Result<Self, SignInError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            authorization_endpoint: String,
            token_endpoint: String,
            jwks_uri: String,
            userinfo_endpoint: Option<String>,
            token_endpoint_auth_methods_supported: Option<Vec<String>>,
            #[serde(default)]
            authorization_response_iss_parameter_supported: bool,
            code_challenge_methods_supported: Option<Vec<String>>,
        }
        let document: Document =
            serde_json::from_slice(body).map_err(|error| SignInError::answer(WHAT, error.to_string()))?;
        if document.issuer != issuer {
            let problem = format!(
                "it calls itself {:?}; write exactly this as the issuer if it is the right one",
                document.issuer
            );
            return Err(SignInError::answer(WHAT, problem));
        }
        if document
            .code_challenge_methods_supported
            .is_some_and(|methods| !methods.iter().any(|method| method == "S256"))
        {
            return Err(SignInError::answer(WHAT, "it takes no PKCE with S256"));
        }
        // An issuer over TLS sends nobody anywhere without it.
        let secure = issuer.starts_with("https:");
        let endpoint = |text: &str| {
            let url =
                Url::parse(text).ok().filter(|url| is_safe(url) && (!secure || url.scheme() == "https"));
            url.ok_or_else(|| SignInError::answer(WHAT, "one of its addresses is not an https:// URL"))
        };
        let methods = document.token_endpoint_auth_methods_supported.unwrap_or_default();
        let takes = |wanted: &str| methods.iter().any(|method| method == wanted);
        Ok(Self {
            authorization: endpoint(&document.authorization_endpoint)?,
            token: endpoint(&document.token_endpoint)?,
            keys: endpoint(&document.jwks_uri)?,
            userinfo: document.userinfo_endpoint.as_deref().map(endpoint).transpose()?,
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::ISSUER;

    fn read(change: impl FnOnce(&mut Value)) -> Result<Metadata, SignInError> {
        let mut document = json!({
            "issuer": ISSUER, "authorization_endpoint": "https://id.example/auth",
            "token_endpoint": "https://id.example/token", "jwks_uri": "https://keys.example/jwks",
        });
        change(&mut document);
        Metadata::read(document.to_string().as_bytes(), ISSUER)
    }

    #[test]
    fn a_description_is_read() {
        let found = read(|_| {}).unwrap();
        assert!(!found.secret_in_body && !found.names_itself && found.userinfo.is_none());
        let found = read(|document| {
            document["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
            document["authorization_response_iss_parameter_supported"] = json!(true);
            document["code_challenge_methods_supported"] = json!(["S256"]);
        })
        .unwrap();
        assert!(found.secret_in_body && found.names_itself);
    }

    #[test]
    fn another_issuer_plain_http_and_no_pkce_are_refused() {
        for (name, value) in [
            ("issuer", json!("https://id.example/")),
            ("issuer", json!("https://evil.example")),
            ("token_endpoint", json!("http://id.example/token")),
            ("token_endpoint", json!("http://127.0.0.1/token")),
            ("jwks_uri", json!("file:///etc/passwd")),
            ("userinfo_endpoint", json!("https://me@id.example")),
            ("code_challenge_methods_supported", json!(["plain"])),
            ("authorization_endpoint", Value::Null),
        ] {
            assert!(read(|document| document[name] = value.clone()).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn the_description_is_below_the_issuer() {
        assert_eq!(address("https://a.example/r/"), "https://a.example/r/.well-known/openid-configuration");
    }
}
