//! The rows of gates, read: of one tunnel, of a tenant as a whole, and all of them for a snapshot.

use std::collections::BTreeMap;

use mytunnel_keys::feed::{AddressGate, BasicGate, BearerGate, Change, Gates, PinGate, SignInGate};
use mytunnel_keys::id::{TenantId, TunnelId};
use mytunnel_keys::network::Network;

use super::super::sql::{Reading, Row, params};
use super::super::{StoreError, column};
use crate::accounts::GateSessions;
use crate::authority::{self, GateKind, GatesThere, SetBy};

/// Between the networks that may come and those that may not.
const BAR: char = '|';

impl Reading<'_> {
    /// Who has set the gates of a tunnel.
    pub(super) fn gates_set_by(&self, tunnel: &TunnelId) -> Result<Vec<(GateKind, SetBy)>, StoreError> {
        let of = params![tunnel.to_string()];
        let set_by = |row: &Row<'_>, index| {
            Ok::<_, StoreError>(column::maybe_serial(row, index)?.map_or(SetBy::Owner, SetBy::ChildOf))
        };
        let basic =
            self.first("SELECT family FROM basic_gates WHERE tunnel = $1", of, |row| set_by(row, 0))?;
        let sign_in =
            self.first("SELECT family FROM oidc_gates WHERE tunnel = $1", of, |row| set_by(row, 0))?;
        let mut all = self.all("SELECT kind, family FROM tunnel_gates WHERE tunnel = $1", of, |row| {
            Ok((kind(row, 0)?, set_by(row, 1)?))
        })?;
        all.extend(basic.map(|by| (GateKind::Basic, by)));
        all.extend(sign_in.map(|by| (GateKind::SignIn, by)));
        Ok(all)
    }

    /// What the gates of a tenant come to. They are read first: of tunnels there are many more.
    pub(super) fn gates_of(&self, tenant: &TenantId) -> Result<GatesThere, StoreError> {
        let passwords: u64 = self.one(
            "SELECT count(*) FROM basic_gates g CROSS JOIN tunnels t CROSS JOIN projects j
             WHERE t.id = g.tunnel AND j.id = t.project AND j.tenant = $1",
            params![tenant.as_str()],
            column::only,
        )?;
        let sum = |row: &Row<'_>| Ok(GatesThere { count: row.get(0)?, lists: row.get(1)? });
        let sign_ins = self.one(
            "SELECT count(*), CAST(coalesce(sum(length(g.allowed_domains) + length(g.allowed_emails)), 0) AS BIGINT)
             FROM oidc_gates g CROSS JOIN tunnels t CROSS JOIN projects j
             WHERE t.id = g.tunnel AND j.id = t.project AND j.tenant = $1",
            params![tenant.as_str()],
            sum,
        )?;
        let others = self.one(
            "SELECT count(*), CAST(coalesce(sum(length(g.value)), 0) AS BIGINT)
             FROM tunnel_gates g CROSS JOIN tunnels t CROSS JOIN projects j
             WHERE t.id = g.tunnel AND j.id = t.project AND j.tenant = $1",
            params![tenant.as_str()],
            sum,
        )?;
        Ok(GatesThere {
            count: passwords + sign_ins.count + others.count,
            lists: sign_ins.lists + others.lists,
        })
    }

    /// The gates of one tunnel.
    pub(super) fn gates(&self, sessions: &GateSessions, tunnel: &TunnelId) -> Result<Gates, StoreError> {
        let (of, sessions) = (params![tunnel.to_string()], &sessions.in_era(self.head()?.feed.era));
        let basic =
            self.first("SELECT username, hash, generation FROM basic_gates WHERE tunnel = $1", of, |row| {
                basic(row, 0)
            })?;
        let sign_in = self.first(
            "SELECT provider, allowed_domains, allowed_emails, generation FROM oidc_gates WHERE tunnel = $1",
            of,
            |row| sign_in(row, 0, sessions, tunnel),
        )?;
        let others =
            self.all("SELECT kind, value, generation FROM tunnel_gates WHERE tunnel = $1", of, |row| {
                Other::read(row, 0)
            })?;
        let mut gates = Gates { basic, sign_in, ..Gates::default() };
        for other in others {
            other.stand_in(&mut gates, sessions, tunnel);
        }
        Ok(gates)
    }

    /// All gates, and the tunnels that relays may still serve though they were closed: for a snapshot.
    pub(in super::super) fn gated_and_closed(
        &self,
        sessions: &GateSessions,
        now: u64,
    ) -> Result<Vec<Change>, StoreError> {
        let sessions = &sessions.in_era(self.head()?.feed.era);
        let mut all: BTreeMap<TunnelId, Gates> = BTreeMap::new();
        let basics =
            self.all("SELECT tunnel, username, hash, generation FROM basic_gates", params![], |row| {
                Ok((column::parsed(row, 0)?, basic(row, 1)?))
            })?;
        for (tunnel, gate) in basics {
            all.entry(tunnel).or_default().basic = Some(gate);
        }
        let sign_ins = self.all(
            "SELECT tunnel, provider, allowed_domains, allowed_emails, generation FROM oidc_gates",
            params![],
            |row| {
                let tunnel = column::parsed(row, 0)?;
                Ok((tunnel, sign_in(row, 1, sessions, &tunnel)?))
            },
        )?;
        for (tunnel, gate) in sign_ins {
            all.entry(tunnel).or_default().sign_in = Some(gate);
        }
        let others =
            self.all("SELECT tunnel, kind, value, generation FROM tunnel_gates", params![], |row| {
                Ok((column::parsed::<TunnelId>(row, 0)?, Other::read(row, 1)?))
            })?;
        for (tunnel, other) in others {
            other.stand_in(all.entry(tunnel).or_default(), sessions, &tunnel);
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

/// Addresses as the database has them.
pub(super) fn written(gate: &AddressGate) -> String {
    let words = |networks: &[Network]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    format!("{} {BAR} {}", words(&gate.allow), words(&gate.deny))
}

/// A row of `tunnel_gates`, with a value that means something.
enum Other {
    Pin { hash: String, generation: u64 },
    Bearer { hash: String, generation: u64 },
    Addresses(AddressGate),
    End(u64),
}

impl Other {
    fn read(row: &Row<'_>, first: usize) -> Result<Self, StoreError> {
        let bad = || StoreError::Column { index: first + 1, source: None };
        let value: String = row.get(first + 1)?;
        let generation = row.get(first + 2)?;
        match kind(row, first)? {
            GateKind::Pin => Ok(Self::Pin { hash: value, generation }),
            GateKind::Bearer => Ok(Self::Bearer { hash: value, generation }),
            GateKind::Addresses => addresses(&value).map(Self::Addresses).ok_or_else(bad),
            GateKind::End => value.parse().map(Self::End).map_err(|_| bad()),
            GateKind::Basic | GateKind::SignIn => Err(bad()),
        }
    }

    fn stand_in(self, gates: &mut Gates, sessions: &GateSessions, tunnel: &TunnelId) {
        match self {
            Self::Pin { hash, generation } => {
                let session_key = sessions.key(tunnel, GateKind::Pin.name(), generation);
                gates.pin = Some(PinGate { hash, generation, session_key });
            }
            Self::Bearer { hash, generation } => gates.bearer = Some(BearerGate { hash, generation }),
            Self::Addresses(gate) => gates.addresses = Some(gate),
            Self::End(at) => gates.ends_at = Some(at),
        }
    }
}

fn addresses(value: &str) -> Option<AddressGate> {
    let (allow, deny) = value.split_once(BAR)?;
    let all = |text: &str| -> Option<Vec<Network>> {
        text.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
    };
    Some(AddressGate { allow: all(allow)?, deny: all(deny)? })
}

fn kind(row: &Row<'_>, index: usize) -> Result<GateKind, StoreError> {
    let name: String = row.get(index)?;
    GateKind::named(&name).ok_or(StoreError::Column { index, source: None })
}

fn basic(row: &Row<'_>, first: usize) -> Result<BasicGate, StoreError> {
    Ok(BasicGate { user: row.get(first)?, hash: row.get(first + 1)?, generation: row.get(first + 2)? })
}

fn sign_in(
    row: &Row<'_>,
    first: usize,
    sessions: &GateSessions,
    tunnel: &TunnelId,
) -> Result<SignInGate, StoreError> {
    let generation = row.get(first + 3)?;
    Ok(SignInGate {
        provider: row.get(first)?,
        allowed_domains: column::words(row, first + 1)?,
        allowed_emails: column::words(row, first + 2)?,
        session_key: sessions.key(tunnel, GateKind::SignIn.name(), generation),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were_written() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        for (allow, deny) in
            [(&["10.0.0.0/8", "::1"][..], &["10.0.0.7"][..]), (&[], &["::/0"]), (&["0.0.0.0/0"], &[])]
        {
            let gate = AddressGate { allow: networks(allow), deny: networks(deny) };
            assert_eq!(addresses(&written(&gate)), Some(gate));
        }
        for bad in ["", "10.0.0.0/8", "x|", "|10.0.0.0/8|"] {
            assert_eq!(addresses(bad), None, "{bad}");
        }
    }
}
