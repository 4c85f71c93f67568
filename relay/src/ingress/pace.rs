//! Whether a visitor sends a body that its tunnel waits for, and fast enough: only time in which the tunnel would have
//! taken more counts, so that a slow server costs a visitor nothing. Who is too slow is answered with 408.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{credit::Credit, limits::Limits};

/// The upload of one connection, if there is one. Times are those of its [`Visit`](super::visit::Visit).
#[derive(Debug, Default)]
pub(crate) struct Pace {
    uploading: AtomicBool,
    broken: AtomicBool,
    too_large: AtomicBool,
    credit: Credit,
}

impl Pace {
    pub(crate) fn begin(&self, limits: &Limits) {
        self.uploading.store(true, Relaxed);
        self.too_large.store(false, Relaxed);
        self.credit.end();
        self.credit.fill(limits.upload());
    }

    pub(crate) fn end(&self) {
        self.uploading.store(false, Relaxed);
        self.credit.end();
    }

    /// Whether the visitor still owes a part of its request.
    pub(crate) fn is_uploading(&self) -> bool {
        self.uploading.load(Relaxed)
    }

    /// The request's body is not what its framing says.
    pub(crate) fn set_broken(&self) {
        self.broken.store(true, Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// The request's body has more bytes than it may have.
    pub(crate) fn set_too_large(&self) {
        self.too_large.store(true, Relaxed);
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.load(Relaxed)
    }

    /// The tunnel would take more, and there is nothing. Whether that is new.
    pub(crate) fn wait(&self, now: u64) -> bool {
        self.credit.wait(now)
    }

    /// Some of it has come, or its end.
    pub(crate) fn receive(&self, bytes: u64, now: u64, limits: &Limits) {
        self.credit.earn(bytes, now, limits.upload());
    }

    /// When patience ends with a visitor that is waited for.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<u64> {
        self.credit.deadline(limits.upload())
    }
}
