//! What a home router has beside its NAT: a server of PCP and NAT-PMP, or of UPnP (miniupnpd), which leads ports to hosts that ask for them.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{namespace::Namespace, segment::Subnet};

/// Where it writes what it leads.
const RULES: &str = "
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
  chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept; jump postrouting_miniupnpd; }
}
";

/// What a router is asked by.
/// Where there is no syslog, its words go to the console, too: where that is a serial line, each stops a core until it is out.
const QUIETLY: &str = r#"[ ! -e /dev/console ] || mount --bind /dev/null /dev/console; exec miniupnpd "$@""#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// PCP and NAT-PMP.
    Packets,
    Upnp,
}

/// See the [module documentation](self). Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapper {
    namespace: Arc<Namespace>,
    server: Child,
    _place: TempDir,
}

impl Mapper {
    pub(super) fn start(
        namespace: Arc<Namespace>,
        lan: Subnet,
        speaks: Speaks,
        allows: bool,
    ) -> Result<Self> {
        namespace.nft(RULES)?;
        let place = tempfile::tempdir()?;
        let (config, pid) = (place.path().join("config"), place.path().join("pid"));
        let who =
            if allows { format!("allow 1024-65535 {} 1024-65535\n", lan.network()) } else { String::new() };
        let (natpmp, upnp, ready) = match speaks {
            Speaks::Packets => ("yes", "no", "Listening for NAT-PMP/PCP"),
            Speaks::Upnp => ("no", "yes", "HTTP listening on port"),
        };
        std::fs::write(
            &config,
            format!(
                "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp={natpmp}\nenable_upnp={upnp}\nsecure_mode=yes\n\
                 uuid=00000000-0000-0000-0000-000000000001\n{who}deny 0-65535 0.0.0.0/0 0-65535\n"
            ),
        )?;
        let mut server = namespace.inside(|| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", QUIETLY, "sh"]);
            command.arg("-d").arg("-f").arg(&config).arg("-P").arg(&pid);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().context("miniupnpd is not installed: apt-get install miniupnpd-nftables")
        })?;
        let mut lines = BufReader::new(server.stderr.take().context("standard error is piped")?).lines();
        let mut said = String::new();
        loop {
            let Some(line) = lines.next().transpose()? else { bail!("miniupnpd has ended: {said}") };
            said.push_str(&line);
            if line.contains(ready) {
                break;
            }
        }
        // It would wait for whoever reads.
        thread::spawn(move || lines.for_each(drop));
        Ok(Self { namespace, server, _place: place })
    }

    /// How many ports it leads to hosts.
    pub(crate) fn count(&self) -> Result<usize> {
        self.namespace.inside(|| {
            let listed = ["list", "chain", "inet", "filter", "prerouting_miniupnpd"];
            let output = Command::new("nft").args(listed).output()?;
            Ok(String::from_utf8(output.stdout)?.lines().filter(|line| line.contains(" dnat ")).count())
        })
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
