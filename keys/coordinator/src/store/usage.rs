//! Usage as relays tell it, what it costs, and leases of budgets.
//!
//! A message is taken whole and once: its number goes up in the row of the relay's process, which is also what holds
//! off a second message of the same process until the first is through.

mod leases;
mod picture;
mod purse;
mod served;

use mytunnel_keys::id::{ProjectId, Serial, TenantId};
use mytunnel_keys::usage::{Count, Month, PriceList, Prices, Tell, Told, Usage, grown};

#[cfg(test)]
pub(super) use self::picture::summed;
pub(crate) use self::picture::{Totals, UsageFilter};
use super::feed::STEP;
use super::sql::{Writing, params};
use super::{Store, StoreError, column};

/// The most of anything that a total can be, and that one message can add: more than any link carries in a month.
pub(super) const MAX_TOTAL: u64 = 1 << 60;
const MAX_GROWTH: u64 = 1 << 50;
/// The most that one message can cost: the largest budget.
const MAX_COST: u64 = 1_000_000_000_000_000;
/// Processes of one relay that may tell for the first time within so many seconds. More are no restarts.
const STARTS: u64 = 10;
const STARTS_WITHIN: u64 = 60;
/// Length of a span of the picture while it is new, in seconds.
const HOUR: u64 = 3600;

/// Who tells, when, and among how many.
#[derive(Debug, Clone, Copy)]
struct Telling {
    relay: Serial,
    incarnation: [u8; 16],
    seq: u64,
    /// Whether a later process of the same relay has told meanwhile.
    ended: bool,
    /// The prices by which it counted.
    prices: Prices,
    relays: u64,
    now: u64,
}

impl Store {
    /// Takes what a relay tells, and grants it leases. `relays` is the number of relays that there are.
    pub(crate) async fn take_usage(
        &self,
        relay: Serial,
        tell: Tell,
        list: PriceList,
        relays: u64,
        now: u64,
    ) -> Result<Told, StoreError> {
        self.engine.write(move |writing| writing.take_usage(&relay, tell, list, relays, now)).await
    }

    /// Makes these the prices from here on, unless they are already.
    pub(crate) async fn set_prices(&self, prices: Prices, now: u64) -> Result<PriceList, StoreError> {
        self.engine.write(move |writing| writing.set_prices(prices, now)).await
    }

    /// Charges what was leased to relays that were not heard of since `silent`, folds hours before `old` into days, and
    /// forgets what nobody adds to any more: totals and spend of months that are over, processes that ended by then and
    /// what they held. Each a step at a time.
    pub(crate) async fn tidy_usage(&self, silent: u64, old: u64, now: u64) -> Result<(), StoreError> {
        self.in_steps(move |writing| writing.charge_silent(silent, now)).await?;
        self.in_steps(move |writing| writing.fold_hours(old)).await?;
        self.in_steps(move |writing| writing.forget_served(now)).await?;
        // A process that comes back later than that is a new one: nothing of it is known.
        let kept = Month::of(now).before().before();
        self.in_steps(move |writing| {
            writing.change(
                "DELETE FROM totals WHERE (incarnation, serial, month, run) IN
                     (SELECT incarnation, serial, month, run FROM totals WHERE month < $1 LIMIT $2)",
                params![kept.number(), STEP],
            )
        })
        .await?;
        self.in_steps(move |writing| {
            writing.change(
                "DELETE FROM spend WHERE (serial, month) IN (SELECT serial, month FROM spend WHERE month < $1 LIMIT $2)",
                params![kept.number(), STEP],
            )
        })
        .await?;
        self.in_steps(move |writing| {
            writing.change(
                "DELETE FROM account_spend WHERE (account, month) IN
                     (SELECT account, month FROM account_spend WHERE month < $1 LIMIT $2)",
                params![kept.number(), STEP],
            )
        })
        .await?;
        self.in_steps(move |writing| {
            writing.change(
                "DELETE FROM leases WHERE (serial, incarnation) IN
                     (SELECT serial, incarnation FROM leases WHERE held = 0 AND until < $1 LIMIT $2)",
                params![kept.start(), STEP],
            )
        })
        .await?;
        self.in_steps(move |writing| {
            writing.change(
                "DELETE FROM meters WHERE incarnation IN (SELECT incarnation FROM meters WHERE seen_at < $1 LIMIT $2)",
                params![kept.start(), STEP],
            )
        })
        .await
    }
}

/// Whom a key's use concerns.
#[derive(Debug)]
struct User {
    parent: Option<Serial>,
    tenant: TenantId,
    project: Option<ProjectId>,
}

impl Writing<'_> {
    fn take_usage(
        &self,
        relay: &Serial,
        mut tell: Tell,
        list: PriceList,
        relays: u64,
        now: u64,
    ) -> Result<Told, StoreError> {
        let mut told = Told { seq: tell.seq, prices: list, leases: Vec::new(), refused: Vec::new() };
        let known = self.ended(&tell.incarnation)?;
        if known.is_none() && self.starts(relay, now)? >= STARTS {
            return Ok(told);
        }
        let taken = self.change(
            "INSERT INTO meters (incarnation, relay, seq, seen_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (incarnation) DO UPDATE SET seq = excluded.seq, seen_at = excluded.seen_at
             WHERE excluded.seq > meters.seq AND excluded.relay = meters.relay",
            params![tell.incarnation, relay.as_bytes(), tell.seq.min(MAX_TOTAL), now],
        )?;
        if taken == 0 {
            return Ok(told);
        }
        match known {
            None => self.end_others(relay, &tell.incarnation, now)?,
            Some(_) => self.uncharge(&tell.incarnation, now)?,
        }
        let telling = Telling {
            relay: *relay,
            incarnation: tell.incarnation,
            seq: tell.seq.min(MAX_TOTAL),
            ended: known.unwrap_or(false),
            prices: if tell.prices == list.version {
                list.prices
            } else {
                self.prices(tell.prices)?.unwrap_or(list.prices)
            },
            relays,
            now,
        };
        // In one order for all, so that two transactions never wait for each other.
        tell.counts.sort_by_key(|count| count.serial);
        tell.wants.sort_by_key(|want| want.key);
        for count in &tell.counts {
            if !self.take_count(&telling, count)? {
                told.refused.push(count.serial);
            }
        }
        for want in &tell.wants {
            told.leases.push(self.lease(&telling, want)?);
        }
        Ok(told)
    }

    /// How many processes of a relay have told for the first time, or again, a short time ago.
    fn starts(&self, relay: &Serial, now: u64) -> Result<u64, StoreError> {
        self.one(
            "SELECT count(*) FROM meters WHERE relay = $1 AND seen_at > $2",
            params![relay.as_bytes(), now.saturating_sub(STARTS_WITHIN)],
            column::only,
        )
    }

    /// Whether a process was followed by another; none for one that has told nothing yet.
    fn ended(&self, incarnation: &[u8; 16]) -> Result<Option<bool>, StoreError> {
        self.first("SELECT ended FROM meters WHERE incarnation = $1", params![incarnation], column::only)
    }

    /// Adds what a total has grown by to everything that it concerns. `false` where the relay is not known to have served
    /// the key.
    fn take_count(&self, telling: &Telling, count: &Count) -> Result<bool, StoreError> {
        // The relay's clock may be ahead.
        if count.month < Month::of(telling.now).before() || count.month > Month::of(telling.now + HOUR) {
            return Ok(true);
        }
        let Some(user) = self.user(&count.serial)? else { return Ok(false) };
        if !self.has_served(telling, &count.serial)? {
            return Ok(false);
        }
        let total = at_most(count.total, MAX_TOTAL);
        let before = self.total(telling, count)?.unwrap_or_default();
        let growth = at_most(grown(Some(&before), &total), MAX_GROWTH);
        if growth.is_nothing() {
            return Ok(true);
        }
        let after = before.plus(growth);
        self.set_total(telling, count, &after)?;
        let mut cost = (telling.prices.cost(&after) - telling.prices.cost(&before)).min(MAX_COST);
        let payers = || [Some(count.serial), user.parent].into_iter().flatten();
        for key in payers() {
            cost = self.chargeable(telling, &key, count.month, cost)?;
        }
        for key in payers() {
            self.use_up(telling, &key, cost)?;
            self.spend(&key, count.month, cost)?;
        }
        self.draw(&count.serial, &user, span_of(count.month, telling.now), growth, cost.cast_signed())?;
        Ok(true)
    }

    fn user(&self, serial: &Serial) -> Result<Option<User>, StoreError> {
        self.first(
            "SELECT parent, tenant, project FROM keys WHERE serial = $1 AND kind IN ('user', 'child', 'master')",
            params![serial.as_bytes()],
            |row| {
                Ok(User {
                    parent: column::maybe_serial(row, 0)?,
                    tenant: column::parsed(row, 1)?,
                    project: column::maybe_parsed(row, 2)?,
                })
            },
        )
    }

    fn total(&self, telling: &Telling, count: &Count) -> Result<Option<Usage>, StoreError> {
        self.first(
            "SELECT bytes_in, bytes_out, requests, tunnel_seconds FROM totals
             WHERE incarnation = $1 AND serial = $2 AND month = $3 AND run = $4",
            params![
                telling.incarnation,
                count.serial.as_bytes(),
                count.month.number(),
                count.run.min(MAX_TOTAL)
            ],
            |row| picture::usage(row, 0),
        )
    }

    fn set_total(&self, telling: &Telling, count: &Count, total: &Usage) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO totals (incarnation, serial, month, run, seq, bytes_in, bytes_out, requests, tunnel_seconds)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (incarnation, serial, month, run) DO UPDATE
             SET seq = excluded.seq, bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out,
                 requests = excluded.requests, tunnel_seconds = excluded.tunnel_seconds
             WHERE excluded.seq > totals.seq",
            params![
                telling.incarnation,
                count.serial.as_bytes(),
                count.month.number(),
                count.run.min(MAX_TOTAL),
                telling.seq,
                total.bytes_in,
                total.bytes_out,
                total.requests,
                total.tunnel_seconds,
            ],
        )?;
        Ok(())
    }

    fn prices(&self, version: u64) -> Result<Option<Prices>, StoreError> {
        self.first(
            "SELECT gib, million_requests, tunnel_hour FROM prices WHERE version = $1",
            params![version.min(MAX_TOTAL)],
            |row| Ok(Prices { gib: row.get(0)?, million_requests: row.get(1)?, tunnel_hour: row.get(2)? }),
        )
    }

    fn set_prices(&self, prices: Prices, now: u64) -> Result<PriceList, StoreError> {
        let version: u64 =
            self.one("SELECT coalesce(max(version), 0) FROM prices", params![], column::only)?;
        if self.prices(version)? == Some(prices) {
            return Ok(PriceList { version, prices });
        }
        let Prices { gib, million_requests, tunnel_hour } = prices;
        self.change(
            "INSERT INTO prices (version, at, gib, million_requests, tunnel_hour) VALUES ($1, $2, $3, $4, $5)",
            params![version + 1, now, gib, million_requests, tunnel_hour],
        )?;
        Ok(PriceList { version: version + 1, prices })
    }
}

/// The hour that use is drawn into: the present one, but within the month that it belongs to.
fn span_of(month: Month, now: u64) -> u64 {
    let hour = now - now % HOUR;
    hour.clamp(month.start(), month.after().start() - HOUR)
}

fn at_most(usage: Usage, most: u64) -> Usage {
    Usage {
        bytes_in: usage.bytes_in.min(most),
        bytes_out: usage.bytes_out.min(most),
        requests: usage.requests.min(most),
        tunnel_seconds: usage.tunnel_seconds.min(most),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whenever it is told, use stands in the month that it is of, and at the present if it can.
        #[test]
        fn use_stands_in_its_month(now in 86_400 * 62..4_000_000_000_u64, late in 0..3_u32) {
            let month = Month::from_number(Month::of(now).number() + 1 - late);
            let at = span_of(month, now);
            prop_assert_eq!((Month::of(at), at % HOUR), (month, 0));
            if Month::of(now) == month {
                prop_assert_eq!(at, now - now % HOUR);
            }
        }
    }
}
