//! Proof that the holder of a key makes this very HTTP request.
//!
//! One form for every call of the API that is made by a key: a COSE_Sign1 message over cluster, method, path with query
//! and the digest of the body, sent as `Authorization: Mytunnel <base64url>`. A proof for one request is none for any
//! other, so minting, revoking and following the feed need no forms of their own. It counts for two minutes around its
//! time; within them a server that is not idempotent remembers [`Proof::id`].

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{
    Verified,
    cbor::{self, FieldError, Reader, Writer},
    cose::{self, Envelope, EnvelopeError},
    error::Code,
    id::{Cluster, PublicKey, Serial, SignatureError},
    secret::Seed,
    trust::PRIVATE,
};

/// The scheme of the `Authorization` header.
pub const SCHEME: &str = "Mytunnel";

/// How far a proof's time may be from the server's, in seconds.
pub const WINDOW: u64 = 120;

/// Longest header value, in bytes.
pub const MAX_HEADER: usize = 4096;

const TYPE: &str = "mtk-request+cwt";
const MAX_PROOF: usize = 3072;

/// A request, as both ends see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The cluster that it is for.
    pub cluster: &'a Cluster,
    /// The method, in capitals.
    pub method: &'a str,
    /// Path and query exactly as they stand in the request line.
    pub path: &'a str,
    /// The body; empty when there is none.
    pub body: &'a [u8],
}

/// What a proof says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Serial of the key that signed.
    pub serial: Serial,
    /// Random, different for each request.
    pub id: [u8; 16],
    /// When it was made.
    pub issued_at: u64,
}

/// Why a proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not `Mytunnel <base64url>`.
    #[error("the authorization header is not a proof")]
    Header,
    /// Not a signed proof.
    #[error("the proof is malformed")]
    Envelope(#[from] EnvelopeError),
    /// Its content is not a proof's.
    #[error("the proof is malformed")]
    Content(#[from] FieldError),
    /// The signature is wrong.
    #[error("the proof: {0}")]
    Signature(#[from] SignatureError),
    /// Of another cluster, method, path or body.
    #[error("the proof is for another request")]
    OtherRequest,
    /// Too old, or from the future.
    #[error("the proof was made at {issued_at}, and it is {now}: check the clock")]
    OutOfTime {
        /// When it was made.
        issued_at: u64,
        /// The server's time.
        now: u64,
    },
}

impl ProofError {
    /// What to tell the caller.
    pub const fn code(&self) -> Code {
        match self {
            Self::OutOfTime { .. } => Code::KeyExpired,
            Self::Header | Self::Envelope(_) | Self::Content(_) | Self::Signature(_) | Self::OtherRequest => {
                Code::InvalidKey
            }
        }
    }
}

/// Signs a request and gives the value of its `Authorization` header. `id` are 16 random bytes.
pub fn sign_request(seed: &Seed, serial: &Serial, request: &Request<'_>, now: u64, id: [u8; 16]) -> String {
    let payload = write(request, now, &id);
    let bytes = cose::sign(TYPE, serial.as_bytes(), payload, seed);
    format!("{SCHEME} {}", BASE64URL_NOPAD.encode(&bytes))
}

/// A proof that names its signer and is not verified yet.
#[derive(Debug)]
pub struct UnverifiedRequest {
    envelope: Envelope<16>,
    proof: Proof,
}

impl UnverifiedRequest {
    /// Reads the value of an `Authorization` header.
    ///
    /// # Errors
    /// When it is not a proof in its one encoding.
    pub fn parse(header: &str) -> Result<Self, ProofError> {
        if header.len() > MAX_HEADER {
            return Err(ProofError::Header);
        }
        let (scheme, proof) = header.split_once(' ').ok_or(ProofError::Header)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(ProofError::Header);
        }
        let bytes = BASE64URL_NOPAD.decode(proof.as_bytes()).map_err(|_| ProofError::Header)?;
        let envelope = Envelope::parse(TYPE, &bytes, MAX_PROOF)?;
        let (issued_at, id) = read(&envelope.payload)?;
        let proof = Proof { serial: Serial::from_bytes(envelope.kid), id, issued_at };
        Ok(Self { envelope, proof })
    }

    /// The key that claims to have signed.
    pub const fn serial(&self) -> Serial {
        self.proof.serial
    }

    /// Checks the proof with the key of that serial.
    ///
    /// # Errors
    /// When it is not of this key, for another request, or not of this time.
    pub fn verify(
        self,
        key: &PublicKey,
        request: &Request<'_>,
        now: u64,
    ) -> Result<Verified<Proof>, ProofError> {
        self.envelope.verify(key)?;
        let Proof { issued_at, id, .. } = self.proof;
        if self.envelope.payload != write(request, issued_at, &id) {
            return Err(ProofError::OtherRequest);
        }
        if now.abs_diff(issued_at) > WINDOW {
            return Err(ProofError::OutOfTime { issued_at, now });
        }
        Ok(Verified::new(self.proof))
    }
}

fn write(request: &Request<'_>, issued_at: u64, id: &[u8; 16]) -> Vec<u8> {
    let digest: [u8; 32] = Sha256::digest(request.body).into();
    encode(request.cluster.as_str(), request.method, request.path, &digest, issued_at, id)
}

fn encode(
    cluster: &str,
    method: &str,
    path: &str,
    digest: &[u8; 32],
    issued_at: u64,
    id: &[u8; 16],
) -> Vec<u8> {
    let private = Writer::new().put(1, 1).put(2, method).put(3, path).put(4, digest.as_slice());
    let claims =
        Writer::new().put(3, cluster).put(6, issued_at).put(7, id.as_slice()).put(PRIVATE, private.finish());
    cbor::encode(&claims.finish())
}

fn read(payload: &[u8]) -> Result<(u64, [u8; 16]), FieldError> {
    let mut claims = Reader::new(cbor::decode(payload)?)?;
    let mut private = claims.map(PRIVATE)?;
    private.exactly(1, 1)?;
    let cluster: Cluster = claims.text(3)?;
    let issued_at = claims.uint(6)?;
    let id = claims.bytes(7)?;
    let method: String = private.text(2)?;
    let path: String = private.text(3)?;
    let digest = private.bytes(4)?;
    private.finish()?;
    claims.finish()?;
    cbor::same(payload, &encode(cluster.as_str(), &method, &path, &digest, issued_at, &id))?;
    Ok((issued_at, id))
}

#[cfg(test)]
#[cfg(feature = "issue")]
mod tests;
