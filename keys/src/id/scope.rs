//! What a credential may serve, and what a tunnel is.

use std::{fmt, str::FromStr};

use super::{IdError, text::text_serde};

/// One thing that a credential may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Serve HTTP tunnels.
    Http,
    /// Serve TCP tunnels.
    Tcp,
    /// Serve UDP tunnels.
    Udp,
    /// Serve and reach private shares.
    Private,
    /// Take part in pairing.
    Pair,
    /// Serve names whose TLS ends behind the relay.
    Tls,
}

impl Scope {
    /// Every scope, in the order of the text form.
    pub const ALL: [Self; 6] = [Self::Http, Self::Tcp, Self::Udp, Self::Private, Self::Pair, Self::Tls];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Private => "private",
            Self::Pair => "pair",
            Self::Tls => "tls",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(IdError::Unknown { what: "scope" })
    }
}

/// A set of scopes. Text: the words in the order of [`Scope::ALL`], `http tcp`; commas are read too.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope at all.
    pub const NONE: Self = Self(0);

    /// All of [`Scope::ALL`].
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// What a key has of which nobody has said more: all but [`Scope::Tls`]. Who may serve that can get certificates, which
    /// outlive the key.
    pub fn usual() -> Self {
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Tls).collect()
    }

    /// What may be asked for by name of who has these: who serves web sites may let their TLS end behind the relay too.
    #[must_use]
    pub const fn with_asked(self) -> Self {
        if self.contains(Scope::Http) { Self(self.0 | Scope::Tls.bit()) } else { self }
    }

    /// Whether the scope is in the set.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether every scope of this set is in the other.
    pub const fn is_subset(self, of: Self) -> bool {
        self.0 & !of.0 == 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes of the set in their order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

impl FromStr for Scopes {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut scopes = Self::NONE;
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let scope = word.parse::<Scope>()?;
            if scopes.contains(scope) {
                return Err(IdError::Twice { what: "scope" });
            }
            scopes.0 |= scope.bit();
        }
        Ok(scopes)
    }
}

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelKind {
    /// Requests for a host name of its own.
    Http,
    /// Connections to a TCP port of the relay.
    Tcp,
    /// Datagrams to a UDP port of the relay.
    Udp,
    /// Streams of other nodes that hold a certificate of the same tenant.
    Private,
    /// TLS connections for a host name of its own, which end behind the relay.
    Tls,
}

impl TunnelKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Http, Self::Tcp, Self::Udp, Self::Private, Self::Tls];

    /// The scope a credential needs to serve a tunnel of this kind.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Http => Scope::Http,
            Self::Tls => Scope::Tls,
            Self::Tcp => Scope::Tcp,
            Self::Udp => Scope::Udp,
            Self::Private => Scope::Private,
        }
    }

    /// Whether its visitors come to a port of its own, and not to a name.
    pub const fn has_port(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        self.scope().as_str()
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TunnelKind {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(IdError::Unknown { what: "kind of tunnel" })
    }
}

text_serde!(Scope, Scopes, TunnelKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_in_any_order_and_write_in_one() {
        let scopes: Scopes = "tcp,http".parse().unwrap();
        assert_eq!(scopes.to_string(), "http tcp");
        assert_eq!("http tcp".parse(), Ok(scopes));
        assert_eq!("".parse(), Ok(Scopes::NONE));
        assert_eq!("http http".parse::<Scopes>(), Err(IdError::Twice { what: "scope" }));
        assert_eq!("http admin".parse::<Scopes>(), Err(IdError::Unknown { what: "scope" }));
    }

    #[test]
    fn narrower_sets_are_subsets() {
        let narrow: Scopes = "http".parse().unwrap();
        let wide: Scopes = "http private".parse().unwrap();
        assert!(narrow.is_subset(wide) && !wide.is_subset(narrow));
        assert!(wide.is_subset(Scopes::all()) && Scopes::NONE.is_subset(narrow));
        assert!(wide.contains(Scope::Private) && !wide.contains(Scope::Udp));
    }

    #[test]
    fn tls_is_had_by_name_alone() {
        assert_eq!(Scopes::usual().to_string(), "http tcp udp private pair");
        assert_eq!(Scopes::usual().with_asked(), Scopes::all());
        let tcp: Scopes = "tcp".parse().unwrap();
        assert_eq!(tcp.with_asked(), tcp);
    }

    #[test]
    fn kinds_need_the_scope_of_their_name() {
        for kind in TunnelKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(kind.scope().as_str(), kind.as_str());
        }
        assert!("pair".parse::<TunnelKind>().is_err());
    }
}
