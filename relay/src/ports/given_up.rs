//! Ports that were given up, and the tenants for whom they are kept for a while: visitors come back to a port by themselves, and
//! are not to meet somebody else there.
//!
//! It is a memory of this process: after its restart every port is free.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use mytunnel_keys::id::{TenantId, TunnelKind};

/// Ports that are kept for one tenant: who gives up ever new ones does not take them all from others.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct GivenUp(HashMap<(TunnelKind, u16), Kept>);

#[derive(Debug)]
struct Kept {
    tenant: TenantId,
    since: Instant,
}

impl GivenUp {
    /// A tenant gives up a port. Of too many its oldest is free at once.
    pub(super) fn note(&mut self, port: (TunnelKind, u16), tenant: &TenantId, now: Instant) {
        let own = self.0.iter().filter(|(other, kept)| kept.tenant == *tenant && **other != port);
        let (count, oldest) = (own.clone().count(), own.min_by_key(|(_, kept)| kept.since));
        if let Some((oldest, _)) = oldest.filter(|_| count >= MOST) {
            let oldest = *oldest;
            self.0.remove(&oldest);
        }
        self.0.insert(port, Kept { tenant: tenant.clone(), since: now });
    }

    /// Somebody has it again.
    pub(super) fn take(&mut self, port: (TunnelKind, u16)) {
        self.0.remove(&port);
    }

    /// Since when a port is kept from a tenant.
    pub(super) fn kept_from(&self, port: (TunnelKind, u16), tenant: &TenantId) -> Option<Instant> {
        self.0.get(&port).filter(|kept| kept.tenant != *tenant).map(|kept| kept.since)
    }

    /// Frees what was kept for that long.
    pub(super) fn sweep(&mut self, time: Duration, now: Instant) {
        self.0.retain(|_, kept| now.saturating_duration_since(kept.since) < time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_keeps_so_many_ports_from_others_and_the_latest() {
        let (mut given_up, now) = (GivenUp::default(), Instant::now());
        let [a, b] = ["ten_a", "ten_b"].map(|tenant| tenant.parse::<TenantId>().unwrap());
        let port = |number: usize| (TunnelKind::Tcp, u16::try_from(number).unwrap());
        let at = |number: usize| now + Duration::from_secs(number as u64);
        for number in 0..=MOST {
            given_up.note(port(number), &a, at(number));
        }
        assert_eq!(given_up.kept_from(port(0), &b), None);
        assert_eq!(given_up.kept_from(port(1), &b), Some(at(1)));
        assert_eq!(given_up.kept_from(port(1), &a), None, "not from its own");
        given_up.sweep(Duration::from_secs(10), at(11));
        assert_eq!(given_up.kept_from(port(1), &b), None);
        assert_eq!(given_up.kept_from(port(2), &b), Some(at(2)));
    }
}
