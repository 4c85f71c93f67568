//! A file of this machine that is offered: how it is opened, so that what was looked at is what is read, and how its pieces
//! are read later, so that nothing else is sent than what was offered.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open, openat};

use super::{
    media_type, offered,
    rules::{self, looks_secret},
    tree::{self, Hashed, PIECE, Tree},
};
use crate::content::Shared;

/// How much of a file is looked at for secrets.
const LOOKED_AT: u64 = 1 << 20;

/// What may be opened.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    /// The folder within which one may share; nothing where a person has allowed this very file.
    pub(crate) within: Option<&'a Path>,
    /// Where this program keeps keys.
    pub(crate) own: &'a Path,
    /// Bytes of a file.
    pub(crate) most: u64,
}

/// An offered file.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    pub(crate) tree: Tree,
}

/// Why a file cannot be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// It is one that stays here.
    #[error("{} is not shared: {why}", path.display())]
    Denied { path: PathBuf, why: &'static str },
    /// It seems to hold a secret.
    #[error("{} looks as if it held a private key or a password", path.display())]
    Secret { path: PathBuf },
    /// It has too many bytes.
    #[error("{} has more than {most} bytes", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    /// Somebody writes to it at this moment.
    #[error("{} changed while it was read", path.display())]
    Changed { path: PathBuf },
    /// The system says no.
    #[error("cannot read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Why a piece cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PieceError {
    /// The file is not what was offered any more.
    Changed,
    /// It cannot be read, or has no such piece.
    Unreadable,
}

impl Source {
    /// Opens a file by its absolute path, if the rules allow it, and reads it once.
    pub(crate) fn open(path: &Path, rules: &Rules<'_>) -> Result<(Self, Shared), SourceError> {
        let failed = |source| SourceError::Io { path: path.to_owned(), source };
        let place = fs::canonicalize(path).map_err(failed)?;
        check(path, &place, rules)?;
        let file = File::from(opened(&place).map_err(|error| failed(error.into()))?);
        let before = file.metadata().map_err(failed)?;
        if !before.is_file() {
            return Err(SourceError::Denied { path: path.to_owned(), why: "it is no file" });
        }
        let too_large = || SourceError::TooLarge { path: path.to_owned(), most: rules.most };
        if before.len() > rules.most {
            return Err(too_large());
        }
        if rules.within.is_some() && begins_secret(&file).map_err(failed)? {
            return Err(SourceError::Secret { path: path.to_owned() });
        }
        let Hashed { tree, sha256, begin } = tree::hashed(&file, rules.most).map_err(|error| {
            if error.kind() == io::ErrorKind::FileTooLarge { too_large() } else { failed(error) }
        })?;
        let after = file.metadata().map_err(failed)?;
        let moment = |of: &fs::Metadata| (of.len(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
        if moment(&before) != moment(&after) || after.len() != tree.size() {
            return Err(SourceError::Changed { path: path.to_owned() });
        }
        let name = offered(&place);
        let media = media_type(&name, &begin).to_owned();
        let (size, blake3) = (tree.size(), tree.root());
        let shared = Shared { name, size, blake3, sha256, piece: PIECE as u32, media };
        Ok((Self { file, tree }, shared))
    }

    /// A piece, as it was offered.
    pub(crate) fn piece(&self, number: u32) -> Result<Vec<u8>, PieceError> {
        if number as usize >= self.tree.leaves().len() {
            return Err(PieceError::Unreadable);
        }
        let mut bytes = vec![0; tree::length(self.tree.size(), number)];
        match self.file.read_exact_at(&mut bytes, tree::offset(number)) {
            Ok(()) if self.tree.fits(number, &bytes) => Ok(bytes),
            Ok(()) => Err(PieceError::Changed),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(PieceError::Changed),
            Err(_) => Err(PieceError::Unreadable),
        }
    }
}

/// Whether the file at `place`, which was called `path`, may be shared.
fn check(path: &Path, place: &Path, rules: &Rules<'_>) -> Result<(), SourceError> {
    let Some(within) = rules.within else { return Ok(()) };
    let denied = |why| SourceError::Denied { path: path.to_owned(), why };
    let folder =
        fs::canonicalize(within).map_err(|source| SourceError::Io { path: within.to_owned(), source })?;
    let own = fs::canonicalize(rules.own).unwrap_or_else(|_| rules.own.to_owned());
    if place.starts_with(own) {
        return Err(denied("this program keeps its keys there"));
    }
    let is_repository = folder.join(".git").exists();
    // The name that was asked for counts as well as where that leads.
    let asked = folder.join(path.file_name().unwrap_or_default());
    let why = rules::denied(place, &folder, is_repository)
        .or_else(|| rules::denied(&asked, &folder, is_repository));
    why.map_or(Ok(()), |why| Err(denied(why)))
}

/// Opens what is at this path if none of its parts is a link: what was looked at cannot have been put elsewhere since.
fn opened(place: &Path) -> rustix::io::Result<OwnedFd> {
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | looking();
    let last = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let names: Vec<_> = place
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        })
        .collect();
    let (file, folders) = names.split_last().ok_or(rustix::io::Errno::ISDIR)?;
    let mut at = open("/", OFlags::DIRECTORY | OFlags::CLOEXEC | looking(), Mode::empty())?;
    for name in folders {
        at = openat(&at, *name, folder, Mode::empty())?;
    }
    openat(&at, *file, last, Mode::empty())
}

/// Passing through a folder asks for no right to list it, where the system knows the difference.
const fn looking() -> OFlags {
    #[cfg(target_os = "linux")]
    return OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    return OFlags::RDONLY;
}

fn begins_secret(file: &File) -> io::Result<bool> {
    let mut begin = Vec::new();
    let mut at = 0;
    // Reads without moving the place from where the file is hashed.
    while at < LOOKED_AT {
        let mut piece = vec![0; PIECE];
        let count = file.read_at(&mut piece, at)?;
        if count == 0 {
            break;
        }
        begin.extend_from_slice(&piece[..count]);
        at += count as u64;
    }
    Ok(looks_secret(&begin))
}

#[cfg(test)]
mod tests;
