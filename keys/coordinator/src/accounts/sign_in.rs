//! Signing in by the word of another provider, in a browser and for a terminal.
//!
//! Of a terminal the browser gets a challenge, and the person carries a code back from the browser. A code is of use
//! only to the terminal that can open the challenge, so that nothing is won by making somebody follow an address; and
//! it works wherever the terminal is, because nothing has to reach it.

use data_encoding::BASE64URL_NOPAD;
use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_sign_in::{Callback, Flow, SignInError};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Entered, SignedIn, digest};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, First, NoEntry, NoLink};
use crate::http::ApiError;
use crate::random;
use crate::shared::Shared;
use crate::store::{NewSignIn, OpenSignIn, Purpose, Visit};

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

/// Why a sign-in came to nothing, in a word for the page that tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It was begun in another browser, is over, or never began.
    Stale,
    /// The person said no at the provider.
    Declined,
    /// The provider does not answer.
    Unreachable,
    /// The provider's answer cannot be used.
    Answer,
    /// The provider serves other domains only.
    Domain,
    /// The provider does not know whose address it is.
    Unverified,
    /// An account has the address, and is not linked.
    LinkFirst,
    /// Nobody has the address.
    NoAccount,
    /// The identity belongs to another account.
    Taken,
    /// The account has too many identities.
    Full,
    /// Too many begin at a time.
    Busy,
    /// Something failed on this side.
    Internal,
}

/// What went wrong, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) trouble: Trouble,
    /// For what the sign-in was, as far as it is known: it decides which page tells it.
    pub(crate) page: Page,
}

/// Where somebody learns how a sign-in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Login,
    Security,
    Terminal,
}

impl Page {
    pub(crate) const fn of(purpose: &Purpose) -> Self {
        match purpose {
            Purpose::Browser => Self::Login,
            Purpose::Link(_) => Self::Security,
            Purpose::Terminal(_) => Self::Terminal,
        }
    }
}

impl Trouble {
    /// Its name in the address of the dashboard's page.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Declined => "declined",
            Self::Unreachable => "unreachable",
            Self::Answer => "answer",
            Self::Domain => "domain",
            Self::Unverified => "unverified",
            Self::LinkFirst => "link_first",
            Self::NoAccount => "no_account",
            Self::Taken => "taken",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// What happened and what to do.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Stale => "This sign-in has ended, or was begun in another browser. Begin it again.",
            Self::Declined => {
                "The provider says that you did not agree. Begin again, or sign in another way."
            }
            Self::Unreachable => {
                "The provider does not answer. Try again in a minute, or sign in another way."
            }
            Self::Answer => {
                "The provider's answer cannot be used. Try again; the server's log tells its operator why."
            }
            Self::Domain => "Accounts of this domain may not sign in here. Use your account of the company.",
            Self::Unverified => {
                "The provider does not vouch for your e-mail address. Verify it there, or sign in another way."
            }
            Self::LinkFirst => {
                "There is an account with your address. Sign in with its password, then connect this provider on the security page."
            }
            Self::NoAccount => "Nobody has an account here with your address. Ask an owner to invite you.",
            Self::Taken => "This identity is connected to another account here.",
            Self::Full => "This account has too many identities. Disconnect one first.",
            Self::Busy => "Too many people are signing in. Try again in a minute.",
            Self::Internal => "The server failed; its log has the cause. Try again in a minute.",
        }
    }
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
        let shown = providers
            .map(|provider| api::Provider { id: provider.id().to_owned(), name: provider.name().to_owned() });
        api::Providers { providers: shown.collect() }
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
        let address = self.sign_in.address(&provider, &flow, &self.redirect_uri(&provider), now).await;
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
        if self.sign_in.provider(&asked.provider).is_none() {
            return Err(ApiError::bad_request(
                "provider: there is no such sign-in; GET /auth/providers lists them",
            ));
        }
        let purpose = Purpose::Link(person.session.clone());
        self.begin_sign_in(asked.provider, purpose, visit).await.map_err(|trouble| {
            if trouble == Trouble::Busy {
                return ApiError::TooMany(60);
            }
            ApiError::bad_request(trouble.sentence())
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
        let ended = match purpose {
            Purpose::Link(session) => self.link_identity(provider, session, identity).await,
            Purpose::Browser => match self.account_of(identity).await {
                Ok(account) => match self.identified(account, First::Provider, visit.clone()).await {
                    Ok(Entered::Session(session)) => Ok(Ended::Session(session)),
                    Ok(Entered::Challenge(token)) => Ok(Ended::Challenge(token)),
                    Err(error) => Err(internal(&error)),
                },
                Err(trouble) => Err(trouble),
            },
            Purpose::Terminal(challenge) => match self.account_of(identity).await {
                Ok(account) => self.code_for(account.id, challenge).await,
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
        // Counted under a name that no account can have.
        self.attempts().admit(" code", visit.address, now).map_err(|wait| ApiError::TooMany(wait.0))?;
        let challenge = Sha256::digest(verifier.as_bytes()).into();
        let account = self.store.take_sign_in_code(code_hash(&code), challenge, now).await?;
        let Some(account) = account else {
            let message = "this code is wrong, was used, or is for another terminal; begin the sign-in again";
            return Err(ApiError::refused(Code::InvalidKey, message));
        };
        self.attempts().succeed(" code", visit.address, now);
        self.identified(account, First::Provider, visit).await
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

    async fn account_of(
        &self,
        identity: mytunnel_sign_in::Identity,
    ) -> Result<crate::store::Account, Trouble> {
        let entered = self.store.enter_by_identity(identity, self.clock.now()).await;
        entered.map_err(|error| internal(&error))?.map_err(|refused| match refused {
            NoEntry::LinkFirst => Trouble::LinkFirst,
            NoEntry::NoAccount => Trouble::NoAccount,
            NoEntry::Unverified => Trouble::Unverified,
        })
    }

    async fn link_identity(
        &self,
        provider: &str,
        session: String,
        identity: mytunnel_sign_in::Identity,
    ) -> Result<Ended, Trouble> {
        let id = random::readable::<16>().map_err(|error| internal(&error))?.to_ascii_lowercase();
        let (id, now) = (format!("idn_{id}"), self.clock.now());
        let linked = self.store.link_identity(id, session, provider.to_owned(), identity, now).await;
        match linked.map_err(|error| internal(&error))? {
            Ok(()) => Ok(Ended::Linked(provider.to_owned())),
            Err(NoLink::Taken) => Err(Trouble::Taken),
            Err(NoLink::Full) => Err(Trouble::Full),
            Err(NoLink::SessionOver) => Err(Trouble::Stale),
        }
    }

    async fn code_for(&self, account: String, challenge: [u8; 32]) -> Result<Ended, Trouble> {
        let code = random::readable::<CODE>().map_err(|error| internal(&error))?;
        let added = self.store.add_sign_in_code(code_hash(&code), challenge, account, self.clock.now()).await;
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

/// What to say of a provider's failure; the operator's log has it whole.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other failure is an answer of no use")]
fn trouble(provider: &str, error: &SignInError) -> Trouble {
    let trouble = match error {
        SignInError::Declined => return Trouble::Declined,
        SignInError::Domain => return Trouble::Domain,
        SignInError::Busy => return Trouble::Busy,
        SignInError::UnknownProvider => return Trouble::Stale,
        SignInError::Unreachable { .. } => Trouble::Unreachable,
        _ => Trouble::Answer,
    };
    tracing::warn!(provider, error = error as &dyn std::error::Error, "a sign-in at a provider failed");
    trouble
}

fn internal(error: &dyn std::error::Error) -> Trouble {
    tracing::error!(%error, "a sign-in failed");
    Trouble::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_however_they_are_typed() {
        assert_eq!(code_hash("ABCD-0123-WXYZ"), code_hash(" abcd oi23 wxyz"));
        assert_ne!(code_hash("ABCD-0123-WXYZ"), code_hash("ABCD-0123-WXY0"));
    }

    #[test]
    fn the_page_of_sign_in_tells_every_trouble_in_the_same_words() {
        let page = include_str!("../dashboard/sign-in.js");
        for trouble in [
            Trouble::Stale,
            Trouble::Declined,
            Trouble::Unreachable,
            Trouble::Answer,
            Trouble::Domain,
            Trouble::Unverified,
            Trouble::LinkFirst,
            Trouble::NoAccount,
            Trouble::Taken,
            Trouble::Full,
            Trouble::Busy,
            Trouble::Internal,
        ] {
            let line = format!("['{}', '{}']", trouble.name(), trouble.sentence().replace('\'', "\\'"));
            assert!(page.contains(&line), "{line}");
        }
    }
}
