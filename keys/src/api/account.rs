//! Accounts and devices.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Cluster, PublicKey, Serial, TenantId};

/// `POST /auth/setup`: makes the first owner.
#[derive(Clone, Serialize, Deserialize)]
pub struct Setup {
    /// The code that the server printed at its first start.
    pub code: String,
    /// Address of the owner.
    pub email: String,
    /// Password of the owner.
    pub password: String,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("email", &self.email).finish_non_exhaustive()
    }
}

/// `POST /auth/login`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    /// Address of the account.
    pub email: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Answer to [`Setup`] and [`Login`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LoginAnswer {
    /// Signed in.
    Access {
        /// For `Authorization: Bearer`; 15 minutes.
        access_token: String,
    },
    /// The second factor is still missing.
    Mfa {
        /// Always true.
        mfa_required: bool,
        /// Goes back with the six digits.
        challenge_token: String,
    },
}

impl fmt::Debug for LoginAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Access { .. } => "LoginAnswer::Access",
            Self::Mfa { .. } => "LoginAnswer::Mfa",
        })
    }
}

/// `POST /auth/login/mfa`: the second factor of somebody who is half signed in.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoginMfa {
    /// What the first half of the sign-in answered.
    pub challenge_token: String,
    /// Six digits of the authenticator, or a recovery code.
    pub code: String,
}

/// Answer of `POST /auth/mfa/enroll`: what the authenticator must be told. Nothing is kept of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MfaEnrolment {
    /// The secret, for typing.
    pub secret_base32: String,
    /// The same with its parameters, for an authenticator.
    pub otpauth_uri: String,
    /// The same as a picture.
    pub qr_svg: String,
}

/// `POST /auth/mfa/enroll/verify`: shows that the authenticator has the secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct MfaProof {
    /// The secret of [`MfaEnrolment`].
    pub secret_base32: String,
    /// Six digits of the authenticator.
    pub code: String,
}

/// Answer to [`MfaProof`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MfaEnabled {
    /// Always `enabled`.
    pub status: String,
    /// Each is good once, in the place of six digits; shown once.
    pub recovery_codes: Vec<String>,
}

/// `POST /auth/mfa/disable` and `/auth/mfa/recovery-codes`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct MfaCode {
    /// Six digits of the authenticator, or a recovery code. Disabling can do without one after a sign-in with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Answer of `POST /auth/mfa/disable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MfaStatus {
    /// Always `disabled`.
    pub status: String,
}

/// Answer of `POST /auth/mfa/recovery-codes`: they replace all before them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryCodes {
    /// Each is good once; shown once.
    pub recovery_codes: Vec<String>,
}

macro_rules! say_nothing {
    ($($secret:ident)+) => {$(
        impl fmt::Debug for $secret {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($secret)).finish_non_exhaustive()
            }
        }
    )+};
}

say_nothing!(LoginMfa MfaEnrolment MfaProof MfaEnabled MfaCode RecoveryCodes);

/// Answer of `GET /auth/me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// Id of the account.
    pub id: String,
    /// Its address.
    pub email: String,
    /// `owner` or `member`.
    pub role: String,
    /// Its tenant.
    pub tenant: TenantId,
    /// The tenant's plan.
    pub plan: String,
    /// Whether it has a second factor.
    pub mfa_enabled: bool,
    /// Recovery codes that were not used yet.
    pub recovery_codes_left: u64,
}

/// Somebody who can sign in, as owners see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Id of the account.
    pub id: String,
    /// Its address.
    pub email: String,
    /// `owner` or `member`.
    pub role: String,
    /// When it was made.
    pub created_at: u64,
    /// Whether it has a second factor.
    pub mfa_enabled: bool,
    /// When somebody last signed in with it.
    pub last_login_at: Option<u64>,
}

/// Answer of `GET /accounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Everybody in the tenant, in the order in which they came.
    pub accounts: Vec<Account>,
}

/// `PATCH /accounts/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleChange {
    /// `owner` or `member`.
    pub role: String,
}

/// `POST /invitations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInvitation {
    /// The address that the account will have.
    pub email: String,
    /// `owner` or `member`.
    pub role: String,
}

/// Answer to [`NewInvitation`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationCreated {
    /// Its id.
    pub id: String,
    /// The address that the account will have.
    pub email: String,
    /// `owner` or `member`.
    pub role: String,
    /// Makes the account; shown once.
    pub code: String,
    /// The same as an address of the dashboard.
    pub url: String,
    /// When it ends.
    pub expires_at: u64,
}

/// An open invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id.
    pub id: String,
    /// The address that the account will have.
    pub email: String,
    /// `owner` or `member`.
    pub role: String,
    /// When it was made.
    pub created_at: u64,
    /// When it ends.
    pub expires_at: u64,
}

/// Answer of `GET /invitations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitations {
    /// Those that are open.
    pub invitations: Vec<Invitation>,
}

/// `POST /auth/invitations/accept`: makes the account and signs it in.
#[derive(Clone, Serialize, Deserialize)]
pub struct AcceptInvitation {
    /// The code of the invitation.
    pub code: String,
    /// The password that the account will have.
    pub password: String,
}

/// `POST /auth/password`: every other session ends.
#[derive(Clone, Serialize, Deserialize)]
pub struct PasswordChange {
    /// The password as it is.
    pub current: String,
    /// The password as it will be.
    pub new: String,
}

/// `POST /auth/password/forgot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgotPassword {
    /// Address of the account.
    pub email: String,
}

/// Answer to [`ForgotPassword`], the same whether there is such an account or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordAsked {
    /// Whether this server sends mail at all; where it does not, its operator makes a link.
    pub mail: bool,
}

/// `POST /auth/password/reset`: every session ends.
#[derive(Clone, Serialize, Deserialize)]
pub struct PasswordReset {
    /// The token of the link.
    pub token: String,
    /// The password as it will be.
    pub password: String,
}

say_nothing!(InvitationCreated AcceptInvitation PasswordChange PasswordReset);

/// A device that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// [`Serial::nonce`].
    pub nonce: String,
    /// What people call it.
    pub name: String,
    /// Address of its account; none for the person at the coordinator's own machine.
    pub account: Option<String>,
    /// When it was signed in.
    pub created_at: u64,
    /// When its certificate ends.
    pub expires_at: Option<u64>,
    /// Tunnels that it serves at this moment.
    pub live_tunnels: u32,
}

/// Answer of `GET /devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// The tenant's for owners, else the caller's own.
    pub devices: Vec<DeviceRow>,
}

/// A session, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its id.
    pub id: String,
    /// When it began.
    pub created_at: u64,
    /// When it was last kept alive.
    pub last_used_at: u64,
    /// Where it began.
    pub address: Option<String>,
    /// What the browser or program called itself.
    pub agent: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// Answer of `GET /sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The caller's own, the last used first.
    pub sessions: Vec<SessionRow>,
}

/// `POST /devices`: asks for a certificate for a key that was made on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDevice {
    /// The device's public key.
    pub public_key: PublicKey,
    /// What people call the device.
    pub name: String,
}

/// A signed-in device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Address of the account.
    pub account: String,
    /// Tenant of the account.
    pub tenant: TenantId,
    /// What people call the device.
    pub name: String,
    /// Serial of its certificate; signs requests under it.
    pub serial: Serial,
    /// Its certificate.
    #[serde(with = "crate::bytes")]
    pub certificate: Vec<u8>,
    /// The trust bundle.
    #[serde(with = "crate::bytes")]
    pub trust: Vec<u8>,
    /// The cluster that both are for.
    pub cluster: Cluster,
    /// When the certificate ends.
    pub expires_at: u64,
}
