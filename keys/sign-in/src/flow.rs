//! What a sign-in under way consists of: the secrets on this side, and what the browser brings back.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use url::Url;
use zeroize::Zeroizing;

use crate::error::SignInError;
use crate::provider::{Dialect, Provider};

/// Longest code of a provider, and longest of the other things that a browser brings back.
const MAX_PARAMETER: usize = 4096;

/// The secrets of one sign-in, kept on this side until the browser comes back, and good once.
#[derive(Clone, PartialEq, Eq)]
pub struct Flow {
    /// Travels with the browser; what comes back with another one is not an answer to this.
    pub state: Zeroizing<String>,
    /// The ID token repeats it.
    pub nonce: Zeroizing<String>,
    /// Never travels with the browser: only who has it can use the code.
    pub verifier: Zeroizing<String>,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flow")
    }
}

impl Flow {
    /// Makes the secrets of a sign-in of random bytes.
    pub fn from_entropy(entropy: &[u8; 96]) -> Self {
        let text = |part: &[u8]| Zeroizing::new(BASE64URL_NOPAD.encode(part));
        Self { state: text(&entropy[..32]), nonce: text(&entropy[32..64]), verifier: text(&entropy[64..]) }
    }

    /// Where the browser goes; with `max_age` the provider has to ask the person again who has proved nothing for so many
    /// seconds, and to say when they did (OpenID Connect Core, section 3.1.2.1).
    pub(crate) fn address(
        &self,
        provider: &Provider,
        endpoint: &Url,
        redirect_uri: &str,
        max_age: Option<u64>,
    ) -> Url {
        let mut url = endpoint.clone();
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(self.verifier.as_bytes()));
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", &self.state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        match provider.dialect {
            Dialect::GitHub => query.append_pair("scope", "read:user user:email"),
            Dialect::OpenId { google } => {
                if let (true, [domain]) = (google, provider.allowed_domains.as_slice()) {
                    // Only a hint to the person; the token is what counts.
                    query.append_pair("hd", domain);
                }
                if let Some(seconds) = max_age {
                    query.append_pair("max_age", &seconds.to_string());
                }
                query.append_pair("scope", "openid email").append_pair("nonce", &self.nonce)
            }
        };
        drop(query);
        url
    }
}

/// What the browser brought back from the provider, as far as it is known.
#[derive(Clone, Default)]
pub struct Callback {
    /// To be exchanged for the identity.
    pub code: Option<Zeroizing<String>>,
    /// Who says so (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("iss", &self.iss).field("error", &self.error).finish_non_exhaustive()
    }
}

impl Callback {
    /// The code, if it comes from this issuer: one that another issuer gave out is not sent to this one, nor the other
    /// way round. `promised`: the issuer says that it always names itself.
    pub(crate) fn code_from(&self, issuer: &str, promised: bool) -> Result<&str, SignInError> {
        match &self.iss {
            Some(iss) if iss != issuer => return Err(SignInError::OtherIssuer),
            None if promised => return Err(SignInError::OtherIssuer),
            Some(_) | None => {}
        }
        if let Some(error) = &self.error {
            return Err(match error.as_str() {
                "access_denied" | "login_required" | "interaction_required" | "consent_required" => {
                    SignInError::Declined
                }
                _ => SignInError::Refused { error: crate::error::word(error) },
            });
        }
        let code = self.code.as_deref().filter(|code| !code.is_empty() && code.len() <= MAX_PARAMETER);
        code.map(String::as_str).ok_or(SignInError::NoCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::provider;

    fn query(url: &Url, name: &str) -> Option<String> {
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    #[test]
    fn the_browser_gets_the_challenge_and_never_the_verifier() {
        let flow = Flow::from_entropy(&std::array::from_fn(|at| at as u8));
        let endpoint = Url::parse("https://id.example/auth?tenant=1").unwrap();
        let url = flow.address(&provider("co", &[]), &endpoint, "https://c.example/cb", None);
        assert_eq!(query(&url, "max_age"), None);
        let fresh = flow.address(&provider("co", &[]), &endpoint, "https://c.example/cb", Some(600));
        assert_eq!(query(&fresh, "max_age").as_deref(), Some("600"));
        assert!(!url.as_str().contains(flow.verifier.as_str()));
        let expected = BASE64URL_NOPAD.encode(&Sha256::digest(flow.verifier.as_bytes()));
        assert_eq!(query(&url, "code_challenge"), Some(expected));
        assert_eq!(query(&url, "code_challenge_method").as_deref(), Some("S256"));
        assert_eq!(query(&url, "state").as_deref(), Some(flow.state.as_str()));
        assert_eq!(query(&url, "nonce").as_deref(), Some(flow.nonce.as_str()));
        assert_eq!(query(&url, "tenant").as_deref(), Some("1"), "what the issuer's own address says stays");
        assert_eq!(query(&url, "redirect_uri").as_deref(), Some("https://c.example/cb"));
        assert_ne!(flow.state, flow.nonce);
        assert_ne!(flow.state, flow.verifier);
    }

    #[test]
    fn a_code_counts_from_its_own_issuer_only() {
        const ISSUER: &str = "https://id.example";
        let from = |iss: Option<&str>| Callback {
            code: Some(Zeroizing::new("c".to_owned())),
            iss: iss.map(str::to_owned),
            error: None,
        };
        assert_eq!(from(Some(ISSUER)).code_from(ISSUER, true).unwrap(), "c");
        assert_eq!(from(None).code_from(ISSUER, false).unwrap(), "c");
        for (callback, promised) in [
            (from(Some("https://evil.example")), false),
            (from(Some("https://id.example/")), true),
            (from(None), true),
        ] {
            let error = callback.code_from(ISSUER, promised).unwrap_err();
            assert!(matches!(error, SignInError::OtherIssuer), "{callback:?}");
        }
    }

    #[test]
    fn a_provider_that_says_no_is_told_from_one_that_fails() {
        let said = |error: &str| Callback { error: Some(error.to_owned()), ..Callback::default() };
        assert!(matches!(said("access_denied").code_from("i", false), Err(SignInError::Declined)));
        let hostile = "server_error\r\n<script>";
        let Err(SignInError::Refused { error }) = said(hostile).code_from("i", false) else { panic!() };
        assert_eq!(error, "server_errorscript");
        assert!(matches!(Callback::default().code_from("i", false), Err(SignInError::NoCode)));
        let long = Callback { code: Some(Zeroizing::new("c".repeat(5000))), ..Callback::default() };
        assert!(matches!(long.code_from("i", false), Err(SignInError::NoCode)));
    }
}
