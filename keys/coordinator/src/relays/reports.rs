//! What relays report: what they have applied, which tunnels are up, whom they refused.

use std::sync::Arc;

use mytunnel_keys::Verified;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Report;
use mytunnel_keys::id::{PublicKey, Serial, TunnelId};
use mytunnel_keys::presence::{Presence, PresenceError, UnverifiedPresence};
use tokio::sync::mpsc;

use super::{REPORTS, relay_key};
use crate::audit::{Act, Entry, Party};
use crate::authority::Caller;
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{KeyKind, KeyRow, StoreError, Up};

/// Reports that are taken in one go.
const BATCH: usize = 256;
/// Tunnels that come up in one transaction: a revocation may be waiting behind it.
const UPS: usize = 64;

impl Shared {
    /// Takes the reports of a relay inside this process, for as long as it follows.
    pub(super) fn spawn_reports(self: &Arc<Self>, relay: KeyRow, subscription: u64) -> mpsc::Sender<Report> {
        let (reports, arriving) = mpsc::channel(REPORTS);
        let (later, waiting) = mpsc::channel(REPORTS);
        self.tasks.spawn(self.clone().confirm_first(relay.subject, subscription, arriving, later));
        self.tasks.spawn(self.clone().keep_reports(relay, subscription, waiting));
        reports
    }

    /// What a relay has applied counts at once, because somebody may be waiting for it; the rest goes on.
    async fn confirm_first(
        self: Arc<Self>,
        relay: PublicKey,
        subscription: u64,
        mut arriving: mpsc::Receiver<Report>,
        later: mpsc::Sender<Report>,
    ) {
        while let Some(Some(report)) = self.stop.run_until_cancelled(arriving.recv()).await {
            if let Report::Applied { epoch, .. } = report {
                self.applied(&relay, subscription, epoch);
            } else if later.send(report).await.is_err() {
                return;
            }
        }
    }

    async fn keep_reports(
        self: Arc<Self>,
        relay: KeyRow,
        subscription: u64,
        mut waiting: mpsc::Receiver<Report>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(1..) = self.stop.run_until_cancelled(waiting.recv_many(&mut batch, BATCH)).await {
            let taken = self.take_reports(&relay, subscription, std::mem::take(&mut batch)).await;
            if let Err(error) = taken {
                tracing::error!(%error, "a relay's reports could not be kept");
            }
        }
    }

    fn applied(&self, relay: &PublicKey, subscription: u64, epoch: u64) {
        // Nobody can have applied what has not happened yet.
        let reached = epoch.min(self.store.head().borrow().feed.epoch);
        self.followers.applied(relay, subscription, reached);
    }

    /// Takes the reports of a relay that follows the feed by HTTP.
    pub(crate) async fn report(&self, caller: &Caller, reports: Vec<Report>) -> Result<(), ApiError> {
        let relay = relay_key(caller)?;
        let following = self.followers.subscription(&relay.subject);
        let subscription =
            following.ok_or_else(|| ApiError::bad_request("follow the feed before you report"))?;
        Ok(self.take_reports(relay, subscription, reports).await?)
    }

    /// Takes what a relay did, in its order. What it has applied counts first: somebody may be waiting for it.
    async fn take_reports(
        &self,
        relay: &KeyRow,
        subscription: u64,
        reports: Vec<Report>,
    ) -> Result<(), StoreError> {
        let (mut ups, mut present) = (Vec::new(), Vec::new());
        for report in &reports {
            match report {
                Report::Applied { epoch, .. } => self.applied(&relay.subject, subscription, *epoch),
                Report::Present { presence, .. } => present.push(presence.as_slice()),
                Report::TunnelUp { .. } | Report::TunnelDown { .. } | Report::Refused { .. } => {}
            }
        }
        self.present(relay, &present).await?;
        for report in reports {
            match report {
                Report::Applied { .. } | Report::Present { .. } => {}
                Report::TunnelUp { tunnel, name, project, serial, kind, .. } => {
                    // An id of its own choice would let a relay touch the tunnels of other projects.
                    if tunnel != TunnelId::derive(self.issuer.cluster(), &project, &name) {
                        tracing::warn!(relay = %relay.subject, "a relay reported a tunnel by a false id");
                        continue;
                    }
                    ups.push(Up { tunnel, name, project, serial, kind });
                    if ups.len() == UPS {
                        self.tunnels_up(relay, subscription, std::mem::take(&mut ups)).await?;
                    }
                }
                Report::TunnelDown { tunnel, serial, .. } => {
                    // In the order in which it happened: it may be one of those that came up just now.
                    self.tunnels_up(relay, subscription, std::mem::take(&mut ups)).await?;
                    self.followers.tunnel_down(relay.subject, tunnel, serial);
                }
                Report::Refused { serial, code, .. } => self.note_refused_tunnel(relay, serial, code).await?,
            }
        }
        self.tunnels_up(relay, subscription, ups).await
    }

    /// Takes the words of nodes that they are at a relay, which it cannot make up.
    async fn present(&self, relay: &KeyRow, words: &[&[u8]]) -> Result<(), StoreError> {
        let now = self.clock.now();
        for words in words.chunks(UPS) {
            let mut present = Vec::with_capacity(words.len());
            for word in words {
                match self.is_present(relay, word, now).await? {
                    Ok(presence) => present.push(presence),
                    Err(error) => {
                        tracing::warn!(relay = %relay.subject, %error, "a relay does not show that a node is there");
                    }
                }
            }
            self.store.note_present(relay.serial, present, now).await?;
        }
        Ok(())
    }

    async fn is_present(
        &self,
        relay: &KeyRow,
        word: &[u8],
        now: u64,
    ) -> Result<Result<Verified<Presence>, PresenceError>, StoreError> {
        let word = match UnverifiedPresence::parse(word) {
            Ok(word) => word,
            Err(error) => return Ok(Err(error)),
        };
        let Some(key) = self.store.key(word.serial()).await? else { return Ok(Err(PresenceError::Other)) };
        Ok(word.verify(&key.subject, self.issuer.cluster(), &relay.subject, now))
    }

    async fn tunnels_up(&self, relay: &KeyRow, subscription: u64, ups: Vec<Up>) -> Result<(), StoreError> {
        if ups.is_empty() {
            return Ok(());
        }
        let tunnels: Vec<_> = ups.iter().map(|up| up.tunnel).collect();
        let holders = self.store.tunnels_up(ups, self.clock.now()).await?;
        let up = tunnels.into_iter().zip(holders).filter_map(|(tunnel, holder)| Some((tunnel, holder?)));
        self.followers.tunnels_up(relay.subject, subscription, up.collect());
        Ok(())
    }

    async fn note_refused_tunnel(
        &self,
        relay: &KeyRow,
        serial: Option<Serial>,
        code: Code,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        // Asked before anything is looked up: a relay under attack reports much.
        if !self.admits_refusal(&serial.unwrap_or(relay.serial), now) {
            return Ok(());
        }
        let key = match serial {
            Some(serial) => self.store.key(serial).await?,
            None => None,
        };
        let reporter = Party::Key(KeyKind::Relay, relay.serial);
        self.store
            .note(Entry {
                at: now,
                tenant: Some(key.as_ref().map_or_else(|| self.home.clone(), |key| key.tenant.clone())),
                actor: key.as_ref().map_or_else(|| reporter.clone(), |key| Party::Key(key.kind, key.serial)),
                act: Act::TunnelRefused,
                subject: reporter,
                project: key.and_then(|key| key.project),
                detail: code.name().to_owned(),
            })
            .await
    }
}
