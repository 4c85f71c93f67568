//! Private files: readable by their owner only, replaced whole or not at all.
//!
//! A credential written here either has its old content or its new one, also after a power cut: the text goes
//! to a neighbour file with mode 0600, is synced, renamed over the old name, and the directory is synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// No credential file comes near this; a larger one is something else under our name.
const MAX_FILE: u64 = 256 * 1024;

/// What went wrong with a file, and with which.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub(crate) struct FileError {
    pub(crate) action: &'static str,
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// Creates a directory and its parents with mode 0700; one that exists is left as it is.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

/// Replaces `path` by `content`, mode 0600. The directory is made if it is missing.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    create_private_dir(directory)?;
    let neighbour = neighbour(path);
    let written = write_new(&neighbour, content).and_then(|()| fs::rename(&neighbour, path));
    if let Err(source) = written {
        // The half-written neighbour is of no use to anybody; that it may stay behind changes nothing.
        let _ = fs::remove_file(&neighbour);
        return Err(failed("write", path)(source));
    }
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("write", path))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Replaces `path` by `content`, mode 0644, whatever the mask of this process. Nothing is followed that lies there.
pub(crate) fn write_public(path: &Path, content: &[u8]) -> io::Result<()> {
    let neighbour = neighbour(path);
    // Of a process of this number that was killed; if there was none, all the better.
    let _ = fs::remove_file(&neighbour);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&neighbour)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&neighbour, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&neighbour);
    }
    written
}

fn neighbour(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

/// The content of `path`, or nothing if there is no such file.
pub(crate) fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut content = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(failed("read", path))?;
    if content.len() as u64 > MAX_FILE {
        return Err(failed("read", path)(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is too large",
        )));
    }
    Ok(Some(content))
}

/// [`read_private`] for text, without the white space around it.
pub(crate) fn read_private_text(path: &Path) -> Result<Option<Zeroizing<String>>, FileError> {
    let Some(content) = read_private(path)? else { return Ok(None) };
    let text = std::str::from_utf8(&content).map_err(|_| {
        failed("read", path)(io::Error::new(io::ErrorKind::InvalidData, "the file is not text"))
    })?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_and_their_directories_belong_to_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/secret");
        write_private(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    #[test]
    fn replacing_tightens_the_mode_and_leaves_no_neighbour() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_public_file_is_everybodys_to_read_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("ca.crt"), dir.path().join("elsewhere"));
        fs::write(&elsewhere, "kept").unwrap();
        for link in [&path, &neighbour(&path)] {
            std::os::unix::fs::symlink(&elsewhere, link).unwrap();
        }
        write_public(&path, b"ca").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&elsewhere).unwrap()), (b"ca".into(), b"kept".into()));
        assert_eq!((mode(&path), path.is_symlink()), (0o644, false));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failed_write_names_the_file_and_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_private(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("taken"));
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_nothing_and_a_huge_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_private(&dir.path().join("none")).unwrap().is_none());
        let huge = dir.path().join("huge");
        fs::write(&huge, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        assert!(read_private(&huge).is_err());
    }

    #[test]
    fn text_is_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        fs::write(&path, " hello \n").unwrap();
        assert_eq!(read_private_text(&path).unwrap().unwrap().as_str(), "hello");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read_private_text(&path).is_err());
    }
}
