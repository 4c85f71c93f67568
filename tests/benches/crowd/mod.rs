//! Nodes by the thousand in this process, each with a key and a tunnel of its own, at the relay of a [`Lab`].

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every benchmark has a line")]
pub(crate) mod far;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use mytunnel_keys::api::MintAnswer;
use mytunnel_keys::id::{Cluster, TunnelName};
use mytunnel_keys::proof::{self, Request};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::MasterToken;
use mytunnel_node::{Config, Node, RelayAddress, Share, Target, TunnelSpec};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::wire::Connection;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Nodes that connect at once.
const AT_ONCE: usize = 16;

/// What a node needs.
pub(crate) struct Key {
    /// What it shares.
    name: TunnelName,
    config: Config,
}

/// A node with its one tunnel.
pub(crate) struct Member {
    pub(crate) share: Share,
    _node: Node,
}

impl Key {
    /// Where visitors ask for what it shares.
    #[allow(dead_code, reason = "not every benchmark has visitors")]
    pub(crate) fn host(&self) -> String {
        format!("{}.localhost", self.name)
    }
}

/// Mints a child for each of so many nodes, by whose number `host` tells at which host each reaches the relay instead of its own.
pub(crate) async fn keys(
    lab: &Lab,
    master: &Arc<MasterToken>,
    count: usize,
    host: impl Fn(usize) -> Option<Ipv4Addr>,
) -> Result<Vec<Key>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut minting = JoinSet::new();
    for number in 0..count {
        let (master, relay, places, http) =
            (Arc::clone(master), relay(lab, host(number))?, Arc::clone(&places), lab.http);
        minting.spawn(async move {
            let _place = places.acquire().await?;
            let seed = Seed::from_bytes(random()?);
            let body = json!({"public_key": seed.public(), "ttl": 3600}).to_string();
            let answer = call(http, &master, "POST", "/api/v1/mint", &body).await?;
            let answer: MintAnswer = serde_json::from_value(answer)?;
            let mut config = Config::new(seed, answer.certificate, cluster()?, master.root, vec![relay]);
            config.lanes = false;
            let name = format!("n{number}-{}", &answer.serial.to_string()[..8]).parse()?;
            anyhow::Ok(Key { name, config })
        });
    }
    let mut keys = Vec::with_capacity(count);
    while let Some(minted) = minting.join_next().await {
        keys.push(minted??);
    }
    Ok(keys)
}

/// Starts a node for each key, which leads its visitors to this target, and waits until all are reached.
pub(crate) async fn nodes(keys: Vec<Key>, target: &str) -> Result<Vec<Member>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut starting = JoinSet::new();
    for Key { name, config } in keys {
        let (places, target) = (Arc::clone(&places), Target::parse(target)?);
        starting.spawn(async move {
            let _place = places.acquire().await?;
            let node = Node::start(config)?;
            let mut share = node.share(TunnelSpec::new(name, "http".parse()?, target)).await?;
            share.ready().await?;
            anyhow::Ok(Member { share, _node: node })
        });
    }
    let mut members = Vec::new();
    while let Some(started) = starting.join_next().await {
        members.push(started??);
    }
    Ok(members)
}

/// One call of the API, proved by the master key.
pub(crate) async fn call(
    http: std::net::SocketAddr,
    master: &MasterToken,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Value> {
    let cluster = cluster()?;
    let request = Request { cluster: &cluster, method, path, body: body.as_bytes() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let proof = proof::sign_request(&master.seed, &master.serial, &request, now, random()?);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost:{}\r\nauthorization: {proof}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        http.port(),
        body.len(),
    );
    let (head, answer) = Connection::open(http).await?.exchange(head.as_bytes()).await?;
    ensure!(head.status < 300, "{}{}", head.text, String::from_utf8_lossy(&answer));
    Ok(serde_json::from_slice(&answer)?)
}

fn relay(lab: &Lab, host: Option<Ipv4Addr>) -> Result<RelayAddress> {
    let addresses = lab.ready["p2p"].as_array().context("addresses")?.iter().filter_map(Value::as_str);
    let at = |address: &str| {
        let mut parts: Vec<String> = address.split('/').map(str::to_owned).collect();
        if let (Some(part), Some(host)) = (parts.get_mut(2), host) {
            *part = host.to_string();
        }
        parts.join("/")
    };
    let addresses: Vec<String> = addresses.map(at).collect();
    let peer = addresses.first().and_then(|address| address.rsplit('/').next()).context("a peer id")?;
    Ok(RelayAddress::parse(peer, &addresses)?)
}

fn cluster() -> Result<Cluster> {
    Ok("localhost".parse()?)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
