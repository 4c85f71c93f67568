//! The data directory: one process at a time, private to its owner, keys in files of their own.
//!
//! The directory is made with mode 0700 and every file in it with 0600. A key file is written whole or not
//! at all. The lock is the system's (`flock`), so that a killed process leaves none behind.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::OpenError;
use crate::random;

const LOCK_FILE: &str = "coordinator.lock";

/// A locked data directory. The lock lasts as long as this value.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing and takes its lock.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it; else what the file system said.
    pub(crate) fn lock(path: &Path) -> Result<Self, OpenError> {
        create(path)?;
        let file = path.join(LOCK_FILE);
        let mut lock = private(OpenOptions::new().read(true).write(true).create(true))
            .open(&file)
            .map_err(|source| OpenError::io("open", &file, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::io("lock", &file, source)),
        }
        leave_name(&mut lock).map_err(|source| OpenError::io("write", &file, source))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the key file of that name.
    pub(crate) fn key_path(&self, name: &str) -> PathBuf {
        key_path(&self.path, name)
    }

    /// Reads a key, if its file is there.
    ///
    /// # Errors
    /// A file that others may read, or that holds no key, is refused.
    pub(crate) fn read_key(&self, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, OpenError> {
        read_key(&self.key_path(name))
    }

    /// Writes a key that is not there yet, and makes it durable.
    ///
    /// # Errors
    /// What the file system said; an existing file is left alone and reported.
    pub(crate) fn write_key(&self, name: &str, key: &[u8; 32]) -> Result<(), OpenError> {
        let path = self.key_path(name);
        let failed = |source| OpenError::io("write", &path, source);
        let neighbour = self.path.join(format!(".{name}.key.new"));
        let mut text = Zeroizing::new(String::with_capacity(65));
        for byte in key {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        text.push('\n');
        write_synced(&neighbour, text.as_bytes()).map_err(failed)?;
        // A link, unlike a rename, never replaces a file that is there.
        let linked = fs::hard_link(&neighbour, &path);
        fs::remove_file(&neighbour).map_err(failed)?;
        linked.map_err(failed)?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

/// A private file beside another, gone with this value unless it has become the other.
#[derive(Debug)]
pub(crate) struct Neighbour(PathBuf);

impl Neighbour {
    /// An empty file, in the folder of another.
    pub(crate) fn of(other: &Path) -> Result<Self, OpenError> {
        let name = other.file_name().unwrap_or_default().to_string_lossy();
        let suffix = u64::from_be_bytes(random::bytes().map_err(|_| OpenError::Random)?);
        let path = other.with_file_name(format!(".{name}.{suffix:016x}"));
        // The folder may be open to others: what they put there must not be taken for this file.
        private(OpenOptions::new().write(true).create_new(true)).open(&path).map_err(|source| {
            // Its own name says nothing to anybody.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            OpenError::io("create a file in", folder.unwrap_or(Path::new(".")), source)
        })?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes the place of the other, for good: what is written must have reached the disk before.
    pub(crate) fn become_file(self, other: &Path) -> Result<(), OpenError> {
        fs::rename(&self.0, other)
            .and_then(|()| sync_folder(other))
            .map_err(|source| OpenError::io("write", other, source))
    }

    /// Becomes the other, which is not there yet; one that has appeared meanwhile is left alone, and the error says so.
    pub(crate) fn become_new(self, other: &Path) -> io::Result<()> {
        match fs::hard_link(&self.0, other) {
            // A file system without links, such as that of a memory stick.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
                    && !other.exists() =>
            {
                fs::rename(&self.0, other)?;
            }
            linked => linked?,
        }
        sync_folder(other)
    }
}

/// Makes durable what names the folder of a file has.
pub(crate) fn sync_folder(of: &Path) -> io::Result<()> {
    let folder = of.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            // It has become the other.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %self.0.display(), "a file stays behind"),
        }
    }
}

/// The path of a key file in a directory.
pub(crate) fn key_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.key"))
}

/// Reads a key file, if it is there.
pub(crate) fn read_key(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, OpenError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::io("read", path, source)),
    };
    let mode = file.metadata().map_err(|source| OpenError::io("read", path, source))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(OpenError::KeyExposed { path: path.to_owned(), mode: mode & 0o7777 });
    }
    let mut text = Zeroizing::new(String::with_capacity(128));
    // A key is 65 bytes; anything longer is refused without being read.
    let read = (&file).take(128).read_to_string(&mut text);
    let key = read.ok().and_then(|_| decode(text.trim_end()));
    key.map(Some).ok_or(OpenError::KeyWrong {
        path: path.to_owned(),
        problem: "does not hold a key (64 hex characters)",
    })
}

/// Makes an empty file that only its owner can read, unless it is there. What SQLite later puts beside it
/// (the log, the index of the log) takes its permissions.
pub(crate) fn create_private(path: &Path) -> Result<(), OpenError> {
    private(OpenOptions::new().write(true).create(true).truncate(false))
        .open(path)
        .map(drop)
        .map_err(|source| OpenError::io("create", path, source))
}

fn create(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OpenError::CreateDirectory { path: path.to_owned(), source })
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Writes the number of this process into the lock, for the message of the next one.
fn leave_name(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn decode(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_directory_and_its_files_are_private() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let dir = DataDir::lock(&path).unwrap();
        dir.write_key("root", &[7; 32]).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&dir.key_path("root")), 0o600);
        assert_eq!(mode(&path.join(LOCK_FILE)), 0o600);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "no neighbour stays behind");
    }

    #[test]
    fn a_key_is_read_back_and_never_replaced() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::lock(place.path()).unwrap();
        assert!(dir.read_key("feed").unwrap().is_none());
        let key: [u8; 32] = std::array::from_fn(|index| (index * 9) as u8);
        dir.write_key("feed", &key).unwrap();
        assert_eq!(*dir.read_key("feed").unwrap().unwrap(), key);
        assert!(dir.write_key("feed", &[1; 32]).is_err());
        assert_eq!(*dir.read_key("feed").unwrap().unwrap(), key);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::lock(place.path()).unwrap();
        dir.write_key("issuer", &[1; 32]).unwrap();
        fs::set_permissions(dir.key_path("issuer"), PermissionsExt::from_mode(0o640)).unwrap();
        let error = dir.read_key("issuer").unwrap_err();
        assert!(matches!(error, OpenError::KeyExposed { mode: 0o640, .. }), "{error}");
        assert!(error.help().starts_with("chmod 600 "));
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::lock(place.path()).unwrap();
        let hex = "a".repeat(64);
        for bad in ["", "abc", &hex[1..], &format!("{hex}0"), &hex.replace('a', "g"), &"a".repeat(500)] {
            write_synced(&dir.key_path("root"), bad.as_bytes()).unwrap();
            assert!(matches!(dir.read_key("root"), Err(OpenError::KeyWrong { .. })), "{bad:?}");
        }
        write_synced(&dir.key_path("root"), format!("{hex}\n").as_bytes()).unwrap();
        assert_eq!(*dir.read_key("root").unwrap().unwrap(), [0xaa; 32]);
    }

    #[test]
    fn a_second_holder_is_told_who_has_it_and_gets_it_afterwards() {
        let place = tempfile::tempdir().unwrap();
        let first = DataDir::lock(place.path()).unwrap();
        let error = DataDir::lock(place.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(first);
        DataDir::lock(place.path()).unwrap();
    }

    #[test]
    fn a_neighbour_is_always_a_new_file_and_replaces_none_that_has_appeared() {
        let place = tempfile::tempdir().unwrap();
        let other = place.path().join("today.backup");
        let trap = place.path().join(format!(".today.backup.{}", std::process::id()));
        fs::write(&trap, "somebody else's").unwrap();
        let (one, two) = (Neighbour::of(&other).unwrap(), Neighbour::of(&other).unwrap());
        assert_eq!(fs::read(&trap).unwrap(), b"somebody else's", "nobody knows the name beforehand");
        assert_ne!(one.path(), two.path(), "two at a time do not meet");
        assert_eq!((mode(one.path()), mode(two.path())), (0o600, 0o600));
        fs::write(one.path(), "first").unwrap();
        one.become_new(&other).unwrap();
        let late = two.become_new(&other).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&other).unwrap(), b"first");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "neither stays behind");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_and_no_file_that_was_to_be_in_it() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("missing");
        let error = Neighbour::of(&missing.join("today.backup")).unwrap_err().to_string();
        assert!(error.contains(&format!("create a file in {}", missing.display())), "{error}");
        assert!(!error.contains("today"), "{error}");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = DataDir::lock(&path).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
