//! Domains of tenants' own, each another name of one tunnel.
//!
//! Only what its tenant has shown to be theirs is here, by the word of the coordinator. A domain is a second way to a
//! name of the table and has nothing of its own: the tunnel's gates, limits and counts are the same by either.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{PoisonError, RwLock},
};

use mytunnel_keys::id::{DomainName, TunnelName};

use super::{Entry, Routes};
use crate::ingress::host::{self, Destination};

/// Names by domain.
#[derive(Debug, Default)]
pub(super) struct Domains(RwLock<Both>);

#[derive(Debug, Default)]
struct Both {
    names: HashMap<DomainName, TunnelName>,
    /// The same the other way.
    domains: HashMap<TunnelName, HashSet<DomainName>>,
}

impl Both {
    fn put(&mut self, domain: &DomainName, name: Option<&TunnelName>) -> Option<TunnelName> {
        let before = match name {
            Some(name) => self.names.insert(domain.clone(), name.clone()),
            None => self.names.remove(domain),
        };
        if let Some(before) = &before
            && let Some(domains) = self.domains.get_mut(before)
        {
            domains.remove(domain);
            if domains.is_empty() {
                self.domains.remove(before);
            }
        }
        if let Some(name) = name {
            self.domains.entry(name.clone()).or_default().insert(domain.clone());
        }
        before
    }

    fn forget(&mut self, name: &TunnelName) {
        for domain in self.domains.remove(name).into_iter().flatten() {
            self.names.remove(&domain);
        }
    }
}

impl Domains {
    fn name_of(&self, host: &str) -> Option<TunnelName> {
        // What is not in the form of a domain is none.
        let domain = host.parse::<DomainName>().ok()?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).names.get(&domain).cloned()
    }

    fn put(&self, domain: &DomainName, name: Option<&TunnelName>) -> Option<TunnelName> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).put(domain, name)
    }

    /// Forgets the domains that lead to a name.
    pub(super) fn forget(&self, name: &TunnelName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).forget(name);
    }
}

impl Routes {
    /// A domain leads to this name from here on. Who is being served where it led before is cut off.
    pub fn point(&self, domain: &DomainName, name: &TunnelName) {
        let before = self.0.domains.put(domain, Some(name));
        if let Some(before) = before.filter(|before| before != name) {
            self.cut(&before);
        }
    }

    /// A domain leads nowhere from here on. Who is being served where it led is cut off: nobody knows of a request in
    /// flight by which name it came.
    pub fn point_nowhere(&self, domain: &DomainName) {
        if let Some(before) = self.0.domains.put(domain, None) {
            self.cut(&before);
        }
    }

    /// Whom `host` (normalised by [`host::parse`]) belongs to, given the base domain and the console's host in the same
    /// form.
    pub fn destination<'a>(&self, host: &'a str, domain: &str, console: &str) -> Destination<'a> {
        match host::destination(host, domain, console) {
            Destination::Nowhere => match self.0.domains.name_of(host) {
                Some(name) => Destination::Tunnel(Cow::Owned(name.to_string())),
                None => Destination::Nowhere,
            },
            known @ (Destination::Console | Destination::Tunnel(_)) => known,
        }
    }

    fn cut(&self, name: &TunnelName) {
        if let Some(Entry::Live(backends)) = self.read().get(name.as_str()) {
            backends.iter().for_each(|tunnel| tunnel.seats().cut());
        }
    }
}
