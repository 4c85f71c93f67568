//! The gates of tunnels, and tunnels that their owner closes.
//!
//! A change is one transaction: the row, its place in the audit log and the change in the feed. Gates belong to a
//! tunnel, which is a name of one project: they go with the project, and never to the name's next owner. A name is not
//! freed while it has any: its node may come back after a long time, and would find the door open.

mod rows;

use mytunnel_keys::api::{self, NewTunnel};
use mytunnel_keys::feed::{AddressGate, Change, Gates};
use mytunnel_keys::id::{ProjectId, Serial, TunnelId};

use super::sql::{Writing, params};
use super::{FeedSigner, Store, StoreError, TunnelRow, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, GateKind, Reach, Refusal};

/// What to do with a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GateChange {
    Set(NewGate),
    Drop(GateKind),
    /// Whoever has signed in is to sign in again.
    EndSessions,
}

/// A gate to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NewGate {
    /// Ask for this user and the password behind the hash.
    Password {
        user: String,
        hash: String,
    },
    SignIn(api::EdgeAuth),
    Pin {
        hash: String,
    },
    Bearer {
        hash: String,
    },
    Addresses(AddressGate),
    End(u64),
}

impl NewGate {
    pub(crate) const fn kind(&self) -> GateKind {
        match self {
            Self::Password { .. } => GateKind::Basic,
            Self::SignIn(_) => GateKind::SignIn,
            Self::Pin { .. } => GateKind::Pin,
            Self::Bearer { .. } => GateKind::Bearer,
            Self::Addresses(_) => GateKind::Addresses,
            Self::End(_) => GateKind::End,
        }
    }
}

impl GateChange {
    pub(crate) const fn kind(&self) -> GateKind {
        match self {
            Self::Set(gate) => gate.kind(),
            Self::Drop(kind) => *kind,
            Self::EndSessions => GateKind::SignIn,
        }
    }

    fn act(&self) -> Act {
        match self {
            Self::Set(_) => Act::GateSet,
            Self::EndSessions => Act::GateSessionsEnd,
            Self::Drop(_) => Act::GateDrop,
        }
    }

    /// What the audit log says of it; no name, no address.
    fn detail(&self) -> String {
        let kind = self.kind().name();
        match self {
            Self::Set(NewGate::SignIn(gate)) => {
                let (domains, emails) = (gate.allowed_domains.len(), gate.allowed_emails.len());
                format!("{kind}: {}, {domains} domains, {emails} addresses", gate.provider)
            }
            Self::Set(NewGate::Addresses(gate)) => {
                format!("{kind}: {} allowed, {} denied", gate.allow.len(), gate.deny.len())
            }
            Self::Set(NewGate::End(at)) => format!("{kind}: {at}"),
            Self::Set(NewGate::Password { .. } | NewGate::Pin { .. } | NewGate::Bearer { .. })
            | Self::Drop(_)
            | Self::EndSessions => kind.to_owned(),
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
        let signer = self.signer.clone();
        self.engine
            .read(move |reading| {
                let Some(row) = reading.tunnel(&reach, &tunnel)? else { return Ok(None) };
                Ok(Some((row, reading.gates(&signer.sessions, &tunnel)?)))
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
        let gates = self.gates_set_by(id)?;
        if change == GateChange::EndSessions && !gates.iter().any(|(kind, _)| *kind == GateKind::SignIn) {
            return Ok(Err(Refusal::not_found("sign-in before this tunnel")));
        }
        let may = authority::may_change_gate(caller, change.kind(), &gates);
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
        if let GateChange::Set(gate) = &change {
            let plan = authority::may_have_gate(gate.kind(), self.plan_of(caller.tenant())?, now);
            let room = authority::has_room_for_gates(self.gates_of(caller.tenant())?);
            // What it is about to carry counts, where that is said, and not what it did.
            let carries = new.as_ref().map(|new| new.kind).or(there.as_ref().map(|tunnel| tunnel.kind));
            let stands = carries.map_or(Ok(()), |carries| authority::may_stand_before(gate.kind(), carries));
            if let Err(refusal) = plan.and(room).and(stands) {
                return Ok(Err(refusal));
            }
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
        changes.push(Change::Gates { tunnel: *id, gates: self.gates(&signer.sessions, id)? });
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
        let family = family.as_ref().map(Serial::as_bytes);
        let other = |kind: GateKind, value: String| {
            self.change(
                "INSERT INTO tunnel_gates (tunnel, kind, value, generation, family) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tunnel, kind) DO UPDATE
                 SET value = excluded.value, generation = excluded.generation, family = excluded.family",
                params![tunnel, kind.name(), value, generation, family],
            )
        };
        let rows = match change {
            GateChange::Set(NewGate::Password { user, hash }) => self.change(
                "INSERT INTO basic_gates (tunnel, username, hash, generation, family) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tunnel) DO UPDATE
                 SET username = excluded.username, hash = excluded.hash, generation = excluded.generation,
                     family = excluded.family",
                params![tunnel, user, hash, generation, family],
            )?,
            // Who has signed in stays so while only the lists change: they are looked at with every request.
            GateChange::Set(NewGate::SignIn(gate)) => self.change(
                "INSERT INTO oidc_gates (tunnel, provider, allowed_domains, allowed_emails, generation, family)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (tunnel) DO UPDATE
                 SET generation = CASE WHEN oidc_gates.provider = excluded.provider THEN oidc_gates.generation
                                       ELSE excluded.generation END,
                     provider = excluded.provider, allowed_domains = excluded.allowed_domains,
                     allowed_emails = excluded.allowed_emails, family = excluded.family",
                params![
                    tunnel,
                    gate.provider,
                    gate.allowed_domains.join(" "),
                    gate.allowed_emails.join(" "),
                    generation,
                    family
                ],
            )?,
            GateChange::Set(NewGate::Pin { hash }) => other(GateKind::Pin, hash)?,
            GateChange::Set(NewGate::Bearer { hash }) => other(GateKind::Bearer, hash)?,
            GateChange::Set(NewGate::Addresses(gate)) => {
                other(GateKind::Addresses, rows::written(&gate))?
            }
            GateChange::Set(NewGate::End(at)) => other(GateKind::End, at.to_string())?,
            GateChange::EndSessions => self.change(
                "UPDATE oidc_gates SET generation = $1 WHERE tunnel = $2",
                params![generation, tunnel],
            )?,
            GateChange::Drop(GateKind::Basic) => {
                self.change("DELETE FROM basic_gates WHERE tunnel = $1", params![tunnel])?
            }
            GateChange::Drop(GateKind::SignIn) => {
                self.change("DELETE FROM oidc_gates WHERE tunnel = $1", params![tunnel])?
            }
            GateChange::Drop(
                kind @ (GateKind::Pin | GateKind::Bearer | GateKind::Addresses | GateKind::End),
            ) => self.change(
                "DELETE FROM tunnel_gates WHERE tunnel = $1 AND kind = $2",
                params![tunnel, kind.name()],
            )?,
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
        tunnels.extend(self.all(
            "DELETE FROM tunnel_gates WHERE tunnel IN (SELECT id FROM tunnels WHERE project = $1) RETURNING tunnel",
            of,
            |row| column::parsed::<TunnelId>(row, 0),
        )?);
        tunnels.sort_unstable();
        tunnels.dedup();
        Ok(tunnels.into_iter().map(|tunnel| Change::Gates { tunnel, gates: Gates::default() }).collect())
    }
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
