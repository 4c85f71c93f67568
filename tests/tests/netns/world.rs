//! A deployment in a lab: a relay with a public address, a node behind a home router, a visitor somewhere else.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mytunnel_tests::{lab::Lab as Deployment, origin::Origin, process::Running, wire::Connection};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    lab::{
        Host, Lab, Router,
        proxy::{self, Proxy},
    },
    nat::{Kind, Nat},
};

/// The relay's domain; the node's machine finds it in its own list of hosts.
const DOMAIN: &str = "relay.test";

/// How long a visitor waits before trying again.
const VISIT: Duration = Duration::from_millis(500);

/// Where the relay listens: HTTP, HTTPS, and for nodes.
const LISTEN: [&str; 3] = ["0.0.0.0:80", "0.0.0.0:443", "0.0.0.0:4001"];

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) deployment: Deployment,
    pub(crate) relay: Host,
    pub(crate) home: Router,
    pub(crate) machine: Host,
    pub(crate) node: Running,
    /// The node's first `ready` line.
    pub(crate) ready: Value,
    pub(crate) lab: Lab,
    visitor: Host,
    /// And where it is.
    _proxy: Option<(Proxy, Host)>,
    _origin: Origin,
    hosts: PathBuf,
    _directory: TempDir,
}

impl World {
    /// Everything runs, and a visitor has been served.
    pub(crate) async fn start(nat: Nat) -> Result<Self> {
        Self::start_with(nat, false).await
    }

    /// The same, with a node that is told of a proxy on the internet.
    pub(crate) async fn behind_proxy(nat: Nat) -> Result<Self> {
        Self::start_with(nat, true).await
    }

    async fn start_with(nat: Nat, is_behind_proxy: bool) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let program = Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
        let lab = Lab::new()?;
        let (relay, visitor, home) = (lab.host()?, lab.host()?, lab.router(nat)?);
        let machine = lab.host_behind(&home)?;

        let own = directory.path().join("hosts-of-the-relay");
        fs::write(&own, format!("127.0.0.1 localhost {DOMAIN}\n"))?;
        let mut deployment = Deployment::empty(&relay.launcher(program, Some(&own), directory.path())?)?;
        deployment.start_relay_with(&LISTEN, &["--domain", DOMAIN]).await?;
        let code = deployment.ready["setup_code"].as_str().context("a setup code")?.to_owned();
        deployment.own(&format!("http://{DOMAIN}"), &code).await?;

        let hosts = directory.path().join("hosts");
        fs::write(&hosts, names(&relay))?;
        let origin = Origin::serve(machine.listen()?)?;
        let child = deployment.mint(&["--ttl", "1h", "--portable"]).await?;
        let token = child["token"].as_str().context("a child has a token")?;
        let border = lab.host()?;
        let proxy = if is_behind_proxy { Some(Proxy::start(&border, &hosts)?) } else { None };
        let by = format!("http://{}:{}", border.address(), proxy::PORT);
        let mut environment = vec![("MYTUNNEL_AUTH_TOKEN", token)];
        if is_behind_proxy {
            environment.extend([("HTTPS_PROXY", by.as_str()), ("HTTP_PROXY", by.as_str())]);
        }
        let mut node = deployment.spawn_by(
            &machine.launcher(program, Some(&hosts), directory.path())?,
            &["share", &origin.address.port().to_string(), "--name", "steady", "--json"],
            &environment,
        )?;
        let ready = node.event("ready").await?;
        let _directory = directory;
        let world = Self {
            deployment,
            relay,
            home,
            machine,
            node,
            ready,
            lab,
            visitor,
            _proxy: proxy.map(|proxy| (proxy, border)),
            _origin: origin,
            hosts,
            _directory,
        };
        world.served_within(Duration::from_secs(5)).await?;
        Ok(world)
    }

    /// The name leads to where the relay is now.
    pub(crate) fn follow_relay(&self) -> Result<()> {
        Ok(fs::write(&self.hosts, names(&self.relay))?)
    }

    /// Starts the relay again after it was killed.
    pub(crate) async fn start_relay(&mut self) -> Result<()> {
        self.deployment.start_relay_with(&LISTEN, &["--domain", DOMAIN]).await
    }

    /// Waits until a visitor who comes, and comes again, is served. How long that took.
    pub(crate) async fn served_within(&self, bound: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            // Whatever one try meets, the next may be served.
            let visit = tokio::time::timeout(VISIT, self.visit()).await;
            if matches!(visit, Ok(Ok(200))) {
                return Ok(began.elapsed());
            }
            ensure!(
                began.elapsed() < bound,
                "no visitor was served in {bound:?}; the last met {visit:?}; the node says: {}",
                self.node.stderr(),
            );
            tokio::task::yield_now().await;
        }
    }

    /// The same tunnel, from the same process, as at the start.
    pub(crate) async fn is_the_same(&self) -> Result<()> {
        self.signal(None)?;
        let listed = self.deployment.run(&["tunnels", "list", "--json"]).await?.success()?.json()?;
        let (tunnels, id) = (&listed["tunnels"], &self.ready["tunnel_id"]);
        let same = tunnels.as_array().is_some_and(|rows| rows.len() == 1 && rows[0]["id"] == *id);
        ensure!(same, "was {id}, is {listed}");
        Ok(())
    }

    /// Sends the node's process a signal.
    pub(crate) fn signal(&self, signal: impl Into<Option<Signal>>) -> Result<()> {
        let id = i32::try_from(self.node.id().context("the node runs")?)?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }

    /// One visit on a connection of its own.
    async fn visit(&self) -> Result<u16> {
        let to = (self.relay.address(), 80).into();
        let stream = self.visitor.inside(|| Ok(TcpStream::connect_timeout(&to, VISIT)?))?;
        stream.set_nonblocking(true)?;
        let mut connection = Connection::over(tokio::net::TcpStream::from_std(stream)?);
        let request = format!("GET /1k HTTP/1.1\r\nhost: steady.{DOMAIN}\r\n\r\n");
        Ok(connection.exchange(request.as_bytes()).await?.0.status)
    }
}

/// A home as most are.
pub(crate) fn home() -> Nat {
    Nat::new(Kind::PortRestricted)
}

fn names(relay: &Host) -> String {
    format!("127.0.0.1 localhost\n{} {DOMAIN}\n", relay.address())
}
