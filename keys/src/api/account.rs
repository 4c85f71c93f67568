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
