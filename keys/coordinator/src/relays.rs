//! Relays: how they join, follow the feed and report; and the tunnels that they report.

mod reports;
mod tunnels;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use futures::StreamExt as _;
use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Subscribe;
use mytunnel_keys::id::{PublicKey, Serial};
use mytunnel_keys::secret::JoinSecret;
use mytunnel_keys::token::{RelayToken, Token};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub(crate) use self::tunnels::TunnelQuery;
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, Refusal};
use crate::feed::{Adoption, Ask, Attach, Attached, FeedLink};
use crate::http::ApiError;
use crate::random;
use crate::shared::{Public, Shared};
use crate::store::{KeyKind, KeyRow, NewRelay, RelayRow, StoreError};

/// Longest life of a join token, in seconds.
const MAX_JOIN_TTL: u64 = 24 * 3600;
/// Addresses of a relay, and their length together.
const MAX_ADDRS: usize = 32;
const MAX_ADDRS_LENGTH: usize = 4096;
/// Reports that may wait.
const REPORTS: usize = 1024;
/// How long the other coordinators may take to hear of a relay. One that is refused goes to the next.
const ADOPTED: Duration = Duration::from_secs(5);
/// How often a state is read that is outdated before it can be sent.
const READ: usize = 3;

impl Shared {
    /// Makes a token by which one relay can join, once.
    pub(crate) async fn join_token(
        &self,
        caller: &Caller,
        ttl: Option<u64>,
    ) -> Result<api::JoinToken, ApiError> {
        let now = self.clock.now();
        self.operator(caller, "let relays join")?;
        authority::may_add_relays(caller, now)?;
        let ttl = ttl.unwrap_or(self.limits.join_token.as_secs());
        if !(authority::MIN_TTL..=MAX_JOIN_TTL).contains(&ttl) {
            let message = format!("ttl: a join token lives {} to {MAX_JOIN_TTL} seconds", authority::MIN_TTL);
            return Err(ApiError::bad_request(message));
        }
        let secret = JoinSecret::from_bytes(random::bytes()?);
        self.store.add_join_token(secret.digest(), now + ttl, caller.party(), now).await??;
        let token = Token::Relay(RelayToken { secret, root: *self.issuer.root(), server: self.public().url });
        Ok(api::JoinToken { token: token.to_text().to_string(), expires_at: now + ttl })
    }

    /// Enrols a relay that shows a join token.
    pub(crate) async fn join(
        &self,
        join: api::RelayJoin,
        from: Option<IpAddr>,
    ) -> Result<api::RelayJoined, ApiError> {
        let token = JoinSecret::from_bytes(join.secret).digest();
        let now = self.clock.now();
        // Looked at by a reader first, so that strangers do not keep the writer busy.
        if !self.store.may_join(token, join.public_key, now).await? {
            let stranger = Party::Address(from);
            self.note_refusal(Entry {
                at: now,
                tenant: Some(self.home.clone()),
                actor: stranger.clone(),
                act: Act::JoinRefused,
                subject: stranger,
                project: None,
                detail: String::new(),
            })
            .await;
            return Err(authority::no_such_join_token().into());
        }
        self.enroll(join.public_key, Some(token), Vec::new()).await
    }

    /// Gives a relay's certificate a new life.
    pub(crate) async fn renew_relay(&self, relay: &KeyRow) -> Result<api::RelayJoined, ApiError> {
        match self.store.renew_relay(relay.serial, self.relay_life(), self.clock.now()).await? {
            Ok(row) => self.joined(&row),
            Err(refusal) => {
                self.note_refused_request(relay, &refusal).await;
                Err(refusal.into())
            }
        }
    }

    fn relay_life(&self) -> u64 {
        self.limits.relay_certificate.as_secs()
    }

    /// Enrols the relay inside this process, which needs no token.
    pub(crate) async fn enroll(
        &self,
        subject: PublicKey,
        token: Option<[u8; 32]>,
        addrs: Vec<String>,
    ) -> Result<api::RelayJoined, ApiError> {
        let serial = Serial::from_bytes(random::bytes()?);
        let new = NewRelay { serial, subject, token, addrs: checked(addrs)?, life: self.relay_life() };
        let row = self.store.enroll_relay(new, self.clock.now()).await??;
        self.joined(&row)
    }

    fn joined(&self, row: &KeyRow) -> Result<api::RelayJoined, ApiError> {
        let certificate = self.issuer.certify(row)?;
        Ok(api::RelayJoined { certificate, trust: self.issuer.trust().bytes().to_vec() })
    }

    /// Begins a relay's subscription, whose frames come through the answer.
    pub(crate) async fn follow(&self, relay: &KeyRow, asked: Subscribe) -> Result<Followed, ApiError> {
        let now = self.clock.now();
        // It may come from another coordinator that has committed since.
        self.store.look_again(&self.clock).await?;
        let head = self.store.head().borrow().feed;
        if asked.since.is_some_and(|seen| (seen.era, seen.epoch) > (head.era, head.epoch)) {
            tracing::error!(relay = %relay.subject, epoch = head.epoch,
                "a relay has seen changes that this database does not have; if it was restored from a backup, \
                 start once with a new era");
        }
        if self.followers.connected() >= self.limits.relays
            && !self.followers.standing(&relay.subject).connected
        {
            return Err(ApiError::refused(Code::RateLimited, "too many relays follow the feed"));
        }
        let addrs = (!asked.addrs.is_empty()).then(|| checked(asked.addrs)).transpose()?;
        self.store.see_relay(relay.serial, addrs, now).await?;
        let (subscription, frames) = self.attach(relay.subject, asked.nonce).await?;
        // It may have been revoked since it was asked who it is.
        let key = self.store.key(relay.serial).await?;
        if let Err(refusal) = authority::standing_relay(key, now) {
            self.expel(relay.subject).await?;
            return Err(refusal.into());
        }
        Ok(Followed { frames, subscription })
    }

    /// A new subscription, with its number. All that takes long is done before the publisher is asked: it sends to every
    /// other relay meanwhile.
    async fn attach(
        &self,
        relay: PublicKey,
        nonce: [u8; 16],
    ) -> Result<(u64, mpsc::Receiver<Bytes>), ApiError> {
        let adoption = Adoption::new(&self.followers, relay);
        let claim = adoption.claim();
        let superseded = || ApiError::Http(StatusCode::CONFLICT, "this relay has subscribed again since");
        // Before the state is read: whoever commits behind it waits for this relay, at whichever coordinator.
        if !timeout(ADOPTED, self.store.adopt(claim)).await.map_err(|_| StoreError::late())?? {
            return Err(superseded());
        }
        for _ in 0..READ {
            let state = self.store.state(self.clock.now()).await?;
            let (answer, attached) = oneshot::channel();
            let asked = Attach { claim, nonce, state, answer };
            self.feed.send(Ask::Attach(asked)).await.map_err(|_| StoreError::Closed)?;
            match attached.await.map_err(|_| StoreError::Closed)?? {
                Attached::Follows(frames) => return Ok((claim.subscription, frames)),
                Attached::Outdated => {}
                Attached::Superseded => return Err(superseded()),
            }
        }
        let message = "more changes than a new relay can follow: try again";
        Err(ApiError::Http(StatusCode::SERVICE_UNAVAILABLE, message))
    }

    /// Ends the subscription of a relay that was revoked. If the publisher is busy that goes on behind this.
    pub(crate) async fn expel(&self, relay: PublicKey) -> Result<(), StoreError> {
        let (done, expelled) = oneshot::channel();
        let feed = self.feed.clone();
        self.tasks.spawn(async move { feed.send(Ask::Expel { relay, done }).await });
        match timeout(self.limits.confirm / 4, expelled).await {
            Ok(expelled) => expelled.map_err(|_| StoreError::Closed),
            Err(_) => Ok(()),
        }
    }

    /// The same for a relay inside this process, with a channel for its reports.
    pub(crate) async fn link(
        self: &Arc<Self>,
        relay: KeyRow,
        asked: Subscribe,
    ) -> Result<FeedLink, ApiError> {
        let Followed { frames, subscription } = self.follow(&relay, asked).await?;
        let reports = self.spawn_reports(relay, subscription);
        Ok(FeedLink { frames, reports })
    }

    /// Every relay of the cluster, for its operator.
    pub(crate) async fn relays(&self, caller: &Caller) -> Result<api::Relays, ApiError> {
        self.operator(caller, "list relays")?;
        let rows = self.store.relays().await?;
        let relays = rows.into_iter().map(|row| {
            let standing = self.followers.standing(&row.id);
            api::RelayRow {
                id: row.id,
                addrs: row.addrs,
                connected: standing.connected,
                epoch: standing.epoch,
            }
        });
        Ok(api::Relays { relays: relays.collect() })
    }

    /// What a program must know before it can ask anything.
    pub(crate) async fn bootstrap(&self) -> Result<api::Bootstrap, ApiError> {
        let (rows, now) = (self.store.relays().await?, self.clock.now());
        let serves = |row: &RelayRow| row.not_after > now && self.followers.standing(&row.id).connected;
        let connected = rows.into_iter().filter(serves);
        let Public { endpoints, .. } = self.public();
        Ok(api::Bootstrap {
            cluster: self.issuer.cluster().clone(),
            trust: self.issuer.trust().bytes().to_vec(),
            relays: connected.map(|row| api::RelayAddress { peer_id: row.id, addrs: row.addrs }).collect(),
            http: endpoints.http,
            https: endpoints.https,
        })
    }

    /// Relays and what belongs to no project concern the operator's own tenant only.
    pub(crate) fn operator(&self, caller: &Caller, what: &str) -> Result<(), Refusal> {
        let tenant = authority::may_administer(caller, what)?;
        if tenant == self.home {
            Ok(())
        } else {
            Err(Refusal::new(Code::ScopeDenied, format!("only the operator can {what}")))
        }
    }
}

/// A subscription that began.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) frames: mpsc::Receiver<Bytes>,
    subscription: u64,
}

impl Followed {
    /// The frames as the body of an answer: each with its length in front, four bytes, big endian.
    pub(crate) fn into_body(self) -> axum::body::Body {
        let frames =
            futures::stream::unfold(self.frames, async |mut frames| Some((frames.recv().await?, frames)));
        axum::body::Body::from_stream(frames.map(|frame| {
            let length = u32::try_from(frame.len()).map_err(|_| StoreError::Malformed("frame"))?;
            let mut framed = Vec::with_capacity(4 + frame.len());
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(&frame);
            Ok::<_, StoreError>(Bytes::from(framed))
        }))
    }
}

/// The calling relay.
pub(crate) fn relay_key(caller: &Caller) -> Result<&KeyRow, Refusal> {
    match caller {
        Caller::Key(key) if key.kind == KeyKind::Relay => Ok(key),
        Caller::Key(_) | Caller::Account(_) => Err(Refusal::new(Code::ScopeDenied, "this is for relays")),
    }
}

/// Addresses that can be kept: bounded, and each one word.
fn checked(addrs: Vec<String>) -> Result<Vec<String>, ApiError> {
    let length: usize = addrs.iter().map(String::len).sum();
    let words =
        addrs.iter().all(|addr| addr.starts_with('/') && addr.bytes().all(|byte| byte.is_ascii_graphic()));
    if addrs.len() > MAX_ADDRS || length > MAX_ADDRS_LENGTH || !words {
        return Err(ApiError::bad_request("addrs: these are not the multiaddresses of a relay"));
    }
    Ok(addrs)
}
