//! What goes through one tunnel, counted where it goes through, and whether more may.
//!
//! Counting costs the way of a request one relaxed addition for each chunk, and one more where the key has a budget: the
//! [`Purse`] of each key that pays is shared by all its tunnels. A purse is a rough account in between two exact ones: it
//! takes a little too much from each chunk, and whoever knows the exact state sets it right, once a second and whenever it
//! runs low. When it is empty, streams pause before their next chunk; so what goes through beyond a budget is at most one
//! chunk of each stream.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use mytunnel_keys::usage::{Prices, Usage};
use tokio::{
    sync::Notify,
    time::{Sleep, sleep, timeout},
};

/// How often a stream that pauses looks whether it may go on.
const LOOK: Duration = Duration::from_millis(20);

/// The longest that a new request waits for a purse to be filled.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nano-cents in a micro-cent: fine enough for the price of a byte.
const NANO: u64 = 1000;

/// Counts of one tunnel since it was registered. Only ever growing.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    heads_in: AtomicU64,
    heads_out: AtomicU64,
    purses: [Option<Arc<Purse>>; 2],
}

impl Traffic {
    /// Counts that these keys pay for.
    pub(crate) fn paid_by(purses: [Option<Arc<Purse>>; 2]) -> Self {
        Self { purses, ..Self::default() }
    }

    /// Requests that were given to the node.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Body and upgrade bytes from visitors to the node.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Body and upgrade bytes from the node to visitors.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    /// All of it, heads too.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            bytes_in: self.bytes_in() + self.heads_in.load(Relaxed),
            bytes_out: self.bytes_out() + self.heads_out.load(Relaxed),
            requests: self.requests(),
            tunnel_seconds: 0,
        }
    }

    pub(crate) fn count_request(&self, head: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.heads_in.fetch_add(head, Relaxed);
        self.pay(1, head);
    }

    pub(crate) fn count_response(&self, head: u64) {
        self.heads_out.fetch_add(head, Relaxed);
        self.pay(0, head);
    }

    pub(crate) fn count_in(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Relaxed);
        self.pay(0, bytes);
    }

    pub(crate) fn count_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Relaxed);
        self.pay(0, bytes);
    }

    // After the exact count, so that whoever reads the purse first and the counts then misses nothing.
    fn pay(&self, requests: u64, bytes: u64) {
        for purse in self.purses.iter().flatten() {
            purse.pay(requests, bytes);
        }
    }

    /// Whether nothing may go through at this moment.
    pub(crate) fn is_dry(&self) -> bool {
        self.purses.iter().flatten().any(|purse| purse.is_dry())
    }

    /// Whether nothing may go through, and there is no more to come.
    pub(crate) fn is_shut(&self) -> bool {
        self.purses.iter().flatten().any(|purse| purse.shut.load(Relaxed))
    }

    /// Waits until something may go through, for a while; `false` when there is no more to come.
    pub(crate) async fn ready(&self) -> bool {
        let filled = async {
            for purse in self.purses.iter().flatten() {
                if !purse.filled().await {
                    return false;
                }
            }
            true
        };
        !self.is_dry() || timeout(PATIENCE, filled).await.unwrap_or(false)
    }

    /// As [`ready`](Self::ready), in the middle of a stream, which is ended by others.
    pub(crate) fn poll_ready(&self, pause: &mut Pause, cx: &mut Context<'_>) -> Poll<()> {
        while self.is_dry() {
            let looking = pause.0.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(looking.as_mut().poll(cx));
            pause.0 = None;
        }
        pause.0 = None;
        Poll::Ready(())
    }
}

/// A stream's pause, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Pause(Option<Pin<Box<Sleep>>>);

/// What one key's tunnels may cost together until the next exact account, in nano-cents.
#[derive(Debug)]
pub(crate) struct Purse {
    spent: AtomicU64,
    /// Of [`Self::spent`]: from here on nothing goes through. The largest number stands for no limit.
    limit: AtomicU64,
    /// Of [`Self::spent`]: from here on it is low.
    low: AtomicU64,
    gib: AtomicU64,
    million_requests: AtomicU64,
    /// Empty for good: there is nothing to wait for.
    shut: AtomicBool,
    filled: Notify,
    /// Told when it is low, and when it is empty.
    alarm: Arc<Notify>,
}

/// How much a purse holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// No limit.
    Free,
    /// So many micro-cents.
    Left(u64),
    /// Nothing, and nothing to come.
    Shut,
}

impl Purse {
    /// Without a limit.
    pub(crate) fn new(alarm: Arc<Notify>) -> Self {
        Self {
            spent: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            low: AtomicU64::new(u64::MAX),
            gib: AtomicU64::new(0),
            million_requests: AtomicU64::new(0),
            shut: AtomicBool::new(false),
            filled: Notify::new(),
            alarm,
        }
    }

    /// What was taken so far. To be read before the exact counts, for [`fill`](Self::fill).
    pub(crate) fn spent(&self) -> u64 {
        self.spent.load(Relaxed)
    }

    /// Sets right what is left, by exact counts that were read after `spent`.
    pub(crate) fn fill(&self, spent: u64, fill: Fill, prices: &Prices) {
        self.gib.store(prices.gib.saturating_mul(NANO), Relaxed);
        self.million_requests.store(prices.million_requests.saturating_mul(NANO), Relaxed);
        let (limit, low) = match fill {
            Fill::Free => (u64::MAX, u64::MAX),
            Fill::Left(left) => {
                let left = left.saturating_mul(NANO);
                (spent.saturating_add(left).min(u64::MAX - 1), spent.saturating_add(left / 2))
            }
            Fill::Shut => (0, u64::MAX),
        };
        self.low.store(low, Relaxed);
        self.limit.store(limit, Relaxed);
        self.shut.store(fill == Fill::Shut, Relaxed);
        if !self.is_dry() || fill == Fill::Shut {
            self.filled.notify_waiters();
        }
    }

    fn pay(&self, requests: u64, bytes: u64) {
        let limit = self.limit.load(Relaxed);
        if limit == u64::MAX {
            return;
        }
        let of = |units: u64, price: &AtomicU64, per: u128| {
            let cost = u128::from(units) * u128::from(price.load(Relaxed));
            u64::try_from(cost.div_ceil(per)).unwrap_or(u64::MAX >> 1)
        };
        let cost = of(bytes, &self.gib, 1 << 30) + of(requests, &self.million_requests, 1_000_000);
        let before = self.spent.fetch_add(cost, Relaxed);
        let crosses = |mark: u64| before < mark && before.saturating_add(cost) >= mark;
        if crosses(limit) || crosses(self.low.load(Relaxed)) {
            self.alarm.notify_one();
        }
    }

    fn is_dry(&self) -> bool {
        let limit = self.limit.load(Relaxed);
        limit != u64::MAX && self.spent.load(Relaxed) >= limit
    }

    /// `false` when it is empty for good.
    async fn filled(&self) -> bool {
        loop {
            let mut filled = pin!(self.filled.notified());
            // Made before looking: what happens between the two is not missed.
            filled.as_mut().enable();
            if !self.is_dry() {
                return true;
            }
            if self.shut.load(Relaxed) {
                return false;
            }
            filled.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { gib: 5_000_000, million_requests: 1_000_000, tunnel_hour: 1_000_000 };

    fn paid() -> (Arc<Purse>, Traffic) {
        let purse = Arc::new(Purse::new(Arc::default()));
        (Arc::clone(&purse), Traffic::paid_by([None, Some(purse)]))
    }

    #[test]
    fn a_purse_is_empty_when_what_it_held_went_through() {
        let (purse, traffic) = paid();
        traffic.count_out(1 << 40);
        assert!(!traffic.is_dry(), "there is no limit");
        // What a MiB costs and a little more.
        purse.fill(purse.spent(), Fill::Left(4900), &PRICES);
        for _ in 0..64 {
            assert!(!traffic.is_dry());
            traffic.count_out(16 << 10);
        }
        traffic.count_in(16 << 10);
        assert!(traffic.is_dry());
        purse.fill(purse.spent(), Fill::Left(1), &PRICES);
        assert!(!traffic.is_dry());
        traffic.count_request(0);
        assert!(traffic.is_dry(), "a request costs a micro-cent");
        purse.fill(purse.spent(), Fill::Free, &PRICES);
        assert!(!traffic.is_dry());
        assert_eq!(
            traffic.usage(),
            Usage { bytes_in: 16 << 10, bytes_out: (1 << 40) + (1 << 20), requests: 1, tunnel_seconds: 0 }
        );
    }

    #[test]
    fn what_went_through_since_the_exact_count_is_not_forgotten() {
        let (purse, traffic) = paid();
        purse.fill(0, Fill::Left(5000), &PRICES);
        let spent = purse.spent();
        traffic.count_out(1 << 20);
        purse.fill(spent, Fill::Left(4000), &PRICES);
        assert!(traffic.is_dry());
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_given_when_it_is_low_and_when_it_is_empty() {
        let (purse, traffic) = paid();
        purse.fill(0, Fill::Left(10_000), &PRICES);
        let rung = || async { timeout(Duration::from_millis(1), purse.alarm.notified()).await.is_ok() };
        traffic.count_out(1 << 19);
        assert!(!rung().await);
        traffic.count_out(1 << 20);
        assert!(rung().await);
        traffic.count_out(1 << 18);
        assert!(!rung().await);
        traffic.count_out(1 << 20);
        assert!(rung().await && traffic.is_dry());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_purse_to_be_filled_and_not_for_one_that_never_is() {
        let (purse, traffic) = paid();
        purse.fill(0, Fill::Left(0), &PRICES);
        let begun = tokio::time::Instant::now();
        let fill = async {
            sleep(Duration::from_millis(300)).await;
            purse.fill(purse.spent(), Fill::Left(1), &PRICES);
        };
        assert!(tokio::join!(traffic.ready(), fill).0);
        assert_eq!(begun.elapsed(), Duration::from_millis(300));
        purse.fill(purse.spent(), Fill::Left(0), &PRICES);
        assert!(!traffic.ready().await);
        assert_eq!(begun.elapsed(), Duration::from_millis(300) + PATIENCE);
        purse.fill(purse.spent(), Fill::Shut, &PRICES);
        assert!(!traffic.ready().await);
        assert_eq!(begun.elapsed(), Duration::from_millis(300) + PATIENCE);
    }
}
