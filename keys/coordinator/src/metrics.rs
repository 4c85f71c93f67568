//! What an operator watches: counts and states in the text form of OpenMetrics
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! Requests are counted as they are answered, under the route they matched and never under what a stranger typed.
//! Everything else is read at the moment of the scrape from whoever owns it.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::uri::Authority;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::accounts;
use crate::events;
use crate::store::Store;

/// Upper bounds of the classes of time, in seconds: a read of the store takes under a millisecond, a password some
/// forty, and a change of rights waits two seconds for relays at the most.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The media type of [`Metrics::text`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bound {
    of: &'static str,
}

/// What somebody else in this process tells beside the coordinator's own, once there is somebody.
#[derive(Clone, Debug, Default)]
struct Others(Arc<OnceLock<Box<dyn Collector>>>);

impl Collector for Others {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.get().map_or(Ok(()), |others| others.encode(encoder))
    }
}

/// The state of the coordinator at the moment of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Relays that follow the feed.
    pub(crate) relays: usize,
    /// Changes that the slowest of them has not acted by yet.
    pub(crate) behind: u64,
    /// Tunnels that are up.
    pub(crate) tunnels: usize,
    pub(crate) feed_epoch: u64,
    pub(crate) audit_entries: u64,
    /// Operations that wait for the store's writer.
    pub(crate) writes_waiting: usize,
    /// Passwords that are hashed, or wait for it.
    pub(crate) passwords_waiting: usize,
    /// The same of passwords before tunnels.
    pub(crate) gate_passwords_waiting: usize,
    /// Windows that follow the changes.
    pub(crate) event_streams: usize,
    /// Refusals that the audit log has not taken one by one since its last row about them.
    pub(crate) refusals_unwritten: u64,
    /// Leases of budgets that relays hold.
    pub(crate) leases: u64,
    /// Seconds by which the clock is ahead of the database server's.
    pub(crate) clock_offset: i64,
}

/// Bounds of what is bounded, by the name of what is measured: whoever comes beyond one is told to come back.
const LIMITS: [(&str, usize); 4] = [
    ("store_writes_waiting", Store::WRITES),
    ("passwords_waiting", accounts::MAX_WAITING),
    ("gate_passwords_waiting", accounts::MAX_GATES_WAITING),
    ("event_streams", events::MAX),
];

/// The counters, and the form in which they are told.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    relays: Gauge,
    behind: Gauge<u64, AtomicU64>,
    tunnels: Gauge,
    feed_epoch: Gauge<u64, AtomicU64>,
    audit_entries: Gauge<u64, AtomicU64>,
    writes_waiting: Gauge,
    passwords_waiting: Gauge,
    gate_passwords_waiting: Gauge,
    event_streams: Gauge,
    refusals_unwritten: Gauge<u64, AtomicU64>,
    leases: Gauge<u64, AtomicU64>,
    clock_offset: Gauge,
    others: Others,
}

impl Metrics {
    /// `relays` is how many may follow the feed.
    pub(crate) fn new(relays_limit: usize) -> Self {
        let mut registry = Registry::with_prefix("mytunnel");
        let requests = Family::default();
        registry.register("api_requests", "Requests to the API that were answered", requests.clone());
        let seconds = Family::new_with_constructor(class as fn() -> Histogram);
        registry.register("api_request_seconds", "Time to an answer's head", seconds.clone());
        let relays = Gauge::default();
        registry.register("relays_connected", "Relays that follow the feed", relays.clone());
        let behind = Gauge::default();
        registry.register("relays_behind", "Changes that the slowest relay lacks", behind.clone());
        let tunnels = Gauge::default();
        registry.register("tunnels_up", "Tunnels that are up, as the relays say", tunnels.clone());
        let feed_epoch = Gauge::default();
        registry.register("feed_epoch", "Number of the feed's last change", feed_epoch.clone());
        let audit_entries = Gauge::default();
        registry.register("audit_entries", "Rows of the audit log", audit_entries.clone());
        let writes_waiting = Gauge::default();
        let waiting = "Operations that wait for the store's writer";
        registry.register("store_writes_waiting", waiting, writes_waiting.clone());
        let passwords_waiting = Gauge::default();
        let waiting = "Passwords that are hashed, or wait for it";
        registry.register("passwords_waiting", waiting, passwords_waiting.clone());
        let gate_passwords_waiting = Gauge::default();
        let waiting = "The same of passwords before tunnels";
        registry.register("gate_passwords_waiting", waiting, gate_passwords_waiting.clone());
        let event_streams = Gauge::default();
        registry.register("event_streams", "Windows that follow the changes", event_streams.clone());
        let refusals_unwritten = Gauge::default();
        let more = "Refusals that the audit log has only counted, since its last row about them";
        registry.register("audit_refusals_unwritten", more, refusals_unwritten.clone());
        let leases = Gauge::default();
        registry.register("leases_held", "Leases of budgets that relays hold", leases.clone());
        let clock_offset = Gauge::default();
        let ahead = "Seconds by which the clock is ahead of the database server's";
        registry.register("clock_offset_seconds", ahead, clock_offset.clone());
        let others = Others::default();
        registry.register_collector(Box::new(others.clone()));
        let limits = Family::<Bound, Gauge>::default();
        registry.register("limit", "What a measure of this name may reach", limits.clone());
        for (of, limit) in LIMITS.into_iter().chain([("relays_connected", relays_limit)]) {
            limits.get_or_create(&Bound { of }).set(whole(limit));
        }
        Self {
            registry,
            requests,
            seconds,
            relays,
            behind,
            tunnels,
            feed_epoch,
            audit_entries,
            writes_waiting,
            passwords_waiting,
            gate_passwords_waiting,
            event_streams,
            refusals_unwritten,
            leases,
            clock_offset,
            others,
        }
    }

    /// Tells what somebody else in this process measures, too; the first who says so does.
    pub(crate) fn add(&self, others: impl Collector) {
        let _ = self.others.0.set(Box::new(others));
    }

    /// Counts an answer. `route` is the pattern that matched; what matched none has none.
    pub(crate) fn answered(&self, route: Option<&str>, method: &str, status: u16, took: Duration) {
        let route = route.unwrap_or("none").to_owned();
        // A stranger may invent methods.
        let method = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
            .into_iter()
            .find(|known| *known == method)
            .unwrap_or("other");
        self.seconds.get_or_create(&Route { route: route.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered { route, method, status }).inc();
    }

    /// Everything, as a scraper reads it.
    pub(crate) fn text(&self, now: Reading) -> String {
        self.relays.set(whole(now.relays));
        self.behind.set(now.behind);
        self.tunnels.set(whole(now.tunnels));
        self.feed_epoch.set(now.feed_epoch);
        self.audit_entries.set(now.audit_entries);
        self.writes_waiting.set(whole(now.writes_waiting));
        self.passwords_waiting.set(whole(now.passwords_waiting));
        self.gate_passwords_waiting.set(whole(now.gate_passwords_waiting));
        self.event_streams.set(whole(now.event_streams));
        self.refusals_unwritten.set(now.refusals_unwritten);
        self.leases.set(now.leases);
        self.clock_offset.set(now.clock_offset);
        let mut told = String::with_capacity(8 * 1024);
        if text::encode(&mut told, &self.registry).is_err() {
            // A `String` takes all that is written to it; an encoder that fails leaves half a page.
            told.clear();
            let _ = writeln!(told, "# EOF");
        }
        told
    }
}

/// May a scrape come from there without a credential? From this machine, asked for by a name of this machine, unless a
/// proxy on it says that it brings it for somebody.
pub(crate) fn is_local(from: Option<IpAddr>, asked_for: Option<&str>, forwarded: bool) -> bool {
    let from_here = from.is_some_and(|from| from.to_canonical().is_loopback());
    from_here && asked_for.is_some_and(names_this_machine) && !forwarded
}

/// Whether an authority (`host` or `host:port`) can only be meant on this machine.
fn names_this_machine(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match literal.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let host = host.to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

fn class() -> Histogram {
    Histogram::new(SECONDS)
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::MetricType;

    use super::*;

    const NOW: Reading = Reading {
        relays: 2,
        behind: 1,
        tunnels: 3,
        feed_epoch: 40,
        audit_entries: 50,
        writes_waiting: 0,
        passwords_waiting: 5,
        gate_passwords_waiting: 4,
        event_streams: 6,
        refusals_unwritten: 7,
        leases: 8,
        clock_offset: -9,
    };

    #[test]
    fn what_is_told_is_what_happened() {
        let metrics = Metrics::new(256);
        metrics.answered(Some("/api/v1/mint"), "POST", 200, Duration::from_millis(3));
        metrics.answered(Some("/api/v1/mint"), "POST", 200, Duration::from_millis(30));
        let told = metrics.text(NOW);
        for line in [
            r#"mytunnel_api_requests_total{route="/api/v1/mint",method="POST",status="200"} 2"#,
            r#"mytunnel_api_request_seconds_bucket{le="0.005",route="/api/v1/mint"} 1"#,
            r#"mytunnel_api_request_seconds_count{route="/api/v1/mint"} 2"#,
            "mytunnel_relays_connected 2",
            "mytunnel_relays_behind 1",
            "mytunnel_tunnels_up 3",
            "mytunnel_feed_epoch 40",
            "mytunnel_audit_entries 50",
            "mytunnel_passwords_waiting 5",
            "mytunnel_event_streams 6",
            "mytunnel_audit_refusals_unwritten 7",
            "mytunnel_leases_held 8",
            "mytunnel_clock_offset_seconds -9",
            r#"mytunnel_limit{of="relays_connected"} 256"#,
            "# EOF",
        ] {
            assert!(told.lines().any(|found| found == line), "{line} is missing in\n{told}");
        }
    }

    #[test]
    fn what_others_measure_stands_on_the_same_page() {
        #[derive(Debug)]
        struct Five;
        impl Collector for Five {
            fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
                encoder.encode_descriptor("five", "Five", None, MetricType::Gauge)?.encode_gauge(&5i64)
            }
        }
        let metrics = Metrics::new(256);
        assert!(!metrics.text(NOW).contains("five"));
        metrics.add(Five);
        let told = metrics.text(NOW);
        assert!(told.contains("mytunnel_five 5\n") && told.ends_with("# EOF\n"), "{told}");
    }

    #[test]
    fn strangers_do_not_choose_the_labels() {
        let metrics = Metrics::new(256);
        for number in 0..100 {
            metrics.answered(None, &format!("M{number}"), 404, Duration::ZERO);
        }
        let told = metrics.text(NOW);
        let lines = told.lines().filter(|line| line.starts_with("mytunnel_api_requests_total")).count();
        assert_eq!(lines, 1, "{told}");
    }

    #[test]
    fn only_this_machine_needs_no_credential() {
        let is_local = |from: Option<&str>, asked_for: Option<&str>, forwarded| {
            is_local(from.map(|from| from.parse().unwrap()), asked_for, forwarded)
        };
        let here = Some("localhost:8080");
        assert!(is_local(Some("127.0.0.1"), here, false) && is_local(Some("::1"), here, false));
        assert!(is_local(Some("::ffff:127.0.0.1"), here, false));
        for asked_for in ["127.0.0.1", "127.8.8.8:9", "[::1]:8080", "LOCALHOST", "console.localhost:80"] {
            assert!(is_local(Some("127.0.0.1"), Some(asked_for), false), "{asked_for}");
        }
        // A proxy on this machine speaks for somebody else, whether it says so or passes on what was asked for.
        assert!(!is_local(Some("127.0.0.1"), here, true));
        for asked_for in ["console.example", "192.0.2.1", "localhost.example", "127.0.0.1.example", "", "a b"]
        {
            assert!(!is_local(Some("127.0.0.1"), Some(asked_for), false), "{asked_for}");
        }
        assert!(!is_local(Some("127.0.0.1"), None, false));
        assert!(!is_local(Some("192.0.2.1"), here, false) && !is_local(None, here, false));
    }

    #[test]
    fn whatever_has_a_limit_is_measured() {
        let told = Metrics::new(256).text(NOW);
        for (of, _) in LIMITS {
            assert!(told.lines().any(|line| line.starts_with(&format!("mytunnel_{of} "))), "{of}: {told}");
        }
    }
}
