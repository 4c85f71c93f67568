//! Who made which master key. A master outlives the device that made it: agents elsewhere mint by it. Whoever revokes the
//! device, or removes its account, is told of those that it leaves, and may end them in the same act.

use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{ProjectId, Serial};

use super::sql::{Reading, Writing, params};
use super::{StoreError, column};
use crate::audit::Party;

/// Who made a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Maker {
    /// Account id.
    pub(crate) account: Option<String>,
    pub(crate) device: Option<Serial>,
}

/// Whose masters.
#[derive(Debug, Clone, Copy)]
pub(super) enum MadeBy<'a> {
    Device(&'a Serial),
    Account(&'a str),
}

/// A master key that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MasterLeft {
    pub(crate) serial: Serial,
    pub(crate) project: ProjectId,
    pub(crate) name: String,
    pub(crate) created_at: u64,
}

/// What became of the masters that somebody made.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) masters: u64,
    pub(super) children: u64,
    pub(super) changes: Vec<Change>,
    /// Those that stand on.
    pub(super) left: Vec<MasterLeft>,
}

impl Writing<'_> {
    pub(super) fn note_maker(&self, serial: &Serial, maker: &Maker) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO makers (serial, account, device) VALUES ($1, $2, $3)",
            params![serial.as_bytes(), maker.account, maker.device.as_ref().map(Serial::as_bytes)],
        )?;
        Ok(())
    }

    /// Revokes the masters that somebody made, with their children, or lets them stand.
    pub(super) fn end_masters(
        &self,
        by: MadeBy<'_>,
        end: bool,
        actor: &Party,
        now: u64,
    ) -> Result<Ended, StoreError> {
        let standing = self.masters_made(by)?;
        if !end {
            return Ok(Ended { left: standing, ..Ended::default() });
        }
        let mut ended = Ended::default();
        for made in standing {
            let Some(master) = self.key(&made.serial)? else { continue };
            let reckoning = self.mark_revoked(&master, true, actor.clone(), now)?;
            ended.masters += reckoning.masters;
            ended.children += reckoning.children;
            ended.changes.extend(reckoning.change.filter(|_| reckoning.news));
        }
        Ok(ended)
    }
}

impl Reading<'_> {
    fn masters_made(&self, by: MadeBy<'_>) -> Result<Vec<MasterLeft>, StoreError> {
        let read = |row: &super::sql::Row<'_>| {
            Ok(MasterLeft {
                serial: column::serial(row, 0)?,
                project: column::parsed(row, 1)?,
                name: row.get(2)?,
                created_at: row.get(3)?,
            })
        };
        match by {
            MadeBy::Device(device) => self.all(
                "SELECT k.serial, k.project, k.label, k.issued_at
                 FROM makers w JOIN keys k ON k.serial = w.serial JOIN projects j ON j.id = k.project
                 WHERE w.device = $1 AND k.revoked_at IS NULL AND j.deleted_at IS NULL
                 ORDER BY k.issued_at, k.serial",
                params![device.as_bytes()],
                read,
            ),
            MadeBy::Account(account) => self.all(
                "SELECT k.serial, k.project, k.label, k.issued_at
                 FROM makers w JOIN keys k ON k.serial = w.serial JOIN projects j ON j.id = k.project
                 WHERE w.account = $1 AND k.revoked_at IS NULL AND j.deleted_at IS NULL
                 ORDER BY k.issued_at, k.serial",
                params![account],
                read,
            ),
        }
    }
}
