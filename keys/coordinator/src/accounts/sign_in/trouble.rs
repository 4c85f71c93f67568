//! Why sign-ins at providers come to nothing, and where it is told.

use mytunnel_sign_in::SignInError;

use crate::authority::NoEntry;
use crate::store::Purpose;

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
    /// The invitation is not open any more.
    NotInvited,
    /// The invitation is for another address.
    OtherAddress,
    /// The identity belongs to another account.
    Taken,
    /// The account has too many identities.
    Full,
    /// It is not the account that was to prove itself.
    OtherAccount,
    /// The provider did not say that the person proved themselves just now.
    NotFresh,
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
            Purpose::Browser | Purpose::Invitation(_) => Self::Login,
            Purpose::Link(_) | Purpose::Again(_) => Self::Security,
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
            Self::NotInvited => "not_invited",
            Self::OtherAddress => "other_address",
            Self::Taken => "taken",
            Self::Full => "full",
            Self::OtherAccount => "other_account",
            Self::NotFresh => "not_fresh",
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
            Self::NotInvited => "This invitation was used, withdrawn or is too old. Ask for another.",
            Self::OtherAddress => {
                "The invitation is for another address than the provider vouches for. Choose that account there, or open the invitation again and choose a password."
            }
            Self::Taken => "This identity is connected to another account here.",
            Self::Full => "This account has too many identities. Disconnect one first.",
            Self::OtherAccount => {
                "That was another account than the one that is signed in here. Nothing was changed; choose the same account there."
            }
            Self::NotFresh => {
                "This provider does not say that you proved yourself there just now. Use your password, or sign in with a code of your authenticator."
            }
            Self::Busy => "Too many people are signing in. Try again in a minute.",
            Self::Internal => "The server failed; its log has the cause. Try again in a minute.",
        }
    }
}

impl From<NoEntry> for Trouble {
    fn from(refused: NoEntry) -> Self {
        match refused {
            NoEntry::LinkFirst => Self::LinkFirst,
            NoEntry::NoAccount => Self::NoAccount,
            NoEntry::Unverified => Self::Unverified,
            NoEntry::NotInvited => Self::NotInvited,
            NoEntry::OtherAddress => Self::OtherAddress,
            NoEntry::Taken => Self::Taken,
        }
    }
}

/// What to say of a provider's failure; the operator's log has it whole.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other failure is an answer of no use")]
pub(super) fn trouble(provider: &str, error: &SignInError) -> Trouble {
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

pub(super) fn internal(error: &dyn std::error::Error) -> Trouble {
    tracing::error!(%error, "a sign-in failed");
    Trouble::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_sign_in_tells_every_trouble_in_the_same_words() {
        let page = include_str!("../../dashboard/sign-in.js");
        for trouble in [
            Trouble::Stale,
            Trouble::Declined,
            Trouble::Unreachable,
            Trouble::Answer,
            Trouble::Domain,
            Trouble::Unverified,
            Trouble::LinkFirst,
            Trouble::NoAccount,
            Trouble::NotInvited,
            Trouble::OtherAddress,
            Trouble::Taken,
            Trouble::Full,
            Trouble::OtherAccount,
            Trouble::NotFresh,
            Trouble::Busy,
            Trouble::Internal,
        ] {
            let line = format!("['{}', '{}']", trouble.name(), trouble.sentence().replace('\'', "\\'"));
            assert!(page.contains(&line), "{line}");
        }
    }
}
