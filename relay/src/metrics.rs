//! What an operator watches of a relay, in the text form of OpenMetrics
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>): bounds, what stands against them, and what has happened.
//!
//! Everything is read at the moment of the scrape from whoever owns it. No label is chosen by a stranger, nor is there one
//! for each tunnel: what each has used is the coordinator's matter.

mod window;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use mytunnel_keys::id::TunnelKind;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
use tokio::sync::watch;

pub(crate) use self::window::Window;
use crate::{
    access_log::{self, AccessLog},
    acme::{self, Acme},
    admit::Status,
    crowds::Crowds,
    gate,
    ingress::{self, Connections},
    lanes::Directory,
    ports,
    route::Routes,
    server::Limits,
    tally::Tally,
};

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Reads them. Clones read the same relay.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Watched>);

#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) crowds: Crowds,
    pub(crate) routes: Routes,
    pub(crate) lanes: Directory,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) tally: Tally,
    pub(crate) access_log: AccessLog,
    pub(crate) acme: Option<Acme>,
    /// Bytes of datagrams that wait.
    pub(crate) datagrams: Connections,
    /// Of visitors, as they are now.
    pub(crate) visitors: RwLock<ingress::Limits>,
    pub(crate) limits: Limits,
}

/// One family.
#[derive(Debug)]
struct Row {
    name: &'static str,
    help: &'static str,
    form: MetricType,
    /// The label that tells values apart; empty where there is one.
    label: &'static str,
    values: Vec<(&'static str, u64)>,
}

impl Metrics {
    pub(crate) fn new(watched: Watched) -> Self {
        Self(Arc::new(watched))
    }

    /// Visitors are held to these from here on.
    pub(crate) fn set_limits(&self, limits: &ingress::Limits) {
        limits.clone_into(&mut self.0.visitors.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// All of it, as a scraper reads it.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("mytunnel");
        registry.register_collector(Box::new(self.clone()));
        let mut told = String::with_capacity(8 * 1024);
        if text::encode(&mut told, &registry).is_err() {
            // A `String` takes all that is written to it; an encoder that fails leaves half a page.
            "# EOF\n".clone_into(&mut told);
        }
        told
    }

    fn rows(&self) -> Vec<Row> {
        let watched = &*self.0;
        let mut rows = vec![self.limits()];
        rows.extend(watched.of_visitors());
        rows.extend(watched.of_nodes());
        rows.extend(watched.of_certificates());
        rows
    }

    /// Each by the name of what it bounds.
    fn limits(&self) -> Row {
        let visitors = self.0.visitors.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (all, ports) = (&self.0.limits, &self.0.limits.ports);
        let mut values = vec![
            ("connections", whole(visitors.connections)),
            ("connections_per_address", visitors.connections_per_address.into()),
            ("streams_per_connection", visitors.streams_per_connection.into()),
            ("requests_per_address", visitors.requests_per_address.into()),
            ("requests_per_tunnel", whole(visitors.requests_per_tunnel)),
            ("requests_per_key", whole(visitors.requests_per_key)),
            ("requests_per_second_per_address", visitors.requests_per_second_per_address.into()),
            ("requests_per_second_per_tunnel", visitors.requests_per_second_per_tunnel.into()),
            ("requests_per_second_per_key", visitors.requests_per_second_per_key.into()),
            ("idle_pipes_per_tunnel", whole(visitors.idle_pipes_per_tunnel)),
            ("head_bytes", whole(visitors.head_bytes)),
            ("head_fields", whole(visitors.head_fields)),
            ("body_bytes", visitors.body_bytes),
            ("tcp", whole(ports.visitors)),
            ("udp", whole(ports.visitors)),
            ("port_visitors_per_address", ports.visitors_per_address.into()),
            ("port_visitors_per_tunnel", whole(ports.visitors_per_tunnel)),
            ("datagram_bytes_waiting", whole(ports::QUEUED)),
            ("gate_guesses_waiting", whole(gate::GUESSES)),
            ("access_log_lines_waiting", whole(access_log::QUEUE)),
            ("nodes", all.connections.into()),
            ("pipes_per_connection", whole(all.pipes_per_connection)),
        ];
        if self.0.acme.is_some() {
            values.extend(acme::BOUNDS.map(|(of, bound)| (of, whole(bound))));
        }
        Row {
            name: "relay_limit",
            help: "What a measure of this name may reach; 0 for no bound",
            form: MetricType::Gauge,
            label: "of",
            values,
        }
    }
}

impl Watched {
    fn of_visitors(&self) -> Vec<Row> {
        let now = self.crowds.count();
        let open = [
            ("connections", now.connections),
            ("requests", now.requests),
            ("tcp", now.tcp),
            ("udp", now.udp),
        ];
        let (lines, lost) = self.access_log.lines();
        let datagrams = self.datagrams.taken();
        let tally = &self.tally;
        vec![
            Row {
                label: "of",
                values: open.map(|(of, count)| (of, whole(count))).to_vec(),
                ..gauge("visitors", "What visitors have open at the relay", 0)
            },
            gauge(
                "relay_gate_guesses_waiting",
                "Passwords that are hashed, or wait for it",
                whole(tally.guesses_waiting()),
            ),
            gauge("relay_datagram_bytes_waiting", "Bytes of datagrams that wait for nodes", whole(datagrams)),
            gauge(
                "relay_access_log_lines_waiting",
                "Lines of the access log that wait to be written",
                whole(lines),
            ),
            counter("relay_access_log_lines_lost", "Lines of the access log that were never written", lost),
            counter(
                "relay_trace_batches_lost",
                "Batches of spans that the collector did not take",
                self.access_log.traces_lost(),
            ),
            counter(
                "relay_turned_away",
                "Connections that were not taken because there were too many",
                tally.turned_away.get(),
            ),
            Row {
                label: "cause",
                values: tally.refusals(),
                ..counter(
                    "relay_refusals",
                    "Requests that got a page of the relay's own, by its x-mytunnel-error",
                    0,
                )
            },
            Row {
                label: "for",
                values: tally.cuts(),
                ..counter(
                    "relay_cuts",
                    "Connections and requests of visitors that were cut short: for a slow head, for taking nothing, for taking it too slowly, for a closed half, for silence",
                    0,
                )
            },
            counter(
                "relay_requests",
                "Requests, connections and datagrams' sessions given to nodes",
                tally.requests.get(),
            ),
            Row {
                label: "to",
                values: vec![("nodes", tally.bytes_in.get()), ("visitors", tally.bytes_out.get())],
                ..counter("relay_bytes", "Bytes through tunnels and private shares", 0)
            },
        ]
    }

    fn of_nodes(&self) -> Vec<Row> {
        let status = *self.status.borrow();
        let live = self.routes.live();
        let of_kind = |kind: TunnelKind| whole(live.iter().filter(|tunnel| tunnel.kind() == kind).count());
        let kinds = vec![
            ("http", of_kind(TunnelKind::Http)),
            ("tcp", of_kind(TunnelKind::Tcp)),
            ("udp", of_kind(TunnelKind::Udp)),
            ("tls", of_kind(TunnelKind::Tls)),
        ];
        let pipes = live.iter().map(|tunnel| tunnel.pool().idle()).sum();
        vec![
            gauge("relay_nodes", "Connections of nodes that were admitted", whole(status.nodes)),
            gauge(
                "relay_strangers",
                "Connections that have not shown a certificate",
                whole(status.strangers),
            ),
            Row {
                label: "kind",
                values: kinds,
                ..gauge("relay_tunnels", "Public tunnels that nodes serve here", 0)
            },
            gauge("relay_pipes_idle", "Pipes to nodes that wait for a request", whole(pipes)),
            gauge(
                "relay_lanes_waiting",
                "Fast lanes that nodes have opened ahead",
                whole(self.lanes.waiting()),
            ),
            gauge(
                "relay_certificate_ends_timestamp_seconds",
                "When the certificate ends that the coordinator gave to the relay",
                status.certificate_ends,
            ),
            gauge(
                "relay_expelled",
                "1 if the coordinator does not know the relay any more",
                status.expelled.into(),
            ),
        ]
    }

    fn of_certificates(&self) -> Vec<Row> {
        let Some(acme) = &self.acme else { return Vec::new() };
        let now = acme.standing();
        let mut rows = vec![
            gauge("relay_acme_certificates", "Certificates of the public authority", whole(now.certificates)),
            gauge("relay_acme_orders_under_way", "Orders at the public authority", whole(now.under_way)),
            gauge(
                "relay_acme_new_names_this_week",
                "Certificates for new names of the domain within 168 hours",
                whole(now.week),
            ),
            Row {
                label: "outcome",
                values: vec![("issued", now.issued), ("failed", now.failed)],
                ..counter("relay_acme_orders", "Orders at the public authority that are over", 0)
            },
        ];
        rows.extend(now.first_end.map(|at| {
            gauge("relay_acme_first_end_timestamp_seconds", "When the first of these certificates ends", at)
        }));
        rows
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Row { name, help, form, label, values } in self.rows() {
            let mut family = encoder.encode_descriptor(name, help, None, form)?;
            for (value, number) in values {
                if label.is_empty() {
                    put(&mut family, form, number)?;
                } else {
                    put(&mut family.encode_family(&[(label, value)])?, form, number)?;
                }
            }
        }
        Ok(())
    }
}

fn put(metric: &mut MetricEncoder<'_>, form: MetricType, number: u64) -> fmt::Result {
    if matches!(form, MetricType::Counter) {
        metric.encode_counter(&number, None::<&Exemplar<[(&str, &str); 0], u64>>)
    } else {
        metric.encode_gauge(&number)
    }
}

fn gauge(name: &'static str, help: &'static str, now: u64) -> Row {
    Row { name, help, form: MetricType::Gauge, label: "", values: vec![("", now)] }
}

/// Its name is told with `_total`.
fn counter(name: &'static str, help: &'static str, count: u64) -> Row {
    Row { form: MetricType::Counter, ..gauge(name, help, count) }
}

fn whole(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
