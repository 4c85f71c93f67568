//! From a place to a store: its lock, its database, and the keys that belong to it.

use std::path::Path;

use mytunnel_keys::trust::{RootFingerprint, TrustBundle};
use zeroize::Zeroizing;

use super::{ACCOUNTS, directory};
use crate::accounts::{self, Vault};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::error::OpenError;
use crate::issuer::{Issuer, Seeds};
use crate::random;
use crate::store::{self, Opened, PostgresUrl, Store, StoreError};

/// Locks the directory of the database and opens it. Blocks.
pub(super) fn on_disk(path: &Path, now: u64) -> Result<Opened, OpenError> {
    let dir = DataDir::lock(directory(path))?;
    // The database is made before the keys, so that keys without it mean that it was lost.
    if Seeds::any_in(&dir) && !store::exists(path) {
        return Err(OpenError::DatabaseMissing { path: path.to_owned() });
    }
    Opened::file(path, dir, now)
}

/// Locks the directory of the keys and opens the database on its server. Blocks.
pub(super) fn on_server(url: &PostgresUrl, data: &Path, now: u64) -> Result<Opened, OpenError> {
    let dir = DataDir::lock(data)?;
    let keys = Seeds::any_in(&dir);
    // As for a file: the database is made before the keys.
    if keys && !store::exists_on(url)? {
        return Err(OpenError::DatabaseMissing { path: url.to_string().into() });
    }
    Opened::server(url, dir, now)
}

/// The coordinator's keys, made at the first start.
pub(super) async fn issuer(opened: Opened, config: &Config, now: u64) -> Result<(Opened, Issuer), OpenError> {
    let stored = opened.trust().await?;
    let first_start = stored.is_none();
    let (opened, seeds) = blocking(move || {
        let seeds = match opened.dir() {
            None => Seeds::fresh()?,
            Some(dir) if first_start => Seeds::read_or_make(dir)?,
            Some(dir) => Seeds::read(dir)?,
        };
        Ok((opened, seeds))
    })
    .await?;
    let no_root = || OpenError::Trust { problem: "there is no root key to sign it" };
    let (root, mut bundle) = match stored {
        Some(stored) => stored,
        None => {
            let (root, bundle) =
                seeds.first_bundle(&config.cluster, opened.era(), now).ok_or_else(no_root)?;
            opened.keep_trust(root, bundle).await?
        }
    };
    if config.new_era && !first_start {
        let old = TrustBundle::verify(&bundle, &RootFingerprint::of(&root))
            .map_err(|_| OpenError::Trust { problem: "it does not verify" })?;
        let next = seeds.next_era(&old, now).ok_or_else(no_root)?;
        bundle.clone_from(&next.bundle);
        opened.begin_era(next, now).await?;
    }
    Ok((opened, Issuer::new(seeds, &root, &bundle, &config.cluster, now)?))
}

/// The key of second factors, made at the first start that knows of them. The database has its fingerprint, so that one
/// that was lost or exchanged is noticed at once, and not by people who cannot sign in.
pub(super) async fn vault(opened: Opened) -> Result<(Opened, Vault), OpenError> {
    let known = opened.accounts_key().await?;
    let made_before = known.is_some();
    let (opened, key) = blocking(move || {
        let key = match opened.dir() {
            None => fresh_key()?,
            Some(dir) => match dir.read_key(ACCOUNTS)? {
                Some(key) => key,
                None if made_before => return Err(OpenError::KeyMissing { path: dir.key_path(ACCOUNTS) }),
                None => {
                    let key = fresh_key()?;
                    dir.write_key(ACCOUNTS, &key)?;
                    key
                }
            },
        };
        Ok((opened, key))
    })
    .await?;
    let fingerprint = Vault::fingerprint(&key);
    let kept = match known {
        Some(known) => known,
        None => opened.keep_accounts_key(fingerprint).await?,
    };
    if kept != fingerprint {
        let path = opened.dir().map(|dir| dir.key_path(ACCOUNTS)).unwrap_or_default();
        return Err(OpenError::KeyWrong { path, problem: "belongs to another database" });
    }
    Ok((opened, Vault::new(&key)))
}

fn fresh_key() -> Result<Zeroizing<[u8; 32]>, OpenError> {
    random::bytes().map(Zeroizing::new).map_err(|_| OpenError::Random)
}

/// A new setup code for every start, for as long as nobody has used one; but coordinators that share a database give the
/// same, so that each lets the owner in.
pub(super) async fn renew_setup_code(store: &Store, vault: &Vault) -> Result<Option<String>, OpenError> {
    let fresh = random::bytes().map_err(|_| OpenError::Random)?;
    let code = match store.is_shared() {
        true => accounts::setup_code(&vault.setup_code(&store.keep_setup_salt(fresh).await?)),
        false => accounts::setup_code(&fresh),
    };
    let lacks_owner = store.set_setup_code(accounts::setup_code_hash(&code)).await?;
    Ok(lacks_owner.then_some(code))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| OpenError::Store(StoreError::Closed))?
}
