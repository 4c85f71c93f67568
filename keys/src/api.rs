//! Bodies of the coordinator's HTTP API, for the coordinator that answers and the programs that ask.
//!
//! JSON; times are Unix seconds, lengths of time seconds, bytes base64url without padding. A reader passes over fields
//! that it does not know; an answer may grow fields.

mod account;
mod domain;
mod key;
mod relay;
mod sign_in;
mod ticket;
mod tunnel;
mod usage;

use serde::{Deserialize, Serialize};

pub use self::{
    account::{
        AcceptInvitation, Account, Accounts, Device, DeviceRow, Devices, ForgotPassword, Invitation,
        InvitationCreated, Invitations, Login, LoginAnswer, LoginMfa, Me, MfaCode, MfaEnabled, MfaEnrolment,
        MfaProof, MfaStatus, NewDevice, NewInvitation, PasswordAsked, PasswordChange, PasswordReset,
        RecoveryCodes, RoleChange, SessionRow, Sessions, Setup,
    },
    domain::{DnsRecord, Domain, DomainAnswer, DomainRemoved, DomainState, Domains, NewDomain},
    key::{
        MadeBy, MasterLeft, Mint, MintAnswer, NewProject, Project, ProjectCreated, Projects, RelayApplied,
        RevokeAnswer, TokenRow, Tokens,
    },
    relay::{
        AuditEntry, AuditLog, AuditWitness, Bootstrap, Console, JoinToken, RelayAddress, RelayJoin,
        RelayJoined, RelayRow, Relays,
    },
    sign_in::{
        Identities, Identity, InvitedSignIn, LinkAddress, NewIdentity, Provider, Providers, SignInCode,
    },
    ticket::{NewTicket, RedeemTicket, Ticket, TicketRedeemed, Tickets},
    tunnel::{
        Addresses, Auth, AuthAnswer, EdgeAuth, EdgeAuthAnswer, GateAnswer, NewTunnel, PlanName, SetAddresses,
        SetAuth, SetBearer, SetEdgeAuth, SetEnd, SetGate, SetPin, SetPlan, Tenant, Tunnel, TunnelClosed,
        TunnelRow, Tunnels,
    },
    usage::{BudgetAnswer, SetBudget, UsageAnswer, UsageKey, UsagePoint},
};
use crate::error::Code;
pub use crate::token::TokenKind;

/// The body of every failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The one member.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The code; `name_taken` in JSON.
    #[serde(serialize_with = "lower_case")]
    pub code: Code,
    /// What went wrong, in words, with nothing internal in it.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl ErrorBody {
    /// The body for a code, with the code's own remedy.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { error: ErrorDetail { code, message: message.into(), help: code.help().to_owned() } }
    }
}

fn lower_case<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.api_name())
}

#[cfg(test)]
mod tests;
