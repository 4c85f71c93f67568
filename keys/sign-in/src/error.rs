//! Why somebody was not signed in.

use std::sync::Arc;

/// A provider's answer did not make an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignInError {
    /// No such provider is configured.
    #[error("there is no such provider")]
    UnknownProvider,
    /// The person, or the provider for them, said no.
    #[error("the person did not agree")]
    Declined,
    /// The provider gave an error.
    #[error("the provider answered with the error {error:?}")]
    Refused {
        /// Its word for it.
        error: String,
    },
    /// The browser brought neither a code nor an error.
    #[error("the provider sent no code")]
    NoCode,
    /// The answer is from another issuer than the one that was asked, or does not say (RFC 9207).
    #[error("the answer is not from the issuer that was asked")]
    OtherIssuer,
    /// The provider cannot be asked.
    #[error("cannot ask the provider for its {what}")]
    Unreachable {
        /// For what.
        what: &'static str,
        /// Why.
        #[source]
        source: Arc<ureq::Error>,
    },
    /// So many ask providers already that this one has to wait.
    #[error("too many sign-ins at a time")]
    Busy,
    /// What the provider answered is not what the protocol says.
    #[error("the provider's {what} is not usable: {problem}")]
    Answer {
        /// What it answered.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The ID token is not to be believed.
    #[error("the provider's ID token is not to be believed")]
    Token(#[from] TokenError),
    /// Addresses of that domain may not sign in by this provider.
    #[error("addresses of this domain may not sign in here")]
    Domain,
}

/// Why an ID token is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not a token.
    #[error("it is not a signed token")]
    Malformed,
    /// It is signed by an algorithm that nobody has to believe: none, a shared secret, something new.
    #[error("its algorithm is not one of those that are accepted")]
    Algorithm,
    /// No key of the issuer is named so.
    #[error("the issuer has no such key")]
    UnknownKey,
    /// The signature does not fit.
    #[error("its signature is wrong")]
    Signature,
    /// Another issuer made it.
    #[error("it is of another issuer")]
    Issuer,
    /// It is for another client.
    #[error("it is for another client")]
    Audience,
    /// It belongs to another sign-in.
    #[error("it belongs to another sign-in")]
    Nonce,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// It is of the future, so that a clock is wrong.
    #[error("it is of the future: the clock here or at the issuer is wrong")]
    Future,
    /// It names nobody.
    #[error("it names nobody")]
    Subject,
}

impl SignInError {
    pub(crate) fn answer(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Answer { what, problem: problem.into() }
    }
}

/// A word of a stranger's, as far as it may be printed.
pub(crate) fn word(text: &str) -> String {
    text.chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'))
        .take(64)
        .collect()
}
