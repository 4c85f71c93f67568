//! Devices: keys that people's machines hold, each with a certificate of its own.

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId};

use super::label;
use crate::audit::Party;
use crate::authority::{self, Caller};
use crate::http::ApiError;
use crate::random;
use crate::shared::Shared;
use crate::store::{DeviceAdded, KeyRow, NewDevice, StoreError};

/// The name of the person at this machine, who needs no sign-in.
const LOCAL: &str = "local";

impl Shared {
    /// Gives a device of the caller's account a certificate.
    pub(crate) async fn add_device(
        &self,
        caller: &Caller,
        asked: api::NewDevice,
    ) -> Result<api::Device, ApiError> {
        let label = label(&asked.name)?;
        let Caller::Account(account) = caller else {
            return Err(ApiError::refused(Code::ScopeDenied, "sign in with a password to add a device"));
        };
        // It lasts longer than the session.
        authority::may_sign_in_device(account, self.clock.now())?;
        let device = self
            .new_device(
                asked.public_key,
                account.tenant.clone(),
                None,
                Some(account.id.clone()),
                (caller.party(), Some(account.auth_time)),
                label,
            )
            .await?;
        self.device_answer(&device, &account.email)
    }

    /// Gives the person at this machine a certificate for one project, without any sign-in.
    pub(crate) async fn local_device(&self, key: PublicKey) -> Result<api::Device, ApiError> {
        let now = self.clock.now();
        let fresh = ProjectId::from_entropy(&random::bytes()?);
        let project = self.store.project_or_new(self.home.clone(), LOCAL, fresh, now).await?;
        let device = self
            .new_device(
                key,
                self.home.clone(),
                Some(project.id),
                None,
                (Party::System, None),
                LOCAL.to_owned(),
            )
            .await?;
        self.device_answer(&device, LOCAL)
    }

    async fn new_device(
        &self,
        subject: PublicKey,
        tenant: TenantId,
        project: Option<ProjectId>,
        account: Option<String>,
        (actor, proven_at): (Party, Option<u64>),
        label: String,
    ) -> Result<KeyRow, ApiError> {
        let now = self.clock.now();
        let serial = Serial::from_bytes(random::bytes()?);
        let not_after = now + authority::DEVICE_TTL;
        let device =
            NewDevice { serial, subject, tenant, project, account, actor, label, not_after, proven_at };
        let DeviceAdded { key, epoch } = self.store.add_device(device, now).await??;
        if let Some(epoch) = epoch {
            // No relay serves it before it knows of its budget.
            self.confirm(epoch).await?;
        }
        Ok(key)
    }

    fn device_answer(&self, device: &KeyRow, account: &str) -> Result<api::Device, ApiError> {
        Ok(api::Device {
            account: account.to_owned(),
            tenant: device.tenant.clone(),
            name: device.label.clone(),
            serial: device.serial,
            certificate: self.issuer.certify(device)?,
            trust: self.issuer.trust().bytes().to_vec(),
            cluster: self.issuer.cluster().clone(),
            expires_at: device.not_after.ok_or(StoreError::Malformed("device"))?,
        })
    }
}
