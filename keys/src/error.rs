//! The one list of failure codes that the command line, the HTTP API and the wire share.
//!
//! A [`Code`] has a stable name, a name for JSON over HTTP, a process exit code, an HTTP status and a remedy of one
//! line. Names are never reused and never change meaning.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $api:literal $exit:literal $status:literal $help:literal;)+) => {
        /// Why something was refused or failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, `KEY_EXPIRED`: on the command line, on the wire and as the title of its page.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The name in JSON over HTTP, `key_expired`.
            pub const fn api_name(self) -> &'static str {
                match self { $(Self::$variant => $api),+ }
            }

            /// The exit code of a process that ends for this reason.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit),+ }
            }

            /// The status of an HTTP answer that carries this code.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status),+ }
            }

            /// What the reader can do about it, in one line.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),+ }
            }
        }
    };
}

codes! {
    /// The credential is malformed, unknown, or not signed by this cluster's issuer.
    InvalidKey "INVALID_KEY" "invalid_key" 3 401
        "Check that the whole token was copied and that it belongs to this server; mint a new one with `mytunnel eval mint`.";
    /// The credential is past its life, or not valid yet.
    KeyExpired "KEY_EXPIRED" "key_expired" 3 401
        "Mint a new key with `mytunnel eval mint`, or sign this device in again with `mytunnel login`; if it is new, check this machine's clock.";
    /// The credential, its parent or its project was revoked.
    KeyRevoked "KEY_REVOKED" "key_revoked" 3 401
        "Ask the owner of the project for a new key; `mytunnel keys tree` shows what was revoked.";
    /// A master key was used for something other than minting and revoking.
    MasterCannotAct "MASTER_CANNOT_ACT" "master_cannot_act" 4 403
        "A master key only mints and revokes: run `eval \"$(mytunnel eval mint --ttl 1h --output-env)\"` and use the child key.";
    /// The credential's scopes or host patterns do not cover this.
    ScopeDenied "SCOPE_DENIED" "scope_denied" 4 403
        "Mint a key with the needed `--scope` or `--subdomain`; `mytunnel keys show` lists what this one may do.";
    /// The credential belongs to another project.
    ProjectMismatch "PROJECT_MISMATCH" "project_mismatch" 4 403
        "Use a key of the project that owns this, or set MYTUNNEL_PROJECT to the key's own project.";
    /// The tunnel name belongs to another project.
    NameTaken "NAME_TAKEN" "name_taken" 4 409
        "Choose another name with `--name`, or leave it out to get a free one.";
    /// The tunnel name is not one lower-case label, or is reserved.
    NameInvalid "NAME_INVALID" "name_invalid" 2 400
        "Use 1 to 63 of a-z, 0-9 and '-', not at the ends; some names such as www and admin are reserved.";
    /// The credential has as many tunnels as it may have at one time.
    TunnelLimit "TUNNEL_LIMIT" "tunnel_limit" 4 403
        "Close the other tunnel of this key first (`mytunnel status`), or mint one key for each tunnel.";
    /// The key's or its parent's budget for the month is spent, or frozen.
    BudgetExceeded "BUDGET_EXCEEDED" "budget_exceeded" 5 402
        "Ask the owner of the project to raise it, or wait for the next month (UTC).";
    /// The tenant's plan does not contain this.
    UpgradeRequired "UPGRADE_REQUIRED" "upgrade_required" 4 402
        "Ask the operator of this server for a plan that contains it.";
    /// The sign-in provider is not one that the server knows.
    UnsupportedProvider "UNSUPPORTED_PROVIDER" "unsupported_provider" 2 400
        "Use `google`, or `--oidc ISSUER` with an issuer that the operator has set up.";
    /// Too many attempts in too short a time.
    RateLimited "RATE_LIMITED" "rate_limited" 4 429
        "Wait, then try again.";
    /// The relay does not answer.
    RelayUnreachable "RELAY_UNREACHABLE" "relay_unreachable" 6 502
        "Check this machine's network, and that the relay runs and its port for nodes is open; then try again.";
    /// The relay has been cut off from its coordinator for too long to vouch for anybody.
    RelayStale "RELAY_STALE" "relay_stale" 6 503
        "Wait for the relay to reach its coordinator again, or use another relay; the relay's log has the reason.";
    /// The coordinator does not answer.
    CoordinatorUnreachable "COORDINATOR_UNREACHABLE" "coordinator_unreachable" 6 503
        "Check the address in MYTUNNEL_SERVER and this machine's network, then try again.";
    /// The local service behind the tunnel does not answer.
    TargetUnreachable "TARGET_UNREACHABLE" "target_unreachable" 7 502
        "Start the local service, or correct the port or address given to `mytunnel share`.";
    /// The account has a second factor, and none was given.
    MfaRequired "MFA_REQUIRED" "mfa_required" 3 401
        "Give the six digits of the authenticator: `mytunnel login` asks for them, MYTUNNEL_TOTP sets them.";
    /// The second factor is wrong or was used before.
    MfaInvalid "MFA_INVALID" "mfa_invalid" 3 401
        "Wait for the next six digits, check the clock of the authenticator, or use a recovery code.";
    /// The act needs a sign-in that is only minutes old.
    StepUpRequired "STEP_UP_REQUIRED" "step_up_required" 3 401
        "Sign in again, with the second factor where there is one, and repeat this within ten minutes; the dashboard and `mytunnel` ask for it.";
    /// The message is larger than this route takes.
    PayloadTooLarge "PAYLOAD_TOO_LARGE" "payload_too_large" 1 413
        "Send less at once.";
    /// The request cannot be understood.
    BadRequest "BAD_REQUEST" "bad_request" 2 400
        "Correct the field that the message names; `/api/v1/openapi.json` describes every route.";
    /// There is no such thing, or it is not yours to see.
    NotFound "NOT_FOUND" "not_found" 1 404
        "Check the name or id with `mytunnel keys list` or `mytunnel projects list`.";
    /// Something failed inside; the log of the server has the cause.
    Internal "INTERNAL" "internal" 1 500
        "Try again; if it stays, the server's log has the cause.";
    /// What was pasted is not a whole pairing link.
    PairLinkDamaged "PAIR_LINK_DAMAGED" "pair_link_damaged" 2 400
        "Copy the whole invite again: from `pair1-` to the four characters after its last hyphen.";
    /// The other side speaks another version of pairing.
    PairVersion "PAIR_VERSION" "pair_version" 1 400
        "Update the older of the two programs; `mytunnel --version` shows which that is.";
    /// The host lets nobody in with this.
    PairRefused "PAIR_REFUSED" "pair_refused" 8 403
        "Ask the host for a new invite.";
    /// The spoken code is not the host's.
    PairSecret "PAIR_SECRET" "pair_secret" 8 403
        "Have the code read out again; after three wrong ones the host has to make another.";
    /// The invite was used before.
    PairUsed "PAIR_USED" "pair_used" 8 409
        "Ask the host for a new one: `mytunnel pair invite`.";
    /// The invite is too old.
    PairExpired "PAIR_EXPIRED" "pair_expired" 8 410
        "Ask the host for a new one: `mytunnel pair invite`, with `--ttl` for a longer life.";
    /// The invite was taken back, or spoilt by wrong guesses or a person who said no.
    PairBurned "PAIR_BURNED" "pair_burned" 8 410
        "Ask the host for a new one, and who it was.";
    /// The session takes nobody in any more.
    PairLocked "PAIR_LOCKED" "pair_locked" 8 403
        "Ask the host to open another session.";
    /// The session has as many members as it may have.
    PairFull "PAIR_FULL" "pair_full" 8 409
        "Ask the host to let somebody go (`mytunnel pair kick`), or to open another session.";
    /// The host does not answer at any address in the link.
    PairUnreachable "PAIR_UNREACHABLE" "pair_unreachable" 6 502
        "Check that both machines are on one network and that the host's firewall lets it in; `--addr IP:PORT` names another address.";
    /// Nobody on this network answers to that code.
    PairNoHost "PAIR_NO_HOST" "pair_no_host" 6 502
        "Check the number before the words; where the network carries no multicast, give `--addr IP:PORT`.";
    /// The words are not those that the other machine shows.
    PairSasMismatch "PAIR_SAS_MISMATCH" "pair_sas_mismatch" 8 409
        "Read them again; if they differ still, somebody is in the middle: close the session and use another way to hand over the link.";
    /// The members have not compared their words yet.
    PairUnverified "PAIR_UNVERIFIED" "pair_unverified" 4 403
        "Compare the words with the other side's person and run `mytunnel pair verify`, on both machines.";
    /// This waits for a person.
    PairNeedsApproval "PAIR_NEEDS_APPROVAL" "pair_needs_approval" 4 403
        "Look at it, then run `mytunnel pair approve ID` or `mytunnel pair deny ID`, or what the message names, in a terminal.";
    /// A person said no.
    PairDenied "PAIR_DENIED" "pair_denied" 8 403
        "Ask that person.";
    /// There is no such session on this machine.
    PairNoSession "PAIR_NO_SESSION" "pair_no_session" 1 404
        "`mytunnel pair status` shows which there are; `mytunnel pair open` or `join` makes one.";
    /// The session is over.
    PairClosed "PAIR_CLOSED" "pair_closed" 1 410
        "Open another with `mytunnel pair open`.";
    /// The other side is not there.
    PairPeerOffline "PAIR_PEER_OFFLINE" "pair_peer_offline" 6 503
        "Wait, or see to the other machine: what was said is kept and delivered when it is back.";
    /// The message or the file is larger than a session takes.
    PairTooLarge "PAIR_TOO_LARGE" "pair_too_large" 1 413
        "Send less at once, or share it as a file.";
    /// Too much in too short a time.
    PairRate "PAIR_RATE" "pair_rate" 4 429
        "Wait, then try again.";
    /// That file may not be shared, or not be written there.
    PairPathDenied "PAIR_PATH_DENIED" "pair_path_denied" 4 403
        "Share a file of the project's own folder; a person may allow others.";
    /// What arrived is not what was offered.
    PairHash "PAIR_HASH" "pair_hash" 1 422
        "Receive it again; if it stays, ask the sender to offer the file anew.";
    /// There is a file of that name.
    PairExists "PAIR_EXISTS" "pair_exists" 1 409
        "Move it away, then receive again.";
    /// The record of the session is broken.
    PairFork "PAIR_FORK" "pair_fork" 1 409
        "Close the session and do not rely on what came after that entry; open another.";
    /// What is kept of sessions could not be read or written.
    PairStore "PAIR_STORE" "pair_store" 1 507
        "Check the disk that the message names, its space above all, and try again: what was confirmed is there.";
}

/// The text is no code's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such error code")]
pub struct UnknownCode;

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    /// Reads either name, `KEY_EXPIRED` or `key_expired`.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.name() == text || code.api_name() == text)
            .ok_or(UnknownCode)
    }
}

/// As [`Code::name`].
impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Reads either name. A name that this version does not know becomes [`Code::Internal`], so that the words which come
/// with a newer peer's code still reach the reader.
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(name.parse().unwrap_or(Self::Internal))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_api_names_are_their_lower_case() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.api_name(), code.name().to_ascii_lowercase());
            assert_eq!(code.name().parse(), Ok(*code));
            assert_eq!(code.api_name().parse(), Ok(*code));
        }
    }

    #[test]
    fn every_code_has_a_remedy_of_one_line_and_a_fitting_exit_and_status() {
        for code in Code::ALL {
            assert!(code.help().ends_with('.') && !code.help().contains('\n'), "{code}");
            assert!((1..=8).contains(&code.exit_code()), "{code}");
            assert!((400..=599).contains(&code.http_status()), "{code}");
        }
        assert_eq!(Code::KeyRevoked.exit_code(), 3);
        assert_eq!(Code::BudgetExceeded.exit_code(), 5);
        assert_eq!(Code::TargetUnreachable.exit_code(), 7);
        assert_eq!(Code::UpgradeRequired.http_status(), 402);
    }

    #[test]
    fn a_newer_peers_code_reads_as_internal() {
        let read = |text| serde_json::from_str::<Code>(text).unwrap();
        assert_eq!(read("\"NAME_TAKEN\""), Code::NameTaken);
        assert_eq!(read("\"name_taken\""), Code::NameTaken);
        assert_eq!(read("\"FROM_THE_FUTURE\""), Code::Internal);
        assert_eq!(serde_json::to_string(&Code::NameTaken).unwrap(), "\"NAME_TAKEN\"");
    }
}
