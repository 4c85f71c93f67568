//! Identifiers that mean nothing but themselves: serials, tenants, projects and tunnels.

use std::{fmt, str::FromStr};

use data_encoding::{Encoding, HEXLOWER, HEXLOWER_PERMISSIVE, Specification};
use sha2::{Digest as _, Sha256};

use super::{
    Cluster, IdError, TunnelName,
    text::{bytes_serde, text_serde},
};

/// The serial of one credential: 16 random bytes, unique in a cluster. Text: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Takes 16 bytes, random where a credential is made.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The short form that people and the API use: the first 16 hex digits.
    pub fn nonce(&self) -> String {
        HEXLOWER.encode(&self.0[..8])
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes =
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| IdError::Character { what: "serial" })?;
        Self::try_from(bytes)
    }
}

impl TryFrom<Vec<u8>> for Serial {
    type Error = IdError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Length { what: "serial" })
    }
}

/// A tunnel: stable over reconnects, and the same on every relay. Text: a UUID (version 8, RFC 9562).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId([u8; 16]);

impl TunnelId {
    /// The id of a project's tunnel of this name, computed alike by everybody.
    pub fn derive(cluster: &Cluster, project: &ProjectId, name: &TunnelName) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"mytunnel tunnel id 1\0");
        for part in [cluster.as_str(), project.as_str(), name.as_str()] {
            // No part can contain the separator, so that different triples never hash the same bytes.
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        Self(id)
    }

    /// Takes the 16 bytes of a pipe's preface. Any value is taken: an id that does not exist names no tunnel.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of a pipe's preface.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = HEXLOWER.encode(&self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelId({self})")
    }
}

impl FromStr for TunnelId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(IdError::Length { what: "tunnel id" });
        }
        if [8, 13, 18, 23].iter().any(|at| bytes[*at] != b'-') {
            return Err(IdError::Character { what: "tunnel id" });
        }
        let digits: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'-').collect();
        let bytes =
            HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| IdError::Character { what: "tunnel id" })?;
        Self::try_from(bytes)
    }
}

impl TryFrom<Vec<u8>> for TunnelId {
    type Error = IdError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Length { what: "tunnel id" })
    }
}

bytes_serde!(Serial, TunnelId);

/// Longest part behind the prefix of a tenant's or project's id.
const MAX_ID: usize = 40;

/// Crockford's base32 in lower case: no letter that looks like a digit.
fn base32(bytes: &[u8]) -> String {
    let mut alphabet = Specification::new();
    alphabet.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    let encoding: Encoding = alphabet.encoding().expect("32 different symbols make an encoding");
    encoding.encode(bytes)
}

fn check_id(text: &str, what: &'static str, prefix: &'static str) -> Result<(), IdError> {
    let id = text.strip_prefix(prefix).ok_or(IdError::Prefix { what, prefix })?;
    if id.is_empty() || id.len() > MAX_ID {
        return Err(IdError::Length { what });
    }
    if !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(IdError::Character { what });
    }
    Ok(())
}

macro_rules! prefixed_id {
    ($(#[doc = $doc:literal])+ $type:ident, $what:literal, $prefix:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// Makes an id of 10 random bytes.
            pub fn from_entropy(entropy: &[u8; 10]) -> Self {
                Self(format!("{}{}", $prefix, base32(entropy)))
            }

            /// The whole text, with its prefix.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check_id(text, $what, $prefix)?;
                Ok(Self(text.to_owned()))
            }
        }

        text_serde!($type);
    };
}

prefixed_id! {
    /// A namespace of tunnel names inside a tenant. Text: `proj_` and 1 to 40 of `a-z0-9`.
    ProjectId, "project id", "proj_"
}

prefixed_id! {
    /// An organisation, or a person who is one. Text: `ten_` and 1 to 40 of `a-z0-9`.
    TenantId, "tenant id", "ten_"
}

impl TenantId {
    /// The tenant's own project, where keys serve that were issued for all projects of the tenant. It has the
    /// tenant's id under the prefix of projects, so that a relay needs to ask nobody.
    pub fn home_project(&self) -> ProjectId {
        let own = self.0.strip_prefix("ten_").expect("a tenant's id has its prefix");
        ProjectId(format!("proj_{own}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serials_nonce_is_its_first_sixteen_digits() {
        let serial = Serial::from_bytes(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
        assert_eq!(serial.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(serial.nonce(), "0011223344556677");
        assert_eq!("00112233445566778899AABBCCDDEEFF".parse(), Ok(serial));
        assert_eq!("0011".parse::<Serial>(), Err(IdError::Length { what: "serial" }));
        assert_eq!("zz".parse::<Serial>(), Err(IdError::Character { what: "serial" }));
    }

    #[test]
    fn serials_are_text_in_json_and_bytes_in_cbor() {
        let serial = Serial::from_bytes([9; 16]);
        assert_eq!(serde_json::to_string(&serial).unwrap(), format!("\"{serial}\""));
        let mut cbor = Vec::new();
        ciborium::into_writer(&serial, &mut cbor).unwrap();
        assert_eq!(cbor.len(), 17);
        assert_eq!(ciborium::from_reader::<Serial, _>(&cbor[..]).unwrap(), serial);
    }

    #[test]
    fn a_tunnel_id_is_fixed_by_cluster_project_and_name() {
        let id = |cluster: &str, project: &str, name: &str| {
            TunnelId::derive(&cluster.parse().unwrap(), &project.parse().unwrap(), &name.parse().unwrap())
        };
        let one = id("tun.example", "proj_a", "web");
        assert_eq!(one.to_string(), "f34df70b-3bb7-8f0a-af2d-a856ef7dd644");
        assert_eq!(one, id("tun.example", "proj_a", "web"));
        assert_ne!(one, id("tun2.example", "proj_a", "web"));
        assert_ne!(one, id("tun.example", "proj_b", "web"));
        assert_ne!(one, id("tun.example", "proj_a", "web2"));
        assert_eq!(one.to_string().parse(), Ok(one));
        assert!("d3a1f0b5".parse::<TunnelId>().is_err());
        assert!("00000000-0000-8000-8000+000000000000".parse::<TunnelId>().is_err());
    }

    #[test]
    fn ids_have_their_prefix_and_a_small_alphabet() {
        let made = ProjectId::from_entropy(&[0xa5; 10]);
        assert_eq!(made.as_str().len(), "proj_".len() + 16);
        assert_eq!(made.to_string().parse(), Ok(made));
        assert!("proj_local".parse::<ProjectId>().is_ok());
        assert_eq!(
            "ten_local".parse::<ProjectId>(),
            Err(IdError::Prefix { what: "project id", prefix: "proj_" })
        );
        for bad in ["proj_", "proj_A", "proj_a b", "proj_é", &format!("proj_{}", "a".repeat(41))] {
            assert!(bad.parse::<ProjectId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tenants_own_project_is_an_id_like_any_other() {
        for tenant in
            [TenantId::from_entropy(&[0xa5; 10]), format!("ten_{}", "a".repeat(40)).parse().unwrap()]
        {
            let own = tenant.home_project();
            assert_eq!(own.as_str().strip_prefix("proj_"), tenant.as_str().strip_prefix("ten_"));
            assert_eq!(own.to_string().parse(), Ok(own));
        }
    }
}
