//! Which names have certificates, and which certificate is for a name.

use std::collections::BTreeSet;

use mytunnel_keys::id::TunnelKind;

use crate::{
    ingress::host::{self, Destination},
    route::{Customer, Lookup, Routes},
};

/// What one certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    /// Its first name, by which it is kept: `*.` in front where it is for the whole domain.
    name: Box<str>,
}

impl Subject {
    /// By its first name.
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.into() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Every name that is to stand in it.
    pub(super) fn names(&self) -> Vec<String> {
        match self.name.strip_prefix("*.") {
            Some(domain) => vec![self.name.to_string(), domain.to_owned()],
            None => vec![self.name.to_string()],
        }
    }

    /// A host that it is for.
    pub(super) fn host(&self) -> &str {
        self.name.strip_prefix("*.").unwrap_or(&self.name)
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.name.starts_with("*.")
    }
}

/// The names that a relay answers for.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    domain: Box<str>,
    console: Box<str>,
    /// One certificate for the domain and every name under it.
    whole: bool,
}

impl Scope {
    pub(super) fn new(domain: &str, console: &str, whole: bool) -> Self {
        Self {
            domain: domain.to_ascii_lowercase().into(),
            console: console.to_ascii_lowercase().into(),
            whole,
        }
    }

    /// The certificate that a visitor of this name is to be shown; none where nothing is served under it.
    pub(super) fn subject(&self, name: &str, routes: &Routes) -> Option<Subject> {
        let host = host::parse(name.as_bytes()).ok().filter(|asked| asked.port.is_none())?.host;
        match routes.destination(&host, &self.domain, &self.console) {
            Destination::Console => self.covering(&host),
            Destination::Tunnel(label) => {
                let visited = match routes.find(&label) {
                    Lookup::Live(tunnel) => tunnel.kind() == TunnelKind::Http,
                    Lookup::Away => match routes.known_kind(&label) {
                        Some(kind) => kind == TunnelKind::Http,
                        // For its sake nothing is ordered: it may be a name whose TLS ends behind a relay.
                        None => self.whole,
                    },
                    Lookup::Ended | Lookup::Unknown => false,
                };
                visited.then(|| self.covering(&host))?
            }
            Destination::Nowhere => (*host == *self.domain && self.whole).then(|| self.covering(&host))?,
        }
    }

    /// For whom a certificate is; none for what is the relay's own.
    pub(super) fn customer(&self, subject: &Subject, routes: &Routes) -> Option<Customer> {
        let host = host::parse(subject.name().as_bytes()).ok()?.host;
        match routes.destination(&host, &self.domain, &self.console) {
            Destination::Tunnel(label) => routes.customer(&label),
            Destination::Console | Destination::Nowhere => None,
        }
    }

    /// What there has to be without anybody asking. Not of tenants' own domains: theirs is ordered when the first visitor
    /// comes, since before that nobody knows whether they lead here.
    pub(super) fn wanted(&self, routes: &Routes) -> Vec<Subject> {
        let mut wanted: Vec<_> = self.covering(&self.console).into_iter().collect();
        if self.whole {
            wanted.extend(self.covering(&self.domain).filter(|whole| !wanted.contains(whole)));
            return wanted;
        }
        let tunnels = routes.live();
        let visited = tunnels.iter().filter(|tunnel| tunnel.kind() == TunnelKind::Http);
        let names: BTreeSet<_> = visited.map(|tunnel| tunnel.name()).collect();
        wanted.extend(names.into_iter().filter_map(|name| self.covering(&format!("{name}.{}", self.domain))));
        wanted
    }

    /// Whether a tunnel that comes up needs a certificate of its own.
    pub(super) const fn follows_routes(&self) -> bool {
        !self.whole
    }

    fn covering(&self, host: &str) -> Option<Subject> {
        // No authority vouches for this machine's own name, nor for addresses.
        let public = host.contains('.') && host != "localhost" && !host.ends_with(".localhost");
        if !public || host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[') {
            return None;
        }
        let under = host.strip_suffix(&*self.domain).and_then(|rest| rest.strip_suffix('.'));
        let covered = *host == *self.domain || under.is_some_and(|label| !label.contains('.'));
        Some(match self.whole && covered {
            true => Subject::of(&format!("*.{}", self.domain)),
            false => Subject::of(host),
        })
    }
}
