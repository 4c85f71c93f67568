//! The gates of tunnels, and tunnels that their owner closes.
//!
//! A change is one transaction: the row, its place in the audit log and the change in the feed. Gates belong to a
//! tunnel, which is a name of one project: they go with the project, and never to the name's next owner. A name is not
//! freed while it has any: its node may come back after a long time, and would find the door open.

use std::collections::BTreeMap;

use mytunnel_keys::api::NewTunnel;
use mytunnel_keys::feed::{BasicGate, Change, Gates, SignInGate};
use mytunnel_keys::id::{ProjectId, Serial, TenantId, TunnelId};

use super::sql::{Reading, Row, Writing, params};
use super::{FeedSigner, Store, StoreError, TunnelRow, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, GatesThere, Reach, Refusal, SetBy};

/// What to do with a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GateChange {
    /// Ask for this user and the password behind the hash.
    Password {
        user: String,
        hash: String,
    },
    NoPassword,
    SignIn(SignInGate),
    NoSignIn,
}

impl GateChange {
    fn act(&self) -> Act {
        match self {
            Self::Password { .. } | Self::SignIn(_) => Act::GateSet,
            Self::NoPassword | Self::NoSignIn => Act::GateDrop,
        }
    }

    /// What the audit log says of it; no name, no address.
    fn detail(&self) -> String {
        match self {
            Self::Password { .. } | Self::NoPassword => "basic".to_owned(),
            Self::NoSignIn => "oidc".to_owned(),
            Self::SignIn(gate) => {
                let (domains, emails) = (gate.allowed_domains.len(), gate.allowed_emails.len());
                format!("oidc: {}, {domains} domains, {emails} addresses", gate.provider)
            }
        }
    }
}

impl Store {
    /// Changes a gate of a tunnel within the caller's reach; answers the epoch that relays must have applied. One that
    /// was never open is made as `new`, if that is given.
    pub(crate) async fn change_gate(
        &self,
        caller: Caller,
        tunnel: TunnelId,
        change: GateChange,
        new: Option<NewTunnel>,
        now: u64,
    ) -> Result<Result<u64, Refusal>, StoreError> {
        self.publishing(move |writing, signer| {
            writing.change_gate(signer, &caller, &tunnel, change, new, now)
        })
        .await
    }

    /// Closes a tunnel within the caller's reach wherever it is served; answers the epoch that relays must have
    /// applied.
    pub(crate) async fn close_tunnel(
        &self,
        caller: Caller,
        tunnel: TunnelId,
        now: u64,
    ) -> Result<Result<u64, Refusal>, StoreError> {
        self.publishing(move |writing, signer| writing.close_tunnel(signer, &caller, &tunnel, now)).await
    }

    /// A tunnel within the caller's reach, with its gates.
    pub(crate) async fn tunnel(
        &self,
        reach: Reach,
        tunnel: TunnelId,
    ) -> Result<Option<(TunnelRow, Gates)>, StoreError> {
        self.engine
            .read(move |reading| {
                let Some(row) = reading.tunnel(&reach, &tunnel)? else { return Ok(None) };
                Ok(Some((row, reading.gates(&tunnel)?)))
            })
            .await
    }
}

impl Writing<'_> {
    fn change_gate(
        &self,
        signer: &FeedSigner,
        caller: &Caller,
        id: &TunnelId,
        change: GateChange,
        new: Option<NewTunnel>,
        now: u64,
    ) -> Result<Result<u64, Refusal>, StoreError> {
        let reach = match authority::reach_of_tunnels(caller) {
            Ok(reach) => reach,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // Whoever cannot see the tunnel learns nothing of its gates.
        let there = self.tunnel(&reach, id)?;
        if there.is_none() && new.is_none() {
            return Ok(Err(Refusal::not_found("tunnel")));
        }
        let may = match change {
            GateChange::Password { .. } | GateChange::NoPassword => {
                authority::may_change_password(caller, self.password_set_by(id)?)
            }
            GateChange::SignIn(_) | GateChange::NoSignIn => authority::may_change_gates(caller),
        };
        let serving = match &there {
            Some(tunnel) => self.key(&tunnel.serial)?,
            None => None,
        };
        let touched = match there {
            Some(_) => authority::may_touch_tunnel(caller, serving.as_ref()),
            None => Ok(()),
        };
        if let Err(refusal) = may.and(touched) {
            return Ok(Err(refusal));
        }
        if matches!(change, GateChange::Password { .. })
            && let Err(refusal) = authority::may_ask_for_password(self.plan_of(caller.tenant())?, now)
        {
            return Ok(Err(refusal));
        }
        if matches!(change, GateChange::Password { .. } | GateChange::SignIn(_))
            && let Err(refusal) = authority::has_room_for_gates(self.gates_of(caller.tenant())?)
        {
            return Ok(Err(refusal));
        }
        let (tunnel, mut changes) = match (there, new) {
            (Some(tunnel), _) => (tunnel, Vec::new()),
            (None, None) => return Ok(Err(Refusal::not_found("tunnel"))),
            (None, Some(new)) => match self.reserve(&signer.cluster, caller, id, new, now)? {
                Ok(reserved) => reserved,
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let epoch = self.head()?.feed.epoch;
        let (act, detail) = (change.act(), change.detail());
        if !self.put_gate(id, change, authority::sets_as(caller), epoch + 1)? {
            return Ok(Ok(epoch));
        }
        changes.push(Change::Gates { tunnel: *id, gates: self.gates(id)? });
        self.publish(signer, changes, now)?;
        self.audit(&of_tunnel(caller, act, tunnel, detail, now))?;
        Ok(Ok(epoch + 1))
    }

    /// `false` if nothing has changed.
    fn put_gate(
        &self,
        id: &TunnelId,
        change: GateChange,
        family: Option<Serial>,
        generation: u64,
    ) -> Result<bool, StoreError> {
        let tunnel = id.to_string();
        let rows = match change {
            GateChange::Password { user, hash } => self.change(
                "INSERT INTO basic_gates (tunnel, username, hash, generation, family) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tunnel) DO UPDATE
                 SET username = excluded.username, hash = excluded.hash, generation = excluded.generation,
                     family = excluded.family",
                params![tunnel, user, hash, generation, family.as_ref().map(Serial::as_bytes)],
            )?,
            GateChange::NoPassword => {
                self.change("DELETE FROM basic_gates WHERE tunnel = $1", params![tunnel])?
            }
            GateChange::SignIn(gate) => self.change(
                "INSERT INTO oidc_gates (tunnel, provider, allowed_domains, allowed_emails) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (tunnel) DO UPDATE
                 SET provider = excluded.provider, allowed_domains = excluded.allowed_domains,
                     allowed_emails = excluded.allowed_emails",
                params![tunnel, gate.provider, gate.allowed_domains.join(" "), gate.allowed_emails.join(" ")],
            )?,
            GateChange::NoSignIn => {
                self.change("DELETE FROM oidc_gates WHERE tunnel = $1", params![tunnel])?
            }
        };
        Ok(rows > 0)
    }

    fn close_tunnel(
        &self,
        signer: &FeedSigner,
        caller: &Caller,
        id: &TunnelId,
        now: u64,
    ) -> Result<Result<u64, Refusal>, StoreError> {
        let reach = match authority::reach_of_tunnels(caller) {
            Ok(reach) => reach,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(tunnel) = self.tunnel(&reach, id)? else { return Ok(Err(Refusal::not_found("tunnel"))) };
        let serving = self.key(&tunnel.serial)?;
        if let Err(refusal) = authority::may_touch_tunnel(caller, serving.as_ref()) {
            return Ok(Err(refusal));
        }
        let epoch = self.head()?.feed.epoch + 1;
        self.change(
            "DELETE FROM closings WHERE at < $1",
            params![now.saturating_sub(authority::CLOSING_LIFE)],
        )?;
        self.change(
            "INSERT INTO closings (tunnel, epoch, at) VALUES ($1, $2, $3)
             ON CONFLICT (tunnel) DO UPDATE SET epoch = excluded.epoch, at = excluded.at",
            params![id.to_string(), epoch, now],
        )?;
        self.publish(signer, vec![Change::Close { tunnel: *id, epoch }], now)?;
        self.audit(&of_tunnel(caller, Act::TunnelClose, tunnel, String::new(), now))?;
        Ok(Ok(epoch))
    }

    /// Takes away the gates of a project's tunnels; answers what relays must know.
    pub(super) fn drop_gates(&self, project: &ProjectId) -> Result<Vec<Change>, StoreError> {
        let of = params![project.as_str()];
        let mut tunnels: Vec<TunnelId> = self.all(
            "DELETE FROM basic_gates WHERE tunnel IN (SELECT id FROM tunnels WHERE project = $1) RETURNING tunnel",
            of,
            |row| column::parsed(row, 0),
        )?;
        tunnels.extend(self.all(
            "DELETE FROM oidc_gates WHERE tunnel IN (SELECT id FROM tunnels WHERE project = $1) RETURNING tunnel",
            of,
            |row| column::parsed::<TunnelId>(row, 0),
        )?);
        tunnels.sort_unstable();
        tunnels.dedup();
        Ok(tunnels.into_iter().map(|tunnel| Change::Gates { tunnel, gates: Gates::default() }).collect())
    }
}

impl Reading<'_> {
    fn password_set_by(&self, tunnel: &TunnelId) -> Result<SetBy, StoreError> {
        let family = self.first(
            "SELECT family FROM basic_gates WHERE tunnel = $1",
            params![tunnel.to_string()],
            |row| column::maybe_serial(row, 0),
        )?;
        Ok(match family {
            None => SetBy::Nobody,
            Some(None) => SetBy::Owner,
            Some(Some(parent)) => SetBy::ChildOf(parent),
        })
    }

    /// What the gates of a tenant come to. They are read first: of tunnels there are many more.
    fn gates_of(&self, tenant: &TenantId) -> Result<GatesThere, StoreError> {
        let passwords: u64 = self.one(
            "SELECT count(*) FROM basic_gates g CROSS JOIN tunnels t CROSS JOIN projects j
             WHERE t.id = g.tunnel AND j.id = t.project AND j.tenant = $1",
            params![tenant.as_str()],
            column::only,
        )?;
        self.one(
            "SELECT count(*), CAST(coalesce(sum(length(g.allowed_domains) + length(g.allowed_emails)), 0) AS BIGINT)
             FROM oidc_gates g CROSS JOIN tunnels t CROSS JOIN projects j
             WHERE t.id = g.tunnel AND j.id = t.project AND j.tenant = $1",
            params![tenant.as_str()],
            |row| Ok(GatesThere { count: passwords + row.get::<u64>(0)?, lists: row.get(1)? }),
        )
    }

    /// The gates of one tunnel.
    fn gates(&self, tunnel: &TunnelId) -> Result<Gates, StoreError> {
        let of = params![tunnel.to_string()];
        let basic =
            self.first("SELECT username, hash, generation FROM basic_gates WHERE tunnel = $1", of, |row| {
                basic(row, 0)
            })?;
        let sign_in = self.first(
            "SELECT provider, allowed_domains, allowed_emails FROM oidc_gates WHERE tunnel = $1",
            of,
            |row| sign_in(row, 0),
        )?;
        Ok(Gates { basic, sign_in })
    }

    /// All gates, and the tunnels that relays may still serve though they were closed: for a snapshot.
    pub(super) fn gated_and_closed(&self, now: u64) -> Result<Vec<Change>, StoreError> {
        let mut all: BTreeMap<TunnelId, Gates> = BTreeMap::new();
        let basics =
            self.all("SELECT tunnel, username, hash, generation FROM basic_gates", params![], |row| {
                Ok((column::parsed(row, 0)?, basic(row, 1)?))
            })?;
        for (tunnel, gate) in basics {
            all.entry(tunnel).or_default().basic = Some(gate);
        }
        let sign_ins = self.all(
            "SELECT tunnel, provider, allowed_domains, allowed_emails FROM oidc_gates",
            params![],
            |row| Ok((column::parsed(row, 0)?, sign_in(row, 1)?)),
        )?;
        for (tunnel, gate) in sign_ins {
            all.entry(tunnel).or_default().sign_in = Some(gate);
        }
        let gated = all.into_iter().map(|(tunnel, gates)| Change::Gates { tunnel, gates });
        let closed = self.all(
            "SELECT tunnel, epoch FROM closings WHERE at >= $1",
            params![now.saturating_sub(authority::CLOSING_LIFE)],
            |row| Ok(Change::Close { tunnel: column::parsed(row, 0)?, epoch: row.get(1)? }),
        )?;
        Ok(gated.chain(closed).collect())
    }
}

fn basic(row: &Row<'_>, first: usize) -> Result<BasicGate, StoreError> {
    Ok(BasicGate { user: row.get(first)?, hash: row.get(first + 1)?, generation: row.get(first + 2)? })
}

fn sign_in(row: &Row<'_>, first: usize) -> Result<SignInGate, StoreError> {
    Ok(SignInGate {
        provider: row.get(first)?,
        allowed_domains: column::words(row, first + 1)?,
        allowed_emails: column::words(row, first + 2)?,
    })
}

fn of_tunnel(caller: &Caller, act: Act, tunnel: TunnelRow, detail: String, now: u64) -> Entry {
    Entry {
        at: now,
        tenant: Some(caller.tenant().clone()),
        actor: caller.party(),
        act,
        subject: Party::Tunnel(tunnel.name.to_string()),
        project: Some(tunnel.project),
        detail,
    }
}
