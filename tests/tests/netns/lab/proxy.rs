//! What a company has at its border: a proxy (tinyproxy) that connects to HTTP and HTTPS, and the only way out.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::Host;

/// Where it listens.
pub(crate) const PORT: u16 = 3128;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the [module documentation](self). Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    server: Child,
    _place: TempDir,
}

impl Proxy {
    /// A proxy on `host`, which finds names in the file `hosts`.
    pub(crate) fn start(host: &Host, hosts: &Path) -> Result<Self> {
        let place = tempfile::tempdir()?;
        let config = place.path().join("config");
        std::fs::write(
            &config,
            format!(
                "Port {PORT}\nTimeout 600\nMaxClients 100\nConnectPort 80\nConnectPort 443\nLogLevel Error\n"
            ),
        )?;
        let program = Path::new("/usr/bin/tinyproxy");
        ensure!(program.exists(), "tinyproxy is not installed: apt-get install tinyproxy-bin");
        let launcher = host.launcher(program, Some(hosts), place.path())?;
        let mut command = Command::new(launcher);
        command.arg("-d").arg("-c").arg(&config);
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("tinyproxy")?;
        let (proxy, to) = (Self { server, _place: place }, SocketAddr::from((host.address(), PORT)));
        let began = Instant::now();
        while host.inside(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1))?)).is_err() {
            ensure!(began.elapsed() < PATIENCE, "tinyproxy does not listen");
            std::thread::yield_now();
        }
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
