//! The gates of one tunnel, as relays learn them.
//!
//! A reader takes only what it understands whole: a gate of a kind that it does not know, or with more in it than it
//! knows, would stand open if it were passed over, so that its frame is refused.

use std::{fmt, net::IpAddr};

use ciborium::Value;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::change::number;
use crate::{cbor, network::Network};

/// Longest text in a gate, in bytes: the hash of a password, an e-mail address.
const MAX_TEXT: usize = 512;
/// Longest list of domains, addresses or networks.
const MAX_LIST: usize = 100;

/// What visitors of a tunnel have to pass, and until when there is anything behind it. Without any the tunnel is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// A user name and a password.
    pub basic: Option<BasicGate>,
    /// A sign-in with somebody who vouches for visitors.
    pub sign_in: Option<SignInGate>,
    /// A number that people type.
    pub pin: Option<PinGate>,
    /// A token that programs send, in place of what people are asked for.
    pub bearer: Option<BearerGate>,
    /// Where visitors come from.
    pub addresses: Option<AddressGate>,
    /// The Unix second at which the tunnel ends.
    pub ends_at: Option<u64>,
}

/// Asks for a user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicGate {
    /// The user's name, without a colon.
    pub user: String,
    /// The password's argon2id hash, in PHC string form.
    pub hash: String,
    /// Another number with each setting: what was proven to an earlier one counts no more.
    pub generation: u64,
}

/// Asks who the visitor is. Without a domain and an address everybody may enter who can sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct SignInGate {
    /// Who vouches.
    pub provider: String,
    /// Domains of addresses that may enter, lower case.
    pub allowed_domains: Vec<String>,
    /// Addresses that may enter, lower case.
    pub allowed_emails: Vec<String>,
    /// Vouches for sessions of who has signed in. Another one with each gate that is set where there was none, or with
    /// another provider; lists may change under it.
    pub session_key: SessionKey,
}

/// Asks for a number.
#[derive(Clone, PartialEq, Eq)]
pub struct PinGate {
    /// Its argon2id hash, in PHC string form.
    pub hash: String,
    /// Another number with each setting.
    pub generation: u64,
    /// Vouches for sessions of who knew it; another one with each setting.
    pub session_key: SessionKey,
}

/// Asks for a token.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerGate {
    /// Its argon2id hash, in PHC string form.
    pub hash: String,
    /// Another number with each setting.
    pub generation: u64,
}

/// Asks where a visitor comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressGate {
    /// Who may come; empty for everybody who is not denied.
    pub allow: Vec<Network>,
    /// Who may not, also if allowed.
    pub deny: Vec<Network>,
}

/// What relays make visitors' sessions with. All relays have the same, so that a session counts at each of them.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl AddressGate {
    /// Whether a visitor from there may come.
    pub fn admits(&self, address: IpAddr) -> bool {
        let names = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        !names(&self.deny) && (self.allow.is_empty() || names(&self.allow))
    }
}

impl Gates {
    /// Whether there is none.
    pub const fn is_open(&self) -> bool {
        let Self { basic, sign_in, pin, bearer, addresses, ends_at } = self;
        let open = basic.is_none() && sign_in.is_none() && pin.is_none() && bearer.is_none();
        open && addresses.is_none() && ends_at.is_none()
    }

    /// Whether they ask the same of visitors: who has passed these has passed the others. When the tunnel ends is not asked
    /// of anybody.
    pub fn ask_as(&self, others: &Self) -> bool {
        let Self { basic, sign_in, pin, bearer, addresses, ends_at: _ } = self;
        let theirs = (&others.basic, &others.sign_in, &others.pin, &others.bearer, &others.addresses);
        (basic, sign_in, pin, bearer, addresses) == theirs
    }

    /// The names by which people know them.
    pub fn names(&self) -> Vec<&'static str> {
        [
            ("basic", self.basic.is_some()),
            ("oidc", self.sign_in.is_some()),
            ("pin", self.pin.is_some()),
            ("bearer", self.bearer.is_some()),
            ("ip", self.addresses.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }

    /// One list for each gate, with its kind in front.
    pub(super) fn write(&self) -> Value {
        let Self { basic, sign_in, pin, bearer, addresses, ends_at } = self;
        let gates = [
            basic.as_ref().map(|BasicGate { user, hash, generation }| {
                vec![1.into(), user.as_str().into(), hash.as_str().into(), (*generation).into()]
            }),
            sign_in.as_ref().map(|gate| {
                let SignInGate { provider, allowed_domains, allowed_emails, session_key } = gate;
                let key = Value::from(session_key.0.as_slice());
                vec![2.into(), provider.as_str().into(), list(allowed_domains), list(allowed_emails), key]
            }),
            pin.as_ref().map(|PinGate { hash, generation, session_key }| {
                let key = Value::from(session_key.0.as_slice());
                vec![3.into(), hash.as_str().into(), (*generation).into(), key]
            }),
            bearer.as_ref().map(|BearerGate { hash, generation }| {
                vec![4.into(), hash.as_str().into(), (*generation).into()]
            }),
            addresses.as_ref().map(|AddressGate { allow, deny }| vec![5.into(), list(allow), list(deny)]),
            ends_at.map(|at| vec![6.into(), at.into()]),
        ];
        Value::Array(gates.into_iter().flatten().map(Value::Array).collect())
    }

    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut gates = Self::default();
        for gate in value.as_array()? {
            let (kind, parts) = gate.as_array()?.split_first()?;
            let is_first = match (number(kind)?, parts) {
                (1, [user, hash, generation]) => {
                    let (user, hash, generation) = (text(user)?, text(hash)?, number(generation)?);
                    gates.basic.replace(BasicGate { user, hash, generation }).is_none()
                }
                (2, [provider, domains, emails, key]) => {
                    let gate = SignInGate {
                        provider: text(provider)?,
                        allowed_domains: texts(domains)?,
                        allowed_emails: texts(emails)?,
                        session_key: session_key(key)?,
                    };
                    gates.sign_in.replace(gate).is_none()
                }
                (3, [hash, generation, key]) => {
                    let (hash, generation, session_key) =
                        (text(hash)?, number(generation)?, session_key(key)?);
                    gates.pin.replace(PinGate { hash, generation, session_key }).is_none()
                }
                (4, [hash, generation]) => {
                    let (hash, generation) = (text(hash)?, number(generation)?);
                    gates.bearer.replace(BearerGate { hash, generation }).is_none()
                }
                (5, [allow, deny]) => {
                    let (allow, deny) = (networks(allow)?, networks(deny)?);
                    gates.addresses.replace(AddressGate { allow, deny }).is_none()
                }
                (6, [at]) => gates.ends_at.replace(number(at)?).is_none(),
                _ => return None,
            };
            if !is_first {
                return None;
            }
        }
        Some(gates)
    }
}

impl fmt::Debug for BasicGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicGate").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl fmt::Debug for SignInGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInGate").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl fmt::Debug for PinGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinGate").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl fmt::Debug for BearerGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerGate").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

fn list<T: ToString>(entries: &[T]) -> Value {
    Value::Array(entries.iter().map(|entry| Value::Text(entry.to_string())).collect())
}

fn text(value: &Value) -> Option<String> {
    value.as_text().filter(|text| !text.is_empty() && text.len() <= MAX_TEXT).map(str::to_owned)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array().filter(|list| list.len() <= MAX_LIST)?;
    list.iter().map(text).collect()
}

fn networks(value: &Value) -> Option<Vec<Network>> {
    let list = value.as_array().filter(|list| list.len() <= MAX_LIST)?;
    list.iter().map(cbor::text).collect()
}

fn session_key(value: &Value) -> Option<SessionKey> {
    value.as_bytes()?.as_slice().try_into().ok().map(SessionKey)
}

#[cfg(test)]
mod tests;
