//! Which refusals end a share, and which pass.

use mytunnel_keys::error::Code;

/// What a refusal means for what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Asking again brings the same answer: a person has to act.
    Final,
    /// It may pass by itself: ask again later.
    Passing,
}

/// The one table. Codes that this version does not know are taken as passing: a newer relay's reasons are its own, and
/// a share that waits does less harm than one that ended for nothing.
pub(crate) fn on(code: Code) -> Verdict {
    match code {
        Code::InvalidKey
        | Code::KeyExpired
        | Code::KeyRevoked
        | Code::MasterCannotAct
        | Code::ScopeDenied
        | Code::ProjectMismatch
        | Code::NameTaken
        | Code::NameInvalid
        | Code::TunnelLimit
        | Code::BudgetExceeded
        | Code::UpgradeRequired
        | Code::UnsupportedProvider
        | Code::MfaRequired
        | Code::MfaInvalid
        | Code::StepUpRequired
        | Code::PayloadTooLarge
        | Code::BadRequest
        | Code::NotFound
        | Code::PairLinkDamaged
        | Code::PairVersion
        | Code::PairRefused
        | Code::PairSecret
        | Code::PairUsed
        | Code::PairExpired
        | Code::PairBurned
        | Code::PairLocked
        | Code::PairFull
        | Code::PairSasMismatch
        | Code::PairUnverified
        | Code::PairNeedsApproval
        | Code::PairDenied
        | Code::PairNoSession
        | Code::PairClosed
        | Code::PairTooLarge
        | Code::PairRate
        | Code::PairPathDenied
        | Code::PairHash
        | Code::PairExists
        | Code::PairFork => Verdict::Final,
        Code::RateLimited
        | Code::RelayUnreachable
        | Code::RelayStale
        | Code::CoordinatorUnreachable
        | Code::TargetUnreachable
        | Code::PairUnreachable
        | Code::PairNoHost
        | Code::PairPeerOffline
        | Code::PairStore
        | Code::Internal => Verdict::Passing,
        _ => Verdict::Passing,
    }
}

/// Whether it is about the key itself, which is the same at every relay.
pub(crate) fn is_of_key(code: Code) -> bool {
    matches!(code, Code::InvalidKey | Code::KeyExpired | Code::KeyRevoked | Code::MasterCannotAct)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_the_key_ends_it_at_every_relay() {
        assert!([Code::KeyRevoked, Code::KeyExpired, Code::InvalidKey].into_iter().all(is_of_key));
        assert!(![Code::UpgradeRequired, Code::BudgetExceeded, Code::TunnelLimit].into_iter().any(is_of_key));
    }

    #[test]
    fn what_a_person_must_mend_is_final() {
        use Code::*;
        for code in [
            KeyRevoked,
            KeyExpired,
            NameTaken,
            ScopeDenied,
            ProjectMismatch,
            TunnelLimit,
            InvalidKey,
            BudgetExceeded,
            MasterCannotAct,
        ] {
            assert_eq!(on(code), Verdict::Final, "{code}");
        }
    }

    #[test]
    fn what_mends_itself_is_passing() {
        use Code::*;
        for code in [RelayStale, RelayUnreachable, CoordinatorUnreachable, RateLimited, Internal] {
            assert_eq!(on(code), Verdict::Passing, "{code}");
        }
    }

    /// Exit codes 3, 4 and 5 say that the credential or its rights are the matter; nothing but a person changes those.
    #[test]
    fn the_table_agrees_with_the_exit_codes() {
        for code in Code::ALL.iter().copied().filter(|code| *code != Code::RateLimited) {
            let rights = matches!(code.exit_code(), 3..=5);
            let reach = matches!(code.exit_code(), 6 | 7);
            assert!(!(rights && on(code) == Verdict::Passing), "{code}");
            assert!(!(reach && on(code) == Verdict::Final), "{code}");
        }
    }
}
