//! Who serves whom: a relay is believed what it tells of the use of keys whose nodes have said that they are there, and of
//! no others.

use mytunnel_keys::Verified;
use mytunnel_keys::id::Serial;
use mytunnel_keys::presence::Presence;
use mytunnel_keys::usage::Month;

use super::Telling;
use crate::authority;
use crate::store::feed::STEP;
use crate::store::sql::{Writing, params};
use crate::store::{Store, StoreError, column};

/// Seconds for which a node's word is good: a relay that was cut off for so long tells nothing that counts. What it tells in
/// time makes it good again, for as long as the key's certificate lives.
const GOOD: u64 = 24 * 3600;
/// Seconds after which it is noted that it is good again.
const STALE: u64 = 3600;

impl Store {
    /// Notes that nodes with these keys are at a relay.
    pub(crate) async fn note_present(
        &self,
        relay: Serial,
        present: Vec<Verified<Presence>>,
        now: u64,
    ) -> Result<(), StoreError> {
        if present.is_empty() {
            return Ok(());
        }
        self.engine
            .write(move |writing| {
                for Presence { serial, .. } in present.iter().map(|presence| &**presence) {
                    let key = writing.key(serial)?;
                    if key.is_some_and(|key| authority::may_be_served(&key, now)) {
                        writing.note_served(&relay, serial, now)?;
                    }
                }
                Ok(())
            })
            .await
    }
}

impl Writing<'_> {
    /// Notes that a relay serves a key.
    fn note_served(&self, relay: &Serial, serial: &Serial, now: u64) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO served (serial, relay, at) VALUES ($1, $2, $3)
             ON CONFLICT (serial, relay) DO UPDATE SET at = excluded.at",
            params![serial.as_bytes(), relay.as_bytes(), now],
        )?;
        Ok(())
    }

    /// Whether the relay that tells has served a key.
    pub(super) fn has_served(&self, telling: &Telling, serial: &Serial) -> Result<bool, StoreError> {
        let served = self.first(
            "SELECT served.at, keys.not_after FROM served JOIN keys ON keys.serial = served.serial
             WHERE served.serial = $1 AND served.relay = $2",
            params![serial.as_bytes(), telling.relay.as_bytes()],
            |row| Ok((row.get::<u64>(0)?, row.get::<Option<u64>>(1)?)),
        )?;
        let Some((at, end)) = served.filter(|(at, _)| telling.now < at + GOOD) else { return Ok(false) };
        if telling.now >= at + STALE && end.is_none_or(|end| telling.now < end) {
            self.note_served(&telling.relay, serial, telling.now)?;
        }
        Ok(true)
    }

    /// Whether the relay of a process has served a key, or a key that this one minted.
    pub(super) fn may_have_spent(&self, incarnation: &[u8; 16], key: &Serial) -> Result<bool, StoreError> {
        let itself: Option<i64> = self.first(
            "SELECT 1 FROM meters JOIN served ON served.relay = meters.relay
             WHERE meters.incarnation = $1 AND served.serial = $2 LIMIT 1",
            params![incarnation, key.as_bytes()],
            column::only,
        )?;
        if itself.is_some() {
            return Ok(true);
        }
        let child: Option<i64> = self.first(
            "SELECT 1 FROM meters
             JOIN keys ON keys.parent = $1
             JOIN served ON served.serial = keys.serial AND served.relay = meters.relay
             WHERE meters.incarnation = $2 LIMIT 1",
            params![key.as_bytes(), incarnation],
            column::only,
        )?;
        Ok(child.is_some())
    }

    /// Forgets reports that are good no longer, some of them; answers how many.
    pub(super) fn forget_served(&self, now: u64) -> Result<usize, StoreError> {
        self.change(
            "DELETE FROM served WHERE (serial, relay) IN (SELECT serial, relay FROM served WHERE at < $1 LIMIT $2)",
            params![now.saturating_sub(2 * GOOD), STEP],
        )
    }

    /// What may be charged to a key of what a relay says that it has cost: all of it where there is no budget; else what
    /// the relay was granted, and beyond it what of the budget was granted to nobody.
    pub(super) fn chargeable(
        &self,
        telling: &Telling,
        key: &Serial,
        month: Month,
        cost: u64,
    ) -> Result<u64, StoreError> {
        let Some(purse) = self.purse(telling, key, month)? else { return Ok(cost) };
        let held = self.held(telling, key)?;
        let taken = purse.spent.saturating_add(purse.others).saturating_add(held);
        let room = purse.budget.saturating_sub(taken);
        Ok(cost.min(held.saturating_add(room)))
    }

    /// What a relay has told is not among what it may yet spend.
    pub(super) fn use_up(&self, telling: &Telling, key: &Serial, cost: u64) -> Result<(), StoreError> {
        self.change(
            "UPDATE leases SET held = CASE WHEN held > $1 THEN held - $1 ELSE 0 END
             WHERE serial = $2 AND incarnation = $3 AND held > 0",
            params![cost, key.as_bytes(), telling.incarnation],
        )?;
        Ok(())
    }
}
