//! Passwords: argon2id with the parameters OWASP recommends (19 MiB, two passes, one lane).
//!
//! One hash costs tens of milliseconds and 19 MiB, so that hashing runs on blocking threads, as many at once
//! as there are cores; a bounded number may wait, the rest is told to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::random;

/// Shortest password taken, in bytes.
pub(crate) const MIN_PASSWORD: usize = 8;
/// Longest password taken, in bytes: long enough for any passphrase.
pub(crate) const MAX_PASSWORD: usize = 1024;
/// What an unknown account's password is checked against, so that the answer takes as long. Nothing fits it.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5cyBzYWx0ISE$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Sign-ins that may wait for a place: at most about two seconds' work on one core.
pub(crate) const MAX_WAITING: usize = 64;
/// Passwords of gates that may wait. Keys set them, also such as leak: they have a place of their own, so that no flood of
/// them keeps a person from signing in.
pub(crate) const MAX_GATES_WAITING: usize = 8;

/// A failure to hash; never says anything about the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HashError {
    /// Too many wait already.
    #[error("too many sign-ins at once")]
    Busy,
    /// The hasher refused or died.
    #[error("cannot hash a password")]
    Failed,
}

/// Hashes and checks passwords, a few at a time.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl Passwords {
    /// For people: as many at once as there are cores.
    pub(crate) fn of_people() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from), MAX_WAITING)
    }

    /// For gates: one after the other.
    pub(crate) fn of_gates() -> Self {
        Self::new(1, MAX_GATES_WAITING)
    }

    fn new(places: usize, most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), waiting: Arc::new(AtomicUsize::new(0)), most }
    }

    /// The hash to store, in PHC string form.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, HashError> {
        self.run(move || hash(password.as_bytes())).await?
    }

    /// Does the password fit the stored hash? `None` stands for an account that does not exist: it takes the
    /// same time and never fits.
    pub(crate) async fn verify(
        &self,
        password: Zeroizing<String>,
        stored: Option<String>,
    ) -> Result<bool, HashError> {
        self.run(move || {
            let fits = fits(password.as_bytes(), stored.as_deref().unwrap_or(NOBODY));
            stored.is_some() && fits
        })
        .await
    }

    /// How many wait for a place or have one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let _waiting = Waiting::enter(&self.waiting, self.most)?;
        let place = self.places.clone().acquire_owned().await.map_err(|_| HashError::Failed)?;
        let hashed = tokio::task::spawn_blocking(move || {
            // The place is given back when the work is done, also if the one who asked has gone.
            let _place = place;
            work()
        });
        hashed.await.map_err(|_| HashError::Failed)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Result<Self, HashError> {
        let entered = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(HashError::Busy);
        }
        Ok(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn hash(password: &[u8]) -> Result<String, HashError> {
    let salt = random::bytes::<16>().map_err(|_| HashError::Failed)?;
    let hash: PasswordHash =
        Argon2::default().hash_password_with_salt(password, &salt).map_err(|_| HashError::Failed)?;
    Ok(hash.to_string())
}

fn fits(password: &[u8], stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_fits_and_the_salt_differs() {
        let passwords = Passwords::of_people();
        let first = passwords.hash(secret("correct horse")).await.unwrap();
        let second = passwords.hash(secret("correct horse")).await.unwrap();
        assert_ne!(first, second);
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert!(passwords.verify(secret("correct horse"), Some(first.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horsf"), Some(first)).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_account_fits_nothing() {
        let passwords = Passwords::of_people();
        assert!(!passwords.verify(secret(""), None).await.unwrap());
        // It is a hash like any other, so that checking against it costs what checking costs.
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let somebody = hash(b"x").unwrap();
        assert_eq!(nobody.params.to_string(), PasswordHash::new(&somebody).unwrap().params.to_string());
        assert!(nobody.hash.is_some_and(|output| output.len() == 32));
        assert!(!passwords.verify(secret("x"), Some("not a hash".to_owned())).await.unwrap());
    }

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_and_the_places_come_back() {
        let passwords = Passwords::of_people();
        let held = passwords.places.clone().acquire_many_owned(passwords.places.available_permits() as u32);
        let held = held.await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..MAX_WAITING {
            let passwords = passwords.clone();
            waiting.spawn(async move { passwords.run(|| ()).await });
        }
        while passwords.waiting.load(Ordering::Relaxed) < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(passwords.run(|| ()).await, Err(HashError::Busy));
        drop(held);
        while let Some(done) = waiting.join_next().await {
            done.unwrap().unwrap();
        }
        passwords.run(|| ()).await.unwrap();
    }
}
