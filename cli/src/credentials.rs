//! What this machine holds: sign-ins, and the secrets of keys that are bound to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use mytunnel_keys::api::Device;
use mytunnel_keys::id::Serial;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::trust::RootFingerprint;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::files::{self, FileError};
use crate::places::ConfigDir;

/// This machine as a device of an account: the key was made here and has never left.
#[derive(Debug)]
pub(crate) struct Login {
    /// Where it signed in.
    pub(crate) server: ServerUrl,
    /// The root that this server was seen to have then; another one later is another server.
    pub(crate) root: RootFingerprint,
    /// The device's secret.
    pub(crate) seed: Seed,
    /// Its certificate, and whose it is.
    pub(crate) device: Device,
}

/// Why what is stored cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is damaged", path.display())]
    Damaged { path: PathBuf },
    #[error("the secret of key {serial} is not on this machine")]
    NotOnThisMachine { serial: Serial },
}

#[derive(Serialize, Deserialize)]
struct LoginFile {
    server: String,
    root: RootFingerprint,
    seed: String,
    device: Device,
}

impl Drop for LoginFile {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl Login {
    /// The sign-in at `server`, or without one the last that was made.
    pub(crate) fn load(config: &ConfigDir, server: Option<&ServerUrl>) -> Result<Option<Self>, StoreError> {
        match server {
            Some(server) => Self::read(config, server),
            None => match current(config)? {
                Some(server) => Self::read(config, &server),
                None => Ok(None),
            },
        }
    }

    fn read(config: &ConfigDir, server: &ServerUrl) -> Result<Option<Self>, StoreError> {
        let path = config.login(server);
        let Some(content) = files::read_private(&path)? else { return Ok(None) };
        let read = || {
            let file: LoginFile = serde_json::from_slice(&content).ok()?;
            let server = file.server.parse().ok()?;
            Some(Self {
                server,
                root: file.root,
                seed: seed_from_hex(&file.seed)?,
                device: file.device.clone(),
            })
        };
        read().map(Some).ok_or(StoreError::Damaged { path })
    }

    /// Keeps the sign-in, in the place of an earlier one at the same server, and makes it the current one.
    pub(crate) fn store(&self, config: &ConfigDir) -> Result<(), StoreError> {
        let file = LoginFile {
            server: self.server.as_str().to_owned(),
            root: self.root,
            seed: seed_to_hex(&self.seed).to_string(),
            device: self.device.clone(),
        };
        let path = config.login(&self.server);
        let text = serde_json::to_vec_pretty(&file).map(Zeroizing::new);
        let text = text.map_err(|_| StoreError::Damaged { path: path.clone() })?;
        files::write_private(&path, &text)?;
        files::write_private(&config.current_login(), self.server.as_str().as_bytes())?;
        Ok(())
    }
}

fn current(config: &ConfigDir) -> Result<Option<ServerUrl>, StoreError> {
    let path = config.current_login();
    let Some(text) = files::read_private_text(&path)? else { return Ok(None) };
    text.parse::<ServerUrl>().map(Some).map_err(|_| StoreError::Damaged { path })
}

/// No child lives longer than a day; a secret of this age belongs to a key that has ended.
const SEED_LIFE: Duration = Duration::from_secs(2 * 86_400);

/// The secret of a key that is being made: on disk before the key exists, so that no key is ever without its
/// secret, and gone again if no key comes of it.
#[derive(Debug)]
pub(crate) struct PendingSeed {
    path: PathBuf,
}

impl PendingSeed {
    pub(crate) fn write(config: &ConfigDir, seed: &Seed) -> Result<Self, StoreError> {
        let path = config.seed(&format!("pending-{}", std::process::id()));
        files::write_private(&path, seed_to_hex(seed).as_bytes())?;
        Ok(Self { path })
    }

    /// The key exists, and has this serial.
    pub(crate) fn keep(self, config: &ConfigDir, serial: Serial) -> Result<(), StoreError> {
        let path = config.seed(&serial.to_string());
        std::fs::rename(&self.path, &path).map_err(|source| FileError {
            action: "write",
            path: path.clone(),
            source,
        })?;
        if let Some(directory) = path.parent() {
            sweep(directory);
        }
        Ok(())
    }
}

impl Drop for PendingSeed {
    fn drop(&mut self) {
        // After `keep` there is nothing at this path any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the secrets of keys that have ended. What cannot be removed now will be next time.
fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > SEED_LIFE));
        if old && entry.path().extension().is_some_and(|extension| extension == "seed") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The secret of a key bound to this machine.
pub(crate) fn load_seed(config: &ConfigDir, serial: Serial) -> Result<Seed, StoreError> {
    let path = config.seed(&serial.to_string());
    let text = files::read_private_text(&path)?.ok_or(StoreError::NotOnThisMachine { serial })?;
    seed_from_hex(&text).ok_or(StoreError::Damaged { path })
}

fn seed_to_hex(seed: &Seed) -> Zeroizing<String> {
    Zeroizing::new(HEXLOWER.encode(seed.expose()))
}

fn seed_from_hex(text: &str) -> Option<Seed> {
    let bytes = Zeroizing::new(HEXLOWER.decode(text.as_bytes()).ok()?);
    let bytes: [u8; 32] = bytes.as_slice().try_into().ok()?;
    Some(Seed::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn config(dir: &tempfile::TempDir) -> ConfigDir {
        let env = Environment { config_dir: Some(dir.path().to_owned()), ..Environment::default() };
        ConfigDir::resolve(&env).unwrap()
    }

    fn login(server: &str, seed: u8) -> Login {
        let seed = Seed::from_bytes([seed; 32]);
        Login {
            server: server.parse().unwrap(),
            root: RootFingerprint::of(&seed.public()),
            device: Device {
                account: "owner@example.com".to_owned(),
                tenant: "ten_a".parse().unwrap(),
                name: "laptop".to_owned(),
                serial: Serial::from_bytes([1; 16]),
                certificate: vec![1, 2, 3],
                trust: vec![4],
                cluster: "localhost".parse().unwrap(),
                expires_at: 7,
            },
            seed,
        }
    }

    #[test]
    fn a_sign_in_comes_back_and_the_last_one_is_current() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        assert!(Login::load(&config, None).unwrap().is_none());
        login("https://a.example", 1).store(&config).unwrap();
        login("https://b.example", 2).store(&config).unwrap();

        let current = Login::load(&config, None).unwrap().unwrap();
        assert_eq!(current.server.as_str(), "https://b.example");
        assert_eq!(current.seed.expose(), &[2; 32]);
        assert_eq!(current.device.certificate, [1, 2, 3]);
        let named = Login::load(&config, Some(&"https://a.example".parse().unwrap())).unwrap().unwrap();
        assert_eq!(named.seed.expose(), &[1; 32]);
    }

    #[test]
    fn signing_in_again_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        login("https://a.example", 1).store(&config).unwrap();
        login("https://a.example", 9).store(&config).unwrap();
        assert_eq!(Login::load(&config, None).unwrap().unwrap().seed.expose(), &[9; 32]);
    }

    #[test]
    fn damage_is_told_apart_from_absence() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        let serial = Serial::from_bytes([5; 16]);
        assert!(matches!(load_seed(&config, serial), Err(StoreError::NotOnThisMachine { .. })));
        PendingSeed::write(&config, &Seed::from_bytes([3; 32])).unwrap().keep(&config, serial).unwrap();
        assert_eq!(load_seed(&config, serial).unwrap().expose(), &[3; 32]);
        std::fs::write(config.seed(&serial.to_string()), "zz").unwrap();
        assert!(matches!(load_seed(&config, serial), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_secret_without_a_key_is_removed_and_so_are_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        drop(PendingSeed::write(&config, &Seed::from_bytes([3; 32])).unwrap());
        let keys = dir.path().join("keys");
        assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 0);

        let old = keys.join("old.seed");
        let three_days_ago = std::time::SystemTime::now() - Duration::from_secs(3 * 86_400);
        std::fs::File::create(&old).unwrap().set_modified(three_days_ago).unwrap();
        PendingSeed::write(&config, &Seed::from_bytes([3; 32]))
            .unwrap()
            .keep(&config, Serial::from_bytes([1; 16]))
            .unwrap();
        assert!(!old.exists());
        assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 1);
    }
}
