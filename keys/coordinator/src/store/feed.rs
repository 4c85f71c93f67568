//! The feed's rows: each is one signed frame, written in the transaction of the act that it tells of.

use mytunnel_keys::feed::{Change, FeedKey, FeedWriter, Position};
use mytunnel_keys::id::{Cluster, TunnelName};

use super::sql::{Reading, Writing, params};
use super::{Store, StoreError, budgets, column, revoke};
use crate::accounts::GateSessions;

/// Frames handed over in one go.
const PAGE: u64 = 500;

/// Rows that a sweep changes in one transaction.
pub(super) const STEP: u64 = 1000;

/// What signs the feed, and makes the keys in it.
#[derive(Debug)]
pub(crate) struct FeedSigner {
    pub(crate) key: FeedKey,
    pub(crate) cluster: Cluster,
    pub(crate) sessions: GateSessions,
}

impl FeedSigner {
    /// A writer that stands at `position` and has sent `counter` heartbeats.
    pub(crate) fn writer(&self, position: Position, counter: u64) -> FeedWriter {
        FeedWriter::new(self.key.clone(), self.cluster.clone(), position, counter)
    }
}

/// All that relays must know, at one moment.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) position: Position,
    /// What makes it out of nothing: revocations and budgets in force, the names that are owned, gates, closings and domains.
    pub(crate) changes: Vec<Change>,
}

impl Writing<'_> {
    /// Appends one delta with these changes; none at all make none.
    pub(super) fn publish(
        &self,
        signer: &FeedSigner,
        changes: Vec<Change>,
        now: u64,
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut writer = signer.writer(self.head()?.feed, 0);
        let frame = writer.delta(changes, now);
        let Position { epoch, head, .. } = writer.position();
        self.change("INSERT INTO feed (epoch, at, frame) VALUES ($1, $2, $3)", params![epoch, now, frame])?;
        self.change("UPDATE head SET epoch = $1, feed_hash = $2 WHERE one = 1", params![epoch, head])?;
        Ok(())
    }
}

impl Reading<'_> {
    fn state(&self, sessions: &GateSessions, now: u64) -> Result<State, StoreError> {
        let mut changes = revoke::in_force(self, now)?;
        changes.extend(budgets::in_force(self, now)?);
        changes.extend(self.all(
            "SELECT n.name, n.project, t.kind FROM names n LEFT JOIN tunnels t ON t.project = n.project AND t.name = n.name",
            params![],
            |row| {
                Ok(Change::Name {
                    name: column::parsed::<TunnelName>(row, 0)?,
                    project: column::parsed(row, 1)?,
                    kind: column::maybe_parsed(row, 2)?,
                })
            },
        )?);
        changes.extend(self.kept_names()?);
        changes.extend(self.gated_and_closed(sessions, now)?);
        changes.extend(self.leading()?);
        Ok(State { position: self.head()?.feed, changes })
    }
}

impl Store {
    /// What signs this store's feed.
    pub(crate) fn signer(&self) -> &FeedSigner {
        &self.signer
    }

    /// The whole state, for a snapshot.
    pub(crate) async fn state(&self, now: u64) -> Result<State, StoreError> {
        let signer = self.signer.clone();
        self.engine.read(move |reading| reading.state(&signer.sessions, now)).await
    }

    /// Frames behind an epoch in their order, some of them, with their epochs.
    pub(crate) async fn frames_after(&self, epoch: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT epoch, frame FROM feed WHERE epoch > $1 ORDER BY epoch LIMIT $2",
                    params![epoch, PAGE],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
            })
            .await
    }

    /// Drops frames from before that time, a step at a time so that nobody waits long: a relay that was away for so long
    /// begins with a snapshot.
    pub(crate) async fn forget_frames(&self, before: u64) -> Result<(), StoreError> {
        self.in_steps(move |writing| {
            writing.change(
                "DELETE FROM feed WHERE epoch IN (SELECT epoch FROM feed WHERE at < $1 ORDER BY at, epoch LIMIT $2)",
                params![before, STEP],
            )
        })
        .await
    }

    /// Repeats what changes so many rows at most, until it changes fewer.
    pub(super) async fn in_steps(
        &self,
        step: impl Fn(&Writing<'_>) -> Result<usize, StoreError> + Copy + Send + 'static,
    ) -> Result<(), StoreError> {
        while self.engine.write(step).await? >= STEP as usize {}
        Ok(())
    }
}
