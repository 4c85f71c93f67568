//! Who vouches for a relay of this very machine: the authority that it made itself, whose certificate is a file here.
//!
//! The file is this user's own, found where it must be: named by a running relay of this user, or in the data directory
//! that relays have by default. Nothing that comes over the network is believed.

use std::path::{Path, PathBuf};

use mytunnel_keys::token::{AuthorityPin, ServerUrl};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;

use crate::context::Context;
use crate::places::default_data_dir;
use crate::{control, server};

/// An authority, and the file it was found in.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) pin: AuthorityPin,
    pub(crate) path: PathBuf,
}

/// The authority of this machine's relay at that address, if there is one.
pub(crate) fn authority(context: &Context, server: &ServerUrl) -> Option<Authority> {
    let host = server::host(server.authority());
    let path =
        running(context, server).into_iter().chain(kept(context)).find(|path| speaks_for(path, host))?;
    Some(Authority { pin: pin(&path)?, path })
}

/// The pin of the certificate in a file.
pub(crate) fn pin(path: &Path) -> Option<AuthorityPin> {
    let text = std::fs::read(path).ok()?;
    Some(AuthorityPin::of(&CertificateDer::from_pem_slice(&text).ok()?))
}

/// The certificate of each authority that a relay of this user has made, as far as they can be found.
pub(crate) fn all(context: &Context) -> Vec<PathBuf> {
    let kept = kept(context).into_iter().filter(|path| label(path).is_some());
    let mut all: Vec<PathBuf> =
        certificates(context, |_| true).into_iter().chain(kept).filter(|path| path.is_file()).collect();
    all.sort();
    all.dedup();
    all
}

/// Certificates of this user's running relays that listen at the server's port.
fn running(context: &Context, server: &ServerUrl) -> Vec<PathBuf> {
    let port = server.authority().strip_prefix(server::host(server.authority())).unwrap_or_default();
    let port = if port.is_empty() { ":443" } else { port };
    certificates(context, |relay| relay["https"].as_str().is_some_and(|address| address.ends_with(port)))
}

/// Certificates of those running relays of this user that are wanted.
fn certificates(context: &Context, wanted: impl Fn(&Value) -> bool) -> Vec<PathBuf> {
    let answers = context.config_dir().ok().and_then(|config| control::collect(&config.run()).ok());
    let answers = answers.unwrap_or_default();
    let relays = answers.iter().filter_map(|answer| answer["servers"].as_array()).flatten();
    relays.filter(|relay| wanted(relay)).filter_map(|relay| relay["ca"].as_str().map(PathBuf::from)).collect()
}

/// Certificates in the default data directory.
fn kept(context: &Context) -> Vec<PathBuf> {
    let entries = default_data_dir(&context.env).ok().and_then(|data| std::fs::read_dir(data).ok());
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// What an authority's certificate is for, by the name of its file: `local-ca-DOMAIN[+CONSOLE].pem`.
fn label(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("local-ca-")?.strip_suffix(".pem")
}

/// Whether a file is the certificate of an authority for this host.
fn speaks_for(path: &Path, host: &str) -> bool {
    let Some(label) = label(path) else { return false };
    let covers = |name: &str| host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    label.split('+').any(covers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_speaks_for_its_domain_and_its_console() {
        let speaks = |file: &str, host: &str| speaks_for(&Path::new("/data").join(file), host);
        assert!(speaks("local-ca-t.example.pem", "t.example"));
        assert!(speaks("local-ca-t.example.pem", "console.t.example"));
        assert!(speaks("local-ca-t.example+console.other.pem", "console.other"));
        assert!(!speaks("local-ca-t.example.pem", "nott.example"));
        assert!(!speaks("local-ca-t.example.pem", "example"));
        assert!(!speaks("local-ca-t.example.key", "t.example"));
    }

    #[test]
    fn what_is_no_certificate_has_no_pin() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local-ca-t.example.pem");
        assert_eq!(pin(&path), None);
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(pin(&path), None);
    }
}
