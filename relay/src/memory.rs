//! What a relay must not forget when it is started anew: how far the feed had come, whom the cluster trusts, and what
//! the audit log ended with.
//!
//! With it, a feed that goes back (a coordinator restored from a backup would give revoked keys their rights again) is
//! refused also after a restart. Files are replaced as a whole, so that a crash leaves the old or the new content.

mod witness;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use mytunnel_keys::{
    feed::Position,
    trust::{Trust, TrustError},
    wire,
};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::witness::Witnessed;

const POSITION: &str = "feed-position";
const TRUST: &str = "trust-bundle";

/// Time after which a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The directory, if the operator gave one.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Option<PathBuf>);

/// What is to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) position: Option<Position>,
    pub(crate) trust: Vec<u8>,
    /// The last end of the audit log that is worth a line.
    pub(crate) witnessed: Option<Witnessed>,
}

/// Why the memory is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The file cannot be read or written.
    #[error("{path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what this program wrote. Deleting it loses the protection against a feed that goes back.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The bundle on disk is not one of this cluster.
    #[error("{path} is not of this cluster")]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TrustError,
    },
}

impl Memory {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self(dir)
    }

    /// Reads what was remembered, and brings `trust` up to the highest bundle that was seen.
    pub(crate) fn load(&self, trust: &mut Trust) -> Result<Option<Position>, MemoryError> {
        let Some(dir) = &self.0 else { return Ok(None) };
        fs::create_dir_all(dir).map_err(|source| MemoryError::Io { path: dir.clone(), source })?;
        let path = dir.join(TRUST);
        if let Some(bundle) = read(&path)? {
            match trust.update(&bundle) {
                Ok(_) | Err(TrustError::Rollback { .. }) => {}
                Err(source) => return Err(MemoryError::Trust { path, source }),
            }
        }
        let path = dir.join(POSITION);
        let Some(position) = read(&path)? else { return Ok(None) };
        wire::decode(&position).map(Some).map_err(|_| MemoryError::Damaged { path })
    }

    /// Writes down every change until the other end is dropped or the work is cancelled, and what is then the last.
    /// What cannot be written (a full disk) is tried again with the next change, or after a while.
    pub(crate) async fn keep(self, mut latest: watch::Receiver<Remembered>, cancelled: CancellationToken) {
        let Some(dir) = self.0 else { return cancelled.cancelled().await };
        let mut written = latest.borrow_and_update().clone();
        let mut failing = false;
        loop {
            let last = tokio::select! {
                changed = latest.changed() => changed.is_err(),
                () = cancelled.cancelled() => true,
                () = sleep(AGAIN), if failing => false,
            };
            let next = latest.borrow_and_update().clone();
            if next != written {
                let result = write_both(dir.clone(), written.clone(), next.clone()).await;
                report(&result, failing);
                failing = result.is_err();
                if !failing {
                    written = next;
                }
            }
            if last {
                return;
            }
        }
    }
}

/// Tells the operator of a condition when it begins and when it ends.
fn report(result: &Result<(), MemoryError>, failing: bool) {
    match result {
        Ok(()) if failing => tracing::info!("the feed's position can be saved again"),
        Ok(()) => {}
        Err(error) if failing => {
            tracing::debug!(error = error as &dyn std::error::Error, "feed position not saved yet");
        }
        Err(error) => tracing::warn!(
            error = error as &dyn std::error::Error,
            "the feed's position cannot be saved; after a restart an old feed might be believed"
        ),
    }
}

/// Writes what differs. The bundle comes first: a position of a later era without it would shut out the feed.
async fn write_both(dir: PathBuf, before: Remembered, now: Remembered) -> Result<(), MemoryError> {
    let write = move || {
        if now.trust != before.trust {
            write(&dir, TRUST, &now.trust)?;
        }
        if let Some(position) = now.position.filter(|_| now.position != before.position) {
            let bytes =
                wire::encode(&position).map_err(|_| MemoryError::Damaged { path: dir.join(POSITION) })?;
            write(&dir, POSITION, &bytes)?;
        }
        if let Some(seen) = now.witnessed.filter(|_| now.witnessed != before.witnessed) {
            let path = dir.join(witness::WITNESS);
            witness::append(&dir, &seen).map_err(|source| MemoryError::Io { path, source })?;
        }
        Ok(())
    };
    spawn_blocking(write).await.expect("writing does not panic")
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, MemoryError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MemoryError::Io { path: path.to_owned(), source }),
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), MemoryError> {
    let (path, fresh) = (dir.join(name), dir.join(format!("{name}.new")));
    let replace = || {
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(dir)?.sync_all()
    };
    replace().map_err(|source| MemoryError::Io { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use tokio::{task::JoinSet, time::timeout};
    use tracing::Level;

    use super::*;
    use crate::testing::{NOW, bundle, logged::Logged, root, seed, trust};

    const SOON: Duration = Duration::from_secs(10);

    fn position(epoch: u64) -> Position {
        Position { epoch, ..Position::start(1) }
    }

    #[tokio::test]
    async fn what_was_kept_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let newer = bundle(7, &[seed(201)], NOW);
        let (sender, receiver) =
            watch::channel(Remembered { position: None, trust: trust().bytes().to_vec(), witnessed: None });
        let cancelled = CancellationToken::new();
        let memory = Memory::new(Some(dir.path().to_owned()));
        let mut held = trust();
        assert_eq!(memory.load(&mut held).unwrap(), None);
        let seen = Some(Witnessed { at: 5, head: [7; 32] });
        let change = async {
            sender.send_replace(Remembered {
                position: Some(position(3)),
                trust: newer.clone(),
                witnessed: seen,
            });
            cancelled.cancel();
        };
        tokio::join!(memory.clone().keep(receiver, cancelled.clone()), change);

        assert_eq!(memory.load(&mut held).unwrap(), Some(position(3)));
        assert_eq!(held.bytes(), newer);
        let witness = fs::read_to_string(dir.path().join(witness::WITNESS)).unwrap();
        assert_eq!(witness, format!("5 {}\n", "07".repeat(32)));
        assert!(!dir.path().join("feed-position.new").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_later_without_a_further_change() {
        let (dir, logged) = (tempfile::tempdir().unwrap(), Logged::start());
        // Not even root writes a file where a directory is.
        let obstacle = dir.path().join("feed-position.new");
        fs::create_dir(&obstacle).unwrap();
        let bundle = trust().bytes().to_vec();
        let (sender, receiver) =
            watch::channel(Remembered { position: None, trust: bundle.clone(), witnessed: None });
        let (memory, cancelled) = (Memory::new(Some(dir.path().to_owned())), CancellationToken::new());
        let mut keeping = JoinSet::new();
        keeping.spawn(memory.clone().keep(receiver, cancelled.clone()));

        for epoch in 1..=3 {
            sender.send_replace(Remembered {
                position: Some(position(epoch)),
                trust: bundle.clone(),
                witnessed: None,
            });
            sleep(AGAIN * 3).await;
        }
        assert_eq!(memory.load(&mut trust()).unwrap(), None);
        assert_eq!(logged.take(Level::WARN).len(), 1);

        fs::remove_dir(&obstacle).unwrap();
        sleep(AGAIN * 2).await;
        assert_eq!(memory.load(&mut trust()).unwrap(), Some(position(3)));
        assert_eq!(logged.take(Level::INFO).len(), 1);
        sender.send_replace(Remembered { position: Some(position(4)), trust: bundle, witnessed: None });
        cancelled.cancel();
        keeping.join_next().await.unwrap().unwrap();
        assert_eq!(memory.load(&mut trust()).unwrap(), Some(position(4)));
    }

    #[tokio::test]
    async fn an_older_bundle_on_disk_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(TRUST), bundle(1, &[seed(201)], NOW)).unwrap();
        let mut held = Trust::open(&bundle(2, &[seed(201)], NOW), &root().fingerprint()).unwrap();
        Memory::new(Some(dir.path().to_owned())).load(&mut held).unwrap();
        assert_eq!(held.bundle().version, 2);
    }

    #[test]
    fn what_is_damaged_or_not_ours_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(dir.path().to_owned()));
        fs::write(dir.path().join(POSITION), b"garbage").unwrap();
        let error = memory.load(&mut trust()).unwrap_err();
        assert!(matches!(&error, MemoryError::Damaged { path } if path.ends_with(POSITION)), "{error}");

        fs::write(dir.path().join(TRUST), b"garbage").unwrap();
        let error = memory.load(&mut trust()).unwrap_err();
        assert!(matches!(&error, MemoryError::Trust { path, .. } if path.ends_with(TRUST)), "{error}");

        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Memory::new(Some(file.join("below"))).load(&mut trust()).unwrap_err();
        assert!(matches!(error, MemoryError::Io { .. }), "{error}");
    }

    #[tokio::test]
    async fn without_a_directory_nothing_is_kept_and_the_task_lasts() {
        let (_sender, receiver) =
            watch::channel(Remembered { position: None, trust: Vec::new(), witnessed: None });
        let cancelled = CancellationToken::new();
        let mut keeping = Box::pin(Memory::new(None).keep(receiver, cancelled.clone()));
        assert!(futures::poll!(&mut keeping).is_pending());
        cancelled.cancel();
        timeout(SOON, keeping).await.expect("ends when cancelled");
    }
}
