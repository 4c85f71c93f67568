//! Domains of tenants' own: asked for, shown by a record in the DNS, looked at again each day.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use futures::StreamExt as _;
use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::DomainName;
use tokio::time::MissedTickBehavior;

use crate::authority::{self, Caller, LOOK_AGAIN, Look, Refusal, Shown};
use crate::dns::LOOKS;
use crate::http::ApiError;
use crate::random;
use crate::shared::Shared;
use crate::store::{DomainRow, NewDomainRow, StoreError};

/// How often it is seen which domains are due to be looked at.
const DUE: Duration = Duration::from_secs(600);
/// Bytes of a token: nobody guesses what to put under a domain that another has asked for.
const TOKEN: usize = 20;

impl Shared {
    /// Domains that the caller may see.
    pub(crate) async fn domains(&self, caller: &Caller) -> Result<api::Domains, ApiError> {
        let rows = self.store.domains(authority::may_see_domains(caller)?).await?;
        Ok(api::Domains { domains: rows.into_iter().map(|row| self.domain_row(row)).collect() })
    }

    /// Adds a domain that has to be shown, or leads one that is there to another tunnel.
    pub(crate) async fn add_domain(
        &self,
        caller: &Caller,
        asked: api::NewDomain,
    ) -> Result<api::DomainAnswer, ApiError> {
        let (tenant, now) = (authority::may_change_domains(caller)?, self.clock.now());
        self.may_change(&tenant, now)?;
        let console = self.public().url;
        let domain =
            authority::domain(&asked.domain, self.issuer.cluster().as_str(), host(console.authority()))?;
        let token = BASE32_NOPAD.encode(&random::bytes::<TOKEN>()?).to_ascii_lowercase();
        let new = NewDomainRow { domain, asked, token };
        let (row, epoch) = self.store.add_domain(caller.clone(), new, now).await??;
        self.note_change(&tenant, now);
        self.domain_answer(row, epoch, None).await
    }

    /// Looks whether a domain is shown to be the caller's, and if so leads it to its tunnel.
    pub(crate) async fn verify_domain(
        &self,
        caller: &Caller,
        domain: DomainName,
    ) -> Result<api::DomainAnswer, ApiError> {
        let (tenant, now) = (authority::may_change_domains(caller)?, self.clock.now());
        self.may_change(&tenant, now)?;
        let row = self.store.domain(tenant.clone(), domain.clone()).await?;
        let row = row.ok_or_else(|| Refusal::not_found("domain"))?;
        self.admits_lookup(&tenant, now)?;
        let name = authority::record_name(&domain);
        let found = match self.resolver.shown(&tenant, &name, &authority::record_value(&row.token)).await {
            Ok(found) => found,
            Err(error) => return self.domain_answer(row, None, Some(format!("{name}: {error}"))).await,
        };
        let shown = self.store.show_domain(caller.party(), tenant.clone(), domain, found, now).await??;
        let ((row, epoch), shown) = shown;
        let missing = match shown {
            Shown::Now => {
                self.note_change(&tenant, now);
                None
            }
            Shown::Still => None,
            Shown::Not { others: false } => Some(format!("there is no TXT record {name} yet")),
            Shown::Not { others: true } => Some(format!("the TXT record {name} has another value")),
            Shown::Both => {
                let message = "another account has this domain, and its TXT record stands beside yours: take that one out of the DNS, then verify again";
                return Err(Refusal::new(Code::NameTaken, message).into());
            }
        };
        self.domain_answer(row, epoch, missing).await
    }

    /// Takes a domain away, and waits until it leads nowhere.
    pub(crate) async fn remove_domain(
        &self,
        caller: &Caller,
        domain: DomainName,
    ) -> Result<api::DomainRemoved, ApiError> {
        let (tenant, now) = (authority::may_change_domains(caller)?, self.clock.now());
        let epoch = self.store.remove_domain(caller.party(), tenant, domain.clone(), now).await??;
        let relays = match epoch {
            Some(epoch) => self.confirm(epoch).await?,
            None => Vec::new(),
        };
        Ok(api::DomainRemoved { domain, relays })
    }

    async fn domain_answer(
        &self,
        row: DomainRow,
        epoch: Option<u64>,
        missing: Option<String>,
    ) -> Result<api::DomainAnswer, ApiError> {
        let relays = match epoch {
            Some(epoch) => self.confirm(epoch).await?,
            None => Vec::new(),
        };
        Ok(api::DomainAnswer { domain: self.domain_row(row), missing, relays })
    }

    /// A domain as people see it, with what has to stand in the DNS.
    fn domain_row(&self, row: DomainRow) -> api::Domain {
        let record = |kind: &str, name, value, purpose: &str| api::DnsRecord {
            kind: kind.to_owned(),
            name,
            value,
            purpose: purpose.to_owned(),
        };
        let records = vec![
            record(
                "TXT",
                authority::record_name(&row.domain),
                authority::record_value(&row.token),
                "shows that the domain is yours; it has to stay",
            ),
            record(
                "CNAME",
                row.domain.to_string(),
                format!("{}.{}", row.name, self.issuer.cluster()),
                "leads visitors to the relay; where a CNAME cannot be, as at the top of a zone, A and AAAA records with its addresses",
            ),
        ];
        api::Domain {
            domain: row.domain,
            tunnel: row.tunnel,
            name: row.name,
            project: row.project,
            kind: Some(row.kind),
            state: match row.verified_at {
                Some(_) => api::DomainState::Verified,
                None => api::DomainState::Pending,
            },
            created_at: row.created_at,
            verified_at: row.verified_at,
            checked_at: (row.checked_at > 0).then_some(row.checked_at),
            missing_since: row.doubts.missing_since,
            unknown_since: row.doubts.unknown_since,
            records,
        }
    }

    /// Looks at the domains that are due.
    pub(crate) async fn look_at_domains(&self) -> Result<(), StoreError> {
        let due = self.store.due_domains(self.clock.now().saturating_sub(LOOK_AGAIN)).await?;
        let looks = futures::stream::iter(due).map(|row| async move {
            let look = match self.resolver.look(&authority::record_name(&row.domain)).await {
                Ok(found) if found.contains(&authority::record_value(&row.token)) => Look::There,
                Ok(_) => Look::Missing,
                Err(_) if self.resolver.hears().await => Look::Unknown,
                Err(_) => Look::Deaf,
            };
            (row, look)
        });
        let mut looks = looks.buffer_unordered(LOOKS);
        while let Some((row, look)) = looks.next().await {
            self.store.look_at_domain(row, look, self.clock.now()).await?;
        }
        Ok(())
    }
}

/// The host of `host:port` or `host`.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

/// Looks again and again at what stands in the DNS, until the coordinator stops.
pub(crate) async fn look_again(shared: Arc<Shared>) {
    let mut due = tokio::time::interval(DUE);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.stop.run_until_cancelled(due.tick()).await.is_some() {
        let looked = shared.stop.run_until_cancelled(shared.look_at_domains()).await;
        if let Some(Err(error)) = looked {
            tracing::warn!(%error, "cannot look after domains");
        }
    }
}
