//! How many lanes to keep open for one tunnel.
//!
//! None while the tunnel is quiet: each costs memory at the relay. While it is in use a few always wait, and when one is
//! taken another is opened, so that a busy tunnel ends up with a lane for each request it serves at once.
//!
//! A target that hangs up after each answer uses a lane up per request, and a handshake costs more than a stream.
//! Openings are therefore paid for from an allowance that refills slowly: such a target is served by streams mostly.

use std::time::{Duration, Instant};

/// Lanes of one tunnel, waiting and in use.
const MOST: usize = 256;

/// Lanes that may be opened at once after a quiet while.
const ALLOWANCE: u32 = 320;

/// One more opening is allowed each so often.
const REFILL: Duration = Duration::from_millis(20);

/// The first pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A tunnel that was not used for as long is quiet.
const QUIET: Duration = Duration::from_secs(60);

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It carried a pipe.
    Used,
    /// It waited for as long as a lane may wait.
    Aged,
    /// The relay did not want it.
    Unwanted,
    /// It never stood.
    Unopened,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Plan {
    waiting: usize,
    in_use: usize,
    last_use: Option<Instant>,
    allowance: u32,
    refilled: Instant,
    failures: u32,
    blocked_until: Instant,
}

impl Plan {
    /// No lanes, and no need for any.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            waiting: 0,
            in_use: 0,
            last_use: None,
            allowance: ALLOWANCE,
            refilled: now,
            failures: 0,
            blocked_until: now,
        }
    }

    /// Whether to open one more lane now; `true` counts it as waiting.
    pub(crate) fn open_one(&mut self, now: Instant) -> bool {
        self.refill(now);
        let opens = self.is_short(now) && self.allowance > 0 && now >= self.blocked_until;
        if opens {
            self.allowance -= 1;
            self.waiting += 1;
        }
        opens
    }

    /// When [`Self::open_one`] may answer differently though nothing has happened.
    pub(crate) fn next_attempt(&self, now: Instant) -> Option<Instant> {
        self.is_short(now).then(|| self.blocked_until.max(self.refilled + REFILL))
    }

    /// The tunnel is being used, over whatever carries it.
    pub(crate) fn on_traffic(&mut self, now: Instant) {
        self.last_use = Some(now);
    }

    /// A waiting lane was taken into use.
    pub(crate) fn on_taken(&mut self, now: Instant) {
        self.waiting = self.waiting.saturating_sub(1);
        self.in_use += 1;
        self.failures = 0;
        self.on_traffic(now);
    }

    /// A lane has ended.
    pub(crate) fn on_end(&mut self, end: End, now: Instant) {
        match end {
            End::Used => self.in_use = self.in_use.saturating_sub(1),
            End::Aged => self.waiting = self.waiting.saturating_sub(1),
            End::Unwanted | End::Unopened => {
                self.waiting = self.waiting.saturating_sub(1);
                let pause = PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
                self.failures += 1;
                self.blocked_until = now + pause;
            }
        }
    }

    fn is_short(&self, now: Instant) -> bool {
        self.waiting < self.wanted(now)
    }

    /// Lanes that should wait: a few, more when many are in use.
    fn wanted(&self, now: Instant) -> usize {
        let quiet = self.last_use.is_none_or(|used| now.saturating_duration_since(used) >= QUIET);
        if quiet { 0 } else { (self.in_use / 4).clamp(2, 16).min(MOST.saturating_sub(self.in_use)) }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_millis() / REFILL.as_millis();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        self.allowance = self.allowance.saturating_add(more).min(ALLOWANCE);
        self.refilled += REFILL.saturating_mul(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(now: Instant) -> Plan {
        let mut plan = Plan::new(now);
        plan.on_traffic(now);
        plan
    }

    fn open_all(plan: &mut Plan, now: Instant) -> usize {
        std::iter::from_fn(|| plan.open_one(now).then_some(())).count()
    }

    #[test]
    fn a_quiet_tunnel_has_no_lanes() {
        let now = Instant::now();
        let mut plan = Plan::new(now);
        assert_eq!((open_all(&mut plan, now), plan.next_attempt(now)), (0, None));
        plan.on_traffic(now);
        assert_eq!(open_all(&mut plan, now), 2);
        plan.on_end(End::Aged, now);
        assert_eq!(open_all(&mut plan, now), 1, "one that has aged is replaced");
        let later = now + QUIET;
        plan.on_end(End::Aged, later);
        assert_eq!((open_all(&mut plan, later), plan.next_attempt(later)), (0, None));
    }

    #[test]
    fn each_use_opens_another_up_to_the_most() {
        let now = Instant::now();
        let mut plan = in_use(now);
        open_all(&mut plan, now);
        for _ in 0..10 * MOST {
            if plan.waiting > 0 {
                plan.on_taken(now);
            }
            open_all(&mut plan, now);
        }
        assert_eq!((plan.in_use, plan.waiting), (MOST, 0));
    }

    #[test]
    fn a_target_that_hangs_up_each_time_cannot_have_a_lane_a_request() {
        let start = Instant::now();
        let mut plan = in_use(start);
        let mut opened = 0;
        for request in 0..10_000 {
            let now = start + Duration::from_millis(request);
            opened += open_all(&mut plan, now);
            plan.on_taken(now);
            plan.on_end(End::Used, now);
        }
        // 10 s: the allowance once, then 50 a second.
        assert!((500..=900).contains(&opened), "{opened}");
    }

    #[test]
    fn a_port_that_cannot_be_reached_is_left_alone_for_longer_and_longer() {
        let start = Instant::now();
        let mut plan = in_use(start);
        let (mut now, mut attempts) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            plan.on_traffic(now);
            attempts += open_all(&mut plan, now);
            while plan.waiting > 0 {
                plan.on_end(End::Unopened, now);
            }
            now = plan.next_attempt(now).unwrap().max(now + Duration::from_millis(1));
        }
        assert!(attempts < 60, "{attempts}");
        plan.failures = 0;
        plan.blocked_until = now;
        plan.on_traffic(now);
        assert_eq!(open_all(&mut plan, now), 2);
    }
}
