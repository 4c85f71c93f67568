//! One thing at a time for each tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mytunnel_keys::id::TenantId;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Tenants with something under way, or waiting for it.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<TenantId, Arc<Turn<()>>>>);

impl Turns {
    /// Waits until nothing of the tenant's is under way; its turn ends when the guard is dropped.
    pub(super) async fn enter(&self, tenant: &TenantId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever is in, or waits, holds one beside this one.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(all.entry(tenant.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_tenant_waits_for_itself_and_for_nobody_else() {
        let turns = Turns::default();
        let [one, two] = ["ten_a", "ten_b"].map(|tenant| tenant.parse().unwrap());
        let first = turns.enter(&one).now_or_never().unwrap();
        assert!(turns.enter(&one).now_or_never().is_none());
        let other = turns.enter(&two).now_or_never().unwrap();
        drop(first);
        drop(turns.enter(&one).now_or_never().unwrap());
        drop(other);
        drop(turns.enter(&two).now_or_never().unwrap());
        assert_eq!(turns.0.lock().unwrap().len(), 1, "who has left is forgotten");
    }
}
