//! The fast lane's end at the node: TLS connections to the relay, opened ahead, each good for one pipe after another.
//!
//! A few lanes always wait unused; when one is taken into use another is opened, so that a busy tunnel ends up with a
//! lane for each request it serves at once. How many is decided by [`Plan`], without a socket or a clock. A lane that
//! cannot be had costs nothing but the attempt: the relay then uses streams of the node's own connection.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mytunnel_keys::id::TunnelId;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{self, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::serve::{self, Patience, table::Table};

/// Time for connecting and for the handshake.
const SETUP: Duration = Duration::from_secs(10);

/// Where lanes lead and how they are secured.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// The relay's port for lanes, on the address over which the node reaches it.
    pub(crate) relay: SocketAddr,
    /// Shows the node's key, accepts the relay's only.
    pub(crate) config: Arc<ClientConfig>,
}

/// Keeps lanes open for one tunnel until `closed`.
pub(crate) async fn keep(way: Way, tunnel: TunnelId, table: Table, closed: CancellationToken) {
    let mut lanes = JoinSet::new();
    let (used, mut uses) = mpsc::channel(64);
    let mut plan = Plan::new(now());
    loop {
        while plan.open_one(now()) {
            lanes.spawn(lane(way.clone(), tunnel, table.clone(), used.clone()));
        }
        tokio::select! {
            () = closed.cancelled() => break,
            Some(()) = uses.recv() => plan.handle_use(),
            Some(ended) = lanes.join_next(), if !lanes.is_empty() => {
                plan.handle_end(ended.unwrap_or(End::Unused), now());
            }
            () = sleep_until(plan.next_attempt().into()), if plan.is_short() => {}
        }
    }
    lanes.shutdown().await;
}

#[expect(clippy::disallowed_methods, reason = "this is the driver; the plan is given the time")]
fn now() -> Instant {
    Instant::now()
}

/// One lane from its first packet to its end.
async fn lane(way: Way, tunnel: TunnelId, table: Table, used: mpsc::Sender<()>) -> End {
    let stream = match timeout(SETUP, open(&way, tunnel)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(%error, "no lane");
            return End::Unopened;
        }
        Err(_) => return End::Unopened,
    };
    let mut was_used = false;
    let first = || {
        was_used = true;
        // A full queue means that uses are being counted already, and ends tell the rest.
        let _ = used.try_send(());
    };
    let served = serve::serve_lane(stream, *tunnel.as_bytes(), table, Patience::default(), first).await;
    if let Err(error) = served {
        debug!(%error, "a lane ended");
    }
    if was_used { End::Used } else { End::Unused }
}

async fn open(way: &Way, tunnel: TunnelId) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(way.relay).await?;
    stream.set_nodelay(true)?;
    // No name is sent or checked: the key is the identity.
    let name = ServerName::IpAddress(way.relay.ip().into());
    let mut lane = TlsConnector::from(Arc::clone(&way.config)).connect(name, stream).await?;
    lane.write_all(tunnel.as_bytes()).await?;
    lane.flush().await?;
    Ok(lane)
}

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It carried requests.
    Used,
    /// It stood and carried nothing.
    Unused,
    /// It never stood.
    Unopened,
}

/// Decides when to open another lane.
///
/// A target that hangs up after each answer uses a lane up per request, and a handshake costs more than a stream.
/// Openings are therefore paid for from an allowance that refills slowly: such a target is served by streams mostly.
#[derive(Debug)]
struct Plan {
    waiting: usize,
    in_use: usize,
    allowance: u32,
    refilled: Instant,
    failures: u32,
    blocked_until: Instant,
}

impl Plan {
    /// Lanes of one tunnel, waiting and in use.
    const MOST: usize = 256;
    /// Lanes that may be opened at once after a quiet while.
    const ALLOWANCE: u32 = 320;
    /// One more opening is allowed each so often.
    const REFILL: Duration = Duration::from_millis(20);
    /// The first pause after a failure; it doubles up to [`Self::LONGEST_PAUSE`].
    const PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(300);

    fn new(now: Instant) -> Self {
        Self {
            waiting: 0,
            in_use: 0,
            allowance: Self::ALLOWANCE,
            refilled: now,
            failures: 0,
            blocked_until: now,
        }
    }

    /// Lanes that should wait: a few, more when many are in use.
    fn wanted(&self) -> usize {
        (self.in_use / 4).clamp(2, 16).min(Self::MOST.saturating_sub(self.in_use))
    }

    /// Whether fewer lanes wait than should.
    fn is_short(&self) -> bool {
        self.waiting < self.wanted()
    }

    /// Whether to open one more lane now; `true` counts it as waiting.
    fn open_one(&mut self, now: Instant) -> bool {
        self.refill(now);
        let opens = self.is_short() && self.allowance > 0 && now >= self.blocked_until;
        if opens {
            self.allowance -= 1;
            self.waiting += 1;
        }
        opens
    }

    /// When [`Self::open_one`] may answer differently though nothing has happened.
    fn next_attempt(&self) -> Instant {
        self.blocked_until.max(self.refilled + Self::REFILL)
    }

    /// A waiting lane got its first request.
    fn handle_use(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        self.in_use += 1;
        self.failures = 0;
    }

    fn handle_end(&mut self, end: End, now: Instant) {
        match end {
            End::Used => self.in_use = self.in_use.saturating_sub(1),
            End::Unused | End::Unopened => {
                self.waiting = self.waiting.saturating_sub(1);
                let pause = Self::PAUSE.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST_PAUSE);
                self.failures += 1;
                self.blocked_until = now + pause;
            }
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_millis() / Self::REFILL.as_millis();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        self.allowance = self.allowance.saturating_add(more).min(Self::ALLOWANCE);
        self.refilled += Self::REFILL.saturating_mul(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_all(plan: &mut Plan, now: Instant) -> usize {
        std::iter::from_fn(|| plan.open_one(now).then_some(())).count()
    }

    #[test]
    fn a_few_lanes_wait_from_the_start() {
        let now = now();
        let mut plan = Plan::new(now);
        assert_eq!(open_all(&mut plan, now), 2);
        assert!(!plan.is_short());
    }

    #[test]
    fn each_use_opens_another_up_to_the_most() {
        let now = now();
        let mut plan = Plan::new(now);
        open_all(&mut plan, now);
        for _ in 0..10 * Plan::MOST {
            if plan.waiting > 0 {
                plan.handle_use();
            }
            open_all(&mut plan, now);
        }
        assert_eq!((plan.in_use, plan.waiting), (Plan::MOST, 0));
    }

    #[test]
    fn a_target_that_hangs_up_each_time_cannot_have_a_lane_a_request() {
        let start = now();
        let mut plan = Plan::new(start);
        let mut opened = 0;
        for request in 0..10_000 {
            let now = start + Duration::from_millis(request);
            opened += open_all(&mut plan, now);
            plan.handle_use();
            plan.handle_end(End::Used, now);
        }
        // 10 s: the allowance once, then 50 a second.
        assert!((500..=900).contains(&opened), "{opened}");
    }

    #[test]
    fn a_port_that_cannot_be_reached_is_left_alone_for_longer_and_longer() {
        let start = now();
        let mut plan = Plan::new(start);
        let (mut now, mut attempts) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            attempts += open_all(&mut plan, now);
            while plan.waiting > 0 {
                plan.handle_end(End::Unopened, now);
            }
            now = plan.next_attempt().max(now + Duration::from_millis(1));
        }
        assert!(attempts < 60, "{attempts}");
        plan.failures = 0;
        plan.blocked_until = now;
        assert_eq!(open_all(&mut plan, now), 2);
    }
}
