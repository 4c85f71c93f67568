//! The ingress in front of a plain TCP server, without libp2p and without a node: what the hot path costs by itself.
//!
//! ```text
//! cargo run --release -p mytunnel-relay --example bare_ingress -- 127.0.0.1:8080 127.0.0.1:3000 2
//! wrk -c 64 -t 1 -d 5 -H 'Host: demo.localhost' http://127.0.0.1:8080/
//! ```
//!
//! The arguments: where to listen, the server behind, the number of worker threads. CPU per request is the process's
//! CPU time (`/proc/PID/stat`) over the requests that the load generator counts.

use std::sync::Arc;

use anyhow::Context as _;
use futures::future::BoxFuture;
use mytunnel_keys::{
    id::{Cluster, ProjectId, TunnelId, TunnelKind, TunnelName},
    wire::PipeStatus,
};
use mytunnel_relay::{
    ingress::{self, IngressConfig, Limits, TrustedProxies},
    route::{Pipe, PipeError, PipeSource, Routes, Tunnel},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, origin, workers] = arguments.as_slice() else {
        anyhow::bail!("usage: bare_ingress LISTEN ORIGIN WORKERS");
    };
    let workers = workers.parse().context("WORKERS is a number")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    // On a worker: the thread that blocks on the runtime is not one.
    let serving = runtime.handle().clone();
    runtime.block_on(async move {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_on(serve(listen.clone(), origin.clone()), &serving);
        tasks.join_next().await.context("one task was spawned")??
    })
}

async fn serve(listen: String, origin: String) -> anyhow::Result<()> {
    let routes = Routes::new();
    let (cluster, project, name): (Cluster, ProjectId, TunnelName) =
        ("localhost".parse()?, "proj_bench".parse()?, "demo".parse()?);
    let id = TunnelId::derive(&cluster, &project, &name);
    routes.insert(Tunnel::new(id, name, project, TunnelKind::Http, Arc::new(Server(origin))));
    let config = IngressConfig {
        http: Some(TcpListener::bind(&listen).await?),
        https: None,
        domain: cluster.to_string(),
        console: cluster.to_string(),
        console_service: None,
        limits: Limits::default(),
        proxies: TrustedProxies::default(),
        only_https: false,
        sign_in: Arc::default(),
    };
    let stop = CancellationToken::new();
    tokio::select! {
        served = ingress::serve(config, routes, stop) => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(())
}

/// What a node says at the begin of a pipe.
const CONNECTED: &[u8] = &[PipeStatus::Connected as u8];

/// A pipe is a connection to the server, behind the byte of a node.
#[derive(Debug)]
struct Server(String);

impl PipeSource for Server {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(async move {
            let stream = TcpStream::connect(&self.0).await.map_err(PipeError::Open)?;
            stream.set_nodelay(true).map_err(PipeError::Open)?;
            let (from, to) = stream.into_split();
            Ok(Box::new(tokio::io::join(CONNECTED.chain(from), to)) as Pipe)
        })
    }
}
