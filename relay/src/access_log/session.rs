//! A line for each visitor whose bytes the relay does not read, once they have left: of TLS that ends behind the relay, and of
//! the ports of TCP and UDP tunnels. In the combined format it is the one that nginx's manual gives for such sessions
//! (<https://nginx.org/en/docs/stream/ngx_stream_log_module.html>), with the host in front.

use std::{
    error::Error,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

use super::{AccessFormat, AccessLog, Lines, escaped, stamp};

/// What is carried unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    Tls,
    Tcp,
    Udp,
}

impl Carried {
    const fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// A visitor whose line is written when they have left, which is when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    lines: Arc<Lines>,
    at: OffsetDateTime,
    begun: Instant,
    visitor: IpAddr,
    host: String,
    carried: Carried,
    received: AtomicU64,
    sent: AtomicU64,
    ended: OnceLock<(u16, Option<String>)>,
}

impl AccessLog {
    /// Begins the line of a visitor who came to `host`; `None` where none is wanted.
    pub(crate) fn session(
        &self,
        carried: Carried,
        visitor: IpAddr,
        host: impl FnOnce() -> String,
    ) -> Option<Session> {
        Some(Session {
            lines: Arc::clone(self.lines.as_ref()?),
            at: OffsetDateTime::now_utc(),
            begun: Instant::now(),
            visitor: visitor.to_canonical(),
            host: host(),
            carried,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            ended: OnceLock::new(),
        })
    }
}

impl Session {
    /// The visitor has sent this much more.
    pub(crate) fn count_in(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    /// The visitor was sent this much more.
    pub(crate) fn count_out(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// How it came to its end: 200 for a good one, else what a request would be answered.
    pub(crate) fn ended(&self, status: u16, error: Option<&dyn Error>) {
        let _ = self.ended.set((status, error.map(ToString::to_string)));
    }

    fn line(&self) -> String {
        let (received, sent) = (self.received.load(Relaxed), self.sent.load(Relaxed));
        let took = self.begun.elapsed();
        // Who is dropped without a word was cut off.
        let (status, error) = self.ended.get().cloned().unwrap_or((499, None));
        let protocol = self.carried.name();
        match self.lines.format {
            AccessFormat::Json => {
                let line = serde_json::json!({
                    "at": self.at.format(&Rfc3339).unwrap_or_default(), "visitor": self.visitor.to_string(),
                    "host": self.host, "protocol": protocol, "status": status, "bytes": sent,
                    "bytes_in": received, "ms": took.as_secs_f64() * 1e3, "error": error,
                });
                format!("{line}\n")
            }
            AccessFormat::Combined => format!(
                "{} {} [{}] {protocol} {status} {sent} {received} {:.3}\n",
                escaped(&self.host),
                self.visitor,
                stamp(self.at),
                took.as_secs_f64(),
            ),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.lines.queue.try_send(self.line()).is_err() {
            self.lines.lost.fetch_add(1, Relaxed);
        }
    }
}
