//! Signing in by the word of another provider, in a browser and for a terminal.
//!
//! Of a terminal the browser gets a challenge, and the person carries a code back from the browser. A code is of use
//! only to the terminal that can open the challenge, so that nothing is won by making somebody follow an address; and
//! it works wherever the terminal is, because nothing has to reach it.

mod invited;
mod trouble;

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_sign_in::{Callback, Flow, Provider};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub(crate) use self::trouble::{Failed, Page, Trouble};
use self::trouble::{internal, trouble};
use super::{Entered, SignedIn, digest};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, FRESH, First, NoLink};
use crate::http::ApiError;
use crate::random;
use crate::shared::Shared;
use crate::store::{Account, NewLink, NewSignIn, OpenSignIn, Purpose, Visit};

/// Characters of a code for the terminal: 60 bits.
const CODE: usize = 12;

/// A sign-in that has begun.
pub(crate) struct Begun {
    /// Where the browser goes.
    pub(crate) address: String,
    /// What ties the sign-in to this browser.
    pub(crate) cookie: Zeroizing<String>,
}

/// How a sign-in ended.
pub(crate) enum Ended {
    /// A session in the browser.
    Session(SignedIn),
    /// The second factor is due.
    Challenge(Zeroizing<String>),
    /// A code to type in the terminal.
    Code(Zeroizing<String>),
    /// The account has one more way in, by this provider.
    Linked(String),
}

/// What the store keeps of a state, of a cookie and of a code.
fn state_hash(state: &str) -> [u8; 32] {
    digest(b"mytunnel sign-in state 1\0", state.as_bytes())
}

fn cookie_hash(cookie: &str) -> [u8; 32] {
    digest(b"mytunnel sign-in cookie 1\0", cookie.as_bytes())
}

fn code_hash(code: &str) -> [u8; 32] {
    digest(b"mytunnel sign-in code 1\0", random::as_read(code).as_bytes())
}

impl Shared {
    /// By whom people can sign in.
    pub(crate) fn providers(&self) -> api::Providers {
        let providers = self.sign_in.providers();
        let shown = |provider: &Arc<Provider>| api::Provider {
            id: provider.id().to_owned(),
            name: provider.name().to_owned(),
        };
        api::Providers { providers: providers.iter().map(shown).collect() }
    }

    /// Begins a sign-in for anybody.
    pub(crate) async fn begin_sign_in(
        &self,
        provider: String,
        purpose: Purpose,
        visit: &Visit,
    ) -> Result<Begun, Trouble> {
        let now = self.clock.now();
        if self.attempts().admit_start(visit.address, now).is_err() {
            return Err(Trouble::Busy);
        }
        let entropy = Zeroizing::new(random::bytes::<96>().map_err(|error| internal(&error))?);
        let cookie = Zeroizing::new(random::bytes::<32>().map_err(|error| internal(&error))?);
        let (flow, cookie) =
            (Flow::from_entropy(&entropy), Zeroizing::new(BASE64URL_NOPAD.encode(cookie.as_slice())));
        // What lasts, or stands in for a password, wants a proof of these minutes and the time of it.
        let max_age = match purpose {
            Purpose::Terminal(_) | Purpose::Again(_) => Some(FRESH),
            Purpose::Browser | Purpose::Link(_) | Purpose::Invitation(_) => None,
        };
        let back = self.redirect_uri(&provider);
        let address = self.sign_in.address(&provider, &flow, &back, max_age, now).await;
        let address = address.map_err(|error| trouble(&provider, &error))?;
        let (state, cookie_hash) = (state_hash(&flow.state), cookie_hash(&cookie));
        let new = NewSignIn { state, cookie: cookie_hash, provider, flow, purpose };
        self.store.begin_sign_in(new, now).await.map_err(|error| internal(&error))?;
        Ok(Begun { address, cookie })
    }

    /// Begins to link an identity to the caller's account.
    pub(crate) async fn begin_link(
        &self,
        caller: &Caller,
        asked: api::NewIdentity,
        visit: &Visit,
    ) -> Result<Begun, ApiError> {
        let person = authority::in_session(caller)?;
        authority::fresh(person, self.clock.now())?;
        self.known_provider(&asked.provider)?;
        let purpose = Purpose::Link(person.session.clone());
        self.begin_sign_in(asked.provider, purpose, visit).await.map_err(not_begun)
    }

    /// Begins to prove once more who has the caller's session.
    pub(crate) async fn begin_again(
        &self,
        caller: &Caller,
        asked: api::NewIdentity,
        visit: &Visit,
    ) -> Result<Begun, ApiError> {
        let person = authority::in_session(caller)?;
        self.known_provider(&asked.provider)?;
        if !self.sign_in.tells_when(&asked.provider) {
            return Err(ApiError::bad_request(Trouble::NotFresh.sentence()));
        }
        let purpose = Purpose::Again(person.session.clone());
        self.begin_sign_in(asked.provider, purpose, visit).await.map_err(not_begun)
    }

    fn known_provider(&self, id: &str) -> Result<(), ApiError> {
        let known = self.sign_in.provider(id).map(drop);
        known.ok_or_else(|| {
            ApiError::bad_request("provider: there is no such sign-in; GET /auth/providers lists them")
        })
    }

    /// Ends a sign-in with what the browser brought back.
    pub(crate) async fn end_sign_in(
        &self,
        provider: &str,
        state: Zeroizing<String>,
        callback: Callback,
        cookie: Option<Zeroizing<String>>,
        visit: Visit,
    ) -> Result<Ended, Failed> {
        let now = self.clock.now();
        let at = |page| move |trouble| Failed { trouble, page };
        let taken = self.store.take_sign_in(state_hash(&state), now).await;
        let open = taken.map_err(|error| internal(&error)).map_err(at(Page::Login))?;
        // The provider of the path is the one that the browser was sent to, and the browser is the same.
        let open = open.filter(|open| {
            let cookie = cookie.as_ref().map(|cookie| cookie_hash(cookie)).unwrap_or_default();
            open.provider == provider && bool::from(open.cookie.ct_eq(&cookie))
        });
        let OpenSignIn { nonce, verifier, purpose, .. } =
            open.ok_or_else(|| at(Page::Login)(Trouble::Stale))?;
        let page = Page::of(&purpose);
        let flow = Flow { state, nonce, verifier };
        let identity =
            self.sign_in.identify(provider, &flow, &callback, &self.redirect_uri(provider), now).await;
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => {
                let trouble = trouble(provider, &error);
                self.note_refused_sign_in(provider, trouble, &visit).await;
                return Err(at(page)(trouble));
            }
        };
        // Nobody has said when they proved it: that was never.
        let proven_at = identity.authenticated_at.unwrap_or(0);
        let ended = match purpose {
            Purpose::Link(session) => self.link_identity(provider, session, identity).await,
            Purpose::Browser => match self.account_of(identity).await {
                Ok(account) => self.let_in(account, proven_at, None, visit.clone()).await,
                Err(trouble) => Err(trouble),
            },
            Purpose::Invitation(code) => match self.join_by_identity(code, provider, identity).await {
                // The code of the invitation is a proof of this moment.
                Ok(account) => self.let_in(account, now, None, visit.clone()).await,
                Err(trouble) => Err(trouble),
            },
            Purpose::Terminal(challenge) => match self.account_of(identity).await {
                Ok(account) => self.code_for(account.id, challenge, proven_at).await,
                Err(trouble) => Err(trouble),
            },
            Purpose::Again(before) => match self.same_person(before.clone(), identity, now).await {
                Ok(account) => self.let_in(account, proven_at, Some(before), visit.clone()).await,
                Err(trouble) => Err(trouble),
            },
        };
        if let Err(trouble) = &ended {
            self.note_refused_sign_in(provider, *trouble, &visit).await;
        }
        ended.map_err(at(page))
    }

    /// Takes a code that somebody carried to the terminal which asked for it.
    pub(crate) async fn redeem_code(
        &self,
        asked: api::SignInCode,
        visit: Visit,
    ) -> Result<Entered, ApiError> {
        let (code, verifier) = (Zeroizing::new(asked.code), Zeroizing::new(asked.verifier));
        let now = self.clock.now();
        let challenge = Sha256::digest(verifier.as_bytes()).into();
        let account = self.store.take_sign_in_code(code_hash(&code), challenge, now).await?;
        let Some((account, proven_at)) = account else {
            let message = "this code is wrong, was used, or is for another terminal; begin the sign-in again";
            let wrong = ApiError::refused(Code::InvalidKey, message);
            return Err(self.wrong_code(visit.address, "sign-in code", wrong).await);
        };
        self.identified_since(account, First::Provider, proven_at, None, visit).await
    }

    /// The caller's identities.
    pub(crate) async fn identities(&self, caller: &Caller) -> Result<api::Identities, ApiError> {
        let account = authority::own_account(caller)?.to_owned();
        let rows = self.store.identities(account).await?.into_iter().map(|row| api::Identity {
            name: self.sign_in.provider(&row.provider).map(|provider| provider.name().to_owned()),
            id: row.id,
            provider: row.provider,
            email: row.email,
            linked_at: row.linked_at,
            last_used_at: row.last_used_at,
        });
        Ok(api::Identities { identities: rows.collect() })
    }

    /// Takes an identity from the caller's account.
    pub(crate) async fn unlink(&self, caller: &Caller, id: String) -> Result<(), ApiError> {
        let person = authority::in_session(caller)?;
        let now = self.clock.now();
        authority::fresh(person, now)?;
        Ok(self.store.unlink_identity(person.id.clone(), id, now).await??)
    }

    async fn account_of(&self, identity: mytunnel_sign_in::Identity) -> Result<Account, Trouble> {
        let entered = self.store.enter_by_identity(identity, self.clock.now()).await;
        entered.map_err(|error| internal(&error))?.map_err(Trouble::from)
    }

    /// The account of a session, if the identity is of it too and has proved that in these minutes. Nobody comes back from a
    /// provider as somebody else.
    async fn same_person(
        &self,
        session: String,
        identity: mytunnel_sign_in::Identity,
        now: u64,
    ) -> Result<Account, Trouble> {
        let proven_at = identity.authenticated_at.unwrap_or(0);
        let before = self.store.account_of_session(session, now).await.map_err(|error| internal(&error))?;
        let before = before.ok_or(Trouble::Stale)?;
        let account = self.account_of(identity).await?;
        if account.id != before.id {
            return Err(Trouble::OtherAccount);
        }
        if now >= proven_at + FRESH {
            return Err(Trouble::NotFresh);
        }
        Ok(account)
    }

    async fn let_in(
        &self,
        account: Account,
        proven_at: u64,
        replaces: Option<String>,
        visit: Visit,
    ) -> Result<Ended, Trouble> {
        match self.identified_since(account, First::Provider, proven_at, replaces, visit).await {
            Ok(Entered::Session(session)) => Ok(Ended::Session(session)),
            Ok(Entered::Challenge(token)) => Ok(Ended::Challenge(token)),
            Err(error) => Err(internal(&error)),
        }
    }

    async fn link_identity(
        &self,
        provider: &str,
        session: String,
        identity: mytunnel_sign_in::Identity,
    ) -> Result<Ended, Trouble> {
        let link = new_link(provider).map_err(|error| internal(&error))?;
        let linked = self.store.link_identity(link, session, identity, self.clock.now()).await;
        match linked.map_err(|error| internal(&error))? {
            Ok(()) => Ok(Ended::Linked(provider.to_owned())),
            Err(NoLink::Taken) => Err(Trouble::Taken),
            Err(NoLink::Full) => Err(Trouble::Full),
            Err(NoLink::SessionOver) => Err(Trouble::Stale),
        }
    }

    async fn code_for(&self, account: String, challenge: [u8; 32], proven_at: u64) -> Result<Ended, Trouble> {
        let code = random::readable::<CODE>().map_err(|error| internal(&error))?;
        let added = self
            .store
            .add_sign_in_code(code_hash(&code), challenge, account, proven_at, self.clock.now())
            .await;
        added.map_err(|error| internal(&error))?;
        Ok(Ended::Code(Zeroizing::new(format!("{}-{}-{}", &code[..4], &code[4..8], &code[8..]))))
    }

    async fn note_refused_sign_in(&self, provider: &str, trouble: Trouble, visit: &Visit) {
        let actor = Party::Address(visit.address);
        let entry = Entry {
            at: self.clock.now(),
            tenant: Some(self.home.clone()),
            subject: actor.clone(),
            actor,
            act: Act::LoginRefused,
            project: None,
            detail: format!("{provider}: {}", trouble.name()),
        };
        self.note_refusal(entry).await;
    }

    /// Where a provider sends the browser back to; this is what is registered there.
    fn redirect_uri(&self, provider: &str) -> String {
        format!("{}/api/v1/auth/oauth/{provider}/callback", self.public().url.base())
    }
}

fn new_link(provider: &str) -> Result<NewLink, random::NoRandomness> {
    let id = format!("idn_{}", random::readable::<16>()?.to_ascii_lowercase());
    Ok(NewLink { id, provider: provider.to_owned() })
}

/// A sign-in that a script asked to begin, and that did not.
fn not_begun(trouble: Trouble) -> ApiError {
    match trouble == Trouble::Busy {
        true => ApiError::TooMany(60),
        false => ApiError::bad_request(trouble.sentence()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_however_they_are_typed() {
        assert_eq!(code_hash("ABCD-0123-WXYZ"), code_hash(" abcd oi23 wxyz"));
        assert_ne!(code_hash("ABCD-0123-WXYZ"), code_hash("ABCD-0123-WXY0"));
    }
}
