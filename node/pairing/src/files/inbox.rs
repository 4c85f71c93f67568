//! Where received files are put. A file grows beside the inbox's sessions, under the name of its hash, and gets its own name
//! when it is whole and right: nothing half-written has that name, nothing there is replaced, and no link is followed.
//!
//! ```text
//! INBOX/SESSION/NUMBER-NAME      what was received (0600)
//! INBOX/.parts/HASH-SIZE.part    what has come of a file so far
//! INBOX/.parts/HASH-SIZE.bits    which of its pieces that are
//! ```

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{
    bitmap::Bitmap,
    tree::{self, Digest, Tree},
};

const PARTS: &str = ".parts";
const MAGIC: &[u8; 8] = b"mtpart1\n";
/// Bytes before the bits: what it is, and how long the file will be.
const HEAD: usize = 16;
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// A part that nothing was added to for so long is forgotten.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Room that is left on a disk.
const SPARE: u64 = 16 << 20;

/// Why something cannot be put there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InboxError {
    /// The folder is not this user's alone to write to.
    #[error("{} is not this user's own folder", path.display())]
    NotOwn { path: PathBuf },
    /// It is not the folder itself.
    #[error("{} is no folder, but a file or a link", path.display())]
    NoFolder { path: PathBuf },
    /// There is something of that name.
    #[error("{} is there already", path.display())]
    Exists { path: PathBuf },
    /// The same file is being received by another.
    #[error("this file is being received already")]
    Busy,
    /// The disk is too small.
    #[error("the disk has {free} bytes left, which is too little for {missing} more")]
    NoRoom { free: u64, missing: u64 },
    /// The system says no.
    #[error("cannot write in {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// An inbox that is open.
#[derive(Debug)]
pub(crate) struct Inbox {
    path: PathBuf,
    folder: OwnedFd,
}

/// A file on its way, which nobody else writes to meanwhile.
#[derive(Debug)]
pub(crate) struct Part {
    inbox: Inbox,
    parts: OwnedFd,
    name: PartName,
    size: u64,
    file: File,
    bits: File,
    have: Bitmap,
}

/// Of a file of this hash and this size: whoever offers the same hash with another size offers nothing that there is.
#[derive(Debug)]
struct PartName(String);

impl PartName {
    fn new(root: Digest, size: u64) -> Self {
        Self(format!("{root}-{size}"))
    }

    fn part(&self) -> String {
        format!("{}.part", self.0)
    }

    fn bits(&self) -> String {
        format!("{}.bits", self.0)
    }
}

impl Inbox {
    /// Opens it, and makes it where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, InboxError> {
        let failed = |source| InboxError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let folder = fs::open(path, FOLDER, Mode::empty()).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => InboxError::NoFolder { path: path.to_owned() },
            other => failed(other.into()),
        })?;
        let inbox = Self { path: path.to_owned(), folder };
        inbox.owned(&inbox.folder, path)?;
        Ok(inbox)
    }

    /// Where a file will be.
    pub(crate) fn place(&self, session: &str, name: &str) -> PathBuf {
        self.path.join(session).join(name)
    }

    /// Where this very file is already under that name, if it is.
    ///
    /// # Errors
    /// Something else is there; a link that leads nowhere is something.
    pub(crate) fn found(
        &self,
        session: &str,
        name: &str,
        root: Digest,
        size: u64,
    ) -> Result<Option<PathBuf>, InboxError> {
        let folder = self.folder(session)?;
        let place = self.place(session, name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => {
                tracing::debug!(%error, "what is in its place cannot be read");
                return Err(InboxError::Exists { path: place });
            }
        };
        let metadata = file.metadata().map_err(|error| self.failed(error))?;
        let is_it = metadata.is_file()
            && metadata.len() == size
            && tree::hashed(file, size).is_ok_and(|hashed| hashed.tree.root() == root);
        if is_it { Ok(Some(place)) } else { Err(InboxError::Exists { path: place }) }
    }

    /// What there is of a file, or the beginning of it.
    pub(crate) fn part(self, root: Digest, size: u64, now: SystemTime) -> Result<Part, InboxError> {
        let parts = self.folder(PARTS)?;
        self.forget_old(&parts, now);
        let pieces = tree::pieces(size).ok_or(Errno::FBIG).map_err(|error| self.failed(error.into()))?;
        let name = PartName::new(root, size);
        let file = self.held(&parts, &name.part())?;
        let bits = self.open_part(&parts, &name.bits())?;
        if bits.metadata().map_err(|error| self.failed(error))?.nlink() != 1 {
            return Err(InboxError::NotOwn { path: self.path.join(PARTS).join(name.bits()) });
        }
        let have = read_bits(&bits, size, pieces);
        let is_left = have.is_some() && file.metadata().is_ok_and(|metadata| metadata.len() == size);
        let have = have.filter(|_| is_left).unwrap_or_else(|| Bitmap::new(pieces));
        let part = Part { parts, name, size, file, bits, have, inbox: self };
        part.check_room()?;
        if !is_left {
            part.begin().map_err(|error| part.inbox.failed(error))?;
        }
        Ok(part)
    }

    /// A folder of this user in the inbox, itself and no link; made where there is none.
    fn folder(&self, name: &str) -> Result<OwnedFd, InboxError> {
        let failed = |error: Errno| self.failed(error.into());
        match fs::mkdirat(&self.folder, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let folder = fs::openat(&self.folder, name, FOLDER, Mode::empty()).map_err(failed)?;
        self.owned(&folder, &self.path.join(name))?;
        Ok(folder)
    }

    /// Whoever else may write there could put something else in the place of a file.
    fn owned(&self, folder: &OwnedFd, path: &Path) -> Result<(), InboxError> {
        let found = fs::fstat(folder).map_err(|error| self.failed(error.into()))?;
        let is_own = found.st_uid == rustix::process::geteuid().as_raw() && found.st_mode & 0o022 == 0;
        if is_own { Ok(()) } else { Err(InboxError::NotOwn { path: path.to_owned() }) }
    }

    /// What has come of a file, which nobody else writes to from here on.
    fn held(&self, parts: &OwnedFd, name: &str) -> Result<File, InboxError> {
        let file = self.open_part(parts, name)?;
        if self.locked(parts, name, &file)? {
            return Ok(file);
        }
        let file = self.open_part(parts, name)?;
        if self.locked(parts, name, &file)? { Ok(file) } else { Err(InboxError::Busy) }
    }

    /// Locks it; `false` where it was another name of a file that is elsewhere, and is none any more.
    fn locked(&self, parts: &OwnedFd, name: &str, file: &File) -> Result<bool, InboxError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(InboxError::Busy),
            Err(TryLockError::Error(error)) => return Err(self.failed(error)),
        }
        // Who held it until now may have given it its own name, or forgotten it, since it was opened.
        let there = match fs::statat(parts, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(Errno::NOENT) => return Err(InboxError::Busy),
            Err(error) => return Err(self.failed(error.into())),
        };
        let here = fs::fstat(file).map_err(|error| self.failed(error.into()))?;
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) {
            return Err(InboxError::Busy);
        }
        if here.st_nlink == 1 {
            return Ok(true);
        }
        // A move in two steps was cut between them: the file has its own name already.
        fs::unlinkat(parts, name, AtFlags::empty()).map_err(|error| self.failed(error.into()))?;
        Ok(false)
    }

    /// A file of ours in the folder of parts, itself and no link.
    fn open_part(&self, parts: &OwnedFd, name: &str) -> Result<File, InboxError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            File::from(fs::openat(parts, name, flags, PRIVATE).map_err(|error| self.failed(error.into()))?);
        let found = file.metadata().map_err(|error| self.failed(error))?;
        if found.is_file() && found.uid() == rustix::process::geteuid().as_raw() {
            return Ok(file);
        }
        Err(InboxError::NotOwn { path: self.path.join(PARTS).join(name) })
    }

    /// Parts that nobody has gone on with for long.
    fn forget_old(&self, parts: &OwnedFd, now: SystemTime) {
        let Ok(found) = std::fs::read_dir(self.path.join(PARTS)) else { return };
        for entry in found.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            if age.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > KEPT)) {
                // If it stays, it is looked at again next time.
                let _ = fs::unlinkat(parts, entry.file_name(), AtFlags::empty());
            }
        }
    }

    fn failed(&self, source: io::Error) -> InboxError {
        InboxError::Io { path: self.path.clone(), source }
    }
}

/// A folder itself.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Part {
    /// Which pieces are there.
    pub(crate) const fn have(&self) -> &Bitmap {
        &self.have
    }

    /// Bytes of what is there.
    pub(crate) fn received(&self) -> u64 {
        let last = tree::pieces(self.size).and_then(|pieces| pieces.checked_sub(1));
        let short = last.filter(|last| self.have.has(*last)).map(|last| tree::length(self.size, last));
        let lacks = short.map_or(0, |length| tree::PIECE - length);
        u64::from(self.have.count()) * tree::PIECE as u64 - lacks as u64
    }

    /// Puts a piece that was found right in its place.
    pub(crate) fn write(&mut self, number: u32, bytes: &[u8]) -> Result<(), InboxError> {
        let written = self.file.write_all_at(bytes, tree::offset(number));
        written.and_then(|()| self.note(number, true)).map_err(|error| self.inbox.failed(error))
    }

    /// Reads all of it, and gives its SHA-256. What is not right is forgotten: the machine may have failed between the
    /// writing of a piece and its coming to rest.
    pub(crate) fn check(&mut self, tree: &Tree) -> Result<Option<Digest>, InboxError> {
        let (mut bytes, mut sha256) = (vec![0; tree::PIECE], Sha256::new());
        let pieces = tree::pieces(self.size).unwrap_or_default();
        for number in 0..pieces {
            let bytes = &mut bytes[..tree::length(self.size, number)];
            let read = self.file.read_exact_at(bytes, tree::offset(number));
            read.map_err(|error| self.inbox.failed(error))?;
            sha256.update(&*bytes);
            if !tree.fits(number, bytes) {
                self.note(number, false).map_err(|error| self.inbox.failed(error))?;
            }
        }
        Ok((self.have.count() == pieces).then(|| Digest(sha256.finalize().into())))
    }

    /// Gives it its own name. Where there is something of that name, that stays and so does the part.
    pub(crate) fn publish(self, session: &str, name: &str) -> Result<PathBuf, InboxError> {
        let folder = self.inbox.folder(session)?;
        let place = self.inbox.place(session, name);
        let settled = self.file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
        settled.and_then(|()| self.file.sync_all()).map_err(|error| self.inbox.failed(error))?;
        match renamed(&self.parts, &self.name.part(), &folder, name) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(InboxError::Exists { path: place }),
            Err(error) => return Err(self.inbox.failed(error.into())),
        }
        // The file is there; what is left of the way there is swept up in time.
        let _ = fs::unlinkat(&self.parts, self.name.bits(), AtFlags::empty());
        let _ = fs::fsync(&folder);
        Ok(place)
    }

    /// Forgets all of it.
    pub(crate) fn discard(self) {
        for name in [self.name.part(), self.name.bits()] {
            // What stays is swept up in time.
            let _ = fs::unlinkat(&self.parts, name, AtFlags::empty());
        }
    }

    fn begin(&self) -> io::Result<()> {
        self.bits.set_len(0)?;
        self.file.set_len(0)?;
        self.file.set_len(self.size)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&self.size.to_be_bytes());
        head.extend_from_slice(self.have.as_bytes());
        self.bits.write_all_at(&head, 0)
    }

    fn note(&mut self, number: u32, is_there: bool) -> io::Result<()> {
        match self.have.set(number, is_there) {
            Some((at, byte)) => self.bits.write_all_at(&[byte], (HEAD + at) as u64),
            None => Ok(()),
        }
    }

    fn check_room(&self) -> Result<(), InboxError> {
        let found = fs::fstatvfs(&self.parts).map_err(|error| self.inbox.failed(error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let missing = self.size.saturating_sub(self.received());
        if missing.saturating_add(SPARE) > free { Err(InboxError::NoRoom { free, missing }) } else { Ok(()) }
    }
}

fn read_bits(bits: &File, size: u64, pieces: u32) -> Option<Bitmap> {
    let mut bytes = vec![0; HEAD + Bitmap::bytes(pieces)];
    let length = usize::try_from(bits.metadata().ok()?.len()).ok()?;
    if length != bytes.len() {
        return None;
    }
    bits.read_exact_at(&mut bytes, 0).ok()?;
    let (head, bits) = bytes.split_at(HEAD);
    (head[..8] == *MAGIC && head[8..] == size.to_be_bytes()).then(|| Bitmap::parse(bits, pieces))?
}

/// Moves a file where nothing is. Not every file system knows such a move; each knows a second name.
fn renamed(from: &OwnedFd, old: &str, to: &OwnedFd, new: &str) -> rustix::io::Result<()> {
    match fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::linkat(from, old, to, new, AtFlags::empty())?;
            fs::unlinkat(from, old, AtFlags::empty())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
