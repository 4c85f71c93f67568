//! Minting, listing and revoking keys, and the projects that they belong to.

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{NamePattern, ProjectId, PublicKey, Scopes, Serial};
use mytunnel_keys::usage::MICRO;

use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, MintRequest, Reach, Refusal};
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{
    Along, KeyFilter, KeyKind, KeyRow, Kin, Listed, MasterLeft, NewProject, Project, Revoked, StoreError,
};
use crate::{accounts, random};

/// Keys in one answer.
const PAGE: u64 = 1000;
/// Keys that ended longer ago are listed on request only, in seconds.
const RECENT: u64 = 24 * 3600;

/// Which keys to list.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct KeyQuery {
    pub(crate) project: Option<ProjectId>,
    /// Those that no other key minted.
    #[serde(default)]
    pub(crate) roots: bool,
    /// Those that this key minted, the newest first.
    pub(crate) parent: Option<Nonce>,
    /// Also those that ended more than a day ago.
    #[serde(default)]
    pub(crate) all: bool,
    /// Continue behind this: the `next` of the answer before.
    pub(crate) after: Option<String>,
    pub(crate) limit: Option<u64>,
}

/// A page of keys.
#[derive(Debug, serde::Serialize)]
pub(crate) struct KeyPage {
    #[serde(flatten)]
    pub(crate) tokens: api::Tokens,
    /// There are more behind this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl Shared {
    /// Makes a child of the calling key.
    pub(crate) async fn mint(&self, caller: &Caller, asked: api::Mint) -> Result<api::MintAnswer, ApiError> {
        let parent = minter(caller)?;
        let request = MintRequest {
            project: asked.project,
            ttl: asked.ttl,
            scopes: asked.scopes,
            hosts: asked.hosts,
            bound: asked.bound,
            replaces: asked.replaces,
            budget: asked.budget_cents,
        };
        let now = self.clock.now();
        let serial = Serial::from_bytes(random::bytes()?);
        let room = self.issuer.room();
        let minted = self.store.mint(parent.serial, asked.public_key, request, serial, room, now).await?;
        match minted {
            Ok(child) => self.minted(child),
            Err(refusal) => {
                let party = caller.party();
                self.note_refused_act(caller, Act::MintRefused, party, &refusal).await;
                Err(refusal.into())
            }
        }
    }

    /// A child with its certificate.
    pub(crate) fn minted(&self, child: KeyRow) -> Result<api::MintAnswer, ApiError> {
        Ok(api::MintAnswer {
            serial: child.serial,
            certificate: self.issuer.certify(&child)?,
            expires_at: child.not_after.ok_or(StoreError::Malformed("child"))?,
            project: child.project.ok_or(StoreError::Malformed("child"))?,
        })
    }

    /// Keys that the caller may see, a page at a time.
    pub(crate) async fn keys(&self, caller: &Caller, query: KeyQuery) -> Result<KeyPage, ApiError> {
        let reach = authority::reach_of_keys(caller)?;
        let kin = match &query.parent {
            Some(parent) => Kin::Children(self.parent(&reach, parent).await?),
            None if query.roots => Kin::Roots,
            None => Kin::Any,
        };
        let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
        let filter = KeyFilter {
            tenant: reach.tenant,
            project: authority::narrowed(reach.project, query.project)?,
            family: reach.family,
            kin,
            only: None,
            ended_after: if query.all { 0 } else { self.clock.now().saturating_sub(RECENT) },
            after: query.after.as_deref().map(cursor).transpose()?,
            limit,
            month: self.month(),
        };
        let rows = self.store.keys(filter).await?;
        let more = rows.len() as u64 == limit;
        let last =
            rows.last().filter(|_| more).map(|row| format!("{}.{}", row.key.issued_at, row.key.serial));
        Ok(KeyPage { tokens: api::Tokens { keys: self.token_rows(&rows) }, next: last })
    }

    /// The key whose children the caller wants to see; those of another tenant, or of another key than the one that
    /// may see only its own, are as if they were not there.
    async fn parent(&self, reach: &Reach, parent: &Nonce) -> Result<Serial, ApiError> {
        let key = self.store.key_by_nonce(parent.0.clone()).await?;
        let key = key.filter(|key| key.tenant == reach.tenant);
        let key = key.filter(|key| reach.family.is_none_or(|own| own == key.serial));
        Ok(key.ok_or_else(|| Refusal::not_found("key"))?.serial)
    }

    /// One key that the caller may see.
    pub(crate) async fn key(&self, caller: &Caller, nonce: &Nonce) -> Result<api::TokenRow, ApiError> {
        let reach = authority::reach_of_keys(caller)?;
        let found = self.store.key_by_nonce(nonce.0.clone()).await?;
        let key = found.ok_or_else(|| Refusal::not_found("key"))?;
        self.token(reach, key.serial).await
    }

    /// The row of one key within somebody's reach.
    pub(crate) async fn token(&self, reach: Reach, serial: Serial) -> Result<api::TokenRow, ApiError> {
        let filter = KeyFilter {
            tenant: reach.tenant,
            project: reach.project,
            family: reach.family,
            kin: Kin::Any,
            only: Some(serial),
            ended_after: 0,
            after: None,
            limit: 1,
            month: self.month(),
        };
        let rows = self.store.keys(filter).await?;
        Ok(self.token_rows(&rows).pop().ok_or_else(|| Refusal::not_found("key"))?)
    }

    fn token_rows(&self, rows: &[Listed]) -> Vec<api::TokenRow> {
        let live = self.followers.live();
        rows.iter().filter_map(|row| token_row(row, live.count_of(&row.key.serial))).collect()
    }

    /// Revokes a key, and waits until the relays act by it.
    pub(crate) async fn revoke(
        &self,
        caller: Caller,
        nonce: Nonce,
        along: Along,
    ) -> Result<api::RevokeAnswer, ApiError> {
        let now = self.clock.now();
        match self.store.revoke(caller.clone(), nonce.0, along, now).await? {
            Ok(revoked) => {
                if let Some(relay) = revoked.relay {
                    self.expel(relay).await?;
                }
                self.confirmed(revoked).await
            }
            Err(refusal) => {
                let party = caller.party();
                self.note_refused_act(&caller, Act::RevokeRefused, party, &refusal).await;
                Err(refusal.into())
            }
        }
    }

    /// Revokes a relay; its subscription ends, and nobody believes its certificate any more.
    pub(crate) async fn revoke_relay(
        &self,
        caller: Caller,
        id: PublicKey,
    ) -> Result<api::RevokeAnswer, ApiError> {
        self.operator(&caller, "revoke a relay")?;
        let rows = self.store.relays().await?;
        let relay = rows.into_iter().find(|row| row.id == id).ok_or_else(|| Refusal::not_found("relay"))?;
        self.revoke(caller, Nonce(relay.serial.nonce()), Along::default()).await
    }

    pub(crate) async fn confirmed(&self, revoked: Revoked) -> Result<api::RevokeAnswer, ApiError> {
        Ok(api::RevokeAnswer {
            revoked_masters: revoked.masters,
            revoked_children: revoked.children,
            relays: self.confirm(revoked.epoch).await?,
            masters_left: revoked.left.into_iter().map(master_left).collect(),
        })
    }

    /// Makes a project with its master key, whose secret stays with the caller.
    pub(crate) async fn create_project(
        &self,
        caller: &Caller,
        asked: api::NewProject,
    ) -> Result<api::ProjectCreated, ApiError> {
        let now = self.clock.now();
        let tenant = authority::may_make_projects(caller, now)?;
        let new = NewProject {
            id: ProjectId::from_entropy(&random::bytes()?),
            tenant,
            name: accounts::label(&asked.name)?,
            master: asked.master,
            serial: Serial::from_bytes(random::bytes()?),
            actor: caller.party(),
            maker: caller.maker(),
        };
        let (project, serial) = self.store.create_project(new, now).await??;
        Ok(api::ProjectCreated { project: project_row(project), serial })
    }

    /// Projects of the caller's tenant; a master key sees its own.
    pub(crate) async fn projects(&self, caller: &Caller) -> Result<api::Projects, ApiError> {
        let reach = authority::reach_of_keys(caller)?;
        let rows = self.store.projects(reach.tenant).await?;
        let seen = rows.into_iter().filter(|row| reach.project.as_ref().is_none_or(|own| *own == row.id));
        Ok(api::Projects { projects: seen.map(project_row).collect() })
    }

    /// Deletes a project, and waits until the relays act by it.
    pub(crate) async fn delete_project(
        &self,
        caller: &Caller,
        id: ProjectId,
    ) -> Result<api::RevokeAnswer, ApiError> {
        let tenant = authority::may_administer(caller, "delete a project")?;
        let now = self.clock.now();
        let kept_until = now.saturating_add(self.limits.given_up.as_secs());
        let deleted = self.store.delete_project(tenant, id, caller.party(), kept_until, now).await??;
        self.confirmed(deleted).await
    }

    pub(crate) async fn note_refused_act(
        &self,
        caller: &Caller,
        act: Act,
        subject: Party,
        refusal: &Refusal,
    ) {
        let project = match caller {
            Caller::Account(_) => None,
            Caller::Key(key) => key.project.clone(),
        };
        let entry = Entry {
            at: self.clock.now(),
            tenant: Some(caller.tenant().clone()),
            actor: caller.party(),
            act,
            subject,
            project,
            detail: refusal.code.name().to_owned(),
        };
        self.note_refusal(entry).await;
    }
}

/// The key that is to mint.
pub(crate) fn minter(caller: &Caller) -> Result<&KeyRow, ApiError> {
    match caller {
        Caller::Key(key) => Ok(key),
        Caller::Account(_) => {
            let message = "keys are minted by keys: use a master key, or this device's own key";
            Err(ApiError::refused(Code::ScopeDenied, message))
        }
    }
}

/// How people name a key: its nonce, or its whole serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nonce(String);

impl Nonce {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> serde::Deserialize<'de> for Nonce {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for Nonce {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let whole = matches!(text.len(), 16 | 32) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if whole { Ok(Self(text[..16].to_ascii_lowercase())) } else { Err(Refusal::not_found("key")) }
    }
}

fn cursor(text: &str) -> Result<(u64, Serial), ApiError> {
    let parsed = text.split_once('.').and_then(|(at, serial)| Some((at.parse().ok()?, serial.parse().ok()?)));
    parsed.ok_or_else(|| ApiError::bad_request("after: this is not the next of an earlier answer"))
}

/// A relay is no token.
fn token_row(listed: &Listed, live_tunnels: u32) -> Option<api::TokenRow> {
    let row = &listed.key;
    let kind = match row.kind {
        KeyKind::Master => api::TokenKind::Master,
        KeyKind::Child => api::TokenKind::Child,
        KeyKind::User => api::TokenKind::User,
        KeyKind::Relay => return None,
    };
    let every_name = row.hosts == [NamePattern::any()];
    Some(api::TokenRow {
        nonce: row.serial.nonce(),
        kind,
        name: row.label.clone(),
        parent: row.parent.map(|parent| parent.nonce()),
        project: row.project.clone(),
        // What a master's children may do is no right of its own.
        scopes: if row.kind == KeyKind::Master { Scopes::default() } else { row.scopes },
        hosts: if every_name { Vec::new() } else { row.hosts.clone() },
        created_at: row.issued_at,
        expires_at: row.not_after,
        revoked_at: authority::revoked_at(row),
        live_tunnels,
        budget_cents: row.budget_cents,
        spent_cents: whole_cents(listed.spent),
        shared_spent_cents: listed.shared.map(whole_cents),
        made_by: listed.maker.as_ref().map(|maker| api::MadeBy {
            account: maker.account.clone(),
            device: maker.device.map(|device| device.nonce()),
        }),
    })
}

/// Rounded, so that a budget of which nothing can be leased any more shows as spent.
const fn whole_cents(micro: u64) -> u64 {
    micro.saturating_add(MICRO / 2) / MICRO
}

fn master_left(row: MasterLeft) -> api::MasterLeft {
    let MasterLeft { serial, project, name, created_at } = row;
    api::MasterLeft { nonce: serial.nonce(), project, name, created_at }
}

fn project_row(row: Project) -> api::Project {
    api::Project { id: row.id, name: row.name, created_at: row.created_at }
}
