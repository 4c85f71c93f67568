//! Machines in different networks that share privately and reach what others share, and a relay with a public address between
//! them.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mytunnel_tests::{lab::Lab as Deployment, process::Running};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::lab::{Host, Lab, Router};

/// The relay's domain, which the machines find in their own lists of hosts.
const DOMAIN: &str = "relay.test";

/// Where the relay listens: HTTP, HTTPS, and for nodes.
const LISTEN: [&str; 3] = ["0.0.0.0:80", "0.0.0.0:443", "0.0.0.0:4001"];

/// Longer than a transfer takes on a machine with more to do than this.
pub(crate) const TRANSFER: Duration = Duration::from_secs(60);

/// A relay, and what it takes to start nodes.
#[derive(Debug)]
pub(crate) struct Between {
    pub(crate) lab: Lab,
    pub(crate) relay: Host,
    pub(crate) deployment: Deployment,
    hosts: PathBuf,
    directory: TempDir,
}

/// A share, and the server that it leads to, which sends back what it gets.
#[derive(Debug)]
pub(crate) struct Sharer {
    pub(crate) node: Running,
    /// The serial of its key.
    pub(crate) key: String,
    /// Connections that the server has.
    open: watch::Receiver<usize>,
    _server: JoinSet<()>,
}

/// A node that reaches a share.
#[derive(Debug)]
pub(crate) struct Accessor {
    pub(crate) node: Running,
    /// The serial of its key.
    pub(crate) key: String,
    bind: SocketAddr,
    since: Instant,
}

/// The path that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) reason: String,
}

impl Between {
    pub(crate) async fn start(lab: Lab) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let relay = lab.host()?;
        let own = directory.path().join("hosts-of-the-relay");
        fs::write(&own, format!("127.0.0.1 localhost {DOMAIN}\n"))?;
        let mut deployment = Deployment::empty(&relay.launcher(program(), Some(&own), directory.path())?)?;
        deployment.start_relay_with(&LISTEN, &["--domain", DOMAIN]).await?;
        let code = deployment.ready["setup_code"].as_str().context("a setup code")?.to_owned();
        deployment.own(&format!("http://{DOMAIN}"), &code).await?;
        let hosts = directory.path().join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost\n{} {DOMAIN}\n", relay.address()))?;
        Ok(Self { lab, relay, deployment, hosts, directory })
    }

    /// Shares a server of this machine under a name.
    pub(crate) async fn share(&self, machine: &Host, name: &str, more: &[&str]) -> Result<Sharer> {
        let listener = machine.listen()?;
        let port = listener.local_addr()?.port().to_string();
        let mut server = JoinSet::new();
        let (count, open) = watch::channel(0);
        server.spawn(async move {
            let mut visitors = JoinSet::new();
            while let Ok((mut visitor, _)) = listener.accept().await {
                let count = count.clone();
                count.send_modify(|count| *count += 1);
                visitors.spawn(async move {
                    let (mut read, mut write) = visitor.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                    count.send_modify(|count| *count -= 1);
                });
            }
        });
        let mut arguments = vec!["share", &port, "--private", "--name", name, "--json"];
        arguments.extend(more);
        let (mut node, key) = self.node(machine, &arguments).await?;
        node.event("ready").await?;
        Ok(Sharer { node, key, open, _server: server })
    }

    /// Reaches it from another machine.
    pub(crate) async fn access(&self, machine: &Host, name: &str, more: &[&str]) -> Result<Accessor> {
        let mut arguments = vec!["access", name, "--json"];
        arguments.extend(more);
        let (mut node, key) = self.node(machine, &arguments).await?;
        let ready = node.event("ready").await?;
        let bind = ready["bind"].as_str().context("an address")?.parse()?;
        Ok(Accessor { node, key, bind, since: Instant::now() })
    }

    /// A script that runs the program on a machine, where the relay's name is known.
    pub(crate) fn launcher(&self, machine: &Host) -> Result<PathBuf> {
        machine.launcher(program(), Some(&self.hosts), self.directory.path())
    }

    /// What `mytunnel doctor` finds on a machine, by the names of its looks.
    pub(crate) async fn doctor(&self, machine: &Host) -> Result<Vec<Value>> {
        let (mut doctor, _) = self.node(machine, &["doctor", "--json"]).await?;
        let told: Value = serde_json::from_str(&doctor.line().await?)?;
        Ok(told["checks"].as_array().context("checks")?.clone())
    }

    /// Each has a key of its own.
    async fn node(&self, machine: &Host, arguments: &[&str]) -> Result<(Running, String)> {
        let child = self.deployment.mint(&["--ttl", "1h", "--portable"]).await?;
        let token = child["token"].as_str().context("a child has a token")?;
        let launcher = self.launcher(machine)?;
        let node = self.deployment.spawn_by(&launcher, arguments, &[("MYTUNNEL_AUTH_TOKEN", token)])?;
        Ok((node, child["serial"].as_str().context("a child has a serial")?.to_owned()))
    }

    /// Revokes a key.
    pub(crate) async fn revoke(&self, key: &str) -> Result<()> {
        self.deployment.run(&["keys", "revoke", key]).await?.success().map(drop)
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))
}

impl Sharer {
    /// Waits until its server has so many connections.
    pub(crate) async fn until_open(&mut self, count: usize, within: Duration) -> Result<()> {
        let reached = timeout(within, self.open.wait_for(|open| *open == count)).await;
        reached.with_context(|| format!("not {count} connections within {within:?}"))??;
        Ok(())
    }
}

impl Accessor {
    /// The next path of this kind that it tells of. How long that took since the share was in reach.
    pub(crate) async fn path(&mut self, wanted: impl Fn(&Taken) -> bool) -> Result<(Taken, Duration)> {
        loop {
            let told = self.node.event("path").await?;
            let taken = Taken::of(&told)?;
            if wanted(&taken) {
                return Ok((taken, self.since.elapsed()));
            }
        }
    }

    pub(crate) async fn direct(&mut self) -> Result<(Taken, Duration)> {
        self.path(|taken| taken.path == "direct").await
    }

    pub(crate) async fn relayed(&mut self, why: &str) -> Result<(Taken, Duration)> {
        self.path(|taken| taken.path == "relayed" && taken.reason == why).await
    }

    /// Opens a connection to the share.
    pub(crate) fn connect(&self, machine: &Host) -> Result<Transfer> {
        let stream = machine.inside(|| Ok(TcpStream::connect(self.bind)?))?;
        stream.set_nonblocking(true)?;
        Ok(Transfer(tokio::net::TcpStream::from_std(stream)?))
    }
}

/// A connection through a share.
#[derive(Debug)]
pub(crate) struct Transfer(tokio::net::TcpStream);

impl Transfer {
    /// Sends so many bytes and expects them back, and does something when half of them has come. The last quarter is sent
    /// after that.
    /// The longest time for which nothing came.
    pub(crate) async fn run(
        self,
        bytes: usize,
        half_way: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<Duration> {
        let (mut read, mut write) = self.0.into_split();
        let sent: Arc<Vec<u8>> = Arc::new(pattern(bytes));
        let (progress, mut is_half_way) = watch::channel(false);
        let (done, mut is_done) = watch::channel(false);
        let (first, last) = sent.split_at(bytes / 4 * 3);
        let writing = async {
            write.write_all(first).await?;
            is_done.wait_for(|done| *done).await?;
            write.write_all(last).await?;
            write.shutdown().await?;
            anyhow::Ok(())
        };
        // What has come, and when the last of it did.
        let come = std::sync::Mutex::new((0, Instant::now()));
        let reading = async {
            let (mut received, mut buffer) = (Vec::<u8>::new(), vec![0; 64 << 10]);
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            loop {
                let count = read.read(&mut buffer).await?;
                longest = longest.max(last.elapsed());
                last = Instant::now();
                if count == 0 {
                    return anyhow::Ok((received, longest));
                }
                received.extend(&buffer[..count]);
                *come.lock().expect("nobody panics with it") = (received.len(), last);
                progress
                    .send_if_modified(|half| !std::mem::replace(half, received.len() > bytes / 2) && *half);
            }
        };
        let disturbing = async {
            is_half_way.wait_for(|half| *half).await?;
            half_way().await?;
            done.send(true)?;
            anyhow::Ok(())
        };
        let all = async { tokio::try_join!(writing, reading, disturbing) };
        let done = timeout(TRANSFER, all).await.with_context(|| {
            let (count, last) = *come.lock().expect("nobody panics with it");
            format!("it stands still: {count} bytes of {bytes} have come, the last {:?} ago", last.elapsed())
        });
        let ((), (received, longest), ()) = done??;
        ensure!(received == *sent, "{} bytes of {bytes} came back", received.len());
        Ok(longest)
    }

    /// The same, undisturbed.
    pub(crate) async fn whole(self, bytes: usize) -> Result<()> {
        self.run(bytes, async || Ok(())).await.map(drop)
    }
}

impl Taken {
    fn of(told: &Value) -> Result<Self> {
        let text = |field: &str| Ok::<_, anyhow::Error>(told[field].as_str().context("a text")?.to_owned());
        Ok(Self { path: text("path")?, reason: text("reason")? })
    }
}

/// Bytes that tell their place.
fn pattern(count: usize) -> Vec<u8> {
    (0..count as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A machine behind a router of its own.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) router: Router,
    pub(crate) machine: Host,
}

impl Home {
    pub(crate) fn new(lab: &Lab, nat: crate::nat::Nat) -> Result<Self> {
        let router = lab.router(nat)?;
        let machine = lab.host_behind(&router)?;
        Ok(Self { router, machine })
    }
}
