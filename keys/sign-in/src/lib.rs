//! Signing people in by the word of another provider: any OpenID Connect issuer, and GitHub, which speaks OAuth 2 only.
//!
//! Authorization code flow with PKCE (S256), `state`, `nonce` and the check of `iss` (RFC 9207). A [`Flow`] is what the
//! caller keeps on its side while the person is at the provider; a [`Callback`] is what the browser brings back; both
//! together become an [`Identity`], or an error. Who that identity may enter as is not decided here.
//!
//! What is read from a provider is checked by pure functions with the time passed in; [`Client`] asks the provider,
//! bounded in time and size, and follows no redirect.

mod claims;
mod client;
mod discovery;
mod error;
mod flow;
mod github;
mod http;
mod keys;
mod provider;
#[cfg(test)]
mod testing;

pub use self::{
    claims::{Identity, email},
    client::Client,
    error::{SignInError, TokenError},
    flow::{Callback, Flow},
    provider::{Provider, Settings, SettingsError},
};
