//! Devices: who may have one more, and what it may cost.

use mytunnel_keys::error::Code;
use mytunnel_keys::id::TenantId;

use super::{Refusal, Role, revoked_at};
use crate::store::{KeyKind, KeyRow};

/// Life of a device's certificate, in seconds.
pub(crate) const DEVICE_TTL: u64 = 30 * 24 * 3600;
/// Devices of one account that stand at a time.
pub(crate) const MAX_DEVICES: u64 = 50;

/// May a device that is there already be signed in again? Its own account may, unless the key was revoked.
pub(crate) fn may_renew_device(
    there: &KeyRow,
    account: Option<&str>,
    tenant: &TenantId,
) -> Result<(), Refusal> {
    let own = there.kind == KeyKind::User && there.account.as_deref() == account && there.tenant == *tenant;
    if !own {
        return Err(Refusal::new(
            Code::BadRequest,
            "this public key belongs to another key; make a new pair",
        ));
    }
    if revoked_at(there).is_some() {
        return Err(Refusal::new(Code::KeyRevoked, "this device was revoked; make a new key pair"));
    }
    Ok(())
}

/// May an account have one more device, where so many of it stand?
pub(crate) fn may_add_device(standing: u64) -> Result<(), Refusal> {
    if standing < MAX_DEVICES {
        return Ok(());
    }
    let message = format!(
        "this account has {MAX_DEVICES} devices, and no more fit: revoke one on the dashboard's page of devices, or by `mytunnel devices revoke`"
    );
    Err(Refusal::new(Code::BadRequest, message))
}

/// Whether the devices of an account have one budget together. Owners set budgets, also each other's, and each of their
/// devices has its own; a member would otherwise have as much again with every sign-in.
pub(crate) const fn shares_budget(role: Role) -> bool {
    match role {
        Role::Member => true,
        Role::Owner => false,
    }
}

/// What devices may cost together that had a budget each until now.
pub(crate) fn narrowest_budget(budgets: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    budgets.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_come_to_share_have_the_narrowest_of_their_budgets() {
        assert_eq!(narrowest_budget([]), None);
        assert_eq!(narrowest_budget([None, None]), None);
        assert_eq!(narrowest_budget([None, Some(500), Some(20)]), Some(20));
        assert_eq!(narrowest_budget([Some(500), Some(0)]), Some(0));
    }

    #[test]
    fn devices_have_a_number() {
        assert!(may_add_device(MAX_DEVICES - 1).is_ok());
        let full = may_add_device(MAX_DEVICES).unwrap_err();
        assert!(full.message.contains("revoke one"), "{full}");
    }
}
