//! One network namespace. It has no name: only this process's descriptor holds it, so that two labs cannot meet, and the
//! kernel takes it away with everything in it when the process ends, however it ends.

use std::{
    fs::File,
    io::Write as _,
    os::fd::{AsRawFd as _, OwnedFd},
    panic,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Namespace {
    descriptor: OwnedFd,
}

impl Namespace {
    /// An empty one, with loopback up and IPv6 off until it is asked for.
    pub(crate) fn new() -> Result<Self> {
        let made = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("a network namespace cannot be made: run as root, or in `unshare -Urn`")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let file = made.join().unwrap_or_else(|reason| panic::resume_unwind(reason))?;
        let namespace = Self { descriptor: file.into() };
        namespace.ip("link set lo up")?;
        namespace.set("ipv6/conf/all/disable_ipv6", "1")?;
        namespace.set("ipv6/conf/default/disable_ipv6", "1")?;
        namespace.set("ipv4/conf/all/rp_filter", "0")?;
        namespace.set("ipv4/conf/default/rp_filter", "0")?;
        Ok(namespace)
    }

    /// Runs `body` in the namespace, on a thread of its own: sockets made there belong there wherever they are used.
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let running = scope.spawn(|| {
                setns(&self.descriptor, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
                body()
            });
            running.join().unwrap_or_else(|reason| panic::resume_unwind(reason))
        })
    }

    /// Runs lines of `ip -batch`.
    pub(crate) fn ip(&self, lines: &str) -> Result<()> {
        self.feed(Command::new("ip").args(["-batch", "-"]), lines)
    }

    /// Loads a ruleset.
    pub(crate) fn nft(&self, rules: &str) -> Result<()> {
        self.feed(Command::new("nft").args(["-f", "-"]), rules)
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        self.feed(command, "")
    }

    /// Sets a value below `/proc/sys/net`.
    pub(crate) fn set(&self, key: &str, value: &str) -> Result<()> {
        self.inside(|| {
            let path = Path::new("/proc/sys/net").join(key);
            std::fs::write(&path, value).with_context(|| format!("{} = {value}", path.display()))
        })
    }

    /// A path by which other programs find it, for as long as this value lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd())
    }

    fn feed(&self, command: &mut Command, input: &str) -> Result<()> {
        self.inside(|| {
            let program = command.get_program().to_string_lossy().into_owned();
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().with_context(|| {
                format!("{program} is not installed: apt-get install iproute2 nftables ethtool")
            })?;
            let mut stdin = child.stdin.take().context("standard input is piped")?;
            stdin.write_all(input.as_bytes())?;
            drop(stdin);
            let output = child.wait_with_output()?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{program}: {complaint}\n{input}");
            Ok(())
        })
    }
}
