//! Signing in by the word of another provider.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Answer of `GET /auth/providers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Providers {
    /// In the order of the configuration.
    pub providers: Vec<Provider>,
}

/// Somebody who vouches for people here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// For `/auth/oauth/{id}/start`.
    pub id: String,
    /// What people read.
    pub name: String,
}

/// `POST /auth/oauth/code`: what a person carried from the browser to a terminal.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignInCode {
    /// The code that the browser showed.
    pub code: String,
    /// What the challenge in the browser's address is the SHA-256 of.
    pub verifier: String,
}

impl fmt::Debug for SignInCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInCode")
    }
}

/// `POST /auth/identities`: asks to connect an identity to the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewIdentity {
    /// Id of the provider.
    pub provider: String,
}

/// `POST /auth/invitations/sign-in`: begins a sign-in that makes the account which an invitation is for.
#[derive(Clone, Serialize, Deserialize)]
pub struct InvitedSignIn {
    /// The invitation's code.
    pub code: String,
    /// Id of the provider.
    pub provider: String,
}

impl fmt::Debug for InvitedSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvitedSignIn").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Answer to [`NewIdentity`] and [`InvitedSignIn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAddress {
    /// Where the same browser goes next.
    pub url: String,
}

/// Answer of `GET /auth/identities`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identities {
    /// The caller's own, the oldest first.
    pub identities: Vec<Identity>,
}

/// Who somebody is at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub id: String,
    /// Id of the provider.
    pub provider: String,
    /// What people call the provider; none if it is not configured any more.
    pub name: Option<String>,
    /// The address, as the provider showed it last.
    pub email: Option<String>,
    /// When it was connected.
    pub linked_at: u64,
    /// When somebody last came in by it.
    pub last_used_at: Option<u64>,
}
