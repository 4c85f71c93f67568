//! Devices: who may have one more, and what it may cost.

use mytunnel_keys::error::Code;
use mytunnel_keys::id::TenantId;

use super::{Refusal, revoked_at};
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

/// What a new device may cost in a month: as little as the narrowest of those that its account ever had, revoked ones
/// too. Else whoever holds a device that an owner has limited or frozen would sign in once more.
pub(crate) fn inherited_budget(budgets: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    budgets.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_device_is_no_way_out_of_a_budget() {
        assert_eq!(inherited_budget([]), None);
        assert_eq!(inherited_budget([None, None]), None);
        assert_eq!(inherited_budget([None, Some(500), Some(20)]), Some(20));
        assert_eq!(inherited_budget([Some(500), Some(0)]), Some(0));
    }

    #[test]
    fn devices_have_a_number() {
        assert!(may_add_device(MAX_DEVICES - 1).is_ok());
        let full = may_add_device(MAX_DEVICES).unwrap_err();
        assert!(full.message.contains("revoke one"), "{full}");
    }
}
