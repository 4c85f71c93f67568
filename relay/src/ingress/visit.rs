//! One visitor connection as everything that works on it sees it: its stage, its deadlines, and the flags with which
//! others ask for its end.
//!
//! The parts of a connection (socket wrapper, service, bodies) run inside of one task, but hyper owns them apart;
//! this is what they share. Only that task writes the stage, so plain atomics do and nothing here ever blocks. From
//! outside come [`cut`](Visit::cut) (the tunnel was closed) and [`drain`](Visit::drain) (the relay shuts down): each
//! sets a flag and wakes the task, which costs the hot path one load.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use http::HeaderMap;
use tokio::time::{Instant, Sleep};

use super::{
    credit::Credit,
    deadline::{Cut, Stage, Times, Verdict, millis},
    half::Half,
    head::Visitor,
    http2::response::Interim,
    limits::{AddressSeat, Limits},
    owed::{Owed, Place},
    pace::Pace,
    upgrade::Next,
};
use crate::tally::Tally;

/// Whose connection it is, and its place among those of its address.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) visitor: Visitor,
    pub(crate) address: AddressSeat,
}

/// See the [module](self). Where HTTP/2 puts many exchanges on one connection, each has one beside the connection's.
#[derive(Debug)]
pub(crate) struct Visit {
    start: Instant,
    multiplexed: bool,
    stage: AtomicU8,
    since: AtomicU64,
    /// With what the visitor takes.
    download: Credit,
    half: Half,
    /// When the last of the request in flight came.
    asked: AtomicU64,
    /// When the watchdog fires; a deadline before that sets `rearm`.
    armed: AtomicU64,
    rearm: AtomicBool,
    expired: AtomicBool,
    cut: AtomicBool,
    aborted: AtomicBool,
    draining: AtomicBool,
    /// Requests given to the service, and the first one the scanner objects to (zero: none).
    served: AtomicU32,
    objected: AtomicU32,
    pace: Pace,
    /// The response ends with the connection: an abort must be a reset, or it looks like the end.
    close_delimited: AtomicBool,
    waker: AtomicWaker,
    next: Mutex<Option<Next>>,
    interim: Interim,
    guest: Arc<Guest>,
    /// Where the connection is others' too: what it owes until its socket has taken all.
    owed: Option<Arc<Owed>>,
    limits: Arc<Limits>,
    tally: Tally,
}

impl Visit {
    pub(crate) fn new(guest: Arc<Guest>, limits: Arc<Limits>, tally: Tally, start: Instant) -> Self {
        Self {
            start,
            tally,
            guest,
            owed: None,
            multiplexed: false,
            stage: AtomicU8::new(Stage::Opened as u8),
            since: AtomicU64::new(0),
            download: Credit::full(limits.download()),
            half: Half::default(),
            asked: AtomicU64::new(0),
            armed: AtomicU64::new(millis(limits.head_timeout)),
            rearm: AtomicBool::new(false),
            expired: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            served: AtomicU32::new(0),
            objected: AtomicU32::new(0),
            pace: Pace::default(),
            close_delimited: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            next: Mutex::new(None),
            interim: Interim::default(),
            limits,
        }
    }

    /// One of many exchanges on this visitor's connection, with stages and deadlines of its own.
    pub(crate) fn exchange(&self, owed: &Arc<Owed>, start: Instant) -> Self {
        let (guest, limits) = (Arc::clone(&self.guest), Arc::clone(&self.limits));
        let tally = self.tally.clone();
        Self { multiplexed: true, owed: Some(Arc::clone(owed)), ..Self::new(guest, limits, tally, start) }
    }

    /// An exchange is over which had a place: at the address, if it is `entered`, or behind a proxy.
    pub(crate) fn leave(&self, entered: bool, behind: Option<AddressSeat>) {
        let place = Place::new(entered.then(|| Arc::clone(&self.guest)), behind);
        if let Some(owed) = self.owed.as_ref().filter(|_| place.is_taken()) {
            owed.keep(place);
        }
    }

    pub(crate) fn address(&self) -> &AddressSeat {
        &self.guest.address
    }

    pub(crate) fn visitor(&self) -> &Visitor {
        &self.guest.visitor
    }

    /// Whether other exchanges share the connection: its socket then tells nothing about this one.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed
    }

    // -- asked from outside of the connection's task

    /// The tunnel of the exchange in flight was closed.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Relaxed);
        self.waker.wake();
    }

    /// The relay shuts down: no further request after the one in flight.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.waker.wake();
    }

    /// The relay waits no longer.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Relaxed);
        self.waker.wake();
    }

    // -- stages

    pub(crate) fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.stage.load(Relaxed)).min(Stage::ALL.len() - 1)]
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
        self.progress();
    }

    /// Something moved: the stage's deadline starts anew.
    pub(crate) fn progress(&self) {
        self.since.store(self.now(), Relaxed);
        self.check_deadline();
    }

    /// Whether a request is with the service or its response under way.
    pub(crate) fn in_exchange(&self) -> bool {
        matches!(self.stage(), Stage::Waiting | Stage::Responding)
    }

    /// A request reaches the service; its number on this connection, from one.
    pub(crate) fn request(&self) -> u32 {
        self.cut.store(false, Relaxed);
        self.expired.store(false, Relaxed);
        self.download.fill(self.limits.download());
        self.enter(Stage::Waiting);
        self.asked.store(self.since.load(Relaxed), Relaxed);
        self.served.fetch_add(1, Relaxed) + 1
    }

    /// The request is led to a tunnel: that one led to before was closed is none of its.
    pub(crate) fn turn_to_another(&self) {
        self.cut.store(false, Relaxed);
    }

    /// How many requests have reached the service.
    pub(crate) fn served(&self) -> u32 {
        self.served.load(Relaxed)
    }

    /// The scanner objects to the `number`th request.
    pub(crate) fn object(&self, number: u32) {
        let first = self.objected.compare_exchange(0, number, Relaxed, Relaxed).is_ok();
        debug_assert!(first, "a scanner objects once");
    }

    /// Whether the request that is being served, or one before it, was objected to.
    pub(crate) fn is_objected(&self) -> bool {
        let objected = self.objected.load(Relaxed);
        objected != 0 && objected <= self.served.load(Relaxed)
    }

    /// An upload begins.
    pub(crate) fn begin_upload(&self) {
        self.pace.begin(&self.limits);
    }

    /// Whether a request's body may have this many bytes.
    pub(crate) fn may_upload(&self, bytes: u64) -> bool {
        self.limits.body_bytes == 0 || bytes <= self.limits.body_bytes
    }

    /// How long an upgraded connection of which one half is closed is borne without a byte on the other.
    pub(crate) fn half_patience(&self) -> Duration {
        self.limits.response_timeout
    }

    /// The upload in progress, or the last one.
    pub(crate) fn upload(&self) -> &Pace {
        &self.pace
    }

    /// The tunnel would take more of the upload, and there is nothing.
    pub(crate) fn await_upload(&self) {
        if self.pace.wait(self.now()) {
            self.check_deadline();
        }
    }

    /// Some of the upload has come, or its end.
    pub(crate) fn uploaded(&self, bytes: u64) {
        self.pace.receive(bytes, self.now(), &self.limits);
        self.progress();
        self.asked.store(self.since.load(Relaxed), Relaxed);
    }

    pub(crate) fn set_close_delimited(&self) {
        self.close_delimited.store(true, Relaxed);
    }

    pub(crate) fn is_close_delimited(&self) -> bool {
        self.close_delimited.load(Relaxed)
    }

    /// Bytes wait for the visitor, who takes none for now.
    pub(crate) fn stall(&self) {
        if !self.is_stalled() && self.download.wait(self.now()) {
            self.check_deadline();
        }
    }

    /// The visitor has taken so many bytes, and may take more.
    pub(crate) fn take(&self, bytes: u64) {
        let half_closed = self.half.is_closed();
        let now = if half_closed || self.is_stalled() { self.now() } else { 0 };
        self.download.earn(bytes.saturating_mul(self.sharers()), now, self.limits.download());
        if half_closed {
            self.half.take(now, self.limits.response_timeout);
        }
    }

    /// What came of handing bytes to the visitor's socket.
    pub(crate) fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.take(*bytes as u64),
            Poll::Ready(Err(_)) => self.take(0),
            Poll::Pending => self.stall(),
        }
        written
    }

    /// What came of handing over all that was written: TLS keeps some of it.
    pub(crate) fn flushed(&self, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        match &flushed {
            Poll::Ready(_) if self.is_stalled() => self.take(0),
            Poll::Ready(_) => {}
            Poll::Pending => self.stall(),
        }
        flushed
    }

    /// Whether bytes wait for the visitor.
    pub(crate) fn is_stalled(&self) -> bool {
        self.download.since() != 0
    }

    /// How many exchanges have to do with the visitor's taking. The connection and each exchange on it hold the guest.
    fn sharers(&self) -> u64 {
        match self.multiplexed {
            true => Arc::strong_count(&self.guest).saturating_sub(1) as u64,
            false => 1,
        }
    }

    /// The visitor has closed its sending half in the middle of an exchange.
    pub(crate) fn half_close(&self) {
        if self.half.close(self.now(), self.asked.load(Relaxed), self.limits.response_timeout) {
            self.check_deadline();
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Relaxed)
    }

    /// Returns when the relay waits no longer. For whoever drives the connection.
    pub(crate) async fn aborted(&self) {
        std::future::poll_fn(|cx| {
            self.register(cx.waker());
            if self.is_aborted() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expired.load(Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether no request may or can follow the one in flight.
    pub(crate) fn is_last_request(&self) -> bool {
        self.is_draining() || self.half.is_closed()
    }

    /// What becomes of the connection once its 101 is sent.
    pub(crate) fn set_next(&self, next: Next) {
        *super::locked(&self.next) = Some(next);
    }

    pub(crate) fn take_next(&self) -> Option<Next> {
        super::locked(&self.next).take()
    }

    /// What the visitor is told ahead of its answer. Who waits for that passes it on.
    pub(crate) fn interim(&self) -> &Interim {
        &self.interim
    }

    /// The visitor is to send its body. A task beside the connection's may say so.
    pub(crate) fn go_on(&self) {
        self.interim.go_on();
        self.waker.wake();
    }

    /// A node's server gives early hints.
    pub(crate) fn hint(&self, fields: &HeaderMap) {
        self.interim.hint(fields);
        self.waker.wake();
    }

    /// See [`Limits::continue_patience`].
    pub(crate) fn continue_patience(&self) -> Duration {
        self.limits.continue_patience
    }

    // -- for the driver

    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// A deadline has passed: what that means. `watchdog` was set to [`armed`](Self::armed).
    pub(crate) fn poll_overdue(&self, mut watchdog: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            if let Some(at) = self.rearmed() {
                watchdog.as_mut().reset(at);
            }
            ready!(watchdog.as_mut().poll(cx));
            let judged = self.judge();
            watchdog.as_mut().reset(self.armed());
            if let Ok(verdict) = judged {
                return Poll::Ready(verdict);
            }
        }
    }

    /// When the watchdog is to fire next, if that is before what it was set to.
    fn rearmed(&self) -> Option<Instant> {
        self.rearm.swap(false, Relaxed).then(|| self.at(self.armed.load(Relaxed)))
    }

    /// The watchdog fired: the verdict, or the instant to look again.
    fn judge(&self) -> Result<Verdict, Instant> {
        let (now, times) = (self.now(), self.times());
        match times.deadline(&self.limits) {
            Some((at, verdict)) if at <= now => {
                if let Some(cut) = times.cut(&self.limits) {
                    self.note_cut(cut);
                }
                self.arm(now + millis(self.limits.head_timeout));
                if verdict == Verdict::Answer {
                    self.expired.store(true, Relaxed);
                }
                Ok(verdict)
            }
            Some((at, _)) => Err(self.arm(at)),
            None => Err(self.arm(now + millis(self.limits.idle_timeout))),
        }
    }

    /// It is cut short for this.
    pub(crate) fn note_cut(&self, cut: Cut) {
        self.tally.cut(cut);
    }

    /// The instant the watchdog was last set to.
    pub(crate) fn armed(&self) -> Instant {
        self.at(self.armed.load(Relaxed))
    }

    fn arm(&self, at: u64) -> Instant {
        self.armed.store(at, Relaxed);
        self.at(at)
    }

    fn check_deadline(&self) {
        if let Some((at, _)) = self.times().deadline(&self.limits)
            && at < self.armed.load(Relaxed)
        {
            self.armed.store(at, Relaxed);
            self.rearm.store(true, Relaxed);
        }
    }

    fn times(&self) -> Times {
        Times {
            stage: self.stage(),
            since: self.since.load(Relaxed),
            stalled: self.download.since(),
            download: self.download.deadline(self.limits.download()),
            half: self.half.deadline(),
            upload: self.pace.deadline(&self.limits),
        }
    }

    /// Never zero, which stands for "not".
    fn now(&self) -> u64 {
        millis(self.start.elapsed()).max(1)
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }
}

#[cfg(test)]
pub(crate) mod tests;
