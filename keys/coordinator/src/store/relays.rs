//! Relays and the tokens by which new ones join.

use mytunnel_keys::id::{PublicKey, Serial};

use super::sql::{Writing, params};
use super::{KeyKind, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Refusal};

/// Join tokens that may be open at a time.
const MAX_OPEN_TOKENS: u64 = 100;

/// A relay with where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayRow {
    pub(crate) serial: Serial,
    pub(crate) id: PublicKey,
    /// Multiaddresses, the best first.
    pub(crate) addrs: Vec<String>,
    /// When it was heard of last.
    pub(crate) seen_at: u64,
    /// When its certificate ends.
    pub(crate) not_after: u64,
}

/// A relay to be enrolled.
#[derive(Debug)]
pub(crate) struct NewRelay {
    pub(crate) serial: Serial,
    pub(crate) subject: PublicKey,
    /// SHA-256 of the join token's secret; none for the relay inside this process.
    pub(crate) token: Option<[u8; 32]>,
    pub(crate) addrs: Vec<String>,
    /// Seconds that its certificate lives.
    pub(crate) life: u64,
}

impl Store {
    /// Keeps the hash of a join token.
    pub(crate) async fn add_join_token(
        &self,
        hash: [u8; 32],
        expires_at: u64,
        actor: Party,
        now: u64,
    ) -> Result<Result<(), Refusal>, StoreError> {
        self.engine
            .write(move |writing| {
                writing.change("DELETE FROM join_tokens WHERE expires_at <= $1", params![now])?;
                let open: u64 = writing.one(
                    "SELECT count(*) FROM join_tokens WHERE used_by IS NULL",
                    params![],
                    column::only,
                )?;
                if open >= MAX_OPEN_TOKENS {
                    return Ok(Err(authority::too_many_join_tokens()));
                }
                writing.change(
                    "INSERT INTO join_tokens (hash, expires_at) VALUES ($1, $2)",
                    params![hash, expires_at],
                )?;
                writing.audit(&Entry {
                    at: now,
                    tenant: Some(writing.home()?),
                    actor,
                    act: Act::RelayToken,
                    subject: Party::System,
                    project: None,
                    detail: String::new(),
                })?;
                Ok(Ok(()))
            })
            .await
    }

    /// Is there a join token that this key may use?
    pub(crate) async fn may_join(
        &self,
        hash: [u8; 32],
        subject: PublicKey,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.engine
            .read(move |reading| {
                reading.one(
                    "SELECT EXISTS (SELECT 1 FROM join_tokens
                     WHERE hash = $1 AND expires_at > $2 AND (used_by IS NULL OR used_by = $3))",
                    params![hash, now, subject.as_bytes()],
                    column::only,
                )
            })
            .await
    }

    /// Enrols a relay, using its join token up, or gives one that is there a new life.
    pub(crate) async fn enroll_relay(
        &self,
        new: NewRelay,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        self.engine.write(move |writing| writing.enroll_relay(&new, now)).await
    }

    /// Gives the certificate of a relay that is there a new life, unless the relay was revoked meanwhile.
    pub(crate) async fn renew_relay(
        &self,
        serial: Serial,
        life: u64,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        self.engine
            .write(move |writing| {
                let there = match authority::renewable_relay(writing.key(&serial)?, now) {
                    Ok(there) => there,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                writing.extend_relay(there, life, now).map(Ok)
            })
            .await
    }

    /// Remembers where a relay is, and that it was there.
    pub(crate) async fn see_relay(
        &self,
        serial: Serial,
        addrs: Option<Vec<String>>,
        now: u64,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                let addrs = addrs.map(|addrs| addrs.join(" "));
                writing.change(
                    "UPDATE relays SET addrs = coalesce($1, addrs), seen_at = $2 WHERE serial = $3",
                    params![addrs, now, serial.as_bytes()],
                )?;
                Ok(())
            })
            .await
    }

    /// Every relay that was not revoked, also one that was switched off when its certificate ended: it may renew it.
    pub(crate) async fn relays(&self) -> Result<Vec<RelayRow>, StoreError> {
        self.engine
            .read(|reading| {
                reading.all(
                    "SELECT r.serial, k.subject, r.addrs, r.seen_at, k.not_after FROM relays r JOIN keys k ON k.serial = r.serial
                     WHERE k.revoked_at IS NULL ORDER BY k.issued_at, r.serial",
                    params![],
                    |row| {
                        Ok(RelayRow {
                            serial: column::serial(row, 0)?,
                            id: column::public_key(row, 1)?,
                            addrs: column::words(row, 2)?,
                            seen_at: row.get(3)?,
                            not_after: row.get(4)?,
                        })
                    },
                )
            })
            .await
    }
}

impl Writing<'_> {
    fn enroll_relay(&self, new: &NewRelay, now: u64) -> Result<Result<KeyRow, Refusal>, StoreError> {
        let there = self.key_of(&new.subject)?;
        if let Err(refusal) = authority::may_enroll(there.as_ref()) {
            return Ok(Err(refusal));
        }
        if let Some(token) = new.token {
            // The same key may use it again, because the answer may have been lost on the way.
            let used = self.change(
                "UPDATE join_tokens SET used_by = $1
                 WHERE hash = $2 AND expires_at > $3 AND (used_by IS NULL OR used_by = $1)",
                params![new.subject.as_bytes(), token, now],
            )?;
            if used == 0 {
                return Ok(Err(authority::no_such_join_token()));
            }
        }
        let row = match there {
            Some(there) => self.extend_relay(there, new.life, now)?,
            None => self.add_relay(new, now)?,
        };
        Ok(Ok(row))
    }

    fn extend_relay(&self, there: KeyRow, life: u64, now: u64) -> Result<KeyRow, StoreError> {
        if authority::has_new_life(&there, life, now) {
            return Ok(there);
        }
        let not_after = now + life;
        self.change(
            "UPDATE keys SET issued_at = $1, not_after = $2 WHERE serial = $3",
            params![now, not_after, there.serial.as_bytes()],
        )?;
        let row = KeyRow { issued_at: now, not_after: Some(not_after), ..there };
        self.note_relay(&row, Act::RelayRenew, now)?;
        Ok(row)
    }

    fn add_relay(&self, new: &NewRelay, now: u64) -> Result<KeyRow, StoreError> {
        let fresh = authority::relay(new.serial, new.subject, &self.home()?, new.life, now);
        self.add_key(&fresh)?;
        self.change(
            "INSERT INTO relays (serial, addrs, seen_at) VALUES ($1, $2, $3)",
            params![fresh.serial.as_bytes(), new.addrs.join(" "), now],
        )?;
        self.note_relay(&fresh, Act::RelayJoin, now)?;
        Ok(fresh)
    }

    fn note_relay(&self, row: &KeyRow, act: Act, now: u64) -> Result<(), StoreError> {
        let party = Party::Key(KeyKind::Relay, row.serial);
        self.audit(&Entry {
            at: now,
            tenant: Some(row.tenant.clone()),
            actor: party.clone(),
            act,
            subject: party,
            project: None,
            detail: String::new(),
        })
    }
}
