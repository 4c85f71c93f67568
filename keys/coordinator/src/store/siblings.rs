//! What several coordinators on one database tell each other: which relays follow whom, what those have up, and which
//! request proofs were used.
//!
//! The tables are PostgreSQL's alone; a coordinator with a database of its own keeps all this in memory. They are written
//! beside the writer, so that a confirmation waits for nobody's transaction. Their times are the server's: clocks of
//! coordinators differ.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::Ordering;

use mytunnel_keys::id::{PublicKey, Serial, TunnelId};
use mytunnel_keys::proof::{Proof, WINDOW};
use tokio::sync::Notify;

use super::sql::{Reading, Writing, params};
use super::{Head, Store, StoreError, column, postgres};
use crate::agreement;
use crate::config::Clock;
use crate::live::Holder;
use crate::random::{self, NoRandomness};

/// Where coordinators wake each other.
pub(super) const CHANNEL: &str = "mytunnel";
/// Seconds after which a coordinator that says nothing is taken for gone. Its relays are named as not confirmed from then
/// on, and no longer waited for: they hear nothing, and stop by themselves.
const SILENCE: u64 = 5;
/// Rows that are swept away at a time.
const SWEPT: u64 = 10_000;

/// One start of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CoordinatorId([u8; 16]);

impl CoordinatorId {
    pub(crate) fn fresh() -> Result<Self, NoRandomness> {
        random::bytes().map(Self)
    }
}

impl fmt::Display for CoordinatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A relay by one of its subscriptions. Whichever was adopted last, at whichever coordinator, has the relay's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) relay: PublicKey,
    /// It counts up while a coordinator runs.
    pub(crate) subscription: u64,
}

/// How far a relay that follows this coordinator has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Following {
    pub(crate) claim: Claim,
    pub(crate) epoch: u64,
}

/// A relay that follows, or followed, another coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) relay: PublicKey,
    pub(crate) epoch: u64,
    /// Whether it follows at this moment.
    pub(crate) connected: bool,
    /// Changes whenever the relay's tunnels change.
    pub(crate) tunnels: u64,
}

/// What the others say.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) head: Head,
    pub(crate) relays: Vec<Elsewhere>,
    /// Relays that follow this coordinator and were revoked, by whomever.
    pub(crate) revoked: Vec<PublicKey>,
}

/// What one coordinator tells the others.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) era: u64,
    /// Relays that follow it and have come further.
    pub(crate) following: Vec<Following>,
    /// Relays that no longer follow it.
    pub(crate) gone: Vec<Claim>,
    /// Relays whose tunnels are all told again.
    pub(crate) anew: HashSet<Claim>,
    /// Tunnels that came up, with who serves them, or went down.
    /// Whether a key serves a tunnel there.
    pub(crate) tunnels: Vec<(Claim, TunnelId, Holder, bool)>,
}

impl Store {
    /// May other coordinators work on the same database?
    pub(crate) const fn is_shared(&self) -> bool {
        self.server.is_some()
    }

    /// Makes sure that the head is the one that was committed last, by whomever, and compares clocks.
    pub(crate) async fn look_again(&self, clock: &Clock) -> Result<(), StoreError> {
        let Some(server) = &self.server else { return Ok(()) };
        let known = *self.engine.head().borrow();
        let before = clock.now();
        let (head, theirs) =
            self.engine.read(|reading| Ok::<_, StoreError>((reading.head()?, reading.time()?))).await?;
        server.offset.store(agreement::offset(before, theirs, clock.now()), Ordering::Relaxed);
        if known.was_lost(&head) {
            return Err(StoreError::WentBack);
        }
        self.engine.learn(head);
        Ok(())
    }

    /// By how many seconds this coordinator's clock is ahead of the server's, as it was when it was last looked at.
    pub(crate) fn clock_offset(&self) -> i64 {
        self.server.as_ref().map_or(0, |server| server.offset.load(Ordering::Relaxed))
    }

    /// Wakes `heard` whenever another coordinator may have done something, until it is dropped.
    pub(crate) async fn listen(&self, heard: &Notify) {
        match &self.server {
            Some(server) => postgres::listen(&server.url, server.me, heard).await,
            None => std::future::pending().await,
        }
    }

    /// A relay begins to follow this coordinator. On return every coordinator that commits a change from now on waits for
    /// this relay too, and what is told of an earlier subscription of it changes nothing. `false` where this is such a one.
    pub(crate) async fn adopt(&self, claim: Claim) -> Result<bool, StoreError> {
        let Some(me) = self.me() else { return Ok(true) };
        self.engine
            .write_aside(move |writing| {
                let adopted = writing.adopt(me, claim)?;
                writing.announce(me)?;
                Ok(adopted)
            })
            .await
    }

    /// Tells what has changed.
    pub(crate) async fn tell(&self, news: News) -> Result<(), StoreError> {
        let Some(me) = self.me() else { return Ok(()) };
        self.engine
            .write_aside(move |writing| {
                writing.tell(me, news)?;
                writing.announce(me)
            })
            .await
    }

    /// Tells that this coordinator is there; answers which relays it is said to have.
    pub(crate) async fn show_up(&self) -> Result<HashSet<Claim>, StoreError> {
        let Some(me) = self.me() else { return Ok(HashSet::new()) };
        self.engine
            .write_aside(move |writing| {
                let claims = writing.all(
                    "UPDATE followers SET seen_at = EXTRACT(EPOCH FROM clock_timestamp())::BIGINT
                     WHERE coordinator = $1 AND connected = 1 RETURNING relay, subscription",
                    params![me.0],
                    |row| Ok(Claim { relay: column::public_key(row, 0)?, subscription: row.get(1)? }),
                )?;
                Ok(claims.into_iter().collect())
            })
            .await
    }

    /// No relay follows this coordinator any more.
    pub(crate) async fn leave(&self) -> Result<(), StoreError> {
        let Some(me) = self.me() else { return Ok(()) };
        self.engine
            .write_aside(move |writing| {
                writing.change("UPDATE followers SET connected = 0 WHERE coordinator = $1", params![me.0])?;
                writing.announce(me)
            })
            .await
    }

    /// What the other coordinators say, and where feed and audit log end.
    pub(crate) async fn others(&self) -> Result<Option<Others>, StoreError> {
        let Some(me) = self.me() else { return Ok(None) };
        let others = self.engine.read(move |reading| reading.others(me)).await?;
        self.engine.learn(others.head);
        Ok(Some(others))
    }

    /// The tunnels that a relay has up, as another coordinator was told.
    pub(crate) async fn tunnels_elsewhere(
        &self,
        relay: PublicKey,
    ) -> Result<Vec<(TunnelId, Holder)>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT tunnel, serial, parent FROM live WHERE relay = $1",
                    params![relay.as_bytes()],
                    |row| {
                        let holder =
                            Holder { serial: column::serial(row, 1)?, parent: column::maybe_serial(row, 2)? };
                        Ok((TunnelId::from_bytes(row.get(0)?), holder))
                    },
                )
            })
            .await
    }

    /// Counts a request proof, once among all coordinators of the database.
    pub(crate) async fn use_proof(&self, proof: &Proof, now: u64) -> Result<bool, StoreError> {
        if !self.is_shared() {
            return Ok(true);
        }
        let id = [proof.serial.as_bytes().as_slice(), &proof.id].concat();
        let lock = lock_of(&proof.id);
        self.engine
            .write_aside(move |writing| {
                // Who else has it in hand is not waited for: two who wait for each other would hold up everything.
                let free: i64 = writing.one(
                    "SELECT CASE WHEN pg_try_advisory_xact_lock($1) THEN 1 ELSE 0 END",
                    params![lock],
                    column::only,
                )?;
                if free == 0 {
                    return Ok(false);
                }
                let added = writing.change(
                    "INSERT INTO proofs (id, until) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
                    params![id, now + 2 * WINDOW],
                )?;
                Ok(added == 1)
            })
            .await
    }

    /// Drops request proofs that are too old to be used again, and what relays of coordinators had up that are gone.
    pub(crate) async fn forget_siblings(&self, now: u64) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        self.forget_proofs(now).await?;
        self.engine
            .write_aside(move |writing| {
                writing.change(
                    "DELETE FROM live WHERE (relay, tunnel) IN (
                       SELECT l.relay, l.tunnel FROM live l LEFT JOIN followers f ON f.relay = l.relay AND f.connected = 1
                         AND f.seen_at + $1 >= EXTRACT(EPOCH FROM clock_timestamp())::BIGINT
                       WHERE f.relay IS NULL LIMIT $2)",
                    params![12 * SILENCE, SWEPT],
                )?;
                Ok(())
            })
            .await
    }

    /// Drops request proofs that are too old to be used again, all of them, a step at a time.
    pub(crate) async fn forget_proofs(&self, now: u64) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let step = move |writing: &Writing<'_>| {
            writing.change(
                "DELETE FROM proofs WHERE id IN (SELECT id FROM proofs WHERE until < $1 ORDER BY until LIMIT $2)",
                params![now, SWEPT],
            )
        };
        while self.engine.write_aside(step).await? as u64 >= SWEPT {}
        Ok(())
    }

    fn me(&self) -> Option<CoordinatorId> {
        self.server.as_ref().map(|server| server.me)
    }
}

/// What is locked while a proof is counted: a number of its own, but for one in 2^64.
fn lock_of(id: &[u8]) -> i64 {
    let mut number = [0; 8];
    for (at, byte) in id.iter().enumerate() {
        number[at % 8] ^= byte;
    }
    i64::from_be_bytes(number)
}

impl Writing<'_> {
    fn adopt(&self, me: CoordinatorId, Claim { relay, subscription }: Claim) -> Result<bool, StoreError> {
        let era = self.head()?.feed.era;
        let adopted = self.change(
            "INSERT INTO followers (relay, coordinator, subscription, era, epoch, connected, tunnels, seen_at)
             VALUES ($1, $2, $3, $4, 0, 1, 0, EXTRACT(EPOCH FROM clock_timestamp())::BIGINT)
             ON CONFLICT (relay) DO UPDATE
             SET coordinator = excluded.coordinator, subscription = excluded.subscription, era = excluded.era, epoch = 0,
                 connected = 1, tunnels = followers.tunnels + 1, seen_at = excluded.seen_at
             WHERE followers.coordinator <> excluded.coordinator OR followers.subscription < excluded.subscription",
            params![relay.as_bytes(), me.0, subscription, era],
        )?;
        if adopted == 1 {
            // It tells anew what it has up.
            self.change("DELETE FROM live WHERE relay = $1", params![relay.as_bytes()])?;
        }
        Ok(adopted == 1)
    }

    fn tell(&self, me: CoordinatorId, news: News) -> Result<(), StoreError> {
        for Following { claim: Claim { relay, subscription }, epoch } in news.following {
            // The row is there, but after a crash of the server.
            self.change(
                "INSERT INTO followers (relay, coordinator, subscription, era, epoch, connected, tunnels, seen_at)
                 VALUES ($1, $2, $3, $4, $5, 1, 0, EXTRACT(EPOCH FROM clock_timestamp())::BIGINT)
                 ON CONFLICT (relay) DO UPDATE
                 SET era = excluded.era, epoch = excluded.epoch, connected = 1, seen_at = excluded.seen_at
                 WHERE followers.coordinator = excluded.coordinator AND followers.subscription = excluded.subscription",
                params![relay.as_bytes(), me.0, subscription, news.era, epoch],
            )?;
        }
        for Claim { relay, subscription } in news.gone {
            self.change(
                "UPDATE followers SET connected = 0 WHERE relay = $1 AND coordinator = $2 AND subscription = $3",
                params![relay.as_bytes(), me.0, subscription],
            )?;
        }
        let told: HashSet<Claim> = news.tunnels.iter().map(|(claim, ..)| *claim).collect();
        let mut told: Vec<Claim> = told.union(&news.anew).copied().collect();
        // In one order for all.
        told.sort_by_key(|claim| claim.relay);
        let mut held = HashSet::new();
        for claim in told {
            let Claim { relay, subscription } = claim;
            // From here on nobody else can adopt the relay before this is committed.
            let holds = self.change(
                "UPDATE followers SET tunnels = tunnels + 1
                 WHERE relay = $1 AND coordinator = $2 AND subscription = $3",
                params![relay.as_bytes(), me.0, subscription],
            )?;
            if holds == 0 {
                continue;
            }
            held.insert(claim);
            if news.anew.contains(&claim) {
                self.change("DELETE FROM live WHERE relay = $1", params![relay.as_bytes()])?;
            }
        }
        for (claim, tunnel, holder, up) in news.tunnels {
            if held.contains(&claim) {
                self.tell_tunnel(&claim.relay, &tunnel, holder, up)?;
            }
        }
        Ok(())
    }

    fn tell_tunnel(
        &self,
        relay: &PublicKey,
        tunnel: &TunnelId,
        Holder { serial, parent }: Holder,
        up: bool,
    ) -> Result<(), StoreError> {
        let (relay, tunnel, serial) = (relay.as_bytes(), tunnel.as_bytes(), serial.as_bytes());
        if up {
            self.change(
                "INSERT INTO live (relay, tunnel, serial, parent) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (relay, tunnel, serial) DO UPDATE SET parent = excluded.parent",
                params![relay, tunnel, serial, parent.as_ref().map(Serial::as_bytes)],
            )?;
        } else {
            self.change(
                "DELETE FROM live WHERE relay = $1 AND tunnel = $2 AND serial = $3",
                params![relay, tunnel, serial],
            )?;
        }
        Ok(())
    }
}

impl Reading<'_> {
    /// The server's time.
    pub(super) fn time(&self) -> Result<u64, StoreError> {
        self.one("SELECT EXTRACT(EPOCH FROM clock_timestamp())::BIGINT", params![], column::only)
    }

    fn others(&self, me: CoordinatorId) -> Result<Others, StoreError> {
        let head = self.head()?;
        let relays = self.all(
            "SELECT relay, CASE WHEN era = $1 THEN epoch ELSE 0 END, tunnels,
                    connected = 1 AND seen_at + $2 >= EXTRACT(EPOCH FROM clock_timestamp())::BIGINT
             FROM followers WHERE coordinator <> $3",
            params![head.feed.era, SILENCE, me.0],
            |row| {
                let relay = column::public_key(row, 0)?;
                let (epoch, tunnels, connected) = (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(Elsewhere { relay, epoch, connected, tunnels })
            },
        )?;
        let revoked = self.all(
            "SELECT f.relay FROM followers f JOIN keys k ON k.subject = f.relay
             WHERE f.coordinator = $1 AND f.connected = 1 AND k.revoked_at IS NOT NULL",
            params![me.0],
            |row| column::public_key(row, 0),
        )?;
        Ok(Others { head, relays, revoked })
    }
}
