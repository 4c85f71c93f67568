//! A whole deployment of real processes: a relay with its coordinator, a signed-in owner, a project with its master
//! key, and nodes that hold minted child keys. All on free ports, all in one temporary directory.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::ports;
use crate::process::{Ended, Running};
use crate::wire::{Connection, Head};

/// The owner's password in every lab.
pub const PASSWORD: &str = "correct horse battery staple";

/// A relay, its owner and one project.
#[derive(Debug)]
pub struct Lab {
    program: PathBuf,
    directory: TempDir,
    /// The relay's process; `None` while it is killed.
    pub relay: Option<Running>,
    /// The relay's `ready` line.
    pub ready: Value,
    /// Where visitors reach the relay.
    pub http: SocketAddr,
    /// Id of the project `demo`.
    pub project: String,
    /// Its master key.
    pub master: String,
}

impl Lab {
    /// A directory in which nothing runs yet.
    pub fn empty(program: &Path) -> Result<Self> {
        Ok(Self {
            program: program.to_owned(),
            directory: tempfile::tempdir()?,
            relay: None,
            ready: Value::Null,
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            project: String::new(),
            master: String::new(),
        })
    }

    /// Starts a relay with `program`, signs the owner in and makes the project `demo`.
    pub async fn start(program: &Path) -> Result<Self> {
        let mut lab = Self::empty(program)?;
        lab.start_relay(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]).await?;
        let code = lab.ready["setup_code"].as_str().context("the first start shows a setup code")?.to_owned();
        let server = lab.server();
        lab.own(&server, &code).await?;
        Ok(lab)
    }

    /// Signs in as the owner of a new coordinator and makes the project `demo`.
    pub async fn own(&mut self, server: &str, code: &str) -> Result<()> {
        self.run(&["login", server, "--email", "owner@example.com", "--code", code, "--json"])
            .await?
            .success()?;
        let project = self.project("demo").await?;
        self.project = project["id"].as_str().context("a project has an id")?.to_owned();
        self.master = project["master_key"].as_str().context("a project has a master key")?.to_owned();
        Ok(())
    }

    /// Where the relay listens: HTTP, HTTPS and peer to peer, as given to its flags.
    pub fn listen_addresses(&self) -> Result<[String; 3]> {
        let p2p = self.ready["p2p"][0].as_str().context("the relay tells its addresses")?;
        let mut parts = p2p.split('/').skip(1);
        let (mut host, mut port) = (None, None);
        while let Some(key) = parts.next() {
            match key {
                "ip4" => host = parts.next(),
                "tcp" | "udp" => port = parts.next(),
                _ => {}
            }
        }
        let p2p = format!("{}:{}", host.context("ip4")?, port.context("port")?);
        let of = |key: &str| self.ready[key].as_str().map(address_of).context("a bound address");
        Ok([of("http")?, of("https")?, p2p])
    }

    /// Starts the relay on its data directory, at these addresses.
    pub async fn start_relay<S: AsRef<str>>(&mut self, addresses: &[S; 3]) -> Result<()> {
        self.start_relay_with(addresses, &[]).await
    }

    /// As [`Self::start_relay`], with further flags. For port 0 it gets one that stays its own while it is down.
    pub async fn start_relay_with<S: AsRef<str>>(&mut self, addresses: &[S; 3], more: &[&str]) -> Result<()> {
        let data = self.path("data");
        let mut own = addresses.each_ref().map(|address| address.as_ref().to_owned());
        for address in &mut own {
            if let Some(host) = address.strip_suffix(":0") {
                *address = format!("{host}:{}", ports::free()?);
            }
        }
        let [http, https, p2p] = own.each_ref().map(String::as_str);
        let data = data.to_str().context("a path in UTF-8")?;
        let mut arguments =
            vec!["relay", "--json", "--data", data, "--http", http, "--https", https, "--p2p", p2p];
        arguments.extend(more);
        let mut relay = self.spawn(&arguments)?;
        self.ready = relay.event("ready").await?;
        let bound = self.ready["http"].as_str().context("the relay tells where it listens")?;
        self.http = address_of(bound).parse().with_context(|| format!("not an address: {bound}"))?;
        self.relay = Some(relay);
        Ok(())
    }

    /// Kills the relay (SIGKILL) and starts it again at the same addresses.
    pub async fn restart_relay(&mut self) -> Result<()> {
        let addresses = self.listen_addresses()?;
        self.kill_relay().await?;
        self.start_relay(&addresses).await
    }

    /// Kills the relay (SIGKILL).
    pub async fn kill_relay(&mut self) -> Result<()> {
        match self.relay.take() {
            Some(relay) => relay.kill().await,
            None => Ok(()),
        }
    }

    /// The coordinator's address, as a user types it.
    pub fn server(&self) -> String {
        format!("http://localhost:{}", self.http.port())
    }

    /// A path in the lab's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a project; the answer has its master key.
    pub async fn project(&self, name: &str) -> Result<Value> {
        self.run(&["projects", "create", name, "--json"]).await?.success()?.json()
    }

    /// Mints a child with the lab's master key; `more` are further flags.
    pub async fn mint(&self, more: &[&str]) -> Result<Value> {
        self.mint_with(&self.master, more).await
    }

    /// Mints a child with a master key.
    pub async fn mint_with(&self, master: &str, more: &[&str]) -> Result<Value> {
        let mut arguments = vec!["eval", "mint", "--json"];
        arguments.extend(more);
        self.run_with(&arguments, &[("MTK_MASTER", master)]).await?.success()?.json()
    }

    /// Runs a command to its end as the signed-in owner.
    pub async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.run_with(arguments, &[]).await
    }

    /// Runs a command to its end with variables added.
    pub async fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Ended> {
        self.spawn_with(arguments, environment)?.ended().await
    }

    /// Starts a command as the signed-in owner.
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Running> {
        self.spawn_with(arguments, &[])
    }

    /// Starts a command with variables added.
    pub fn spawn_with<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        environment: &[(&str, &str)],
    ) -> Result<Running> {
        self.spawn_by(&self.program, arguments, environment)
    }

    /// The same with another program, or the same one started in another way.
    pub fn spawn_by<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[S],
        environment: &[(&str, &str)],
    ) -> Result<Running> {
        let config = self.path("config");
        let mut all: Vec<(&str, &OsStr)> = vec![
            ("MYTUNNEL_CONFIG_DIR", config.as_os_str()),
            ("MYTUNNEL_PASSWORD", OsStr::new(PASSWORD)),
            ("HOME", self.directory.path().as_os_str()),
        ];
        all.extend(environment.iter().map(|(key, value)| (*key, OsStr::new(*value))));
        Running::start(program, arguments, &all, self.directory.path())
    }

    /// Mints a child, shares `target` under `name` with it, and waits until it is ready.
    pub async fn node(&self, target: &str, name: &str) -> Result<(Running, Value)> {
        let child = self.mint(&["--ttl", "1h"]).await?;
        let token = child["token"].as_str().context("a child has a token")?;
        self.node_with(token, target, name).await
    }

    /// Shares `target` under `name` with a token, and waits until it is ready.
    pub async fn node_with(&self, token: &str, target: &str, name: &str) -> Result<(Running, Value)> {
        let arguments = ["share", target, "--name", name, "--json"];
        let mut node = self.spawn_with(&arguments, &[("MYTUNNEL_AUTH_TOKEN", token)])?;
        let ready = node.event("ready").await?;
        Ok((node, ready))
    }

    /// What a visitor's `Host` is for a name.
    pub fn host(&self, name: &str) -> String {
        format!("{name}.localhost:{}", self.http.port())
    }

    /// The head of the answer to a GET of somebody who waits for a page.
    pub async fn get_html(&self, name: &str, path: &str) -> Result<Head> {
        self.get_from(&self.host(name), path).await
    }

    /// The same at the console's host.
    pub async fn get_at_console(&self, path: &str) -> Result<Head> {
        self.get_from(&format!("localhost:{}", self.http.port()), path).await
    }

    async fn get_from(&self, host: &str, path: &str) -> Result<Head> {
        let mut connection = Connection::open(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\n\r\n");
        Ok(connection.exchange(request.as_bytes()).await?.0)
    }

    /// One GET as a visitor, on a connection of its own.
    pub async fn get(&self, name: &str, path: &str) -> Result<(Head, Vec<u8>)> {
        let mut connection = Connection::open(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host(name));
        Ok(connection.exchange(request.as_bytes()).await?)
    }
}

/// `host:port` of an address that may be written as a URL.
fn address_of(text: &str) -> String {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    bare.replace("localhost:", "127.0.0.1:")
}
