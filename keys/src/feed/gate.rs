//! The gates of one tunnel, as relays learn them.
//!
//! A reader takes only what it understands whole: a gate of a kind that it does not know, or with more in it than it
//! knows, would stand open if it were passed over, so that its frame is refused.

use std::fmt;

use ciborium::Value;

/// Longest text in a gate, in bytes: the hash of a password, an e-mail address.
const MAX_TEXT: usize = 512;
/// Longest list of domains or addresses.
const MAX_LIST: usize = 100;

/// What visitors of a tunnel have to pass, every one of these. Without any the tunnel is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// A user name and a password.
    pub basic: Option<BasicGate>,
    /// A sign-in with somebody who vouches for visitors.
    pub sign_in: Option<SignInGate>,
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
}

impl Gates {
    /// Whether there is none.
    pub const fn is_open(&self) -> bool {
        self.basic.is_none() && self.sign_in.is_none()
    }

    /// One list for each gate, with its kind in front.
    pub(super) fn write(&self) -> Value {
        let basic = self.basic.as_ref().map(|gate| {
            let BasicGate { user, hash, generation } = gate;
            vec![1.into(), user.as_str().into(), hash.as_str().into(), (*generation).into()]
        });
        let sign_in = self.sign_in.as_ref().map(|gate| {
            let texts =
                |list: &[String]| Value::Array(list.iter().map(|text| text.as_str().into()).collect());
            let SignInGate { provider, allowed_domains, allowed_emails } = gate;
            vec![2.into(), provider.as_str().into(), texts(allowed_domains), texts(allowed_emails)]
        });
        Value::Array(basic.into_iter().chain(sign_in).map(Value::Array).collect())
    }

    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut gates = Self::default();
        for gate in value.as_array()? {
            let (kind, parts) = gate.as_array()?.split_first()?;
            let first = match (super::change::number(kind)?, parts) {
                (1, [user, hash, generation]) => gates
                    .basic
                    .replace(BasicGate {
                        user: text(user)?,
                        hash: text(hash)?,
                        generation: super::change::number(generation)?,
                    })
                    .is_none(),
                (2, [provider, domains, emails]) => gates
                    .sign_in
                    .replace(SignInGate {
                        provider: text(provider)?,
                        allowed_domains: texts(domains)?,
                        allowed_emails: texts(emails)?,
                    })
                    .is_none(),
                _ => return None,
            };
            if !first {
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

fn text(value: &Value) -> Option<String> {
    value.as_text().filter(|text| !text.is_empty() && text.len() <= MAX_TEXT).map(str::to_owned)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array().filter(|list| list.len() <= MAX_LIST)?;
    list.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic() -> BasicGate {
        BasicGate { user: "ann".to_owned(), hash: "$argon2id$v=19$x".to_owned(), generation: 7 }
    }

    fn sign_in() -> SignInGate {
        SignInGate {
            provider: "google".to_owned(),
            allowed_domains: vec!["acme.example".to_owned()],
            allowed_emails: vec!["a@b.example".to_owned(), "c@d.example".to_owned()],
        }
    }

    #[test]
    fn gates_come_back_as_they_were() {
        for gates in [
            Gates::default(),
            Gates { basic: Some(basic()), sign_in: None },
            Gates { basic: None, sign_in: Some(sign_in()) },
            Gates { basic: Some(basic()), sign_in: Some(sign_in()) },
        ] {
            assert_eq!(Gates::read(&gates.write()), Some(gates));
        }
    }

    #[test]
    fn what_is_not_understood_whole_is_refused() {
        let read = |gates: Vec<Vec<Value>>| {
            Gates::read(&Value::Array(gates.into_iter().map(Value::Array).collect()))
        };
        let whole = || vec![1.into(), "ann".into(), "$hash".into(), 7.into()];
        assert!(read(vec![whole()]).is_some());
        assert_eq!(read(vec![whole(), whole()]), None, "two of a kind");
        assert_eq!(read(vec![vec![3.into(), "x".into()]]), None, "another kind");
        assert_eq!(read(vec![vec![]]), None);
        for place in 0..4 {
            let mut parts = whole();
            parts[place] = Value::Null;
            assert_eq!(read(vec![parts]), None, "{place}");
        }
        let mut more = whole();
        more.push(1.into());
        assert_eq!(read(vec![more]), None, "more than is known");
        let mut empty = whole();
        empty[1] = "".into();
        assert_eq!(read(vec![empty]), None);
        let list = |many: usize| Value::Array(vec!["a.example".into(); many]);
        let lists = |domains: Value| vec![vec![2.into(), "google".into(), domains, list(0)]];
        assert!(read(lists(list(MAX_LIST))).is_some());
        assert_eq!(read(lists(list(MAX_LIST + 1))), None);
        assert_eq!(read(lists("a.example".into())), None);
        assert_eq!(read(lists(Value::Array(vec![7.into()]))), None);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?}", Gates { basic: Some(basic()), sign_in: Some(sign_in()) });
        assert!(!printed.contains("argon2") && !printed.contains("a@b.example"), "{printed}");
    }
}
