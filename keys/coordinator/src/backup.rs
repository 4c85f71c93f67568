//! Backups of everything that lasts, and the way back.
//!
//! A backup is one file, whichever database it was made from, so that it moves between the two: every row that lasts, the
//! coordinator's own keys, and a digest over all of it. Who has it can sign for the coordinator.
//!
//! A restore goes back in time, and with it go the revocations since then: nothing in the database knows of them. So it
//! begins a new era of the feed, which relays follow by the root's word for it and in which they take a whole state in
//! place of what they knew; and it wants to be told whether the keys of before stand.

mod error;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mytunnel_keys::id::PublicKey;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::trust::{RootFingerprint, TrustBundle};
use zeroize::Zeroizing;

pub use self::error::BackupError;
use crate::accounts::Vault;
use crate::config::{Clock, StoreConfig};
use crate::coordinator::{ACCOUNTS, Coordinator};
use crate::data_dir::{self, DataDir, Neighbour};
use crate::error::OpenError;
use crate::issuer::{FEED, ISSUER, Issuer, ROOT, Seeds};
use crate::store::backup::{self, Archive, Trusted};

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// When it was made, in Unix seconds.
    pub made_at: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Length of the audit log.
    pub audit_entries: u64,
    /// Whether the root's key is in it, without which it cannot be restored.
    pub has_root: bool,
    /// SHA-256 over rows and keys.
    pub digest: [u8; 32],
}

/// What becomes of the keys that were made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoredKeys {
    /// They stand as they stood then: for who knows that none was revoked since.
    Stand,
    /// Every key that was issued before the restore ends, also those that the backup does not know; relays join again. No
    /// password of then fits, and no identity of a provider: the backup does not know who was removed since.
    Revoked,
}

/// How to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    /// What becomes of the keys.
    pub keys: RestoredKeys,
    /// Whether a database that is there gives way. A file is put aside; what is on a server is gone.
    pub replace: bool,
    /// The relay inside the coordinator's own process, if any. It stands in any case: it has no token to join again with.
    pub relay: Option<PublicKey>,
}

/// What a restore brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The backup.
    pub backup: BackupReport,
    /// Accounts that are there again, also of people who were removed after the backup was made; owners come first.
    pub accounts: Vec<RestoredAccount>,
    /// Relays that stand again, also those that were revoked after the backup was made.
    pub relays: Vec<PublicKey>,
    /// Relays that were revoked by the restore.
    pub relays_ended: Vec<PublicKey>,
}

/// An account that is there again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoredAccount {
    /// Its address.
    pub email: String,
    /// Is it an owner's, else a member's?
    pub owner: bool,
}

impl Coordinator {
    /// Writes a backup of a database and of the keys that belong to it to a file that is not there yet. A coordinator may
    /// run on it meanwhile. Blocks.
    ///
    /// # Errors
    /// See [`BackupError`]; there is no file then.
    pub fn backup(store: &StoreConfig, file: &Path, clock: &Clock) -> Result<BackupReport, BackupError> {
        if file.exists() {
            return Err(BackupError::Exists(file.to_owned()));
        }
        let (made, report) = make(store, file, clock.now())?;
        made.become_new(file).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                BackupError::Exists(file.to_owned())
            } else {
                OpenError::io("write", file, source).into()
            }
        })?;
        Ok(report)
    }

    /// The same for whoever reads what is written.
    ///
    /// # Errors
    /// See [`BackupError`]. What was written until then is no backup.
    pub fn backup_to(
        store: &StoreConfig,
        out: &mut impl Write,
        clock: &Clock,
    ) -> Result<BackupReport, BackupError> {
        let (made, report) = make(store, &data_of(store)?.join("backup"), clock.now())?;
        let copied = File::open(made.path()).and_then(|mut file| io::copy(&mut file, out));
        copied.and_then(|_| out.flush()).map_err(BackupError::Stream)?;
        Ok(report)
    }

    /// Restores a backup into an empty place, with the keys that belong to it, and begins a new era there. No coordinator
    /// may run on it. Blocks.
    ///
    /// # Errors
    /// See [`BackupError`]; nothing was changed then, but for [`BackupError::Unfinished`].
    pub fn restore(
        file: &Path,
        store: &StoreConfig,
        how: Restore,
        clock: &Clock,
    ) -> Result<Restored, BackupError> {
        let dir = DataDir::lock(data_of(store)?)?;
        let now = clock.now();
        let archive = Archive::open(file, dir.path(), now)?;
        let contents = archive.contents();
        if now < contents.made_at {
            return Err(BackupError::Clock { made_at: contents.made_at, now });
        }
        let (secrets, missing) = Secrets::merged(&archive, &dir)?;
        let old = secrets.check(archive.trusted(), now)?;
        let no_root = || BackupError::NoRoot(dir.key_path(ROOT));
        let era = secrets.seeds()?.next_era(&old, now).ok_or_else(no_root)?;
        let (accounts, relays) = archive.standing()?;
        // Keys without a database mean that it was lost, and the same restore may be tried again.
        let written = missing.write(&dir)?;
        backup::place(store, &archive, &era, how, now).inspect_err(|error| {
            // Else the database may be in its place, where it is of no use without them.
            if !matches!(error, BackupError::Unfinished(_)) {
                written.take_back();
            }
        })?;
        let stands = |relay: &PublicKey| how.keys == RestoredKeys::Stand || how.relay == Some(*relay);
        let (relays, relays_ended) = relays.into_iter().partition(stands);
        Ok(Restored { backup: report(contents, &secrets), accounts, relays, relays_ended })
    }
}

/// A whole backup in a file beside another, which goes with the value.
fn make(store: &StoreConfig, beside: &Path, now: u64) -> Result<(Neighbour, BackupReport), BackupError> {
    let data = data_of(store)?;
    let secrets = Secrets::read(data)?;
    let place = Neighbour::of(beside)?;
    let contents =
        backup::write(store, place.path(), &secrets.0, now).map_err(|error| error.within(beside))?;
    // What cannot be restored is no backup.
    let archive = Archive::open(place.path(), data, now)?;
    secrets.check(archive.trusted(), now)?;
    Ok((place, report(contents, &secrets)))
}

fn report(contents: backup::Contents, secrets: &Secrets) -> BackupReport {
    let backup::Contents { made_at, rows, audit_entries, digest } = contents;
    BackupReport { made_at, rows, audit_entries, digest, has_root: secrets.get(ROOT).is_some() }
}

/// Where the keys of a store lie.
fn data_of(store: &StoreConfig) -> Result<&Path, BackupError> {
    store.data_dir().ok_or(BackupError::Memory)
}

type Secret = (&'static str, Zeroizing<[u8; 32]>);

/// The coordinator's own keys, by the names of their files.
struct Secrets(Vec<Secret>);

impl Secrets {
    const NAMES: [&'static str; 4] = [ROOT, ISSUER, FEED, ACCOUNTS];

    fn read(data: &Path) -> Result<Self, OpenError> {
        let key = |name| Ok(data_dir::read_key(&data_dir::key_path(data, name))?.map(|key| (name, key)));
        Self::NAMES.into_iter().filter_map(|name| key(name).transpose()).collect::<Result<_, _>>().map(Self)
    }

    /// Those of a backup and of a folder together, and those that the folder lacks.
    fn merged(archive: &Archive, dir: &DataDir) -> Result<(Self, Self), BackupError> {
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for name in Self::NAMES {
            match (archive.key(name)?, dir.read_key(name)?) {
                (Some(kept), Some(there)) if kept != there => {
                    return Err(BackupError::OtherKeys(dir.key_path(name)));
                }
                (_, Some(there)) => all.push((name, there)),
                (Some(kept), None) => {
                    missing.push((name, kept.clone()));
                    all.push((name, kept));
                }
                (None, None) => {}
            }
        }
        Ok((Self(all), Self(missing)))
    }

    fn get(&self, name: &str) -> Option<&[u8; 32]> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, key)| &**key)
    }

    fn seeds(&self) -> Result<Seeds, BackupError> {
        let seed = |name| self.get(name).map(|key| Seed::from_bytes(*key));
        let needed = |name| seed(name).ok_or(BackupError::NoKey(name));
        Ok(Seeds::of(seed(ROOT), needed(ISSUER)?, needed(FEED)?))
    }

    /// A database is of no use with other keys than its own. Answers what the root vouches for.
    fn check(&self, trusted: &Trusted, now: u64) -> Result<TrustBundle, BackupError> {
        let bundle = TrustBundle::verify(&trusted.bundle, &RootFingerprint::of(&trusted.root))
            .map_err(|_| OpenError::Trust { problem: "it does not verify" })?;
        Issuer::new(self.seeds()?, &trusted.root, &trusted.bundle, &bundle.cluster, now)?;
        if let Some(fingerprint) = &trusted.accounts {
            let key = self.get(ACCOUNTS).ok_or(BackupError::NoKey(ACCOUNTS))?;
            if Vault::fingerprint(key).as_slice() != fingerprint.as_slice() {
                return Err(BackupError::WrongKey(ACCOUNTS));
            }
        }
        Ok(bundle.into_inner())
    }

    fn write(&self, dir: &DataDir) -> Result<Written, OpenError> {
        let mut written = Written(Vec::new());
        for (name, key) in &self.0 {
            if let Err(error) = dir.write_key(name, key) {
                written.take_back();
                return Err(error);
            }
            written.0.push(dir.key_path(name));
        }
        Ok(written)
    }
}

/// Key files that were not there before.
struct Written(Vec<PathBuf>);

impl Written {
    fn take_back(&self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "a key file stays behind");
            }
        }
    }
}
