//! What can be wrong with the file, and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

/// What is kept could not be read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    #[error("{} is damaged: {detail}", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("{} was written by a newer mytunnel (its version is {found}, this one knows {known})", path.display())]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error("{} holds something else than sessions of `mytunnel pair`", path.display())]
    Foreign { path: PathBuf },
    #[error("the disk with {} is full", path.display())]
    Full { path: PathBuf },
    #[error("{} is held by another process", path.display())]
    Busy { path: PathBuf },
    #[error("{} cannot be written", path.display())]
    ReadOnly { path: PathBuf },
    #[error("cannot use {}: {why}", path.display())]
    Io { path: PathBuf, why: io::Error },
    #[error("{} cannot be read or written: {detail}", path.display())]
    Sql { path: PathBuf, detail: String },
}

impl StoreError {
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, detail) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path, detail },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::ReadOnly { path }
            }
            Some(_) | None => Self::Sql { path, detail },
        }
    }

    /// What to do about it, in one line.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Damaged { .. } | Self::Foreign { .. } => {
                "Move it away, with the file beside it that ends in -wal: sessions begin anew. Put no older copy in its place: what was used since could be used again, and others would find the record broken."
            }
            Self::Newer { .. } => {
                "Update this mytunnel; or move the file away, and its sessions with it, until the newer one is back."
            }
            Self::Full { .. } => "Free some space on that disk; what was confirmed is there.",
            Self::Busy { .. } => {
                "Wait for that process to end, or end it: `mytunnel pair status` asks again."
            }
            Self::ReadOnly { .. } | Self::Io { .. } => {
                "Check who owns it and its folder, and that the disk can be written."
            }
            Self::Sql { .. } => "Check the disk: its space, its limits, and that it can be written.",
        }
    }
}
