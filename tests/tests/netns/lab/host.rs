//! A machine of the lab, on which programs run and sockets are opened.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};

use super::namespace::Namespace;
use crate::link::Cable;

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Host {
    pub(super) namespace: Arc<Namespace>,
    /// What connects it.
    pub(crate) cable: Cable,
}

impl Host {
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.cable.location().address()
    }

    /// Opens a socket, or does something else that is quick, in this host's namespace.
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.inside(body)
    }

    /// A UDP socket on a port of the system's choosing.
    pub(crate) fn udp(&self) -> Result<UdpSocket> {
        self.inside(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))
    }

    /// A listener on a port of the system's choosing, for tokio.
    pub(crate) fn listen(&self) -> Result<tokio::net::TcpListener> {
        let listener = self.inside(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        listener.set_nonblocking(true)?;
        Ok(tokio::net::TcpListener::from_std(listener)?)
    }

    /// Where others reach the port of a socket of this host, if nothing stands between.
    pub(crate) fn at(&self, socket: io::Result<SocketAddr>) -> Result<SocketAddr> {
        Ok((self.address(), socket?.port()).into())
    }

    /// A script that runs `program` on this host, to be started like the program itself: it becomes the program, so
    /// that id and signals are the program's own. The program ends with the thread that started it.
    ///
    /// `hosts` takes the place of `/etc/hosts`; a change of that file is a change of names.
    pub(crate) fn launcher(&self, program: &Path, hosts: Option<&Path>, directory: &Path) -> Result<PathBuf> {
        let namespace = self.namespace.path();
        let program = program.to_str().context("a path in UTF-8")?;
        let inner = match hosts {
            None => format!("'{program}' \"$@\""),
            Some(hosts) => format!(
                "unshare --mount sh -c 'mount --bind \"$0\" /etc/hosts && exec \"$@\"' '{}' '{program}' \"$@\"",
                hosts.to_str().context("a path in UTF-8")?,
            ),
        };
        let script = format!("#!/bin/sh\nexec setpriv --pdeathsig KILL nsenter --net={namespace} {inner}\n");
        let path = directory.join(format!("on-{}", self.address()));
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(path)
    }
}
