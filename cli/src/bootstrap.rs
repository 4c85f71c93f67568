//! What must be known of a server before a key can be used there: its trust bundle, and where its relays are.
//!
//! The bundle is checked against the root that the key names, so a false server gets nothing and learns nothing.
//! What was learnt is kept on disk, so that a node starts while the coordinator is down.

use mytunnel_keys::api::Bootstrap;
use mytunnel_keys::error::Code;
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::trust::{RootFingerprint, Trust, TrustError};

use crate::api::{Api, As};
use crate::clock::Skew;
use crate::failure::{Failure, chain};
use crate::files;
use crate::places::ConfigDir;

/// A server whose bundle was checked.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) trust: Trust,
}

/// What is known, and how that came to be.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) known: Known,
    /// Why the server could not be asked, if it could not.
    pub(crate) outage: Option<Failure>,
    /// This machine's clock against the server's.
    pub(crate) skew: Skew,
}

/// Asks the server.
pub(crate) fn fetch(api: &Api, server: &ServerUrl, root: &RootFingerprint) -> Result<Known, Failure> {
    let bootstrap: Bootstrap = api.get(As::Anyone, "/bootstrap")?;
    let trust = Trust::open(&bootstrap.trust, root).map_err(|error| refused(server, &error))?;
    Ok(Known { bootstrap, trust })
}

/// Asks the server, and where it does not answer, the disk.
pub(crate) fn fetch_or_recall(
    config: &ConfigDir,
    server: &ServerUrl,
    root: &RootFingerprint,
) -> Result<Found, Failure> {
    let kept = recall(config, server, root);
    let api = Api::new(server);
    match (fetch(&api, server, root), kept) {
        (Ok(mut known), kept) => {
            if let Some(mut kept) = kept {
                kept.trust.update(known.trust.bytes()).map_err(|error| refused(server, &error))?;
                if known.bootstrap.relays.is_empty() {
                    // A coordinator that was just started does not know its relays yet; they are where they were.
                    known.bootstrap.relays = kept.bootstrap.relays;
                }
            }
            keep(config, server, &known.bootstrap);
            Ok(Found { known, outage: None, skew: api.skew() })
        }
        (Err(failure), Some(known)) if failure.code() == Code::CoordinatorUnreachable => {
            Ok(Found { known, outage: Some(failure), skew: Skew::UNKNOWN })
        }
        (Err(failure), _) => Err(failure),
    }
}

fn recall(config: &ConfigDir, server: &ServerUrl, root: &RootFingerprint) -> Option<Known> {
    let content = files::read_private(&config.server_cache(server)).ok()??;
    let bootstrap: Bootstrap = serde_json::from_slice(&content).ok()?;
    let trust = Trust::open(&bootstrap.trust, root).ok()?;
    Some(Known { bootstrap, trust })
}

/// A copy that cannot be kept is missed at the next outage only.
fn keep(config: &ConfigDir, server: &ServerUrl, bootstrap: &Bootstrap) {
    let written = serde_json::to_vec_pretty(bootstrap)
        .map_err(anyhow::Error::from)
        .and_then(|text| Ok(files::write_private(&config.server_cache(server), &text)?));
    if let Err(error) = written {
        tracing::warn!("where {server}'s relays are was not kept: {error:#}");
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is wrong with it, it is not to be trusted")]
fn refused(server: &ServerUrl, error: &TrustError) -> Failure {
    match error {
        TrustError::Root { .. } => Failure::new(
            Code::InvalidKey,
            format!("this key belongs to another server than {server}"),
        )
        .with_help(
            "Use it with the server that it was made for (unset MYTUNNEL_SERVER), or make a key here.",
        ),
        _ => {
            Failure::new(Code::InvalidKey, format!("{server} does not prove whom to trust: {}", chain(error)))
                .with_help("Do not use this server until its operator has explained it.")
        }
    }
}
