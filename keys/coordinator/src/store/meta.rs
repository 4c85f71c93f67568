//! Facts of which there is one: the root's fingerprint, the trust bundle, the owner's setup code, the home tenant.

use mytunnel_keys::feed::Position;
use mytunnel_keys::id::{PublicKey, TenantId};

use super::column;
use super::sql::{Reading, Writing, params};
use super::{Head, Opened, Store, StoreError};
use crate::audit::{Act, Entry, Party};
use crate::issuer::TrustedEra;

/// SHA-256 of the setup code, while there is no owner.
pub(super) const SETUP: &str = "setup";
/// What the setup code is made of, where several coordinators give the same.
const SETUP_SALT: &str = "setup-salt";
/// Id of the tenant that operates this coordinator.
const HOME: &str = "home";
/// The root's public key.
const ROOT: &str = "root";
/// Fingerprint of the key of second factors.
const ACCOUNTS_KEY: &str = "accounts-key";
/// The trust bundle that is given out.
const TRUST: &str = "trust";
/// Before when a restore revoked every key, and until when relays must know: two numbers.
const REVOKED_BEFORE: &str = "revoked-before";

impl Reading<'_> {
    /// Where feed and audit log end.
    pub(super) fn head(&self) -> Result<Head, StoreError> {
        self.one(
            "SELECT era, epoch, feed_hash, audit_seq, audit_hash FROM head WHERE one = 1",
            params![],
            |row| {
                let feed = Position { era: row.get(0)?, epoch: row.get(1)?, head: row.get(2)? };
                Ok(Head { feed, audit_seq: row.get(3)?, audit_hash: row.get(4)? })
            },
        )
    }

    pub(super) fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.first("SELECT value FROM meta WHERE name = $1", params![name], column::only)
    }

    pub(super) fn trust(&self) -> Result<Option<(PublicKey, Vec<u8>)>, StoreError> {
        let Some((root, bundle)) = self.meta(ROOT)?.zip(self.meta(TRUST)?) else { return Ok(None) };
        let root = PublicKey::try_from(root).map_err(|_| StoreError::Malformed("root key"))?;
        Ok(Some((root, bundle)))
    }

    /// The fingerprint of the key of second factors, once it was made.
    pub(super) fn accounts_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.meta(ACCOUNTS_KEY)
    }

    /// Before when every key was revoked, and until when relays must know, if ever.
    pub(super) fn revoked_before(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let Some(value) = self.meta(REVOKED_BEFORE)? else { return Ok(None) };
        let malformed = StoreError::Malformed("time of a revocation");
        let value: [u8; 16] = value.try_into().map_err(|_| malformed)?;
        let both = u128::from_be_bytes(value);
        Ok(Some(((both >> 64) as u64, both as u64)))
    }

    /// The tenant that operates this coordinator.
    pub(super) fn home(&self) -> Result<TenantId, StoreError> {
        let malformed = StoreError::Malformed("tenant id");
        let value = self.meta(HOME)?.ok_or_else(|| malformed.clone())?;
        String::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(malformed)
    }
}

impl Writing<'_> {
    pub(super) fn set_meta(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO meta (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            params![name, value],
        )?;
        Ok(())
    }

    /// Keeps a value unless there is one. Answers what is kept.
    fn keep_meta(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        if let Some(there) = self.meta(name)? {
            return Ok(there);
        }
        self.set_meta(name, value)?;
        Ok(value.to_owned())
    }
}

impl Store {
    /// The trust bundle that is given out.
    pub(crate) async fn bundle(&self) -> Result<Vec<u8>, StoreError> {
        let bundle = self.engine.read(|reading| reading.meta(TRUST)).await?;
        bundle.ok_or(StoreError::Malformed("trust bundle"))
    }

    /// What the setup code of coordinators that share a database is made of: `fresh`, unless one was kept.
    pub(crate) async fn keep_setup_salt(&self, fresh: [u8; 16]) -> Result<Vec<u8>, StoreError> {
        self.engine.write(move |writing| writing.keep_meta(SETUP_SALT, &fresh)).await
    }
}

impl Writing<'_> {
    /// Keeps that every key was revoked that is older than a time, for as long as relays must know.
    pub(super) fn set_revoked_before(&self, at: u64, until: u64) -> Result<(), StoreError> {
        let both = (u128::from(at) << 64) | u128::from(until);
        self.set_meta(REVOKED_BEFORE, &both.to_be_bytes())
    }

    /// Begins the feed anew, under a bundle that says so.
    pub(super) fn begin_era(&self, next: &TrustedEra, detail: String, now: u64) -> Result<(), StoreError> {
        let Position { epoch, head, .. } = Position::start(next.era);
        self.change(
            "UPDATE head SET era = $1, epoch = $2, feed_hash = $3 WHERE one = 1",
            params![next.era, epoch, head],
        )?;
        self.change("DELETE FROM feed", params![])?;
        // Their epochs are those of the era that ends.
        self.change("DELETE FROM closings", params![])?;
        self.set_meta(TRUST, &next.bundle)?;
        self.audit(&Entry {
            at: now,
            tenant: None,
            actor: Party::System,
            act: Act::EraBegin,
            subject: Party::System,
            project: None,
            detail,
        })
    }
}

impl Opened {
    /// The root's public key and the trust bundle, once they were kept.
    pub(crate) async fn trust(&self) -> Result<Option<(PublicKey, Vec<u8>)>, StoreError> {
        self.engine.read(|reading| reading.trust()).await
    }

    /// Keeps the root's public key and a trust bundle that it signed, unless another coordinator was faster: the
    /// database belongs to one root. Answers what is kept.
    pub(crate) async fn keep_trust(
        &self,
        root: PublicKey,
        bundle: Vec<u8>,
    ) -> Result<(PublicKey, Vec<u8>), StoreError> {
        self.engine
            .write(move |writing| {
                if let Some(there) = writing.trust()? {
                    return Ok(there);
                }
                writing.set_meta(ROOT, root.as_bytes())?;
                writing.set_meta(TRUST, &bundle)?;
                Ok((root, bundle))
            })
            .await
    }

    /// The fingerprint of the key of second factors, once it was made.
    pub(crate) async fn accounts_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.read(|reading| reading.accounts_key()).await
    }

    /// Keeps that fingerprint, unless another coordinator was faster. Answers what is kept.
    pub(crate) async fn keep_accounts_key(&self, fingerprint: [u8; 32]) -> Result<Vec<u8>, StoreError> {
        self.engine.write(move |writing| writing.keep_meta(ACCOUNTS_KEY, &fingerprint)).await
    }

    /// Begins the feed anew, under a bundle that says so.
    pub(crate) async fn begin_era(&self, next: TrustedEra, now: u64) -> Result<(), StoreError> {
        self.engine.write(move |writing| writing.begin_era(&next, String::new(), now)).await
    }

    /// Makes the tenant that operates this coordinator, if there is none yet: `fresh` names it then.
    pub(crate) async fn make_home(&self, fresh: TenantId, now: u64) -> Result<TenantId, StoreError> {
        self.engine
            .write(move |writing| {
                if writing.meta(HOME)?.is_some() {
                    return writing.home();
                }
                writing.change(
                    "INSERT INTO tenants (id, created_at) VALUES ($1, $2)",
                    params![fresh.as_str(), now],
                )?;
                writing.set_meta(HOME, fresh.as_str().as_bytes())?;
                Ok(fresh)
            })
            .await
    }
}
