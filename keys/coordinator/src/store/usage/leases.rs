//! Leases: what relays may spend, and what becomes of what they did not tell.

use mytunnel_keys::id::Serial;
use mytunnel_keys::usage::{Facts, Lease, Month, Usage, Want, grant};

use super::purse::Purse;
use super::{HOUR, Telling, span_of};
use crate::store::feed::STEP;
use crate::store::sql::{Writing, params};
use crate::store::{Store, StoreError, column};

/// Seconds that a relay may act by a lease without asking again.
const LIFE: u32 = 60;

impl Store {
    /// Leases that relays hold.
    pub(crate) async fn leases_held(&self) -> Result<u64, StoreError> {
        let count = "SELECT count(*) FROM leases WHERE held > 0";
        self.engine.read(move |reading| reading.one(count, params![], column::only)).await
    }
}

impl Writing<'_> {
    /// Grants what may be granted, and keeps what the relay may spend from here on: by what it holds, or by this answer
    /// if it arrives.
    pub(super) fn lease(&self, telling: &Telling, want: &Want) -> Result<Lease, StoreError> {
        let Some(purse) = self.purse(telling, &want.key, Month::of(telling.now))? else {
            self.hold(telling, &want.key, 0)?;
            return Ok(Lease { key: want.key, amount: want.ask, seconds: LIFE });
        };
        let Purse { budget, spent, others } = purse;
        let facts = Facts { budget, spent, others, relays: telling.relays };
        let amount = if telling.ended { 0 } else { grant(&facts, want.ask) };
        // A relay holds what it was granted, whatever it says.
        let held = want.held.min(self.held(telling, &want.key)?);
        self.hold(telling, &want.key, held.max(amount))?;
        Ok(Lease { key: want.key, amount, seconds: LIFE })
    }

    /// What the process that tells was granted and has not told yet.
    pub(super) fn held(&self, telling: &Telling, key: &Serial) -> Result<u64, StoreError> {
        let held = self.first(
            "SELECT held FROM leases WHERE serial = $1 AND incarnation = $2",
            params![key.as_bytes(), telling.incarnation],
            column::only,
        )?;
        Ok(held.unwrap_or(0))
    }

    fn hold(&self, telling: &Telling, key: &Serial, held: u64) -> Result<(), StoreError> {
        if held == 0 {
            self.change(
                "DELETE FROM leases WHERE serial = $1 AND incarnation = $2",
                params![key.as_bytes(), telling.incarnation],
            )?;
            return Ok(());
        }
        self.change(
            "INSERT INTO leases (serial, incarnation, held, until, account)
             VALUES ($1, $2, $3, $4, (SELECT account FROM keys WHERE serial = $1))
             ON CONFLICT (serial, incarnation) DO UPDATE SET held = excluded.held, until = excluded.until",
            params![key.as_bytes(), telling.incarnation, held, telling.now + u64::from(LIFE)],
        )?;
        Ok(())
    }

    /// A relay has started anew: what its earlier processes held and did not tell is charged.
    pub(super) fn end_others(
        &self,
        relay: &Serial,
        incarnation: &[u8; 16],
        now: u64,
    ) -> Result<(), StoreError> {
        let earlier = self.all(
            "SELECT incarnation FROM meters WHERE relay = $1 AND incarnation <> $2 AND ended = 0",
            params![relay.as_bytes(), incarnation],
            column::only::<[u8; 16]>,
        )?;
        for ended in earlier {
            self.change("UPDATE meters SET ended = 1 WHERE incarnation = $1", params![ended])?;
            let left = self.all(
                "SELECT serial, held FROM leases WHERE incarnation = $1 AND held > 0",
                params![ended],
                |row| Ok((column::serial(row, 0)?, row.get(1)?)),
            )?;
            for (key, held) in left {
                self.charge(&key, &ended, held, now)?;
            }
        }
        Ok(())
    }

    /// Charges what is held by relays that were not heard of since that time, some of it; answers how many leases.
    pub(super) fn charge_silent(&self, silent: u64, now: u64) -> Result<usize, StoreError> {
        let left = self.all(
            "SELECT serial, incarnation, held FROM leases WHERE held > 0 AND until < $1 LIMIT $2",
            params![silent, STEP],
            |row| Ok((column::serial(row, 0)?, row.get::<[u8; 16]>(1)?, row.get(2)?)),
        )?;
        for (key, incarnation, held) in &left {
            self.charge(key, incarnation, *held, now)?;
        }
        Ok(left.len())
    }

    /// What a process held is spent, if its relay has ever served the key. Nobody spends on what was never there, and a
    /// relay could else use up every budget by asking and forgetting.
    fn charge(&self, key: &Serial, incarnation: &[u8; 16], held: u64, now: u64) -> Result<(), StoreError> {
        if !self.may_have_spent(incarnation, key)? {
            self.change(
                "DELETE FROM leases WHERE serial = $1 AND incarnation = $2",
                params![key.as_bytes(), incarnation],
            )?;
            return Ok(());
        }
        let month = Month::of(now);
        self.change(
            "UPDATE leases SET held = 0, charged = $1, charged_month = $2 WHERE serial = $3 AND incarnation = $4",
            params![held, month.number(), key.as_bytes(), incarnation],
        )?;
        self.spend(key, month, held)?;
        self.draw_charge(key, now, held.cast_signed())
    }

    /// A relay that was given up is back, and tells: what it was charged for is held again until it has told all.
    pub(super) fn uncharge(&self, incarnation: &[u8; 16], now: u64) -> Result<(), StoreError> {
        let charged = self.all(
            "SELECT serial, charged, charged_month FROM leases WHERE incarnation = $1 AND charged > 0",
            params![incarnation],
            |row| Ok((column::serial(row, 0)?, row.get::<u64>(1)?, row.get::<u32>(2)?)),
        )?;
        for (key, charged, month) in charged {
            self.change(
                "UPDATE leases SET held = held + charged, charged = 0 WHERE serial = $1 AND incarnation = $2",
                params![key.as_bytes(), incarnation],
            )?;
            self.unspend(&key, month, charged)?;
            // In the month in which it was charged, which may be over.
            let at = span_of(Month::from_number(month), now);
            self.draw_charge(&key, at, -charged.cast_signed())?;
        }
        Ok(())
    }

    /// What was charged without being told has its place in the picture too.
    fn draw_charge(&self, key: &Serial, now: u64, cost: i64) -> Result<(), StoreError> {
        match self.user(key)? {
            Some(user) => self.draw(key, &user, now - now % HOUR, Usage::default(), cost),
            None => Ok(()),
        }
    }
}
