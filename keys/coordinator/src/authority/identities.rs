//! Who may enter by the word of another provider.
//!
//! A provider's word for an address is not enough for an account that is there: whoever gets hold of an address at any
//! of the providers, or of a domain that somebody gave up, would take it over. An account is entered only by an identity
//! that was linked to it, and linking needs a session in it.

use mytunnel_keys::error::Code;

use super::Refusal;

/// A sign-in at a provider may take so many seconds.
pub(crate) const SIGN_IN_LIFE: u64 = 10 * 60;
/// Sign-ins under way at a time; one more takes the place of the oldest.
pub(crate) const MAX_SIGN_INS: u64 = 10_000;
/// A code for the terminal is good for so many seconds.
pub(crate) const CODE_LIFE: u64 = 5 * 60;
/// Identities of one account.
pub(crate) const MAX_IDENTITIES: u64 = 20;

/// What is known of an identity that wants to enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newcomer {
    /// An account is linked to it.
    pub(crate) linked: bool,
    /// The provider knows that the address is theirs.
    pub(crate) verified: bool,
    /// There is an account with that address.
    pub(crate) has_account: bool,
}

/// Why somebody with an identity does not enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// An account has that address, and is not linked.
    LinkFirst,
    /// Nobody here has that address.
    NoAccount,
    /// The provider does not know whose address it is.
    Unverified,
    /// The invitation is not open any more.
    NotInvited,
    /// The invitation is for another address.
    OtherAddress,
    /// An account is linked to the identity already.
    Taken,
}

/// May this identity enter the account that it is linked to?
pub(crate) fn may_enter(newcomer: Newcomer) -> Result<(), NoEntry> {
    match newcomer {
        Newcomer { linked: true, .. } => Ok(()),
        // Whether the address has an account here is told to nobody but its owner.
        Newcomer { verified: false, .. } => Err(NoEntry::Unverified),
        Newcomer { has_account: true, .. } => Err(NoEntry::LinkFirst),
        Newcomer { has_account: false, .. } => Err(NoEntry::NoAccount),
    }
}

/// May an identity make the account that an invitation is for? Whoever comes has the invitation's code; the provider has to
/// vouch for the very address that was invited, so that a link which was forwarded makes no account for somebody else.
pub(crate) fn may_join(invited: Option<&str>, verified: Option<&str>, linked: bool) -> Result<(), NoEntry> {
    match (invited, verified) {
        (None, _) => Err(NoEntry::NotInvited),
        (Some(_), None) => Err(NoEntry::Unverified),
        (Some(invited), Some(verified)) if invited != verified => Err(NoEntry::OtherAddress),
        (Some(_), Some(_)) if linked => Err(NoEntry::Taken),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// Why an identity was not linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLink {
    /// It belongs to another account.
    Taken,
    /// The account has too many.
    Full,
    /// The session in which it was asked for has ended.
    SessionOver,
}

/// May an identity be linked to this account? `owner`: the account that it is linked to already.
pub(crate) fn may_link(account: &str, owner: Option<&str>, identities: u64) -> Result<(), NoLink> {
    match owner {
        Some(owner) if owner == account => Ok(()),
        Some(_) => Err(NoLink::Taken),
        None if identities >= MAX_IDENTITIES => Err(NoLink::Full),
        None => Ok(()),
    }
}

/// May an account lose an identity? One without a password needs another way in.
pub(crate) fn may_unlink(has_password: bool, identities: u64) -> Result<(), Refusal> {
    if has_password || identities > 1 {
        return Ok(());
    }
    let message = "this is the only way into the account: set a password or connect another identity first";
    Err(Refusal::new(Code::BadRequest, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_key_to_an_account() {
        let newcomer = |linked, verified, has_account| may_enter(Newcomer { linked, verified, has_account });
        for verified in [false, true] {
            for has_account in [false, true] {
                assert_eq!(newcomer(true, verified, has_account), Ok(()));
                assert!(newcomer(false, verified, has_account).is_err());
            }
        }
        assert_eq!(newcomer(false, true, true), Err(NoEntry::LinkFirst));
        assert_eq!(newcomer(false, true, false), Err(NoEntry::NoAccount));
        assert_eq!(newcomer(false, false, true), newcomer(false, false, false));
    }

    #[test]
    fn an_invitation_is_for_one_verified_address() {
        let (ann, bob) = (Some("ann@example.org"), Some("bob@example.org"));
        assert_eq!(may_join(ann, ann, false), Ok(()));
        assert_eq!(may_join(ann, bob, false), Err(NoEntry::OtherAddress));
        assert_eq!(may_join(ann, None, false), Err(NoEntry::Unverified));
        assert_eq!(may_join(ann, ann, true), Err(NoEntry::Taken));
        assert_eq!(may_join(None, ann, false), Err(NoEntry::NotInvited));
    }

    #[test]
    fn an_identity_belongs_to_one_account() {
        assert_eq!(may_link("a", None, 0), Ok(()));
        assert_eq!(may_link("a", Some("a"), MAX_IDENTITIES), Ok(()));
        assert_eq!(may_link("a", Some("b"), 0), Err(NoLink::Taken));
        assert_eq!(may_link("a", None, MAX_IDENTITIES), Err(NoLink::Full));
    }

    #[test]
    fn nobody_locks_themselves_out() {
        assert!(may_unlink(true, 1).is_ok() && may_unlink(false, 2).is_ok());
        assert!(may_unlink(false, 1).is_err());
    }
}
