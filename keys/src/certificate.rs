//! Certificates: CBOR Web Tokens (RFC 8392) in COSE_Sign1 that bind rights to a key (`cnf`, RFC 8747).
//!
//! The holder shows its certificate on a connection whose handshake has proved the key; [`verify`] takes that key, so
//! that a certificate which was only copied opens nothing. Checks need no network and no state. What is unknown is
//! refused: a claim that a later version adds may be a restriction.

mod claims;

use thiserror::Error;

pub use self::claims::{Claims, ClaimsError, Flags, Kind};
use crate::{
    Unverified, Verified,
    cbor::FieldError,
    cose::{Envelope, EnvelopeError},
    error::Code,
    id::{Kid, PublicKey, SignatureError},
    trust::{CLOCK_SKEW, KeyError, KeyUse, Trust},
};

/// Largest certificate, in bytes. A token with such a certificate still fits its own limit.
pub const MAX_CERTIFICATE: usize = 512;

const TYPE: &str = "mtk+cwt";

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not a signed certificate.
    #[error("the certificate is malformed")]
    Envelope(#[from] EnvelopeError),
    /// Its content is not a certificate's.
    #[error("the certificate is malformed")]
    Content(#[from] FieldError),
    /// Signed by a key that the bundle does not have.
    #[error("the certificate's issuer is not trusted")]
    Issuer(#[from] KeyError),
    /// The signature is wrong.
    #[error("the certificate: {0}")]
    Signature(#[from] SignatureError),
    /// The claims contradict themselves or the limits of their kind.
    #[error("the certificate breaks a rule")]
    Claims(#[from] ClaimsError),
    /// For another cluster.
    #[error("the certificate is for another cluster")]
    Cluster,
    /// For another key than the one that the connection proved.
    #[error("the certificate belongs to another key")]
    Holder,
    /// Its time has not come.
    #[error("the certificate is not valid before {not_before}, and it is {now}")]
    NotYetValid {
        /// Second from which it is valid.
        not_before: u64,
        /// The verifier's time.
        now: u64,
    },
    /// Its time is over.
    #[error("the certificate ended at {not_after}, and it is {now}")]
    Expired {
        /// Second at which it ended.
        not_after: u64,
        /// The verifier's time.
        now: u64,
    },
}

impl VerifyError {
    /// What to tell the holder.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotYetValid { .. } | Self::Expired { .. } => Code::KeyExpired,
            Self::Envelope(_)
            | Self::Content(_)
            | Self::Issuer(_)
            | Self::Signature(_)
            | Self::Claims(_)
            | Self::Cluster
            | Self::Holder => Code::InvalidKey,
        }
    }
}

/// Checks a certificate that was shown by the holder of a key.
///
/// `holder` is the key that the connection's handshake proved, `now` the time in Unix seconds; clocks may differ by
/// [`CLOCK_SKEW`]. Revocation is for [`crate::revocation::RevocationSet`] to say.
///
/// # Errors
/// When anything about it is not exactly as it must be; see [`VerifyError`].
pub fn verify(
    bytes: &[u8],
    trust: &Trust,
    holder: &PublicKey,
    now: u64,
) -> Result<Verified<Claims>, VerifyError> {
    let envelope = Envelope::parse(TYPE, bytes, MAX_CERTIFICATE)?;
    let issuer = trust.key(Kid::from_bytes(envelope.kid), KeyUse::Certificate, now)?;
    envelope.verify(issuer)?;
    let claims = Claims::read(&envelope.payload)?;
    claims.check()?;
    if claims.cluster != *trust.cluster() {
        return Err(VerifyError::Cluster);
    }
    if claims.subject != *holder {
        return Err(VerifyError::Holder);
    }
    if now.saturating_add(CLOCK_SKEW) < claims.not_before {
        return Err(VerifyError::NotYetValid { not_before: claims.not_before, now });
    }
    if now >= claims.not_after.saturating_add(CLOCK_SKEW) {
        return Err(VerifyError::Expired { not_after: claims.not_after, now });
    }
    Ok(Verified::new(claims))
}

/// Reads a certificate without checking its signature: for showing it, and for finding the seed of a bound token.
///
/// # Errors
/// When it is malformed.
pub fn inspect(bytes: &[u8]) -> Result<Unverified<Claims>, VerifyError> {
    let envelope = Envelope::<8>::parse(TYPE, bytes, MAX_CERTIFICATE)?;
    Ok(Unverified::new(Claims::read(&envelope.payload)?))
}

/// The key that signs certificates.
#[cfg(feature = "issue")]
#[derive(Clone, Debug)]
pub struct IssuerKey(crate::secret::Seed);

#[cfg(feature = "issue")]
impl IssuerKey {
    /// Makes a seed the issuer key.
    pub const fn new(seed: crate::secret::Seed) -> Self {
        Self(seed)
    }

    /// The key's public half, for a trust bundle.
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }
}

/// Signs a certificate.
///
/// # Errors
/// When the claims are ones that [`verify`] would refuse, or take more than [`MAX_CERTIFICATE`] bytes.
#[cfg(feature = "issue")]
pub fn issue(claims: &Claims, issuer: &IssuerKey) -> Result<Vec<u8>, ClaimsError> {
    claims.check()?;
    let bytes = crate::cose::sign(TYPE, Kid::of(&issuer.public()).as_bytes(), claims.write(), &issuer.0);
    if bytes.len() > MAX_CERTIFICATE {
        return Err(ClaimsError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

#[cfg(test)]
#[cfg(feature = "issue")]
mod tests;
