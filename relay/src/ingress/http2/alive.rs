//! Whether anybody is still there at the other end of a quiet connection. Whatever is read says yes; after a time without,
//! a ping asks (RFC 9113 §6.7).

use std::{
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::ingress::limits::Limits;

/// Set by who reads; looked at, and taken back, when the timer fires.
pub(super) type Heard = Arc<AtomicBool>;

/// See the [module](self).
pub(super) struct Alive {
    pings: PingPong,
    heard: Heard,
    asked: bool,
    timer: Pin<Box<Sleep>>,
    limits: Arc<Limits>,
}

impl Alive {
    pub(super) fn new(pings: PingPong, heard: Heard, limits: Arc<Limits>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + limits.ping_interval));
        Self { pings, heard, asked: false, timer, limits }
    }

    /// Ready once nobody has answered in time.
    pub(super) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // What it says has been read, and so been heard. It is taken so that the next ping may be sent.
            let is_answered = self.asked && self.pings.poll_pong(cx).is_ready();
            if is_answered {
                self.wait();
            }
            ready!(self.timer.as_mut().poll(cx));
            match (self.heard.swap(false, Relaxed), self.asked) {
                (true, false) => self.wait(),
                // More comes than can be answered at once: the answer is on its way behind it.
                (true, true) => self.rest(),
                (false, false) => self.ask(),
                (false, true) => return Poll::Ready(()),
            }
        }
    }

    fn wait(&mut self) {
        self.asked = false;
        self.timer.as_mut().reset(Instant::now() + self.limits.ping_interval);
    }

    fn rest(&mut self) {
        self.timer.as_mut().reset(Instant::now() + self.limits.ping_timeout);
    }

    fn ask(&mut self) {
        // It can't be sent where the connection is over, which is told elsewhere.
        self.asked = self.pings.send_ping(Ping::opaque()).is_ok();
        self.rest();
    }
}
