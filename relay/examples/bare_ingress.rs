//! The ingress in front of a plain TCP server, without libp2p and without a node: what the hot path costs by itself.
//!
//! ```text
//! cargo run --release -p mytunnel-relay --example bare_ingress -- 127.0.0.1:8080 127.0.0.1:3000 2
//! wrk -c 64 -t 1 -d 5 -H 'Host: demo.localhost' http://127.0.0.1:8080/
//! ```
//!
//! The arguments: where to listen, the server behind, the number of worker threads. CPU per request is the process's
//! CPU time (`/proc/PID/stat`) over the requests that the load generator counts.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Context as _;
use futures::future::BoxFuture;
use mytunnel_keys::id::{Cluster, ProjectId, TunnelId, TunnelKind, TunnelName};
use mytunnel_relay::{
    ingress::{self, IngressConfig, Limits, TrustedProxies},
    route::{Pipe, PipeError, PipeSource, Routes, Tunnel},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
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
    };
    let stop = CancellationToken::new();
    tokio::select! {
        served = ingress::serve(config, routes, stop) => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(())
}

/// A pipe is a connection to the server.
#[derive(Debug)]
struct Server(String);

impl PipeSource for Server {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(async move {
            let stream = TcpStream::connect(&self.0).await.map_err(PipeError::Open)?;
            stream.set_nodelay(true).map_err(PipeError::Open)?;
            Ok(Box::new(Connected { stream, answered: false }) as Pipe)
        })
    }
}

/// A connection that begins as a node's pipe does: with the byte for "connected".
struct Connected {
    stream: TcpStream,
    answered: bool,
}

impl AsyncRead for Connected {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.answered {
            self.answered = true;
            buf.put_slice(&[0]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
