//! Why there is no backup, or none was restored: each case names what it is about and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::store::StoreError;

/// A failure of [`Coordinator::backup`](crate::Coordinator::backup) or
/// [`Coordinator::restore`](crate::Coordinator::restore). Nothing was changed, but for [`Unfinished`](Self::Unfinished).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The database, the folder of its keys or the file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database could not be read to its end.
    #[error("the database cannot be read")]
    Read(#[source] StoreError),
    /// What was read could not be written.
    #[error("the copy cannot be written")]
    Write(#[source] StoreError),
    /// What reads the backup does not take it.
    #[error("the backup cannot be written")]
    Stream(#[source] io::Error),
    /// The last step of a restore failed, and whether it was done is not known. The keys stay; nothing is lost.
    #[error("the last step of the restore failed, and whether it was done is not known")]
    Unfinished(#[source] OpenError),
    /// A store in memory ends with its process.
    #[error("a store in memory has no backup")]
    Memory,
    /// There is a file of that name.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The file is no backup, or was cut short, damaged or changed since.
    #[error("{} is not a whole backup: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A later release made the backup.
    #[error("{} is a backup of version {found}; this release knows versions up to {supported}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of the backup.
        found: u32,
        /// The last version that this release can read.
        supported: u32,
    },
    /// There is a database in the place.
    #[error("there is a database in {0} already")]
    NotEmpty(String),
    /// No release of this version was started on the database yet.
    #[error("the database has version {found}, and this release backs version {supported} up")]
    Version {
        /// Version of the database.
        found: u32,
        /// That of this release.
        supported: u32,
    },
    /// No coordinator was ever started on the database.
    #[error("the database is empty")]
    Empty,
    /// A key is missing.
    #[error("{0}.key is missing")]
    NoKey(&'static str),
    /// A key belongs to another database.
    #[error("{0}.key belongs to another database")]
    WrongKey(&'static str),
    /// The folder has keys of another coordinator.
    #[error("{} is another key than the backup's", .0.display())]
    OtherKeys(PathBuf),
    /// The root's key is neither in the backup nor in the folder of the keys.
    #[error("the restore needs {}", .0.display())]
    NoRoot(PathBuf),
    /// This machine's clock is behind.
    #[error("the backup was made at {made_at}, and this machine's clock says {now} (Unix seconds)")]
    Clock {
        /// When it was made.
        made_at: u64,
        /// What this machine says.
        now: u64,
    },
}

impl BackupError {
    /// What the person at the machine can do about it, in one line.
    pub fn help(&self) -> String {
        match self {
            Self::Open(error) => error.help(),
            Self::Read(_) | Self::Write(_) => "see the log for the database's own words".to_owned(),
            Self::Stream(_) => "check the program that reads it; what it got is no backup".to_owned(),
            Self::Unfinished(_) => {
                "start no coordinator; mend what is wrong and restore the same backup again, with --replace: that is right in \
                 either case. To look before: the last row of the audit log (table audit) tells of the restore if it was done"
                    .to_owned()
            }
            Self::Memory => "name the database with --database".to_owned(),
            Self::Exists(_) => "name another file: a backup overwrites nothing".to_owned(),
            Self::Broken { .. } => "take another backup; nothing was changed".to_owned(),
            Self::Newer { .. } => "restore with the release that made it, or a later one".to_owned(),
            Self::NotEmpty(_) => "restore into an empty place, or let it give way with --replace".to_owned(),
            Self::Version { .. } | Self::Empty => {
                "start the coordinator of this release on it once".to_owned()
            }
            Self::NoKey(name) => format!("bring {name}.key to where the coordinator keeps its keys"),
            Self::WrongKey(name) => format!("bring the {name}.key that the database was made with"),
            Self::OtherKeys(_) => {
                "move the *.key files of the other coordinator away, or restore into another folder"
                    .to_owned()
            }
            Self::NoRoot(path) => {
                format!("bring root.key back to {} for the restore: it signs the new era", path.display())
            }
            Self::Clock { .. } => "set the clock: what is issued must be later than what was".to_owned(),
        }
    }

    /// Names the file in an error of writing it, whose neighbour was written.
    pub(crate) fn within(self, path: &Path) -> Self {
        if let Self::Write(error) = self {
            return Self::Open(OpenError::from(error).in_file(Some(path.to_owned())));
        }
        if matches!(self, Self::Open(OpenError::Full { .. })) {
            return Self::Open(OpenError::Full { path: path.to_owned() });
        }
        self
    }
}
