//! Why a coordinator does not start: each case names the file it is about and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::agreement;
use crate::store::StoreError;

/// A failure of [`Coordinator::open`](crate::Coordinator::open). Nothing on disk was overwritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory can neither be found nor made.
    #[error("cannot create the data directory {}", path.display())]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process holds the data directory.
    #[error("the data directory {} is in use by another process{}", path.display(), process(*.holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, if it left its number.
        holder: Option<u32>,
    },
    /// The database is damaged. It was not touched.
    #[error("the database {} is damaged: {detail}", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// The first fault found.
        detail: String,
    },
    /// The file is a database of some other program.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The database was written by a later release.
    #[error("the database {} has version {found}; this release knows versions up to {supported}", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Version of the database.
        found: u32,
        /// The last version that this release can read.
        supported: u32,
    },
    /// The database on the server is in use by some other program.
    #[error("the database {server} holds the tables of another program")]
    NotOurs {
        /// The server and the database.
        server: String,
    },
    /// Another coordinator starts on the database for too long, or is at work where nobody may be.
    #[error("another coordinator is at work on the database {server}")]
    InUse {
        /// The server and the database.
        server: String,
    },
    /// The database server cannot be reached, or lets nobody in.
    #[error("cannot open the database {server}")]
    Unreachable {
        /// The server and the database.
        server: String,
        /// What it said.
        #[source]
        source: StoreError,
    },
    /// This machine's clock and the database server's are too far from each other.
    #[error("this machine's clock is {} that of the database server {server}", agreement::told(*offset))]
    Clock {
        /// The server and the database.
        server: String,
        /// Seconds by which this machine's clock is ahead.
        offset: i64,
    },
    /// The disk or the file can only be read.
    #[error("cannot write {}: it is read-only", path.display())]
    ReadOnly {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Option<io::Error>,
    },
    /// The disk is full.
    #[error("cannot write {}: the disk is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// There are keys, but the database that belongs to them is gone or empty.
    #[error("the database {} is missing, though its keys are there", path.display())]
    DatabaseMissing {
        /// Where the database should be.
        path: PathBuf,
    },
    /// The database belongs to keys that are gone.
    #[error("the key file {} is missing", path.display())]
    KeyMissing {
        /// Where the key should be.
        path: PathBuf,
    },
    /// A key file has another content than a key, or belongs to another database.
    #[error("the key file {} {problem}", path.display())]
    KeyWrong {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Others than the owner may read a key file.
    #[error("the key file {} can be read by others (mode {mode:04o})", path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Another input or output error.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database refused something while it was being prepared.
    #[error("cannot prepare the database")]
    Store(#[from] StoreError),
    /// The stored trust bundle does not fit this cluster or these keys.
    #[error("the stored trust bundle is not usable: {problem}")]
    Trust {
        /// What does not fit.
        problem: &'static str,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl OpenError {
    /// What the person at the machine can do about it, in one line.
    pub fn help(&self) -> String {
        match self {
            Self::CreateDirectory { path, .. } | Self::ReadOnly { path, .. } => {
                format!("make {} writable for this user, or choose another place with --data", path.display())
            }
            Self::Locked { .. } => {
                "stop the other process, or choose another directory with --data".to_owned()
            }
            Self::Damaged { path, .. } | Self::Foreign { path } => {
                format!(
                    "restore {} from a backup, or move it away to look at it; nothing in it was changed",
                    path.display()
                )
            }
            Self::NotOurs { .. } => {
                "name a database of its own, such as one made with `createdb mytunnel`; nothing in it was changed"
                    .to_owned()
            }
            Self::InUse { .. } => {
                "a restore needs every coordinator of the database stopped; a start waits for another that starts: stop one that stands still"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "check that the server runs, that it lets this user in (psql with the same URL), and the password"
                    .to_owned()
            }
            Self::Clock { .. } => {
                "set both machines' clocks by a time server (`timedatectl set-ntp true`, then `timedatectl`): relays refuse what is signed at a wrong time"
                    .to_owned()
            }
            Self::Newer { .. } => "run the release that wrote it, or a later one".to_owned(),
            Self::Full { path } => format!("free some space on the disk of {}", path.display()),
            Self::DatabaseMissing { path } => format!(
                "restore {} from a backup; to start afresh (every key becomes invalid), move the *.key files beside it away",
                path.display()
            ),
            Self::KeyMissing { path } | Self::KeyWrong { path, .. } => {
                format!(
                    "restore {} from a backup, or copy the *.key files from where a coordinator of this database runs, or ran before",
                    path.display()
                )
            }
            Self::KeyExposed { path, .. } => format!("chmod 600 {}", path.display()),
            Self::Io { path, .. } => {
                format!("check that {} is there and belongs to this user", path.display())
            }
            Self::Store(_) => "see the log for the database's own words".to_owned(),
            Self::Trust { .. } => {
                "start with the domain and the keys that the database was made with: whoever takes a database over needs its *.key files too"
                    .to_owned()
            }
            Self::Random => "check the system's random number source".to_owned(),
        }
    }

    /// Names the file in an error that the store found only when it was in use.
    pub(crate) fn in_file(self, path: Option<PathBuf>) -> Self {
        match (self, path) {
            (Self::Store(StoreError::Full), Some(path)) => Self::Full { path },
            (Self::Store(StoreError::ReadOnly), Some(path)) => Self::ReadOnly { path, source: None },
            (Self::Store(StoreError::Damaged(source)), Some(path)) => {
                Self::Damaged { path, detail: source.to_string() }
            }
            (error, _) => error,
        }
    }

    /// Sorts an I/O error by what a person can do about it.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::Full { path };
        }
        if matches!(source.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) {
            return Self::ReadOnly { path, source: Some(source) };
        }
        Self::Io { action, path, source }
    }
}

fn process(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_finds_in_use_is_told_with_its_file() {
        let path = PathBuf::from("/d/x.db");
        let named = |error: StoreError| OpenError::from(error).in_file(Some(path.clone()));
        assert!(matches!(named(StoreError::Full), OpenError::Full { path: named } if named == path));
        assert!(
            matches!(named(StoreError::ReadOnly), OpenError::ReadOnly { path: named, .. } if named == path)
        );
        let damage = StoreError::Damaged(std::sync::Arc::new(io::Error::other("page 3")));
        assert_eq!(named(damage).to_string(), "the database /d/x.db is damaged: page 3");
        assert!(matches!(named(StoreError::Closed), OpenError::Store(StoreError::Closed)));
    }

    #[test]
    fn io_errors_are_sorted_by_what_can_be_done() {
        let sorted = |kind: io::ErrorKind| OpenError::io("write", Path::new("/d/x"), kind.into());
        assert!(matches!(sorted(io::ErrorKind::StorageFull), OpenError::Full { .. }));
        assert!(matches!(sorted(io::ErrorKind::ReadOnlyFilesystem), OpenError::ReadOnly { .. }));
        assert!(matches!(sorted(io::ErrorKind::PermissionDenied), OpenError::ReadOnly { .. }));
        assert!(matches!(sorted(io::ErrorKind::NotFound), OpenError::Io { action: "write", .. }));
    }
}
