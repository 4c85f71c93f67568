//! The one way in.

use data_encoding::BASE64URL_NOPAD;
use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use zeroize::Zeroizing;

use super::{TypedCode, access_hash, challenge_hash, refresh_hash};
use crate::authority::First;
use crate::http::ApiError;
use crate::random::{self, NoRandomness};
use crate::shared::Shared;
use crate::store::{Account, ChallengeError, Entrance, NewSession, Tokens, Visit};

/// What comes of a proof of identity.
#[derive(Debug)]
pub(crate) enum Entered {
    /// A session has begun.
    Session(SignedIn),
    /// The second factor is due: the token goes back with a code, within five minutes, once.
    Challenge(Zeroizing<String>),
}

/// The secrets of a session, on their way to the one whose it is.
pub(crate) struct SignedIn {
    pub(crate) access: Zeroizing<String>,
    /// For the cookie, never for a script.
    pub(crate) refresh: Zeroizing<String>,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignedIn")
    }
}

impl SignedIn {
    /// Makes a pair of tokens whose access token ends then.
    pub(super) fn fresh(access_until: u64) -> Result<(Self, Tokens), NoRandomness> {
        let new = Self { access: new_token()?, refresh: new_token()? };
        let (access, refresh) = (access_hash(&new.access), refresh_hash(&new.refresh));
        Ok((new, Tokens { access, access_until, refresh }))
    }
}

/// 256 random bits as text.
fn new_token() -> Result<Zeroizing<String>, NoRandomness> {
    let bytes = Zeroizing::new(random::bytes::<32>()?);
    Ok(Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_slice())))
}

impl Shared {
    /// Lets somebody in who proved once who they are. Every way of signing in ends here, so that none can miss the
    /// second factor: if the account has one, a challenge comes of it, and a session only of the answer to that.
    pub(crate) async fn identified(
        &self,
        account: Account,
        first: First,
        visit: Visit,
    ) -> Result<Entered, ApiError> {
        self.identified_since(account, first, self.clock.now(), None, visit).await
    }

    /// The same by a proof of that time, and in the place of another session of theirs. A second factor, where it is due, is
    /// one of this moment.
    pub(crate) async fn identified_since(
        &self,
        account: Account,
        first: First,
        proven_at: u64,
        replaces: Option<String>,
        visit: Visit,
    ) -> Result<Entered, ApiError> {
        let now = self.clock.now();
        let (signed_in, session) = self.new_session(visit, now)?;
        let session = NewSession { proven_at, replaces, ..session };
        let challenge = new_token()?;
        match self.store.enter(account, first, session, challenge_hash(&challenge), now).await? {
            Entrance::Session => Ok(Entered::Session(signed_in)),
            Entrance::Challenge => Ok(Entered::Challenge(challenge)),
            Entrance::Gone => Err(ApiError::refused(Code::InvalidKey, "this account was deleted")),
        }
    }

    /// Takes the second factor of somebody who is half signed in.
    pub(crate) async fn log_in_mfa(&self, answer: api::LoginMfa, visit: Visit) -> Result<SignedIn, ApiError> {
        let challenge = Zeroizing::new(answer.challenge_token);
        let code = Zeroizing::new(answer.code);
        let (now, from) = (self.clock.now(), visit.address);
        let (signed_in, session) = self.new_session(visit, now)?;
        let (hash, code) = (challenge_hash(&challenge), TypedCode::read(&code));
        match self.store.answer_challenge(self.vault.clone(), hash, code, session, now).await? {
            Ok(_) => Ok(signed_in),
            Err(ChallengeError::Unknown) => {
                let message = "this sign-in has ended, was completed, or never began; begin it again";
                Err(ApiError::refused(Code::InvalidKey, message))
            }
            Err(ChallengeError::Code(account, error)) => {
                self.note_refused_login(Some(account), from, "second factor").await;
                Err(error.into())
            }
        }
    }

    fn new_session(&self, visit: Visit, now: u64) -> Result<(SignedIn, NewSession), ApiError> {
        let (signed_in, tokens) = SignedIn::fresh(now + self.limits.session.as_secs())?;
        let id = format!("ses_{}", random::readable::<16>()?.to_ascii_lowercase());
        Ok((signed_in, NewSession { id, tokens, visit, proven_at: now, replaces: None }))
    }
}
