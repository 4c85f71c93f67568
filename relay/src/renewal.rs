//! Keeps the relay's own certificate alive: asks for a new one well before it ends, and goes on asking until there is
//! one.
//!
//! When to ask is decided by [`pause`], a pure function. What it answers is measured on two clocks, of which the first
//! to say so counts: the one that only grows stands while the machine sleeps, and the wall's may be set back. Each state
//! of affairs is told once, however many attempts it lasts.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mytunnel_keys::{
    certificate::{self, Kind, VerifyError},
    error::Code,
    id::PublicKey,
    trust::{RootFingerprint, Trust, TrustError},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{Authority, AuthorityError},
    feed::News,
    memory::Remembered,
};

/// How often the wall clock is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Time for one attempt.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pauses between attempts double from the first to the last. Even with the last, hundreds of relays that lost one
/// coordinator ask it a few times a second together.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// No pause after an attempt is shorter, however short the life.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// A certificate of the relay's own, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnCertificate {
    pub(crate) bytes: Vec<u8>,
    pub(crate) life: Life,
}

/// From when to when a certificate lasts, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// Why a certificate cannot be the relay's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOurs {
    #[error("it does not hold")]
    Verify(#[from] VerifyError),
    #[error("it is not that of a relay")]
    Kind,
}

impl OwnCertificate {
    /// Checks a certificate at a time in Unix seconds.
    pub(crate) fn check(bytes: Vec<u8>, trust: &Trust, id: &PublicKey, now: u64) -> Result<Self, NotOurs> {
        let claims = certificate::verify(&bytes, trust, id, now)?;
        if claims.kind != Kind::Relay {
            return Err(NotOurs::Kind);
        }
        Ok(Self { life: Life { from: claims.not_before, until: claims.not_after }, bytes })
    }

    /// The same for the one that a relay starts with, which may have ended while it was switched off: it says who the
    /// relay is, and opens nothing.
    pub(crate) fn check_at_start(
        bytes: Vec<u8>,
        trust: &Trust,
        id: &PublicKey,
        now: u64,
    ) -> Result<Self, NotOurs> {
        match Self::check(bytes.clone(), trust, id, now) {
            Err(NotOurs::Verify(VerifyError::Expired { not_after, .. })) => {
                Self::check(bytes, trust, id, not_after)
            }
            checked => checked,
        }
    }
}

impl Life {
    fn length(&self) -> Duration {
        Duration::from_secs(self.until.saturating_sub(self.from))
    }
}

/// How long to wait from `now` (time since the Unix epoch) before a certificate is to be renewed, after so many failed
/// attempts in a row. The first is due at half of its life and up to a tenth of it later, by `jitter`, so that relays
/// which were started together do not ask together.
pub(crate) fn pause(life: Life, failures: u32, now: Duration, jitter: u32) -> Duration {
    let share = |of: Duration| of.mul_f64(f64::from(jitter) / f64::from(u32::MAX));
    let length = life.length();
    let Some(again) = failures.checked_sub(1) else {
        let due = Duration::from_secs(life.from) + length / 2 + share(length / 10);
        // By a clock that was set back it is not due for long. It never needs to wait for more than that.
        return due.saturating_sub(now).min(length / 2 + length / 10);
    };
    let doubled = FIRST_PAUSE.min(length / 20).saturating_mul(1_u32.checked_shl(again).unwrap_or(u32::MAX));
    let pause = doubled.min(LAST_PAUSE).min(length / 10).max(LEAST_PAUSE);
    pause + share(pause / 4)
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) id: PublicKey,
    pub(crate) root: RootFingerprint,
    /// The newest bundle of trust that the feed has brought.
    pub(crate) known: watch::Receiver<Remembered>,
    pub(crate) life: Life,
    pub(crate) news: mpsc::Sender<News>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the coordinator does not answer in time")]
    Late,
    #[error("the new certificate is refused")]
    NotOurs(#[from] NotOurs),
    #[error("the bundle of trust is refused")]
    Trust(#[from] TrustError),
}

/// A state of affairs that is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Unreachable,
    Refused(Code),
    Unusable,
}

impl Failed {
    fn condition(&self) -> Condition {
        match self {
            Self::Late | Self::Authority(AuthorityError::Unreachable(_)) => Condition::Unreachable,
            Self::Authority(AuthorityError::Refused { code, .. }) => Condition::Refused(*code),
            Self::Authority(AuthorityError::Protocol(_)) | Self::NotOurs(_) | Self::Trust(_) => {
                Condition::Unusable
            }
        }
    }
}

impl Renewal {
    /// Renews until cancelled.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        cancelled.run_until_cancelled(self.keep_alive()).await;
    }

    async fn keep_alive(&mut self) {
        let mut failures = 0;
        // What was told last, and whether the certificate had ended then.
        let mut told = None;
        let mut wait = pause(self.life, failures, unix(), jitter());
        loop {
            pass(wait).await;
            let renewed = self.renew().await;
            let news = match &renewed {
                Ok(own) => {
                    if failures > 0 {
                        tracing::info!(until = own.life.until, "this relay's certificate was renewed");
                    }
                    (failures, told, self.life) = (0, None, own.life);
                    Some(News::Certificate(own.clone()))
                }
                Err(failed) => {
                    failures += 1;
                    let state = (failed.condition(), unix().as_secs() >= self.life.until);
                    if told.replace(state) != Some(state) {
                        explain(failed, state.1);
                    }
                    expulsion(failed)
                }
            };
            if let Some(news) = news
                && self.news.send(news).await.is_err()
            {
                return;
            }
            wait = pause(self.life, failures, unix(), jitter());
            if renewed.is_ok() {
                // One that is to be renewed when it comes is of a clock that is wrong: no reason to ask without a rest.
                wait = wait.max(pause(self.life, u32::MAX, unix(), 0));
            }
        }
    }

    async fn renew(&self) -> Result<OwnCertificate, Failed> {
        let answer = timeout(PATIENCE, self.authority.renew()).await.map_err(|_| Failed::Late)??;
        let trust = Trust::open(&self.known.borrow().trust, &self.root)?;
        Ok(OwnCertificate::check(answer.certificate, &trust, &self.id, unix().as_secs())?)
    }
}

/// What the relay has to know, when its coordinator does not count it among its own.
fn expulsion(failed: &Failed) -> Option<News> {
    match failed {
        Failed::Authority(error) => News::expelled(error),
        Failed::Late | Failed::NotOurs(_) | Failed::Trust(_) => None,
    }
}

fn explain(failed: &Failed, ended: bool) {
    let error = failed as &dyn std::error::Error;
    match failed.condition() {
        Condition::Refused(Code::KeyRevoked) => tracing::error!(
            error,
            "this relay was revoked and takes no more tunnels; to use this machine again, stop the relay, move its data \
             directory away and join with a new token"
        ),
        Condition::Refused(Code::InvalidKey) => tracing::error!(
            error,
            "the coordinator does not know this relay, which takes no more tunnels; join again with a new token"
        ),
        Condition::Unreachable | Condition::Refused(_) | Condition::Unusable if ended => tracing::error!(
            error,
            "this relay's certificate has ended and could not be renewed: no tunnels are taken until it is; see that \
             the coordinator runs and is reached, and that both clocks are right"
        ),
        Condition::Unreachable | Condition::Refused(_) | Condition::Unusable => tracing::warn!(
            error,
            "this relay's certificate could not be renewed; trying again until it ends, and after"
        ),
    }
}

/// Returns when the time has passed on either clock.
async fn pass(wait: Duration) {
    let (instant, wall) = (Instant::now() + wait, unix() + wait);
    while Instant::now() < instant && unix() < wall {
        sleep_until(instant.min(Instant::now() + LOOK)).await;
    }
}

fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn jitter() -> u32 {
    // Without random bytes there is no jitter, which is no reason to stop.
    getrandom::u32().unwrap_or(0)
}

#[cfg(test)]
mod tests;
