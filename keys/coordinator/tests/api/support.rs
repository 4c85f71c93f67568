//! A coordinator to try things on, and those who call it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use mytunnel_coordinator::{
    ActError, ClientAddress, Clock, Config, Coordinator, FeedLink, OpenError, StoreConfig,
};
use mytunnel_keys::api::{Device, MintAnswer, ProjectCreated};
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::{Accepted, Change, FeedError, FeedReader, Position, Report, Subscribe};
use mytunnel_keys::id::{Cluster, ProjectId, PublicKey, Serial, TunnelId, TunnelKind, TunnelName};
use mytunnel_keys::presence;
use mytunnel_keys::proof;
use mytunnel_keys::revocation::RevocationSet;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::trust::{RootFingerprint, Trust};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

pub(crate) const START: u64 = 1_800_000_000;
pub(crate) const EMAIL: &str = "owner@example.org";
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const DAY: u64 = 24 * 3600;
/// Long enough for any machine, short enough for a person.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[path = "../support/database.rs"]
mod database;

pub(crate) use self::database::Database;

/// A coordinator with a clock that stands still until it is moved.
pub(crate) struct Lab {
    pub(crate) coordinator: Coordinator,
    pub(crate) clock: Arc<AtomicU64>,
    /// What the store lies in, if it is this lab's own.
    _place: Option<(tempfile::TempDir, Database)>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A key pair that the coordinator knows by a serial.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) seed: Seed,
    pub(crate) serial: Serial,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By<'a> {
    Nobody,
    Bearer(&'a str),
    Key(&'a Key),
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::open(StoreConfig::Memory, |_| {}).await.unwrap()
    }

    /// A store that outlives the lab: this file, or the database that stands for it.
    pub(crate) async fn at(path: &Path) -> Result<Self, OpenError> {
        Self::open(store_at(path), |_| {}).await
    }

    /// This SQLite file, whatever the other tests run on.
    pub(crate) async fn sqlite(path: &Path) -> Result<Self, OpenError> {
        Self::open(StoreConfig::Sqlite(path.to_owned()), |_| {}).await
    }

    pub(crate) async fn open(store: StoreConfig, set: impl FnOnce(&mut Config)) -> Result<Self, OpenError> {
        Self::open_at(START, store, set).await
    }

    pub(crate) async fn open_at(
        now: u64,
        store: StoreConfig,
        set: impl FnOnce(&mut Config),
    ) -> Result<Self, OpenError> {
        let own = if store == StoreConfig::Memory { Database::new() } else { None };
        let place = own.map(|database| (tempfile::tempdir().unwrap(), database));
        let store = place.as_ref().map_or(store, |(place, database)| on_server(database, place.path()));
        let clock = Arc::new(AtomicU64::new(now));
        let hands = clock.clone();
        let url = "http://localhost:8080".parse().unwrap();
        let mut config = Config::new(store, "localhost".parse().unwrap(), url);
        config.clock = Clock::from_fn(move || hands.load(Ordering::Relaxed));
        // It goes by the test's time, and the server by its own.
        config.limits.clock_offset = Duration::MAX;
        set(&mut config);
        Ok(Self { coordinator: Coordinator::open(config).await?, clock, _place: place })
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = timeout(PATIENCE, self.coordinator.handle(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = timeout(PATIENCE, to_bytes(body, 64 * 1024 * 1024)).await.unwrap().unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn call(&self, by: By<'_>, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        self.send(self.request(by, method, path, body)).await
    }

    pub(crate) fn request(&self, by: By<'_>, method: &str, path: &str, body: Vec<u8>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        match by {
            By::Nobody => {}
            By::Bearer(token) => request = request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            By::Key(key) => {
                request = request.header(header::AUTHORIZATION, key.sign(method, path, &body, self.now()));
            }
        }
        request.extension(ClientAddress([192, 0, 2, 1].into())).body(Body::from(body)).unwrap()
    }

    /// Sets the owner up and answers their access token.
    pub(crate) async fn owner(&self) -> String {
        let code = self.coordinator.setup_code().unwrap();
        let body = json!({"code": code.as_str(), "email": EMAIL, "password": PASSWORD});
        let answer = self.call(By::Nobody, "POST", "/api/v1/auth/setup", body).await;
        answer.ok()["access_token"].as_str().unwrap().to_owned()
    }

    /// Signs the owner in again.
    pub(crate) async fn owner_again(&self) -> String {
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let answer = self.call(By::Nobody, "POST", "/api/v1/auth/login", body).await;
        answer.ok()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn device(&self, token: &str) -> (Key, Device) {
        let seed = fresh_seed();
        let body = json!({"public_key": seed.public(), "name": "laptop"});
        let device: Device = self.call(By::Bearer(token), "POST", "/api/v1/devices", body).await.read();
        (Key { seed, serial: device.serial }, device)
    }

    pub(crate) async fn project(&self, by: By<'_>, name: &str) -> (ProjectId, Key) {
        let seed = fresh_seed();
        let body = json!({"name": name, "master": seed.public()});
        let made: ProjectCreated = self.call(by, "POST", "/api/v1/projects", body).await.read();
        (made.project.id, Key { seed, serial: made.serial })
    }

    /// An owner's device, a project and its master key: what most tests begin with.
    pub(crate) async fn house(&self) -> House {
        let token = self.owner().await;
        let (device, _) = self.device(&token).await;
        let (project, master) = self.project(By::Key(&device), "web").await;
        House { token, device, project, master }
    }

    pub(crate) async fn mint(&self, by: &Key, more: Value) -> (Key, MintAnswer) {
        let seed = fresh_seed();
        let answer = self.call(By::Key(by), "POST", "/api/v1/mint", mint_body(&seed.public(), more)).await;
        let minted: MintAnswer = answer.read();
        (Key { seed, serial: minted.serial }, minted)
    }

    pub(crate) async fn child(&self, by: &Key) -> Key {
        self.mint(by, Value::Null).await.0
    }

    pub(crate) async fn show(&self, by: By<'_>, key: &Key) -> Value {
        let path = format!("/api/v1/tokens/{}", key.serial.nonce());
        self.call(by, "GET", &path, Value::Null).await.ok()
    }

    pub(crate) async fn revoke(&self, by: By<'_>, key: &Key, cascade: bool) -> Answer {
        let path = format!("/api/v1/tokens/{}?cascade={cascade}", key.serial.nonce());
        self.call(by, "DELETE", &path, Value::Null).await
    }

    /// A relay inside this process, subscribed.
    pub(crate) async fn relay(&self) -> Relay {
        let seed = fresh_seed();
        self.coordinator.enroll_relay(seed.public(), vec!["/ip4/127.0.0.1/tcp/1".to_owned()]).await.unwrap();
        self.subscribe(seed.public(), None).await
    }

    /// A subscription whose frames the test reads itself.
    pub(crate) async fn frames(&self, relay: PublicKey, since: Option<Position>) -> Frames {
        let nonce = random();
        let asked = Subscribe { nonce, addrs: Vec::new(), since };
        let link = self.coordinator.subscribe(relay, asked).await.unwrap();
        Frames { nonce, link, now: self.now() }
    }

    /// What a relay is told that begins anew.
    pub(crate) async fn snapshot(&self, relay: PublicKey) -> Vec<Change> {
        let mut frames = self.frames(relay, None).await;
        let mut reader = FeedReader::new(frames.nonce, self.coordinator.trust(), None);
        loop {
            if let Accepted::Snapshot { changes, .. } = frames.next(&mut reader).await.unwrap() {
                return changes;
            }
        }
    }

    pub(crate) async fn subscribe(&self, id: PublicKey, since: Option<Position>) -> Relay {
        self.try_subscribe(id, since).await.unwrap()
    }

    pub(crate) async fn try_subscribe(
        &self,
        id: PublicKey,
        since: Option<Position>,
    ) -> Result<Relay, ActError> {
        let nonce = random();
        let asked = Subscribe { nonce, addrs: Vec::new(), since };
        let link = self.coordinator.subscribe(id, asked).await?;
        let trust = self.coordinator.trust();
        let mut relay = Relay {
            id,
            link,
            reader: FeedReader::new(nonce, trust, since),
            clock: self.clock.clone(),
            revoked: RevocationSet::default(),
            names: HashMap::new(),
            cluster: "localhost".parse().unwrap(),
        };
        relay.until(|accepted| matches!(accepted, Accepted::Snapshot { .. })).await;
        Ok(relay)
    }
}

/// The store that stands for this file: the file itself, or a database on the server of the tests.
pub(crate) fn store_at(path: &Path) -> StoreConfig {
    let file = || StoreConfig::Sqlite(path.to_owned());
    Database::of(path).map_or_else(file, |database| on_server(&database, path.parent().unwrap()))
}

pub(crate) fn on_server(database: &Database, data: &Path) -> StoreConfig {
    StoreConfig::Postgres { url: database.url().parse().unwrap(), data: data.to_owned() }
}

pub(crate) struct House {
    pub(crate) token: String,
    pub(crate) device: Key,
    pub(crate) project: ProjectId,
    pub(crate) master: Key,
}

impl Key {
    pub(crate) fn sign(&self, method: &str, path: &str, body: &[u8], now: u64) -> String {
        let cluster: Cluster = "localhost".parse().unwrap();
        let request = proof::Request { cluster: &cluster, method, path, body };
        proof::sign_request(&self.seed, &self.serial, &request, now, random())
    }

    /// Its node's word that it is at a relay.
    pub(crate) fn presence(&self, relay: &PublicKey, now: u64) -> Vec<u8> {
        presence::sign(&self.seed, &self.serial, &"localhost".parse().unwrap(), relay, now)
    }
}

impl Answer {
    /// The JSON of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        self.json()
    }

    #[track_caller]
    pub(crate) fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.ok()).unwrap()
    }

    /// The text of a success.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8(self.body.to_vec()).unwrap();
        assert!(self.status.is_success(), "{} {text}", self.status);
        text
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The message of a failure with that code, in the one form that failures have.
    #[track_caller]
    pub(crate) fn refused(&self, code: Code) -> String {
        let body = self.json();
        let error = &body["error"];
        assert_eq!(error["code"], code.api_name(), "{} {body}", self.status);
        assert!(self.status.is_client_error() || self.status.is_server_error());
        assert!(error["help"].as_str().is_some_and(|help| !help.is_empty()), "{body}");
        error["message"].as_str().unwrap().to_owned()
    }
}

/// Frames as they come.
pub(crate) struct Frames {
    pub(crate) nonce: [u8; 16],
    link: FeedLink,
    now: u64,
}

impl Frames {
    pub(crate) async fn next(&mut self, reader: &mut FeedReader) -> Result<Accepted, FeedError> {
        let frame = timeout(PATIENCE, self.link.frames.recv()).await.unwrap().unwrap();
        reader.accept(&frame, self.now)
    }
}

/// A relay that does what the feed says.
pub(crate) struct Relay {
    pub(crate) id: PublicKey,
    pub(crate) link: FeedLink,
    pub(crate) reader: FeedReader,
    clock: Arc<AtomicU64>,
    pub(crate) revoked: RevocationSet,
    pub(crate) names: HashMap<TunnelName, ProjectId>,
    cluster: Cluster,
}

impl Relay {
    /// Takes the next frame in, and says that it acts by it.
    pub(crate) async fn step(&mut self) -> Option<Accepted> {
        let frame = timeout(PATIENCE, self.link.frames.recv()).await.unwrap()?;
        let accepted = self.reader.accept(&frame, self.clock.load(Ordering::Relaxed)).unwrap();
        match &accepted {
            Accepted::Snapshot { changes, .. } => {
                self.revoked = RevocationSet::default();
                self.names.clear();
                self.take(changes);
            }
            Accepted::Delta { changes, .. } => self.take(changes),
            _ => return Some(accepted),
        }
        let epoch = self.reader.position().unwrap().epoch;
        // A coordinator that is gone no longer wants to know.
        let _ = self.link.reports.send(Report::Applied { epoch, closed: 0 }).await;
        Some(accepted)
    }

    fn take(&mut self, changes: &[Change]) {
        for change in changes {
            self.revoked.apply(change);
            match change {
                Change::Name { name, project, .. } => drop(self.names.insert(name.clone(), project.clone())),
                Change::NameFreed { name } | Change::NameKept { name, .. } => drop(self.names.remove(name)),
                _ => {}
            }
        }
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Accepted) -> bool) -> Accepted {
        loop {
            let accepted = self.step().await.expect("the feed goes on");
            if wanted(&accepted) {
                return accepted;
            }
        }
    }

    pub(crate) async fn delta(&mut self) -> Vec<Change> {
        match self.until(|accepted| matches!(accepted, Accepted::Delta { .. })).await {
            Accepted::Delta { changes, .. } => changes,
            other => panic!("{other:?}"),
        }
    }

    /// Follows until the feed closes, and answers what it knows then.
    pub(crate) async fn follow(mut self) -> Self {
        while self.step().await.is_some() {}
        self
    }

    /// Passes on that a node is here.
    pub(crate) async fn present(&self, key: &Key) {
        let presence = key.presence(&self.id, self.clock.load(Ordering::Relaxed));
        self.show(presence).await;
    }

    /// Passes on what is said to be a node's word.
    pub(crate) async fn show(&self, presence: Vec<u8>) {
        self.link.reports.send(Report::Present { presence, at: START }).await.unwrap();
    }

    /// Says that a tunnel is up, by HTTP.
    pub(crate) async fn up(&self, project: &ProjectId, name: &str, key: &Key) -> TunnelId {
        self.up_as(TunnelKind::Http, project, name, key).await
    }

    pub(crate) async fn up_as(
        &self,
        kind: TunnelKind,
        project: &ProjectId,
        name: &str,
        key: &Key,
    ) -> TunnelId {
        let name: TunnelName = name.parse().unwrap();
        let tunnel = TunnelId::derive(&self.cluster, project, &name);
        let report =
            Report::TunnelUp { tunnel, name, project: project.clone(), serial: key.serial, kind, at: START };
        self.link.reports.send(report).await.unwrap();
        tunnel
    }
}

/// What relays are told of a name that a web site has.
pub(crate) fn named(name: &str, project: &ProjectId) -> Change {
    named_as(TunnelKind::Http, name, project)
}

pub(crate) fn named_as(kind: TunnelKind, name: &str, project: &ProjectId) -> Change {
    Change::Name { name: name.parse().unwrap(), project: project.clone(), kind: Some(kind) }
}

pub(crate) fn mint_body(key: &PublicKey, more: Value) -> Value {
    let mut body = json!({"public_key": key, "ttl": 3600});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) fn fresh_seed() -> Seed {
    Seed::from_bytes(random())
}

/// Verifies a bundle as one who knows the root does.
pub(crate) fn trust(bundle: &[u8], root: &RootFingerprint) -> Trust {
    Trust::open(bundle, root).unwrap()
}

/// The nonces in a listing.
pub(crate) fn nonces(listing: &Value) -> HashSet<String> {
    let keys = listing["keys"].as_array().unwrap();
    keys.iter().map(|key| key["nonce"].as_str().unwrap().to_owned()).collect()
}

/// Waits until `check` says so, letting everybody else work in between.
pub(crate) async fn eventually<T>(mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes to pass")
}
